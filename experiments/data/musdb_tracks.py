"""Data sets and tracks of the package ``musdb``, opened where their files lie: musdb itself decodes nothing."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from stemfuse.separators import TrackError


def musdb_places(data: Any) -> tuple[Path, dict[str, dict[str, Path]]] | None:
    """Where the tracks of a ``musdb.DB``, one or some tracks of it lie, by subset and name; None for anything else.

    Whoever has such an object has imported musdb: it is not imported here.

    Raises
    ------
    TrackError
        The object asks for other audio than its files hold (another rate, a chunk), or has no files.
    """
    musdb = sys.modules.get("musdb")
    if musdb is None:
        return None
    tracks = data.tracks if isinstance(data, musdb.DB) else list(data) if isinstance(data, list | tuple) else [data]
    if not isinstance(data, musdb.DB) and not (tracks and all(isinstance(one, musdb.MultiTrack) for one in tracks)):
        return None
    places: dict[str, dict[str, Path]] = {}
    for track in tracks:
        if track.sample_rate is not None or track.chunk_duration is not None or track.chunk_start:
            raise TrackError(
                f"musdb track {track.name!r}: got sample_rate={track.sample_rate}, chunk_start={track.chunk_start}, "
                f"chunk_duration={track.chunk_duration}, expected whole tracks at their own rate; leave these out, and "
                "add --convert (in a recipe, convert: true) where another rate is needed"
            )
        file = Path(track.path)
        place = file.parent if track.is_wav else file
        if not place.exists():
            raise TrackError(f"musdb track {track.name!r}: {file} is missing; expected a track that lies on disk")
        of_subset = places.setdefault(str(track.subset), {})
        if of_subset.setdefault(str(track.name), place) != place:
            raise TrackError(f"two musdb tracks of {track.subset} are called {track.name!r}; give one of them")
    if not places:
        raise TrackError(f"{data.root}: the musdb.DB has no tracks; check its root, its subsets, and is_wav")
    if isinstance(data, musdb.DB):
        return Path(data.root), places
    return next(iter(next(iter(places.values())).values())).parent.parent, places


@cache
def musdb_validation() -> frozenset[str]:
    """The names of musdb's validation tracks, from its file: importing musdb fails where there is no ffmpeg."""
    package = importlib.util.find_spec("musdb")
    if package is None or package.origin is None:
        raise TrackError("the package musdb is missing, its list of validation tracks is needed: pip install musdb")
    settings = yaml.safe_load(Path(package.origin).with_name("configs").joinpath("mus.yaml").read_text("utf-8"))
    return frozenset(settings["validation_tracks"])
