"""One track on disk: the folder of its parts, a stem.mp4, or a song without references."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from stemfuse.separators import SOURCES, AudioError, Signal, Stems, SumSignal, Track, TrackError, fit_length, in_order
from stemfuse.separators.audio.containers import LIBSNDFILE_SUFFIXES, PYAV_SUFFIXES, ContainerSignal, open_signal
from stemfuse.separators.clutter import EXTRAS, is_clutter
from stemfuse.separators.names import check_name
from stemfuse.separators.sources import (
    INSTRUMENTS,
    NOT_SOURCES,
    OTHERS,
    REST,
    Sums,
    reference_sums,
    source_fault,
    source_of,
    summed,
    without_sums,
)

SONGS = "songs"
"""The subset of single songs."""

STEM_SUFFIX = ".stem.mp4"
"""One file with five audio streams in the order of `PARTS`: MUSDB18's form."""

PARTS = ("mixture", *SOURCES)
"""The parts of a stem.mp4, one audio stream each; the names of files that make a folder a track."""

SURE = frozenset((*PARTS, REST))
KNOWN = frozenset((*SURE, *INSTRUMENTS, *OTHERS))
"""Names of files one of which makes a folder a track, and two of which do."""

PASSED_OVER = "passed over"
"""How notes on files that are no part of their track begin."""

NONE_WANTED = "no wanted source among"
"""How the note of a track begins that has references, but none of the wanted ones."""

CHECK_S = 10
"""Seconds at a time in which sources are compared with their mixture where one seems to be missing."""

MixtureRule = Literal["file", "sum"]
"""Where a mixture comes from: its file, or the sum of the sources where a folder has no such file."""


def list_folder(folder: Path) -> list[Path]:
    """Paths in a folder, sorted by name; hidden ones and those of file systems (`is_clutter`) are passed over."""
    try:
        return sorted(
            place for place in folder.iterdir() if not place.name.startswith(".") and not is_clutter(place.name)
        )
    except OSError as error:
        raise TrackError(f"{folder}: cannot be listed ({error.strerror})") from error


def is_audio_file(place: Path) -> bool:
    """Whether a path is a file with a suffix of audio."""
    return place.is_file() and place.suffix.lower() in LIBSNDFILE_SUFFIXES | PYAV_SUFFIXES


def is_stem_file(place: Path) -> bool:
    """Whether a path is called ``<track>.stem.mp4``."""
    return place.name.lower().endswith(STEM_SUFFIX)


def is_track(place: Path, sources: Collection[str] = ()) -> bool:
    """Whether a path is a stem.mp4 or a folder with parts of a track in it.

    A mixture, one of the four sources, an accompaniment or one of ``sources`` is enough; of other known sources, such
    as speech and music, two are needed, as songs may have such names.
    """
    if is_stem_file(place) or not place.is_dir():
        return is_stem_file(place)
    names = [part for part, _ in _parts(place)]
    return not SURE.isdisjoint(names) or not set(sources).isdisjoint(names) or len(KNOWN.intersection(names)) > 1


def is_beside_songs(folder: Path) -> bool:
    """Whether a folder has files but no audio, or a name like ``metadata``; one that is empty may be a broken track."""
    inside = [place for place in folder.rglob("*") if not any(map(is_clutter, place.relative_to(folder).parts))]
    has_files = any(place.is_file() for place in inside)
    return not any(map(is_audio_file, inside)) and (has_files or folder.name.casefold() in EXTRAS)


def track_name(place: Path) -> str:
    """The name of a track in Unicode NFC: its folder's, or its file's without suffix."""
    if is_stem_file(place):
        name = place.name[: -len(STEM_SUFFIX)]
    elif place.is_file():
        name = place.stem
    else:
        name = place.name if place.name not in ("", "..") else place.resolve().name
    return unicodedata.normalize("NFC", name)


def open_song(path: str | os.PathLike[str], mixture: MixtureRule = "file") -> Track:
    """Open one song: an audio file without references, a ``.stem.mp4``, or the folder of one track.

    Parameters
    ----------
    path : path-like
        The file or folder; it names the track, whose subset is ``"songs"``.
    mixture : {"file", "sum"}
        ``"sum"`` adds up the sources of a folder that has no mixture, as it is read; else such a track is an error.

    Raises
    ------
    TrackError
        The path is missing, or it is no track that can be used.

    Examples
    --------
    >>> import numpy, soundfile, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     soundfile.write(f"{folder}/A Song.flac", numpy.zeros((100, 1)), 44_100)
    ...     open_song(f"{folder}/A Song.flac")
    Track(name='A Song', mixture=<...A Song.flac: 1 x 100 at 44100 Hz>, subset='songs', ...)
    """
    place = Path(path).expanduser()
    return open_track(place, check_name(track_name(place), "track", TrackError), SONGS, mixture)


def open_track(
    place: Path, name: str, subset: str, mixture: MixtureRule = "file", sources: Sums | None = None
) -> Track:
    """Open a track of any form: headers are read; samples only where one of the four sources seems to be missing.

    All parts have one sample rate and one number of channels; lengths follow the rule of `fit_length`, and what was
    done is in the track's notes.

    Parameters
    ----------
    place : Path
        A folder, a ``.stem.mp4`` or another audio file.
    name, subset : str
        What the track is called and belongs to.
    mixture : {"file", "sum"}
        See `open_song`.
    sources : mapping, optional
        Which sources are the references, and which of them are sums; see
        `stemfuse.separators.sources.reference_sums`. All that there are when not given.

    Raises
    ------
    TrackError
        The track cannot be used; the message names the track and the file.
    """
    passed: list[str] = []
    try:
        if is_stem_file(place):
            parts = _open_stem_file(place)
        elif place.is_file():
            parts = {"mixture": open_signal(place)}
        else:
            parts, passed = _open_folder(place, mixture)
        track = _assemble(name, subset, parts)
        track = replace(track, notes=(*track.notes, *passed)) if passed else track
        if sources is None or track.references is None:
            _check_whole(place, parts)
        return pick_references(track, sources)
    except (AudioError, TrackError, OSError) as error:
        raise TrackError(f"track {name!r}: {error}") from error


