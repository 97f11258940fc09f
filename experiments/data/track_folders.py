"""The folder of one track: which of its files are mixture and sources, and whether these are all of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from stemfuse.separators import SOURCES, AudioError, Signal, SumSignal, Track, TrackError, in_order
from stemfuse.separators.audio.containers import LIBSNDFILE_SUFFIXES, PYAV_SUFFIXES, open_signal
from stemfuse.separators.clutter import is_clutter
from stemfuse.separators.source_names import (
    INSTRUMENTS,
    NOT_SOURCES,
    OTHERS,
    REST,
    is_instrument,
    source_fault,
    source_of,
)
from stemfuse.separators.sources import without_sums

PARTS = ("mixture", *SOURCES)
"""The parts of a stem.mp4, one audio stream each; the names of files that make a folder a track."""

SURE = frozenset((*PARTS, REST))
KNOWN = frozenset((*SURE, *INSTRUMENTS, *OTHERS))
"""Names of files one of which makes a folder a track, and two of which do."""

PASSED_OVER = "passed over"
"""How notes on files that are no part of their track begin."""

CHECK_S = 10
"""Seconds at a time in which sources are compared with their mixture where one seems to be missing."""

SILENT = 0.01
"""Share of a mixture's energy that its sources may leave: less is rounding, a lossy format, or a mastering."""

MixtureRule = Literal["file", "sum"]
"""Where a mixture comes from: its file, or the sum of the sources where a folder has no such file."""


def list_folder(folder: Path) -> list[Path]:
    """Paths in a folder, sorted by name; hidden ones and those of file systems (`is_clutter`) are passed over."""
    try:
        return sorted(place for place in folder.iterdir() if not is_clutter(place.name))
    except OSError as error:
        raise TrackError(f"{folder}: cannot be listed ({error.strerror})") from error


def is_audio_file(place: Path) -> bool:
    """Whether a path is a file with a suffix of audio."""
    return place.is_file() and place.suffix.lower() in LIBSNDFILE_SUFFIXES | PYAV_SUFFIXES


def parts_in(folder: Path) -> list[tuple[str, Path]]:
    """Audio files of a folder by the parts that their names mean."""
    return [(source_of(place.stem), place) for place in list_folder(folder) if is_audio_file(place)]


def open_folder(folder: Path, mixture: MixtureRule, named: Collection[str] = ()) -> tuple[dict[str, Signal], list[str]]:
    """The parts of a track, and notes on what was passed over; ``named`` are sources whatever else lies there.

    Raises
    ------
    TrackError
        There is no part, no mixture, or a part twice.
    AudioError
        A file cannot be decoded whose name says that it is a part.
    """
    if not folder.is_dir():
        raise TrackError(f"{folder}: no such file or folder")
    files = [(part, place) for part, place in parts_in(folder) if part == "mixture" or part not in NOT_SOURCES]
    names = _partition([part for part, _ in files], named)
    for part, count in Counter(part for part, _ in files if part in names).items():
        if count > 1:
            same = ", ".join(place.name for other, place in files if other == part)
            raise TrackError(f"{folder}: {count} files of {part} ({same}), expected one; remove the others")
    if _is_pair({part: place for part, place in files if part in names or part == REST}, named):
        pair = ("mixture", "vocals", REST)
        names = [*pair, *(name for name in names if name in named and name not in pair)]
    passed = [f"{PASSED_OVER}: {place.name}, {_reason(part)}" for part, place in files if part not in names]
    parts: dict[str, Signal] = {}
    for part, place in files:
        try:
            parts |= {part: open_signal(place)} if part in names else {}
        except AudioError:
            if _is_known(part) or part in named:
                raise
            passed.append(f"{PASSED_OVER}: {place.name}, it cannot be decoded")
    if not parts:
        raise TrackError(f"{folder}: none of {', '.join(f'{part}.wav' for part in PARTS)} in it")
    if "mixture" not in parts and mixture != "sum":
        raise TrackError(
            f"{folder}: no mixture, only {', '.join(in_order(parts))}; copy mixture.wav there, or set mixture to sum "
            "(--mixture sum), which adds up the sources"
        )
    return {part: parts[part] for part in names if part in parts}, passed


def _partition(names: Collection[str], named: Collection[str]) -> list[str]:
    """The mixture, the sources that it is the sum of, and those that are named, among the parts in a folder."""
    kept = [name for name in names if not source_fault(name) or name == "mixture"]
    has_all = set(SOURCES) <= set(kept) or {"vocals", REST} <= set(kept)
    if "mixture" in kept and has_all:
        # beside a complete track, what nobody knows is a file of another kind
        kept = [name for name in kept if _is_known(name) or name in named]
    sources = [name for name in kept if name != "mixture"]
    whole = without_sums(sources)
    parts = [name for name in sources if name in whole or name in named]
    return [*(name for name in kept if name == "mixture"), *in_order(parts)]


def _is_pair(places: Mapping[str, Path], named: Collection[str]) -> bool:
    """Whether the mixture is the voice and the accompaniment, and not the voice and the parts beside them."""
    beside = places.keys() - {"mixture", REST}
    if not {"mixture", "vocals", REST} <= places.keys() or beside <= {"vocals", *named} or set(SOURCES) <= beside:
        return False
    signals = {part: open_signal(place) for part, place in places.items()}
    mixture = signals["mixture"]
    if any((part.rate, part.channels) != (mixture.rate, mixture.channels) for part in signals.values()):
        return False
    return not is_sum(mixture, {part: signals[part] for part in beside}) and is_sum(
        mixture, {part: signals[part] for part in ("vocals", REST)}
    )


def _is_known(name: str) -> bool:
    return name in KNOWN or is_instrument(name)


def _reason(part: str) -> str:
    if part == REST:
        return "the sum of other sources"
    if fault := source_fault(part):
        return f"no source: it {fault}"
    return "a part of the accompaniment" if _is_known(part) else "no source; name it with --sources if it is"


def check_four(place: Path, track: Track) -> None:
    """Raise where two or three of the four sources lie beside a mixture that is not their sum: a file is missing."""
    sources = () if track.references is None else track.references.sources
    missing = [source for source in SOURCES if source not in sources]
    if not 1 < len(sources) < len(SOURCES) or not set(sources) <= set(SOURCES) or is_whole(track):
        return
    raise TrackError(
        f"{place}: no {' and no '.join(missing)}, only {', '.join(('mixture', *sources))}, and the mixture is not "
        f"their sum; expected all sources, the mixture alone, or those that are meant named: "
        f"--sources {','.join(sources)}"
    )


def is_whole(track: Track) -> bool:
    """Whether a track's mixture is the sum of its references; samples are read."""
    references, mixture = track.references, track.mixture
    if references is None or isinstance(mixture, SumSignal):
        return True
    return is_sum(mixture, {source: references[source] for source in without_sums(references.sources)})


def is_sum(mixture: Signal, parts: Mapping[str, Signal]) -> bool:
    """Whether signals add up to a mixture, as far as they go."""
    total, energy, left = SumSignal(parts), 0.0, 0.0
    length = min(mixture.length, *(part.length for part in parts.values()))
    for start in range(0, length, CHECK_S * mixture.rate):
        stop = min(start + CHECK_S * mixture.rate, length)
        samples = mixture.read(start, stop).astype(np.float64)
        energy += float(np.square(samples).sum())
        left += float(np.square(samples - total.read(start, stop)).sum())
    return left <= SILENT * energy
