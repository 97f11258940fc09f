"""What the three packaged networks were trained on besides the synthetic band: songs drawn from real CC0 stems.

Run ``python benchmarks/small_networks.py ALBUM SAMPLES OUT [--tracks 120] [--seconds 20] [--seed 9020]``. ALBUM is a
folder of songs with one ``.m4a`` file per part (CC0: ichbinsoftware/everythingisremixed), SAMPLES a folder of single
sounds (CC0: the package sonic-pi-samples of Debian). Songs go to ``OUT/train`` in the layout of MUSDB18-HQ.

Every source of a song comes from another place: voices, drums and synthesisers from parts of any song of the album,
drums and bass also from single sounds played by the synthetic band's score. Every part is treated as the widened band
is (`stemfuse.experiments.band.widening`). The song 7.Francium and the passages that the checks use are left out.
The whole recipe is in docs/model-card.md.
"""

from __future__ import annotations

import argparse
import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import signal

from stemfuse.experiments.band import compose
from stemfuse.experiments.band.tones import place_stereo
from stemfuse.experiments.band.tree import provide
from stemfuse.experiments.band.widening import balanced, draw_speed, draw_treatment, treat
from stemfuse.separators import RATE, SOURCES
from stemfuse.separators.audio.containers import open_signal

HELD_OUT = ("7.Francium",)
"""Songs that nothing is taken from."""

CHECKED_S = {"2.Lithium": (104, 132), "4.Potassium": (202, 230)}
"""Passages that checks use, with two seconds on either side; nothing is taken from them."""

AMBIGUOUS = ("PAD + BASS",)
"""Parts with two sources in one."""

RULES = (
    ("vocals", r"VOX"),
    ("bass", r"BASS"),
    ("other", r"EDM|^BUILD|FILL BUILD|MELODY|PIANO|SCRATCH$"),
    ("drums", r"KICK|SN|HH|HAT|CLAP|BEAT|TOM|DRUM|PERC|CRASH|CYMBAL|CRUSH|^BREAK"),
    ("other", r""),
)
"""Source of a part by its name: the first rule that fits."""

STROKES = {
    "kick": ("bd_*", "drum_bass_*", "drum_heavy_kick", "elec_hollow_kick", "elec_soft_kick"),
    "snare": ("sn_*", "drum_snare_*", "elec_*snare"),
    "rim": ("elec_wood", "elec_tick", "perc_snap*"),
    "clap": ("perc_snap*", "elec_filt_snare", "sn_generic"),
    "hat": ("drum_cymbal_closed", "drum_cymbal_pedal", "elec_cymbal"),
    "open": ("drum_cymbal_open", "drum_cymbal_soft"),
    "ride": ("drum_cymbal_soft", "drum_cymbal_hard"),
    "crash": ("drum_splash_*", "drum_cymbal_hard"),
    "shaker": ("drum_cymbal_pedal", "perc_snap", "elec_tick"),
    "tom high": ("drum_tom_hi_*",),
    "tom mid": ("drum_tom_mid_*", "elec_fuzz_tom"),
    "tom low": ("drum_tom_lo_*", "elec_fuzz_tom"),
}
LOOPS = ("loop_amen*", "loop_breakbeat", "loop_perc*", "loop_tabla", "loop_industrial", "loop_mehackit*")
BASSES = ("bass_woodsy_c", "bass_hit_c", "bass_hard_c", "bass_thick_c", "bass_trance_c", "bass_voxy_c", "bass_dnb_f")
SOUNDED = ("guit_*", "ambi_*", "loop_drone*")

RESTS = {"drums": 0.1, "bass": 0.25, "other": 0.05, "vocals": 0.15}
"""Chance that a source does not play in a song: half of the real songs have no bass, and none is to be heard there."""

Stereo = Any