def pick_references(track: Track, sources: Sums | None) -> Track:
    """A track with the wanted references, picked or summed up; without any, and with a note, where it has none."""
    if sources is None or track.references is None:
        return track
    sums = reference_sums(track.references.sources, sources)
    chosen = summed(track.references, sums) if sums else None
    none = () if sums else (f"{NONE_WANTED} {', '.join(track.references.sources)}",)
    return replace(track, references=chosen, notes=(*track.notes, *none))


def _parts(folder: Path) -> list[tuple[str, Path]]:
    """Audio files of a folder by the parts that their names mean."""
    return [(source_of(place.stem), place) for place in list_folder(folder) if is_audio_file(place)]


def _open_stem_file(place: Path) -> dict[str, Signal]:
    streams = ContainerSignal.all_streams(place)
    if len(streams) != len(PARTS):
        raise TrackError(
            f"{place}: {len(streams)} audio streams, expected {len(PARTS)} ({', '.join(PARTS)}); "
            "give it another name if it is a song without references"
        )
    return dict(zip(PARTS, streams, strict=True))


def _open_folder(folder: Path, mixture: MixtureRule) -> tuple[dict[str, Signal], list[str]]:
    """The parts of a track, and notes on what was passed over."""
    if not folder.is_dir():
        raise TrackError(f"{folder}: no such file or folder")
    files = [(part, place) for part, place in _parts(folder) if part == "mixture" or part not in NOT_SOURCES]
    for part, count in Counter(part for part, _ in files).items():
        if count > 1:
            same = ", ".join(place.name for other, place in files if other == part)
            raise TrackError(f"{folder}: {count} files of {part} ({same}), expected one; remove the others")
    places = dict(files)
    names = _partition([part for part, _ in files])
    if not names:
        raise TrackError(f"{folder}: none of {', '.join(f'{part}.wav' for part in PARTS)} in it")
    if "mixture" not in names and mixture != "sum":
        raise TrackError(
            f"{folder}: no mixture, only {', '.join(in_order(names))}; copy mixture.wav there, or set mixture to sum "
            "(--mixture sum), which adds up the sources"
        )
    passed = [f"{PASSED_OVER}: {places[part].name}, {_reason(part)}" for part in places if part not in names]
    return {part: open_signal(places[part]) for part in names}, passed


def _partition(names: Collection[str]) -> list[str]:
    """Which of the parts in a folder are the mixture and the sources that it is the sum of."""
    kept = [name for name in names if not source_fault(name) or name == "mixture"]
    if {"mixture", *SOURCES} <= set(kept):
        # beside a complete track, what nobody knows is a file of another kind
        kept = [name for name in kept if name in KNOWN]
    sources = without_sums([name for name in kept if name != "mixture"])
    return [*(name for name in kept if name == "mixture"), *in_order(sources)]


def _reason(part: str) -> str:
    if part == REST:
        return "the sum of other sources"
    return f"no source: it {fault}" if (fault := source_fault(part)) else "no source; name it with --sources if it is"


def _check_whole(place: Path, parts: Mapping[str, Signal]) -> None:
    """Raise where two or three of the four sources lie beside a mixture that is not their sum: a file is missing."""
    sources = [part for part in parts if part != "mixture"]
    missing = [source for source in SOURCES if source not in parts]
    if "mixture" not in parts or not 1 < len(sources) < len(SOURCES) or not set(sources) <= set(SOURCES):
        return
    mixture, total = parts["mixture"], SumSignal({source: parts[source] for source in sources})
    length, energy, left = min(mixture.length, *(parts[source].length for source in sources)), 0.0, 0.0
    for start in range(0, length, CHECK_S * mixture.rate):
        stop = min(start + CHECK_S * mixture.rate, length)
        samples = mixture.read(start, stop).astype(np.float64)
        energy += float(np.square(samples).sum())
        left += float(np.square(samples - total.read(start, stop)).sum())
    if left > 0.01 * energy:
        raise TrackError(
            f"{place}: no {' and no '.join(missing)}, only {', '.join(parts)}, and the mixture is not their sum; "
            f"expected all sources, the mixture alone, or those that are meant named: --sources {','.join(sources)}"
        )


def _assemble(name: str, subset: str, parts: Mapping[str, Signal]) -> Track:
    notes: list[str] = []
    references = {source: parts[source] for source in parts if source != "mixture"}
    mixture = parts.get("mixture") or max(references.values(), key=lambda signal: signal.length)
    for source, signal in references.items():
        for got, expected, unit in (
            (signal.rate, mixture.rate, "Hz"),
            (signal.channels, mixture.channels, "channels"),
        ):
            if got != expected:
                raise AudioError(f"{signal}: got {got} {unit}, {mixture} has {expected}; convert one to the other")
        references[source], note = fit_length(signal, mixture.length)
        notes += [note] if note else []
    if "mixture" not in parts:
        mixture = SumSignal(references)
        notes.append("the mixture is the sum of the sources")
    return Track(name, mixture, subset, Stems.from_signals(references) if references else None, notes=tuple(notes))
