"""Where the tracks of a data set lie, by subset and name; no file is opened."""

from __future__ import annotations

import logging
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from stemfuse.separators import Track, TrackError
from stemfuse.separators.errors import wrong_usage
from stemfuse.separators.names import check_name

from .track_folders import is_audio_file, list_folder
from .tracks import SONGS, STEM_SUFFIX, is_beside_songs, is_extra, is_stem_file, is_track, track_name

log = logging.getLogger(__name__)

SUBSETS = ("train", "valid", "test")
"""The subsets that the pipeline uses; a tree may have others."""


DATA = "a path, a sequence of Track (Track.from_arrays makes one of arrays), a musdb.DB or its tracks"
"""What data may be, for messages."""


def find_places(root: Path, sources: Collection[str] = ()) -> dict[str, dict[str, Path]]:
    """Folders and files of tracks by subset and name; ``sources`` are names of files that make a folder a track.

    Raises
    ------
    TrackError
        There is no track, a name that no file can have, or one twice.
    """
    return {subset: _by_name(subset, found) for subset, found in _find(root, sources).items() if found}


def given_places(tracks: Sequence[Any]) -> dict[str, dict[str, Track]]:
    """Tracks by subset and name."""
    if not tracks or not all(isinstance(track, Track) for track in tracks):
        kinds = ", ".join(sorted({type(track).__name__ for track in tracks})) or "nothing"
        raise wrong_usage(TrackError(f"got a sequence of {kinds}, expected {DATA}"))
    places: dict[str, dict[str, Track]] = {}
    for track in tracks:
        if track.name in places.setdefault(track.subset, {}):
            raise TrackError(f"two tracks of {track.subset} are called {track.name!r}; give one another name or subset")
        places[track.subset][track.name] = track
    return {subset: places[subset] for subset in (*SUBSETS, *sorted(set(places) - set(SUBSETS))) if subset in places}


def _find(root: Path, sources: Collection[str]) -> dict[str, list[Path]]:
    """Folders and files of tracks by subset."""
    if root.is_file() or (root.is_dir() and is_track(root, sources)):
        return {SONGS: [root]}
    if not root.is_dir():
        raise wrong_usage(TrackError(f"{root}: no such folder or file; expected a data set, a track or a song"))
    inside = list_folder(root)
    tracks = [place for place in inside if is_track(place, sources)]
    subsets = _subsets(root, [place for place in inside if place not in tracks], sources, bool(tracks))
    if tracks and subsets:
        raise TrackError(
            f"{root}: the track {tracks[0].name!r} lies beside the subset {next(iter(subsets))!r}; "
            "expected tracks in subsets or tracks alone, move one of them"
        )
    for place in inside:
        if place.is_dir() and place not in tracks and unicodedata.normalize("NFC", place.name) not in subsets:
            log.info("%s: no track in it, passed over", place)
    songs = [place for place in inside if is_audio_file(place)]
    found = subsets or ({"test": tracks} if tracks else {SONGS: songs})
    if not any(found.values()):
        raise TrackError(
            f"{root}: no tracks found; expected <subset>/<track>/mixture.wav with one file for each source beside it, "
            f"<subset>/<track>{STEM_SUFFIX}, or songs; sources of names that nobody knows are named with --sources"
        )
    return found


def _subsets(
    root: Path, inside: Sequence[Path], sources: Collection[str], beside_tracks: bool
) -> dict[str, list[Path]]:
    """Folders of tracks by name; those like ``metadata`` only where there is nothing else that has tracks."""
    subsets: dict[str, list[Path]] = {}
    folders = [place for place in inside if place.is_dir() and _is_subset(place, sources)]
    # files of other kinds may look like tracks there; where there is nothing else, they are the tracks
    if beside_tracks or not all(map(is_extra, folders)):
        for folder in filter(is_extra, folders):
            log.warning("%s: passed over, as a folder of this name holds no songs; rename it if this one does", folder)
        folders = [folder for folder in folders if not is_extra(folder)]
    for folder in folders:
        # one name has several forms in Unicode, and file systems give any of them
        name = unicodedata.normalize("NFC", folder.name)
        if name in subsets:
            raise TrackError(f"{root}: two subsets are called {name!r}, in two forms of Unicode; rename one of them")
        subsets[name] = [place for place in list_folder(folder) if _may_be_track(place)]
    return subsets


def _may_be_track(place: Path) -> bool:
    """Whether a path in a subset is a track, or a broken one; a folder without any audio is named and passed over."""
    if place.is_file():
        return is_stem_file(place)
    if place.is_dir() and is_beside_songs(place):
        log.warning("%s: no audio in it, passed over", place)
        return False
    return True


def _is_subset(folder: Path, sources: Collection[str]) -> bool:
    return folder.name in SUBSETS or any(is_track(place, sources) for place in list_folder(folder))


def _by_name(subset: str, places: Sequence[Path]) -> dict[str, Path]:
    check_name(subset, "subset", TrackError)
    named = sorted((check_name(track_name(place), "track", TrackError), place) for place in places)
    for name, count in Counter(name for name, _ in named).items():
        if count > 1:
            both = ", ".join(str(place) for other, place in named if other == name)
            raise TrackError(f"{count} tracks of {subset} are called {name!r}: {both}; rename all but one")
    return dict(named)
