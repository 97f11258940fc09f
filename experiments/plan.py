"""The plan of a run: its tracks, separators and fusions, known before anything is computed."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from stemfuse.blending import fusion_class, make_fusion
from stemfuse.blending.search import FEW
from stemfuse.separators import (
    StemfuseError,
    StemStore,
    Track,
    digest,
    listed,
    matched,
    separator_class,
    track_labels,
)

from .config import FusionConfig, RunConfig
from .data import open_data
from .errors import RunError
from .machine import describe_versions
from .seeds import with_seed
from .stored_separators import StoredSeparator, check_labels, stored_separator
from .workers import cores

log = logging.getLogger(__name__)

NUMERIC = ("stemfuse", "numpy", "scipy", "museval")
"""Packages whose versions the results depend on; those that separators use are in their fingerprints."""


@dataclass(frozen=True)
class PlannedTrack:
    """A track of a run with the data set it belongs to."""

    track: Track
    data: str


@dataclass(frozen=True)
class Plan:
    """All that a run is going to do, known before anything is computed."""

    config: RunConfig
    store: StemStore
    tracks: tuple[PlannedTrack, ...]
    separators: tuple[StoredSeparator, ...]
    fusions: tuple[FusionConfig, ...]
    """Those of the recipe, with its seed where they take one."""
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By separator, songs that it has no stems of, where the recipe says that they are left out for all."""
    said: set[str] = field(default_factory=set)
    """Notes on stems that are sums of others, each of which is said once."""

    @property
    def workers(self) -> int:
        """Processes to use."""
        return self.config.workers or cores()

    @cached_property
    def labels(self) -> dict[Track, str]:
        """What every track is called in tables: its name, with subset or data set where others have that name."""
        tracks = [planned.track for planned in self.tracks]
        return dict(zip(tracks, track_labels(tracks, [planned.data for planned in self.tracks]), strict=True))

    @cached_property
    def folders(self) -> dict[Track, str]:
        """By track, ``<subset>/<track>``, the folder of its estimates: the name is its label where others have both."""
        names = {planned.track: f"{planned.track.subset}/{planned.track.name}" for planned in self.tracks}
        count = Counter(names.values())
        return {
            track: name if count[name] == 1 else f"{track.subset}/{self.labels[track]}" for track, name in names.items()
        }

    @property
    def keys(self) -> dict[str, str]:
        """Store folder of every separator by its label."""
        return {separator.label: separator.key for separator in self.separators}

    def attach(self, track: Track) -> Track:
        """A track with the stems of all separators, of the sources that its references have."""
        attached = matched(self.store.attach(track, self.keys), self.config.sources)
        for note in attached.notes:
            if note not in (*track.notes, *self.said):
                log.warning("%s", note)
                self.said.add(note)
        return attached

    def of(self, *subsets: str) -> list[Track]:
        """Tracks of some subsets."""
        return [planned.track for planned in self.tracks if planned.track.subset in subsets]

    def fitted_on(self, fold: int | None = None) -> tuple[list[Track], list[Track]]:
        """Tracks that fusions are fitted to, and those that they are validated on.

        With folds the tested songs are fitted to as well, without those of ``fold`` when it is given.
        """
        train, valid = self.of(*self.config.fit.train), self.of(*self.config.fit.valid)
        if not self.folds:
            return train, valid
        songs = dict.fromkeys([*train, *self._crossed()])
        train = [song for song in songs if fold is None or self.fold_of(song) != fold]
        return train, [song for song in valid if song not in songs]

    def tested(self) -> list[PlannedTrack]:
        """Tracks that are fused and scored: all on which no fusion is fitted, when the recipe does not say which."""
        if (test := self.config.fit.test) is not None:
            return [planned for planned in self.tracks if planned.track.subset in test]
        fitted = {"train", "valid", *self.config.fit.train, *self.config.fit.valid}
        tested = [planned for planned in self.tracks if planned.track.subset not in fitted]
        # where nothing else is left, the songs that are fitted on can be tested when they are left out in turn
        return tested or list(self.tracks)

    @cached_property
    def folds(self) -> int:
        """Groups of tested songs that are left out in turn; 0 when songs are fitted on that are not tested."""
        if not self.learns():
            return 0
        songs = self._crossed()
        if self.config.fit.folds is not None:
            return min(self.config.fit.folds, len(songs))
        train = self.of(*self.config.fit.train)
        apart = [track for track in train if track not in songs]
        return 0 if apart or len(songs) < 2 else min(len(songs), FEW)

    def fold_of(self, track: Track) -> int | None:
        """The group in which a song is left out; None when it is in none."""
        return self._fold_by_song.get(_who(track))

    @cached_property
    def _fold_by_song(self) -> dict[tuple[str, str, str], int]:
        return {_who(song): index % self.folds for index, song in enumerate(self._crossed())} if self.folds else {}

    def _crossed(self) -> list[Track]:
        """Songs that can be left out in turn."""
        return [planned.track for planned in self.tested() if planned.track.references is not None]

    def learns(self) -> bool:
        """Whether any fusion needs training tracks."""
        return any(fusion_class(fusion.name).learns for fusion in self.fusions)

    def needed(self) -> list[Track]:
        """Tracks whose stems are needed."""
        tracks = [entry.track for entry in self.tested()]
        if self.learns():
            train, valid = self.fitted_on()
            tracks = [*train, *valid, *tracks]
        return list(dict.fromkeys(tracks))


