"""The conformance kit: the rules that every separator has to keep, and one call that tests them."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping

import numpy as np

from .audio.signals import Samples
from .errors import ConformanceError, StemfuseError
from .labels import MIXTURE
from .separator import Separator
from .source_names import source_fault
from .sources import in_order
from .stems import SOURCES, Stems

Rule = Callable[[Separator, Samples], None]


def check_separator(separator: Separator, seconds: float = 1.0, seed: int = 0) -> None:
    """Test whether a separator keeps the rules that the rest of stemfuse relies on.

    Its attributes are tested first. If they are right, it separates a seeded stereo mixture, parts of it down to one
    sample, silence, and mixtures that it has to refuse. Quality is not tested.

    Parameters
    ----------
    separator : Separator
        Any object with the attributes of the protocol; no base class is needed.
    seconds : float
        Length of the mixture, which is separated some ten times.
    seed : int
        Of the mixture.

    Raises
    ------
    ConformanceError
        The message names every rule that is broken, what was expected and what it got instead.

    Examples
    --------
    >>> from stemfuse.separators import load_separator
    >>> check_separator(load_separator("centre_channel"))

    >>> class Echo:
    ...     name, sources, rate = "echo", ("vocals",), 44100
    ...
    ...     def fingerprint(self):
    ...         return "0123456789abcdef"
    ...
    ...     def separate(self, mixture, rate):
    ...         return Stems(mixture[None, :, :-1], self.sources, self.rate)
    >>> check_separator(Echo(), seconds=0.1)
    Traceback (most recent call last):
    stemfuse.separators.errors.ConformanceError: Echo breaks ...
    - stems are as long as the mixture: got stems of 4409 samples, expected 4410
    ...
    """
    _check(separator, DECLARED, np.zeros((2, 0), np.float32))
    # only now is there a rate to make a mixture with
    _check(separator, BEHAVIOUR, make_mixture(seconds, separator.rate, seed))


def _check(separator: Separator, rules: Mapping[str, Rule], mixture: Samples) -> None:
    broken = [f"- {words}: {why}" for words, rule in rules.items() if (why := _broken(rule, separator, mixture))]
    if broken:
        name = type(separator).__name__
        raise ConformanceError("\n".join([f"{name} breaks {len(broken)} of {len(rules)} rules:", *broken]))


def make_mixture(seconds: float, rate: int, seed: int) -> Samples:
    """A stereo mixture (channel, time) of a low tone, a gliding tone, strokes and noise, the strokes to the left."""
    rng = np.random.default_rng(seed)
    time = np.arange(max(1, round(seconds * rate))) / rate
    bass = 0.3 * np.sin(2 * np.pi * 80 * time)
    voice = 0.2 * np.sin(2 * np.pi * (600 * time + 20 * np.sin(2 * np.pi * 1.5 * time)))
    strokes = 0.3 * np.exp(-60 * (time % 0.25)) * rng.normal(size=time.size)
    spread = 0.05 * rng.normal(size=(2, time.size))
    left_right = np.array([[1.0], [0.6]])
    return np.asarray(bass + voice + strokes * left_right + spread, dtype=np.float32)


class _BrokenError(Exception):
    """A rule that a separator breaks, and how."""


def _require(kept: bool, otherwise: str) -> None:
    if not kept:
        raise _BrokenError(otherwise)


def _broken(rule: Rule, separator: Separator, mixture: Samples) -> str:
    """How a rule is broken; empty when it is kept."""
    try:
        rule(separator, mixture.copy())
    except _BrokenError as error:
        return str(error)
    # a third party's code may raise anything, and the other rules are tested nevertheless
    except Exception as error:
        return f"raised {type(error).__name__}: {error}"
    return ""


def _name(separator: Separator, _: Samples) -> None:
    name = separator.name
    fits = isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}", name) and name != MIXTURE
    _require(
        bool(fits),
        f"got {name!r}, expected at most 64 letters, digits and _ . + - that begin with a letter or a digit, "
        f"and not {MIXTURE!r}",
    )


def _sources(separator: Separator, _: Samples) -> None:
    sources = separator.sources
    _require(isinstance(sources, tuple) and len(sources) > 0, f"got {sources!r}, expected a tuple of at least one")
    faults = [f"{source!r} {fault}" for source in sources if (fault := source_fault(str(source)))]
    _require(not faults, f"got {sources!r}: {', '.join(faults)}; expected names such as {', '.join(SOURCES)}")
    _require(sources == in_order(sources), f"got {sources!r}, expected {in_order(sources)}: each once, in this order")


def _rate(separator: Separator, _: Samples) -> None:
    rate = separator.rate
    _require(type(rate) is int and rate > 0, f"got {rate!r}, expected a whole number of Hz above 0")


def _fingerprint(separator: Separator, _: Samples) -> None:
    fingerprint = separator.fingerprint()
    fits = isinstance(fingerprint, str) and re.fullmatch(r"[0-9a-f]{8,}", fingerprint)
    _require(bool(fits), f"got {fingerprint!r}, expected a string of at least eight hexadecimal digits in lower case")


def _identity(separator: Separator, _: Samples) -> None:
    first, second = separator.fingerprint(), separator.fingerprint()
    _require(first == second, f"got {first!r}, and {second!r} when asked again")
    try:
        twin = copy.deepcopy(separator)
    except Exception:
        return  # separators with an open session or file cannot be copied, and need not be
    _require(twin.fingerprint() == first, f"got {twin.fingerprint()!r} from a copy of it, expected {first!r}")


def _separate(separator: Separator, mixture: Samples) -> Stems:
    stems = separator.separate(mixture, separator.rate)
    _require(isinstance(stems, Stems), f"got {type(stems).__name__} from separate, expected Stems")
    return stems


def _labels(separator: Separator, mixture: Samples) -> None:
    stems = _separate(separator, mixture)
    _require(stems.sources == separator.sources, f"got sources {stems.sources}, expected {separator.sources}")
    _require(stems.rate == separator.rate, f"got {stems.rate} Hz, expected {separator.rate} Hz")


def _shape(separator: Separator, mixture: Samples) -> None:
    # whole, odd, shorter than any window, a single sample
    for length in (mixture.shape[1], mixture.shape[1] // 2 | 1, 100, 1):
        stems = _separate(separator, mixture[:, :length].copy())
        given = min(length, mixture.shape[1])
        _require(stems.length == given, f"got stems of {stems.length} samples, expected {given}")
        _require(stems.channels == 2, f"got stems of {stems.channels} channels, expected 2")
        expected = (len(stems.sources), 2, given)
        _require(stems.audio.shape == expected, f"got samples of shape {stems.audio.shape}, expected {expected}")


def _samples(separator: Separator, mixture: Samples) -> None:
    audio = _separate(separator, mixture).audio
    _require(audio.dtype == np.float32, f"got samples of type {audio.dtype}, expected float32")
    _require(bool(np.isfinite(audio).all()), f"{np.count_nonzero(~np.isfinite(audio))} samples are NaN or infinite")


def _silence(separator: Separator, mixture: Samples) -> None:
    audio = _separate(separator, np.zeros_like(mixture)).audio
    _require(bool(np.isfinite(audio).all()), "got NaN or infinite samples from silence")
    peak = float(np.abs(audio).max(initial=0))
    _require(peak < 1e-2, f"got stems with a peak of {peak:.3g} from silence, expected less than 0.01")


def _unmodified(separator: Separator, mixture: Samples) -> None:
    given = mixture.copy()
    _separate(separator, given)
    changed = np.count_nonzero(given != mixture)
    _require(changed == 0, f"{changed} of its samples were changed")


def _deterministic(separator: Separator, mixture: Samples) -> None:
    first = _separate(separator, mixture.copy()).audio.copy()
    _separate(separator, -0.5 * mixture[:, ::-1])
    second = _separate(separator, mixture.copy()).audio
    same = np.array_equal(first, second, equal_nan=True)
    _require(same, "got other samples when it separated the mixture again, after another one")


def _steady(separator: Separator, mixture: Samples) -> None:
    before = separator.fingerprint()
    _separate(separator, mixture)
    after = separator.fingerprint()
    _require(before == after, f"got {after!r} after separating, expected {before!r} as before")


def _refuses(what: str, spoil: Callable[[Samples], Samples], rate_factor: int = 1) -> Rule:
    def rule(separator: Separator, mixture: Samples) -> None:
        try:
            separator.separate(spoil(mixture), separator.rate * rate_factor)
        except StemfuseError:
            return
        except Exception as error:
            raise _BrokenError(f"got {type(error).__name__} ({error}) for {what}, expected a StemfuseError") from error
        raise _BrokenError(f"{what} was accepted, expected a StemfuseError")

    return rule


def _with_sample(value: float) -> Callable[[Samples], Samples]:
    def spoil(mixture: Samples) -> Samples:
        mixture[0, mixture.shape[1] // 2] = value
        return mixture

    return spoil


DECLARED: Mapping[str, Rule] = {
    "the name fits folders and labels": _name,
    "the sources are known, different and in order": _sources,
    "the rate is a positive whole number": _rate,
    "the fingerprint is hexadecimal": _fingerprint,
    "the fingerprint is the same each time": _identity,
}
BEHAVIOUR: Mapping[str, Rule] = {
    "stems have the separator's sources and rate": _labels,
    "stems are as long as the mixture": _shape,
    "samples are finite float32": _samples,
    "silence gives silence": _silence,
    "the mixture is not changed": _unmodified,
    "the same mixture gives the same stems": _deterministic,
    "separating does not change the fingerprint": _steady,
    "a wrong rate is refused": _refuses("twice its rate", lambda mixture: mixture, 2),
    "a wrong number of channels is refused": _refuses("a mixture of three channels", lambda m: np.stack([*m, m[0]])),
    "a mixture without channels is refused": _refuses("a mixture of shape (time,)", lambda mixture: mixture[0]),
    "an empty mixture is refused": _refuses("a mixture of no samples", lambda mixture: mixture[:, :0]),
    "NaN is refused": _refuses("a NaN sample", _with_sample(np.nan)),
    "infinite samples are refused": _refuses("an infinite sample", _with_sample(np.inf)),
}
