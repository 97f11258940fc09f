"""Data sets and tracks of the package ``musdb``, opened where their files lie: musdb itself decodes nothing."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stemfuse.separators import TrackError


def musdb_places(data: Any) -> tuple[Path, dict[str, dict[str, Path]]] | None:
    """Where the tracks of a ``musdb.DB`` or of one track of it lie, by subset and name; None for anything else.

    Whoever has such an object has imported musdb: it is not imported here.

    Raises
    ------
    TrackError
        The object asks for other audio than its files hold (another rate, a chunk), or has no files.
    """
    musdb = sys.modules.get("musdb")
    if musdb is None or not isinstance(data, (musdb.DB, musdb.MultiTrack)):
        return None
    tracks = data.tracks if isinstance(data, musdb.DB) else [data]
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
        places.setdefault(str(track.subset), {})[str(track.name)] = place
    if not places:
        raise TrackError(f"{data.root}: the musdb.DB has no tracks; check its root, its subsets, and is_wav")
    if isinstance(data, musdb.DB):
        return Path(data.root), places
    return next(iter(next(iter(places.values())).values())).parent.parent, places


def musdb_part(data: Any) -> Mapping[str, Any] | None:
    """The part of a recipe that stands for a ``musdb.DB`` or a track of it; None for anything else."""
    found = musdb_places(data)
    if found is None:
        return None
    root, places = found
    names = [place for of_subset in places.values() for place in of_subset.values()]
    if len(names) == 1:
        return {"path": names[0], "label": next(iter(next(iter(places.values()))))}
    # a training set is split again in the same way when it is opened by its path
    subsets = [part for subset in places for part in (("train", "valid") if subset == "train" else (subset,))]
    return {"path": root, "subsets": subsets}
