"""Songs of which separators have no stems, and what two or more separators have in common."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from stemfuse.separators import StemfuseError, StemStore, Track, listed
from stemfuse.separators.sources import part_names

from .errors import RunError
from .stored_separators import StoredSeparator

if TYPE_CHECKING:
    from .needs import PlannedTrack

log = logging.getLogger(__name__)

Who = tuple[object, ...]
"""Who a track is."""


def who(track: Track) -> Who:
    """Who a track is, with stems or without; data sets may have one name, but no two songs have the same files."""
    return track.data, track.subset, track.name, *track.mixture.files


def find_absent(
    planned: Sequence[PlannedTrack], separators: Sequence[StoredSeparator], store: StemStore
) -> dict[str, list[PlannedTrack]]:
    """By separator whose stems cannot be made here, the songs that it has none of, or not all that other songs have."""
    found = {}
    for separator in separators:
        if separator.stored:
            given = [_sources_in(store, entry.track, separator.key) for entry in planned]
            every = set().union(*given)
            found[separator.label] = [
                entry
                for entry, sources in zip(planned, given, strict=True)
                if not sources or (every - sources) & _sources_of(entry.track)
            ]
        elif separator.parts:
            found[separator.label] = [entry for entry in planned if not separator.can_give(entry.track, store)]
    return {label: entries for label, entries in found.items() if entries}


def _sources_in(store: StemStore, track: Track, key: str) -> set[str]:
    """Sources of which a store has a track's stems; empty where it has no readable entry."""
    try:
        return set(store.record(track, key)["sources"])
    except (StemfuseError, KeyError):
        return set()


def _sources_of(track: Track) -> set[str]:
    """Sources that sound in a track, as far as its references tell; those that they are sums of as well."""
    references = track.references
    return set() if references is None else {*references.sources, *part_names(references)}


def in_common(
    separators: tuple[StoredSeparator, ...],
    absent: Mapping[str, Sequence[PlannedTrack]],
    planned: Sequence[PlannedTrack],
    learns: bool,
) -> tuple[tuple[StoredSeparator, ...], str]:
    """Separators that have songs in common, and why others are left out; empty where none is."""
    labels = [separator.label for separator in separators]
    # a song that is left out needs another one to be fitted on
    kept = _shared(absent, planned, labels, min(2 if learns else 1, len(planned)))
    if len(kept) < 2 <= len(labels):
        raise RunError(
            f"no two of {listed(labels, most=20)} have stems of the same {'two songs' if learns else 'song'}: there is "
            "nothing to compare; adopt more stems"
        )
    dropped = [label for label in labels if label not in kept]
    said = _dropped(dropped, _common(absent, planned, labels)) if dropped else ""
    if said:
        log.warning("%s, the others have songs in common", said)
    return tuple(separator for separator in separators if separator.label in kept), said


def say_absent(absent: Mapping[str, Sequence[PlannedTrack]], missing: str, songs: int) -> None:
    """Say in one line for each separator which songs it has no stems of, and what follows."""
    what = "left out for all" if missing == "skip" else "fused by the others there, with weights of their own"
    for label, entries in absent.items():
        names = listed((entry.named for entry in entries), most=20)
        log.warning("%s has no stems of %d of %d songs, %s: %s", label, len(entries), songs, what, names)


def _dropped(dropped: Sequence[str], songs: int) -> str:
    """Why separators are left out, and how many songs have stems by all."""
    shared = {0: "no song has stems", 1: "only one song has stems"}.get(songs, f"only {songs} songs have stems")
    more = "" if songs == 0 else ", and a song that is left out needs another to be fitted on"
    return f"{shared} by all separators{more}: {listed(dropped, most=20)} left out"


def _common(
    absent: Mapping[str, Sequence[PlannedTrack]], planned: Sequence[PlannedTrack], labels: Sequence[str]
) -> int:
    """How many songs have stems by all these separators."""
    return len(planned) - len({who(entry.track) for label in labels for entry in absent.get(label, ())})


def _shared(
    absent: Mapping[str, Sequence[PlannedTrack]], planned: Sequence[PlannedTrack], labels: Sequence[str], fewest: int
) -> list[str]:
    """Separators that have songs in common: all, or as many as have, the one that costs most songs left out first."""
    lacking = {label: {who(entry.track) for entry in absent.get(label, ())} for label in labels}

    kept = list(labels)
    while len(kept) > 1 and _common(absent, planned, kept) < fewest:
        without = {label: _common(absent, planned, [other for other in kept if other != label]) for label in kept}
        # of those that cost as much, the one with the fewest songs, or the one that is named last
        kept.remove(max(reversed(kept), key=lambda label: (without[label], len(lacking[label]))))
    return kept
