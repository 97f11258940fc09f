"""Folders of estimates that any tool wrote: whose they are, and their audio."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from stemfuse.separators import (
    AudioError,
    Contents,
    Signal,
    Stems,
    Track,
    TrackError,
    converted_to,
    fit_length,
    in_order,
    listed,
    open_signal,
)
from stemfuse.separators.sources import source_fault, source_of, without_sums

log = logging.getLogger(__name__)

SUFFIXES = (".wav", ".flac")
"""Of files of estimates; where a source has both, the first one is read."""


@dataclass(frozen=True)
class EstimatesFolder:
    """The folder with one method's estimates of one track."""

    folder: Path
    convert: bool = False
    """Whether estimates at another rate, or in mono, are converted to the track's as they are read."""

    def files(self) -> dict[str, Path]:
        """Files of the sources, in order; empty where there are none."""
        found: dict[str, Path] = {}
        for suffix in SUFFIXES:
            for path in sorted(self.folder.glob(f"*{suffix}")):
                if not source_fault(source_of(path.stem)):
                    found.setdefault(source_of(path.stem), path)
        # an accompaniment beside its parts is their sum
        return {source: found[source] for source in without_sums(in_order(found))}

    def stems(self, track: Track) -> Stems:
        """Estimates, as long as the track's mixture by the rule of `fit_length`."""
        signals: dict[str, Signal] = {}
        for source, path in self.files().items():
            signal = open_signal(path)
            if self.convert:
                signal = converted_to(signal, track.rate, track.channels)
            for got, expected, unit in ((signal.rate, track.rate, "Hz"), (signal.channels, track.channels, "channels")):
                if got != expected:
                    raise AudioError(
                        f"{signal}: got {got} {unit}, expected {expected} as in the references of {track.name!r}; "
                        "add --convert to convert estimates as they are read, or export them again"
                    )
            signals[source], _ = fit_length(signal, track.length)
        return Stems.from_signals(signals)

    def content(self, contents: Contents) -> dict[str, str]:
        """Digest of every source's samples."""
        return {source: contents.sha256(open_signal(path)) for source, path in self.files().items()}


def name_methods(estimates: Sequence[Path]) -> dict[str, Path]:
    """Folders by their names; several of one name have their parent's name before it.

    Examples
    --------
    >>> name_methods([Path("mdx"), Path("first/demucs"), Path("second/demucs")])
    {'mdx': ...('mdx'), 'first_demucs': ...('first/demucs'), 'second_demucs': ...('second/demucs')}
    """
    names = [path.resolve().name for path in estimates]
    return {
        (name if names.count(name) == 1 else f"{path.resolve().parent.name}_{name}"): path
        for name, path in zip(names, estimates, strict=True)
    }


def find_estimates(
    tracks: Sequence[Track],
    methods: Mapping[str, Path],
    missing: Literal["error", "skip"] = "error",
    convert: bool = False,
) -> list[tuple[Track, dict[str, EstimatesFolder]]]:
    """Tracks that have estimates, with the folder of every method.

    Parameters
    ----------
    tracks : sequence of Track
        With references.
    methods : mapping of str to Path
        By name, the root of each method's estimates.
    missing : {"error", "skip"}
        What to do with tracks that some methods have no estimates of; ``"skip"`` leaves them out for all.
    convert : bool
        See `EstimatesFolder`.

    Raises
    ------
    TrackError
        There are no estimates; or, unless ``missing`` is ``"skip"``, a track is missing in the estimates of some
        methods: all are named.
    """
    found: list[tuple[Track, dict[str, EstimatesFolder]]] = []
    lacking: dict[str, list[str]] = {label: [] for label in methods}
    for track in tracks:
        places = {label: _place_of(track, root, len(tracks) == 1) for label, root in methods.items()}
        folders = {label: replace(place, convert=convert) for label, place in places.items() if place is not None}
        for label in methods.keys() - folders.keys() if folders else ():
            lacking[label].append(f"{track.subset}/{track.name}")
        if len(folders) == len(methods):
            found.append((track, folders))
    _say_missing(lacking, len(tracks), missing)
    if not found:
        common = "no track has estimates by all methods" if any(lacking.values()) else ""
        raise TrackError(
            common
            or f"no estimates of the {len(tracks)} tracks with references in {', '.join(map(str, methods.values()))}; "
            "expected <subset>/<track>/<source>.wav or <track>/<source>.wav"
        )
    return found


def _say_missing(lacking: Mapping[str, Sequence[str]], tracks: int, missing: str) -> None:
    """Say, or raise, which methods lack which tracks."""
    words = [
        f"{label} has none of {len(names)} of {tracks} tracks: {listed(names, most=20)}"
        for label, names in lacking.items()
        if names
    ]
    if words and missing == "error":
        raise TrackError(
            f"estimates are missing: {'; '.join(words)}; methods are compared on the same tracks: complete them, or "
            "compare on the tracks that all have with --missing skip"
        )
    for text in words:
        log.warning("%s; left out for all methods", text)


def _place_of(track: Track, root: Path, is_only_track: bool) -> EstimatesFolder | None:
    """Where a method's estimates of a track lie, if anywhere."""
    # other tools keep validation tracks where their files are, in train
    subsets = (track.subset, "train") if track.subset == "valid" else (track.subset,)
    folders = [*(root / subset / track.name for subset in subsets), root / track.name]
    places = [EstimatesFolder(folder) for folder in (*folders, *([root] if is_only_track else []))]
    return next((place for place in places if place.files()), None)
