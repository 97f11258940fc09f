"""The sounds of speech that the singer can make: formants of vowels, and how consonants are made."""

from __future__ import annotations

from dataclasses import dataclass

VOWELS = {
    "ee": (270, 2290, 3010),
    "ih": (390, 1990, 2550),
    "eh": (530, 1840, 2480),
    "ay": (450, 2050, 2650),
    "ah": (730, 1090, 2440),
    "aw": (570, 840, 2410),
    "oh": (480, 900, 2400),
    "oo": (300, 870, 2240),
    "uh": (640, 1190, 2390),
}
"""First three formants in Hz, after the averages of men in Peterson and Barney 1952 (diphthongs between them)."""

GLIDES = {"ay": "ee", "oh": "oo", "ah": "ih", "aw": "oo", "eh": "uh"}
"""Where the tract moves while some vowels are held; `GLIDE` is how far."""

GLIDE = 0.6


@dataclass(frozen=True)
class Consonant:
    """How a consonant is made: silence of a closure, then sound with voice, noise around a frequency, or both."""

    closure_s: float
    sound_s: float
    voicing: float = 0.0
    breath: float = 0.0
    noise: float = 0.0
    centre_hz: float = 4_000.0
    octaves: float = 0.5
    formants: tuple[float, float, float] | None = None


CONSONANTS = {
    "": Consonant(0.0, 0.02, voicing=0.3),
    "h": Consonant(0.0, 0.07, breath=1.0),
    "s": Consonant(0.0, 0.11, noise=0.55, centre_hz=7_200, octaves=0.45),
    "sh": Consonant(0.0, 0.11, noise=0.6, centre_hz=3_600, octaves=0.5),
    "f": Consonant(0.0, 0.09, noise=0.16, centre_hz=6_000, octaves=1.6),
    "t": Consonant(0.045, 0.035, noise=0.8, centre_hz=4_800, octaves=0.8),
    "k": Consonant(0.05, 0.035, noise=0.7, centre_hz=2_200, octaves=0.5),
    "p": Consonant(0.05, 0.025, breath=0.6, noise=0.4, centre_hz=900, octaves=1.0),
    "d": Consonant(0.035, 0.018, voicing=0.2, noise=0.45, centre_hz=4_200, octaves=0.8, formants=(250, 1700, 2600)),
    "b": Consonant(0.035, 0.014, voicing=0.2, noise=0.25, centre_hz=800, octaves=1.0, formants=(250, 800, 2200)),
    "g": Consonant(0.035, 0.02, voicing=0.2, noise=0.4, centre_hz=2_000, octaves=0.5, formants=(250, 2000, 2300)),
    "m": Consonant(0.0, 0.075, voicing=0.4, formants=(240, 1050, 2200)),
    "n": Consonant(0.0, 0.065, voicing=0.4, formants=(240, 1500, 2500)),
    "l": Consonant(0.0, 0.06, voicing=0.55, formants=(360, 1150, 2700)),
    "r": Consonant(0.0, 0.06, voicing=0.55, formants=(420, 1250, 1650)),
    "w": Consonant(0.0, 0.06, voicing=0.5, formants=(290, 650, 2200)),
    "y": Consonant(0.0, 0.06, voicing=0.5, formants=(270, 2250, 3050)),
}
