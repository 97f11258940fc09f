"""One track on disk: the folder of its parts, a stem.mp4, or a song without references."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from stemfuse.separators import AudioError, Signal, Stems, SumSignal, Track, TrackError, fit_length, show_sources
from stemfuse.separators.audio.containers import ContainerSignal, open_signal
from stemfuse.separators.clutter import EXTRAS, is_clutter
from stemfuse.separators.names import check_name
from stemfuse.separators.sources import Sums, absent_parts, reference_sums, summed, without_sums

from .track_folders import (
    KNOWN,
    PARTS,
    SURE,
    MixtureRule,
    check_four,
    is_audio_file,
    is_whole,
    list_folder,
    open_folder,
    parts_in,
)

SONGS = "songs"
"""The subset of single songs."""

STEM_SUFFIX = ".stem.mp4"
"""One file with five audio streams in the order of `PARTS`: MUSDB18's form."""

NONE_WANTED = "no wanted source among"
"""How the note of a track begins that has references, but none of the wanted ones."""

UNSURE = "a file seems to be missing"
"""How the note of a track begins whose mixture is not the sum of its references, where a wanted one is missing."""


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
    names = [part for part, _ in parts_in(place)]
    return not SURE.isdisjoint(names) or not set(sources).isdisjoint(names) or len(KNOWN.intersection(names)) > 1


def is_beside_songs(folder: Path) -> bool:
    """Whether a folder has files but no audio; one that is empty may be a broken track.

    One called ``metadata`` or the like is a track only where audio lies in it, not deeper.
    """
    if is_extra(folder):
        return not any(map(is_audio_file, list_folder(folder)))
    inside = [place for place in folder.rglob("*") if not any(map(is_clutter, place.relative_to(folder).parts))]
    has_files = any(place.is_file() for place in inside)
    return has_files and not any(map(is_audio_file, inside))


def is_extra(folder: Path) -> bool:
    """Whether a folder has a name like ``metadata``, as people keep beside songs."""
    return folder.name.casefold() in EXTRAS


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
    <Track 'A Song': subset songs; length 0.0 s; format 1 channels at 44100 Hz; references none>
    """
    place = Path(path).expanduser()
    return open_track(place, check_name(track_name(place), "track", TrackError), SONGS, mixture)


def open_track(
    place: Path,
    name: str,
    subset: str,
    mixture: MixtureRule = "file",
    sources: Sums | None = None,
    complete: bool = True,
) -> Track:
    """Open a track of any form: headers are read; samples only where a source seems to be missing.

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
    complete : bool
        Whether the references are needed. Else some may be missing, and ``sources`` only says which files are sources.

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
            parts, passed = open_folder(place, mixture, named_in(sources))
        track = _assemble(name, subset, parts)
        track = replace(track, notes=(*track.notes, *passed)) if passed else track
        if not complete:
            return track
        if sources is None:
            check_four(place, track)
        return pick_references(track, sources)
    except (AudioError, TrackError, OSError) as error:
        raise TrackError(f"track {name!r}: {error}") from error


def named_in(sources: Sums | None) -> frozenset[str]:
    """All names in what is wanted, of sources and of their parts."""
    return frozenset(name for pair in (sources or {}).items() for name in (pair[0], *pair[1]))


def pick_references(track: Track, sources: Sums | None) -> Track:
    """A track with the wanted references, picked or summed up; without any, and with a note, where it has none.

    Raises
    ------
    TrackError
        A part of a sum is missing, and the mixture says that it does sound in the song.
    """
    if sources is None or track.references is None:
        return track
    given = track.references.sources
    sums, absent = reference_sums(given, sources), absent_parts(given, sources)
    notes = [] if sums else [f"{NONE_WANTED} {', '.join(given)}"]
    if absent and not is_whole(track):
        lost = {name: f"{' and no '.join(parts)} of {name}" for name, parts in absent.items() if name in sums}
        if lost:
            picked = {name: parts for name, parts in sums.items() if name not in absent}
            there = show_sources(picked or {name: (name,) for name in given})
            raise TrackError(
                f"no {' and no '.join(lost.values())}, only {', '.join(given)}, and the mixture is not their sum: "
                f"expected a file of every part, or sources whose parts are there, such as --sources {there}"
            )
        notes.append(f"{UNSURE}: no {' and no '.join(absent)}, and the mixture is not the sum of {', '.join(given)}")
    chosen = summed(track.references, sums) if sums else None
    return replace(track, references=chosen, notes=(*track.notes, *notes))


def _open_stem_file(place: Path) -> dict[str, Signal]:
    streams = ContainerSignal.all_streams(place)
    if len(streams) != len(PARTS):
        raise TrackError(
            f"{place}: {len(streams)} audio streams, expected {len(PARTS)} ({', '.join(PARTS)}); "
            "give it another name if it is a song without references"
        )
    return dict(zip(PARTS, streams, strict=True))


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
        mixture = SumSignal({source: references[source] for source in without_sums(references)})
        notes.append("the mixture is the sum of the sources")
    return Track(name, mixture, subset, Stems.from_signals(references) if references else None, notes=tuple(notes))
