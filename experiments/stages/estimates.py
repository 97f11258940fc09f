"""Folders of estimates that any tool wrote: whose they are, and their audio."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stemfuse.experiments.contents import in_threads
from stemfuse.experiments.errors import ConfigError
from stemfuse.experiments.workers import Progress, silent
from stemfuse.separators import (
    SOURCES,
    Adoption,
    AudioError,
    Contents,
    FoundStems,
    Signal,
    StemfuseError,
    Stems,
    Track,
    TrackError,
    check_alignment,
    find_stems,
    fit_length,
)
from stemfuse.separators.audio.signals import by_hand
from stemfuse.separators.errors import listed
from stemfuse.separators.names import check_name
from stemfuse.separators.sources import Sums, part_names, scored_sums, stem_sums, summed

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

Missing = Literal["warn", "skip", "error"]

LOOKED_AT = 3
"""Songs in which offsets are looked for where a method scores badly."""


@dataclass(frozen=True)
class EstimatedStems:
    """One method's estimates of one track; travels to another process."""

    found: FoundStems
    convert: bool = False
    """Whether estimates at another rate, or in mono, are converted to the track's as they are read."""
    sources: Sums | None = None
    """What they are summed up to; see `stemfuse.separators.sources.stem_sums`."""
    usual: tuple[str, ...] = ()
    """The method's sources in all tracks."""

    def sums(self, track: Track) -> tuple[dict[str, tuple[str, ...]], str]:
        """What they are summed up to beside a track's references, and a note where that is a sum."""
        references = track.required_references()
        known = references.sources if self.sources is None else part_names(references)
        return stem_sums(tuple(self.found.files), known, self.sources, self.usual)

    def weights(self, track: Track) -> None:
        """None: nothing is known of how they were made."""

    def stems(self, track: Track) -> Stems:
        """Estimates, as long as the track's mixture by the rule of `fit_length`, summed up where that is wanted.

        Raises
        ------
        AudioError
            Rate or channels are not the track's.
        """
        fitted: dict[str, Signal] = {}
        for source, signal in self.found.signals(self.convert).items():
            for got, expected, unit in ((signal.rate, track.rate, "Hz"), (signal.channels, track.channels, "channels")):
                if got != expected:
                    advice = by_hand(signal.channels, track.channels, mean=True) or (
                        "add --convert to convert estimates as they are read, or export them again"
                    )
                    raise AudioError(
                        f"{signal}: got {got} {unit}, expected {expected} as in the references of {track.name!r}; "
                        f"{advice}"
                    )
            fitted[source], _ = fit_length(signal, track.length)
        return summed(Stems.from_signals(fitted), self.sums(track)[0])

    def content(self, contents: Contents) -> dict[str, str]:
        """Digest of every source's samples."""
        return {source: contents.sha256(signal) for source, signal in self.found.signals(self.convert).items()}


def name_methods(estimates: Sequence[Path]) -> dict[str, Path]:
    """Folders by their names; several of one name have their parent's name before it.

    Raises
    ------
    ConfigError
        A folder is given twice, or two would have one name in the tables.

    Examples
    --------
    >>> name_methods([Path("mdx"), Path("first/demucs"), Path("second/demucs")])
    {'mdx': ...('mdx'), 'first_demucs': ...('first/demucs'), 'second_demucs': ...('second/demucs')}
    """
    places = [path.expanduser().resolve() for path in estimates]
    own = [place.name for place in places]
    names = [
        name if own.count(name) == 1 else f"{place.parent.name}_{name}" for name, place in zip(own, places, strict=True)
    ]
    for name in names:
        same = [str(path) for path, other in zip(estimates, names, strict=True) if other == name]
        if len(same) > 1:
            raise ConfigError(
                f"--estimates {' and '.join(same)}: both are called {name!r} in the table; give each folder once, and "
                "rename one of two folders with equal names"
            )
        check_name(name, "the method of --estimates", ConfigError)
    return dict(zip(names, estimates, strict=True))