def stereo(path: Path) -> Stereo:
    """A file as (channel, time), at the band's rate."""
    heard = open_signal(path)
    samples = heard.read()
    if heard.rate != RATE:
        common = np.gcd(RATE, heard.rate)
        samples = signal.resample_poly(samples, RATE // common, heard.rate // common, axis=1)
    return np.broadcast_to(samples, (2, samples.shape[1])).astype(np.float32)


def source_of(path: Path) -> str | None:
    """Source of a part by its file's name; None when it holds two."""
    name = re.sub(r"^.*_Stem_|_mobile$", "", path.stem)
    return None if name in AMBIGUOUS else next(source for source, rule in RULES if re.search(rule, name))


def grouped(song: Path) -> dict[str, Stereo]:
    """Sources of a whole song, (channel, time): the sums of its parts."""
    sums: dict[str, Stereo] = {}
    for path in sorted(song.glob("*.m4a")):
        # what holds two sources is other, as in the songs of the checks
        source, part = source_of(path) or "other", stereo(path)
        if source in sums:
            length = min(part.shape[1], sums[source].shape[1])
            part = sums[source][:, :length] + part[:, :length]
        sums[source] = part
    length = min(samples.shape[1] for samples in sums.values())
    return {source: samples[:, :length] for source, samples in sums.items()}


def without_rests(samples: Stereo, left_out: tuple[int, int]) -> Stereo:
    """The half seconds in which a part plays, outside a passage."""
    size = RATE // 2
    blocks = samples[:, : samples.shape[1] // size * size].reshape(2, -1, size)
    power = np.square(blocks).mean(axis=(0, 2))
    played = power > max(1e-4 * power.max(), 1e-9)
    times = np.arange(len(played)) / 2
    played &= (times + 0.5 <= left_out[0]) | (times >= left_out[1])
    return blocks[:, played].reshape(2, -1)


class Stock:
    """Everything that songs are made of: parts of the album by source and song, and single sounds by name."""

    def __init__(self, album: Path, samples: Path) -> None:
        self.samples = samples
        self.parts: dict[str, dict[str, list[Stereo]]] = {source: {} for source in SOURCES}
        for song in sorted(path for path in album.iterdir() if path.is_dir() and path.name not in HELD_OUT):
            for path in sorted(song.glob("*.m4a")):
                source = source_of(path)
                if source is None:
                    continue
                played = without_rests(stereo(path), CHECKED_S.get(song.name, (0, 0)))
                if played.shape[1] > 2 * RATE:
                    self.parts[source].setdefault(song.name, []).append(played)
                    print(f"{path.name}: {source}, {played.shape[1] / RATE:.0f} s", flush=True)

    @functools.lru_cache(maxsize=256)  # noqa: B019
    def sound(self, name: str) -> Stereo:
        """A single sound, its loudest sample 1."""
        samples = stereo(self.samples / name)
        return samples / np.abs(samples).max()

    def drawn(self, rng: np.random.Generator, patterns: Sequence[str]) -> Stereo:
        """One of the sounds whose names fit."""
        names = sorted({path.name for pattern in patterns for path in self.samples.glob(f"{pattern}.flac")})
        return self.sound(names[rng.integers(len(names))])

    def recorded(self, rng: np.random.Generator, source: str, length: int) -> list[Stereo]:
        """One to three parts of one song, each from a place of its own."""
        songs = sorted(self.parts[source])
        parts = self.parts[source][songs[rng.integers(len(songs))]]
        count = min(len(parts), int(rng.integers(1, 4 if source != "vocals" else 3)))
        chosen = []
        for number in rng.choice(len(parts), count, replace=False):
            part = parts[number]
            start = int(rng.integers(max(part.shape[1] - length, 0) + 1))
            chosen.append(
                np.resize(part[:, start : start + length], (2, length))
                if part.shape[1] < length
                else part[:, start : start + length]
            )
        return chosen


def struck(rng: np.random.Generator, stock: Stock, seed: tuple[int, ...], length: int) -> Stereo:
    """Drums: a song's score played with single sounds, or a loop."""
    if rng.random() < 0.3:
        loop = stock.drawn(rng, LOOPS)
        return np.tile(loop, (1, -(-length // loop.shape[1])))[:, :length]
    bus = np.zeros((2, length), np.float32)
    kit = {piece: stock.drawn(rng, patterns) for piece, patterns in STROKES.items()}
    pans = {piece: rng.uniform(-0.7, 0.7) * (piece not in ("kick", "snare")) for piece in STROKES}
    for hit in compose(seed, length / RATE).drums:
        place_stereo(bus, kit[hit.piece].mean(axis=0), round(hit.start_s * RATE), pans[hit.piece], hit.velocity)
    return bus


def plucked(rng: np.random.Generator, stock: Stock, seed: tuple[int, ...], length: int) -> Stereo:
    """Bass: a song's line played with one sound, faster or slower for each pitch."""
    bus = np.zeros((2, length), np.float32)
    sound = stock.drawn(rng, BASSES)
    for note in compose(seed, length / RATE).bass.notes:
        # heard pitches need not be right: nothing here is tuned to anything else
        step = 2 ** ((note.pitch - 36) / 12)
        count = min(int(1.05 * note.length_s * RATE), int((sound.shape[1] - 1) / step))
        tone = np.stack([np.interp(np.arange(count) * step, np.arange(len(row)), row) for row in sound])
        tone[:, -441:] *= np.linspace(1, 0, 441)[-tone.shape[1] :]
        start = round(note.start_s * RATE)
        room = bus[:, start : start + count]
        room += np.float32(note.velocity) * tone[:, : room.shape[1]].astype(np.float32)
    return bus


def sounded(rng: np.random.Generator, stock: Stock, length: int) -> Stereo:
    """Other: single sounds one after the other."""
    bus = np.zeros((2, length), np.float32)
    sound, start = stock.drawn(rng, SOUNDED), 0
    while start < length:
        room = bus[:, start : start + sound.shape[1]]
        room += sound[:, : room.shape[1]]
        start += sound.shape[1] + int(rng.uniform(0, 0.5) * RATE)
        sound = stock.drawn(rng, SOUNDED) if rng.random() < 0.3 else sound
    return bus


def drawn_song(stock: Stock, seed: tuple[int, ...], seconds: float) -> Any:
    """16-bit stems of one song, (source, channel, time)."""
    rng = np.random.default_rng(seed)
    length = round(seconds * RATE)
    stems = []
    for source in SOURCES:
        speed = draw_speed(rng) if rng.random() < 0.6 else 1.0
        needed = int(length * speed) + 64
        chance = rng.random()
        if source == "drums" and chance < 0.35:
            parts = [struck(rng, stock, seed, needed)]
        elif source == "bass" and chance < 0.55:
            parts = [plucked(rng, stock, seed, needed)]
        elif source == "other" and chance < 0.15:
            parts = [sounded(rng, stock, needed)]
        else:
            parts = stock.recorded(rng, source, needed)
        # drawn from a number of its own, so that the other songs stay what they were
        rests = np.random.default_rng((*seed, SOURCES.index(source))).random() < RESTS[source]
        treated = sum(treat(rng, part, draw_treatment(rng, source, speed))[:, :length] for part in parts)
        stems.append(treated * np.float32(not rests))
    return balanced(rng, stems)


def main() -> None:
    """Make the songs that are missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("album", type=Path)
    parser.add_argument("samples", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tracks", type=int, default=120)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=9020)
    arguments = parser.parse_args()
    stock = Stock(arguments.album, arguments.samples)
    for index in range(arguments.tracks):
        folder = arguments.out / "train" / f"Drawn Song {arguments.seed} - {index:03d}"
        make = functools.partial(drawn_song, stock, (arguments.seed, index), arguments.seconds)
        provide(arguments.out, folder, arguments.seconds, make)
        print(folder, flush=True)


if __name__ == "__main__":
    main()
