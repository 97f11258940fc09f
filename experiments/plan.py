"""The plan of a run: its tracks, separators and fusions, known before anything is computed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache

from stemfuse.blending import fusion_class, make_fusion
from stemfuse.separators import Separator, StemStore, Track, digest, file_stamp, load_separator

from .config import FusionConfig, RunConfig, SeparatorConfig
from .data.datasets import open_data
from .errors import RunError
from .run import describe_versions
from .workers import cores

NUMERIC = ("stemfuse", "numpy", "scipy", "museval")
"""Packages whose version the results depend on, beside those that are part of a separator's fingerprint."""


@dataclass(frozen=True)
class StoredSeparator:
    """A separator of a run: where its stems lie, and how it is made when some are missing."""

    label: str
    key: str
    name: str
    options: str
    stored: bool

    def load(self) -> Separator:
        """The separator, one per process."""
        return _load(self.name, self.options)


@cache
def _load(name: str, options: str) -> Separator:
    return load_separator(name, **json.loads(options))


@dataclass(frozen=True)
class PlannedTrack:
    """A track of a run with the data set it belongs to."""

    track: Track
    data: str


@dataclass(frozen=True)
class Plan:
    """All that a run will do, known before anything is computed."""

    config: RunConfig
    store: StemStore
    tracks: tuple[PlannedTrack, ...]
    separators: tuple[StoredSeparator, ...]

    @property
    def workers(self) -> int:
        """Processes to use."""
        return self.config.workers or cores()

    @property
    def keys(self) -> dict[str, str]:
        """Store folder of every separator by its label."""
        return {separator.label: separator.key for separator in self.separators}

    def of(self, *subsets: str) -> list[Track]:
        """Tracks of these subsets."""
        return [planned.track for planned in self.tracks if planned.track.subset in subsets]

    def fitted_on(self) -> tuple[list[Track], list[Track]]:
        """Tracks that fusions are fitted to, and those that they are validated on."""
        return self.of(*self.config.fit.train), self.of(*self.config.fit.valid)

    def tested(self) -> list[PlannedTrack]:
        """Tracks that are fused and scored: all that nothing is fitted on."""
        fitted = {"train", "valid", *self.config.fit.train, *self.config.fit.valid}
        return [planned for planned in self.tracks if planned.track.subset not in fitted]

    def learns(self) -> bool:
        """Whether any fusion needs to hear training tracks."""
        return any(getattr(fusion_class(fusion.name), "learns", True) for fusion in self.config.fusions)

    def needed(self) -> list[Track]:
        """Tracks whose stems are needed."""
        tracks = [entry.track for entry in self.tested()]
        if self.learns():
            train, valid = self.fitted_on()
            tracks = [*train, *valid, *tracks]
        return list(dict.fromkeys(tracks))


def plan_run(config: RunConfig) -> Plan:
    """Open the data and name the separators; nothing is separated and no weights are loaded.

    Raises
    ------
    StemfuseError
        Data, a separator, a fusion or an option that is not there.
    """
    store = StemStore(config.store)
    for fusion in config.fusions:
        make_fusion(fusion.name, **fusion.options)
    planned: list[PlannedTrack] = []
    for part in config.data:
        found = open_data(part.path, mixture=part.mixture)
        for subset in part.subsets or found.subsets:
            tracks = found.tracks(subset)[: part.tracks]
            planned += [PlannedTrack(track, part.name) for track in tracks]
    names = [(entry.track.subset, entry.track.name) for entry in planned]
    twice = sorted({name for _, name in names if [other for _, other in names].count(name) > 1})
    if twice:
        raise RunError(f"several tracks are called {', '.join(twice)}; rename some: tables tell tracks by their name")
    separators = tuple(stored_separator(part, store) for part in config.separators)
    plan = Plan(config, store, tuple(planned), separators)
    if not plan.tested():
        raise RunError("no track to test: expected a data set with a subset test, or single songs")
    if plan.learns() and not plan.fitted_on()[0]:
        subsets = sorted({entry.track.subset for entry in plan.tracks})
        raise RunError(
            f"no track to fit on in {', '.join(config.fit.train)}, the subsets are {', '.join(subsets)}; set fit.train"
        )
    return plan


def stored_separator(part: SeparatorConfig, store: StemStore) -> StoredSeparator:
    """Where a configured separator keeps its stems, and how it is made."""
    options = json.dumps(part.options, sort_keys=True)
    if part.stored:
        return StoredSeparator(part.label or part.name, store.find(part.name), part.name, options, True)
    separator = _load(part.name, options)
    return StoredSeparator(part.label or separator.name, store.key(separator), part.name, options, False)


def run_identity(plan: Plan) -> str:
    """Digest of all that the results depend on, as far as it is known without reading audio."""
    config = plan.config.model_dump(mode="json", exclude={"out", "workers", "store"})
    tracks = [
        (entry.data, entry.track.subset, entry.track.name, entry.track.length, file_stamp(entry.track.mixture))
        for entry in plan.tracks
    ]
    versions = {name: version for name, version in describe_versions().items() if name in NUMERIC}
    return digest({"config": config, "tracks": tracks, "keys": plan.keys, "versions": versions})


def fit_digest(plan: Plan, part: FusionConfig) -> str:
    """Digest of all that a fitted fusion depends on."""
    train, valid = plan.fitted_on() if getattr(fusion_class(part.name), "learns", True) else ([], [])
    tracks = [*train, *valid]
    heard = [(track.subset, track.name, file_stamp(track.mixture)) for track in tracks]
    version = describe_versions()["stemfuse"]
    return digest({"fusion": part.model_dump(mode="json"), "tracks": heard, "keys": plan.keys, "stemfuse": version})
