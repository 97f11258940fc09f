"""One track on disk: the folder of its parts, a stem.mp4, or a song without references."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from stemfuse.separators import SOURCES, AudioError, Signal, Stems, Track, TrackError, fit_length
from stemfuse.separators.audio.containers import LIBSNDFILE_SUFFIXES, PYAV_SUFFIXES, ContainerSignal, open_signal
from stemfuse.separators.audio.sums import SumSignal
from stemfuse.separators.clutter import EXTRAS, is_clutter
from stemfuse.separators.names import check_name

SONGS = "songs"
"""The subset of single songs."""

STEM_SUFFIX = ".stem.mp4"
"""One file with five audio streams in the order of `PARTS`: MUSDB18's form."""

PARTS = ("mixture", *SOURCES)
"""The parts of a track: file names without suffix in a folder, audio streams in a stem.mp4."""

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


def is_track(place: Path) -> bool:
    """Whether a path is a stem.mp4 or a folder with any part of a track in it."""
    return is_stem_file(place) or (place.is_dir() and bool(_parts(place)))


def is_beside_songs(folder: Path) -> bool:
    """Whether a folder has files but no audio, or a name like ``metadata``; one that is empty may be a broken track."""
    inside = [place for place in folder.rglob("*") if not any(map(is_clutter, place.relative_to(folder).parts))]
    has_files = any(place.is_file() for place in inside)
    return not any(map(is_audio_file, inside)) and (has_files or folder.name.casefold() in EXTRAS)


def track_name(place: Path) -> str:
    """The name of a track: its folder's, or its file's without suffix."""
    if is_stem_file(place):
        return place.name[: -len(STEM_SUFFIX)]
    if place.is_file():
        return place.stem
    return place.name if place.name not in ("", "..") else place.resolve().name


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


def open_track(place: Path, name: str, subset: str, mixture: MixtureRule = "file") -> Track:
    """Open a track of any form: headers are read, samples are not.

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

    Raises
    ------
    TrackError
        The track cannot be used; the message names the track and the file.
    """
    try:
        if is_stem_file(place):
            parts = _open_stem_file(place)
        elif place.is_file():
            parts = {"mixture": open_signal(place)}
        else:
            parts = _open_folder(place, mixture)
        return _assemble(name, subset, parts)
    except (AudioError, TrackError, OSError) as error:
        raise TrackError(f"track {name!r}: {error}") from error


def _parts(folder: Path) -> list[tuple[str, Path]]:
    """Parts of a track with their files; other files are passed over."""
    named = [(place.stem.lower(), place) for place in list_folder(folder) if is_audio_file(place)]
    return [(part, place) for part, place in named if part in PARTS]


def _open_stem_file(place: Path) -> dict[str, Signal]:
    streams = ContainerSignal.all_streams(place)
    if len(streams) != len(PARTS):
        raise TrackError(
            f"{place}: {len(streams)} audio streams, expected {len(PARTS)} ({', '.join(PARTS)}); "
            "give it another name if it is a song without references"
        )
    return dict(zip(PARTS, streams, strict=True))


def _open_folder(folder: Path, mixture: MixtureRule) -> dict[str, Signal]:
    if not folder.is_dir():
        raise TrackError(f"{folder}: no such file or folder")
    files = _parts(folder)
    for part, count in Counter(part for part, _ in files).items():
        if count > 1:
            same = ", ".join(place.name for other, place in files if other == part)
            raise TrackError(f"{folder}: {count} files of {part} ({same}), expected one; remove the others")
    found = {part: place for wanted in PARTS for part, place in files if part == wanted}
    missing = [source for source in SOURCES if source not in found]
    if not found:
        raise TrackError(f"{folder}: none of {', '.join(f'{part}.wav' for part in PARTS)} in it")
    if missing and list(found) != ["mixture"]:
        raise TrackError(
            f"{folder}: no {' and no '.join(missing)}, only {', '.join(found)}; "
            "expected all four sources, or the mixture alone"
        )
    if "mixture" not in found and mixture != "sum":
        raise TrackError(
            f"{folder}: no mixture, only the four sources; copy mixture.wav there, or set mixture to sum, "
            "which adds up the sources"
        )
    return {part: open_signal(place) for part, place in found.items()}


def _assemble(name: str, subset: str, parts: Mapping[str, Signal]) -> Track:
    notes: list[str] = []
    references = {source: parts[source] for source in SOURCES if source in parts}
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
