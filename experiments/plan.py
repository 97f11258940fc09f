"""The plan of a run: its tracks, separators and fusions, known before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass

from stemfuse.blending import fusion_class, make_fusion
from stemfuse.separators import StemfuseError, StemStore, Track, digest, separator_class

from .config import FusionConfig, RunConfig
from .data import open_data
from .errors import RunError
from .machine import describe_versions
from .seeds import with_seed
from .stored_separators import StoredSeparator, check_labels, stored_separator
from .workers import cores

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

    @property
    def workers(self) -> int:
        """Processes to use."""
        return self.config.workers or cores()

    @property
    def keys(self) -> dict[str, str]:
        """Store folder of every separator by its label."""
        return {separator.label: separator.key for separator in self.separators}

    def of(self, *subsets: str) -> list[Track]:
        """Tracks of some subsets."""
        return [planned.track for planned in self.tracks if planned.track.subset in subsets]

    def fitted_on(self) -> tuple[list[Track], list[Track]]:
        """Tracks that fusions are fitted to, and those that they are validated on."""
        return self.of(*self.config.fit.train), self.of(*self.config.fit.valid)

    def tested(self) -> list[PlannedTrack]:
        """Tracks that are fused and scored: all on which no fusion is fitted."""
        fitted = {"train", "valid", *self.config.fit.train, *self.config.fit.valid}
        return [planned for planned in self.tracks if planned.track.subset not in fitted]

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
        raise RunError(f"several tracks are called {', '.join(twice)}; rename some: tables identify tracks by name")
    separators = tuple(
        stored_separator(part if part.stored else with_seed(part, separator_class(part.name), config.seed), store)
        for part in config.separators
    )
    check_labels(separators, [part.label or part.name for part in fusions])
    plan = Plan(config, store, tuple(planned), separators, fusions)
    if not plan.tested():
        raise RunError("no track to test, expected a data set with a subset test, or single songs")
    if plan.learns() and not plan.fitted_on()[0]:
        subsets = sorted({entry.track.subset for entry in plan.tracks})
        raise RunError(
            f"no track to fit on in {', '.join(config.fit.train)}, the subsets are {', '.join(subsets)}; set fit.train"
        )
    return plan


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
    return digest({"config": config, "tracks": tracks, "keys": plan.keys, "versions": numeric_versions()})


def _audio(store: StemStore, track: Track) -> object:
    """Content of mixture and references, or why it cannot be read: the stage that needs it says so."""
    try:
        return store.content(track, {})
    except StemfuseError as error:
        return str(error)


def fit_digest(plan: Plan, part: FusionConfig) -> str:
    """Digest of all that a fitted fusion depends on; ``part`` is one of the plan's, with its seed."""
    train, valid = plan.fitted_on() if fusion_class(part.name).learns else ([], [])
    tracks = [[plan.store.content(track, plan.keys) for track in part] for part in (train, valid)]
    version = describe_versions()["stemfuse"]
    return digest({"fusion": part.model_dump(mode="json"), "tracks": tracks, "keys": plan.keys, "stemfuse": version})