def find_estimates(
    tracks: Sequence[Track],
    methods: Mapping[str, Path],
    model: str | None = None,
    missing: Missing = "warn",
    convert: bool = False,
    sources: Sums | None = None,
    contents: Contents | None = None,
    workers: int = 1,
    progress: Progress = silent,
) -> list[tuple[Track, dict[str, EstimatedStems]]]:
    """Tracks that have estimates, with those of every method; what is missing or ignored is a warning.

    Parameters
    ----------
    tracks : sequence of Track
        With references.
    methods : mapping of str to Path
        By name, the root of each method's estimates, in any layout that `find_stems` reads.
    model : str, optional
        Which one, where a folder has stems by several models.
    missing : {"warn", "skip", "error"}
        What to do with tracks that some methods have no estimates of: each method has its own tracks, the tracks are
        left out for all, or an error names them.
    convert : bool
        See `EstimatedStems`.
    sources : mapping, optional
        Sources that are picked or summed up: their parts are looked for as well.
    contents : Contents, optional
        What is known of the files. When given, all are read, so that a damaged one counts as missing.
    workers : int
        Threads that read.
    progress : callable
        Called as ``progress("read", done, total)``.

    Raises
    ------
    TrackError
        There are no estimates by a method, or no track has them by all methods and ``missing`` is ``"skip"``, or they
        are not unique; see `find_stems`.
    """
    adoptions = {
        label: find_stems(root, tracks, None if sources is None else stems_to_find(tracks, sources), model)
        for label, root in methods.items()
    }
    pairs = [(label, stems) for label, adoption in adoptions.items() for stems in adoption.found]
    read = in_threads(lambda pair: _readable(*pair, contents), pairs, workers, "read", progress)
    found: dict[str, dict[int, EstimatedStems]] = {}
    lacking = []
    for label, adoption in adoptions.items():
        _warn(label, adoption, tracks)
        usable = [stems for (of, _), stems in zip(pairs, read, strict=True) if of == label]
        estimates = [EstimatedStems(stems, convert, sources, adoption.sources) for stems in usable if stems.files]
        found[label] = {id(one.found.track): one for one in _comparable(label, estimates)}
        if not found[label]:
            raise TrackError(f"{label}: none of its files can be used, see the warnings; export them again")
        if without := [track.name for track in tracks if id(track) not in found[label]]:
            names = listed(map(repr, without), most=20)
            lacking.append(f"{label} has none of {len(without)} of {len(tracks)} tracks: {names}")
    if lacking and missing == "error":
        raise TrackError(
            f"estimates are missing: {'; '.join(lacking)}; complete them, or compare on the tracks that all have with "
            "--missing skip"
        )
    together = [(track, {label: of[id(track)] for label, of in found.items() if id(track) in of}) for track in tracks]
    fewest = len(methods) if missing == "skip" else 1
    kept = [(track, of_methods) for track, of_methods in together if len(of_methods) >= fewest]
    if not kept:
        raise TrackError(f"no track has estimates by all methods: {'; '.join(lacking)}")
    if lacking and missing == "skip":
        log.warning("%d of %d tracks have estimates by all methods, the others are left out", len(kept), len(tracks))
    return kept


def _readable(label: str, stems: FoundStems, contents: Contents | None) -> FoundStems:
    """Stems without the sources whose files cannot be read, which are said."""
    files = dict(stems.files)
    for source in stems.files:
        try:
            signal = stems.signal(source)
            if contents is not None:
                contents.sha256(signal)
        except AudioError as error:
            log.warning("%s: track %r has no %s that can be read: %s", label, stems.track.name, source, error)
            del files[source]
    return stems if len(files) == len(stems.files) else replace(stems, files=files)


def _comparable(label: str, estimates: Sequence[EstimatedStems]) -> list[EstimatedStems]:
    """Estimates of tracks with something to score; where there is no such track, the first one's error is raised."""
    found, errors = [], []
    for one in estimates:
        track = one.found.track
        try:
            scored_sums(track.required_references().sources, tuple(one.sums(track)[0]))
            found.append(one)
        except TrackError as error:
            errors.append(TrackError(f"{label}, track {track.name!r}: {error}"))
    if errors and not found:
        raise errors[0]
    for said in errors:
        log.warning("left out: %s", said)
    return found


def stems_to_find(tracks: Sequence[Track], sources: Sums) -> list[str]:
    """Stems to look for where sums are wanted: their parts beside the references' sources."""
    parts = (name for wanted in sources.items() for name in (wanted[0], *wanted[1]))
    known = (name for track in tracks if track.references for name in part_names(track.references))
    return list(dict.fromkeys([*SOURCES, *known, *parts]))


def _warn(label: str, adoption: Adoption, tracks: Sequence[Track]) -> None:
    """Say what a method does not have, and what was passed over."""
    count = f"{label}: scored on {len(adoption.found)} of {len(tracks)} tracks"
    if adoption.without:
        log.warning("%s; no estimates of %s", count, listed(map(repr, adoption.without)))
    for name, sources in adoption.incomplete.items():
        log.warning("%s: track %r has no %s, which other tracks have", label, name, " and no ".join(sources))
    for line in adoption.notes:
        if line.startswith(("ignored", "left over")) or " is the sum of " in line:
            log.warning("%s: %s", label, line)


def say_late(found: Sequence[tuple[Track, Mapping[str, EstimatedStems]]], table: pd.DataFrame) -> None:
    """Warn of methods whose stems are late or early: looked for where most SDRs are below 0 dB, in a few songs."""
    from stemfuse.analysis import SONG_SDR, WHOLE_SONG

    metric = "SDR" if (table["metric"] == "SDR").any() else SONG_SDR
    rows = table[(table["metric"] == metric) & ((table["frame"] == WHOLE_SONG) == (metric == SONG_SDR))]
    medians = rows.groupby(["fusion", "source", "track"], sort=False)["value"].median()
    for label in (str(name) for name, share in (medians < 0).groupby("fusion").mean().items() if share > 0.5):
        songs = [(track, methods[label]) for track, methods in found if label in methods][:LOOKED_AT]
        late: dict[tuple[str, int], int] = {}
        for track, estimates in songs:
            try:
                offsets = check_alignment(estimates.stems(track), track).late
            except StemfuseError:
                continue
            for source, samples in offsets.items():
                if samples:
                    late[source, samples] = late.get((source, samples), 0) + 1
        if late:
            said = [f"{source} is {samples:+d} samples late in {count}" for (source, samples), count in late.items()]
            log.warning(
                "%s: %s of %d songs that were looked at: these are the scores of the shift; stemfuse adopt --shift and "
                "stemfuse compare --shift move stems into place",
                label,
                listed(said, most=8),
                len(songs),
            )