def _who(track: Track) -> tuple[str, str, str]:
    """Who a track is, with stems or without."""
    return track.data, track.subset, track.name


def plan_run(config: RunConfig) -> Plan:
    """Open the data and name the separators; nothing is separated and no weights are loaded.

    Raises
    ------
    StemfuseError
        Data, a separator, a fusion or an option is missing or unknown.
    """
    store = StemStore(config.store)
    fusions = tuple(with_seed(part, fusion_class(part.name), config.seed) for part in config.fusions)
    for fusion in fusions:
        make_fusion(fusion.name, **fusion.options).check()
    planned: list[PlannedTrack] = []
    for part in config.data:
        found = open_data(part.path, mixture=part.mixture, sources=config.sources)
        for subset in part.subsets or found.subsets:
            tracks = found.tracks(subset)[: part.tracks]
            planned += [PlannedTrack(track, part.name) for track in tracks]
    separators = tuple(
        stored_separator(part if part.stored else with_seed(part, separator_class(part.name), config.seed), store)
        for part in config.separators
    )
    check_labels(separators, [part.label or part.name for part in fusions])
    left_out = _left_out(planned, separators, store) if config.missing == "skip" else {}
    skipped = {name for names in left_out.values() for name in names}
    kept = tuple(entry for entry in planned if _named(entry) not in skipped)
    plan = Plan(config, store, kept, separators, fusions, left_out)
    # two that cannot be told apart are an error before anything is computed
    plan.labels  # noqa: B018
    if not plan.tested():
        raise RunError("no track to test, expected a data set with a subset test, or single songs")
    if plan.learns():
        _check_fit(plan)
    return plan


def _check_fit(plan: Plan) -> None:
    """Refuse a plan in which there is nothing to fit on, or in which tested songs are fitted on."""
    fit, tested = plan.config.fit, [entry.track for entry in plan.tested()]
    train, valid = plan.fitted_on(0 if plan.folds else None)
    if not train:
        subsets = sorted({entry.track.subset for entry in plan.tracks})
        raise RunError(
            f"no track with references to fit on in {', '.join(fit.train)}, the subsets are {', '.join(subsets)}; "
            "name some in fit.train, or give more than one song with references: they are left out in turn"
        )
    both = [track.name for track in tested if track in (*train, *valid)]
    if both and not plan.folds:
        raise RunError(
            f"{len(both)} of {len(tested)} tested songs are fitted on, such as {both[0]}; set fit.folds=5 to leave "
            "them out in turn, or fit.test to the subsets to test"
        )


def _left_out(
    planned: Sequence[PlannedTrack], separators: Sequence[StoredSeparator], store: StemStore
) -> dict[str, list[str]]:
    """By separator whose stems cannot be made here, the songs that it has none of; each is said in one line."""
    found: dict[str, list[str]] = {}
    for separator in separators:
        if separator.stored:
            names = [_named(entry) for entry in planned if store.content_of(entry.track, separator.key) is None]
            if names:
                found[separator.label] = names
                log.warning(
                    "%s has no stems of %d of %d songs, left out for all: %s",
                    separator.label,
                    len(names),
                    len(planned),
                    listed(names, most=20),
                )
    return found


def _named(entry: PlannedTrack) -> str:
    return f"{entry.track.subset}/{entry.track.name}"


def numeric_versions() -> dict[str, str]:
    """Versions of the packages that scores depend on."""
    return {name: version for name, version in describe_versions().items() if name in NUMERIC}


def run_identity(plan: Plan) -> str:
    """Digest of all that the results depend on, but for the stems, which may not be there yet."""
    seeded = plan.config.model_copy(update={"fusions": plan.fusions})
    config = seeded.model_dump(mode="json", exclude={"out", "workers", "store"})
    needed = set(plan.needed())
    tracks = [
        (entry.data, entry.track.subset, entry.track.name, entry.track.length, _audio(plan.store, entry.track))
        for entry in plan.tracks
        if entry.track in needed
    ]
    files = {part.label or part.name: _files_of(part) for part in plan.fusions if _files_of(part)}
    about = {"config": config, "tracks": tracks, "keys": plan.keys, "versions": numeric_versions()}
    return digest(about | ({"files": files} if files else {}))


def _files_of(part: FusionConfig) -> list[str]:
    """Digests of the files that a fusion's options name."""
    files = make_fusion(part.name, **part.options).files()
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def _audio(store: StemStore, track: Track) -> object:
    """Content of mixture and references, or why it cannot be read: the stage that needs it says so."""
    try:
        return store.content(track, {})
    except StemfuseError as error:
        return str(error)


def fit_digest(plan: Plan, part: FusionConfig, fold: int | None = None) -> str:
    """Digest of all that a fitted fusion depends on; ``part`` is one of the plan's, with its seed."""
    train, valid = plan.fitted_on(fold) if fusion_class(part.name).learns else ([], [])
    tracks = [[plan.store.content(track, plan.keys) for track in part] for part in (train, valid)]
    version = describe_versions()["stemfuse"]
    about = {"fusion": part.model_dump(mode="json"), "tracks": tracks, "keys": plan.keys, "stemfuse": version}
    about |= {"files": files} if (files := _files_of(part)) else {}
    return digest(about | ({"sources": plan.config.sources} if plan.config.sources else {}))
