"""The plan of a run: its tracks, separators and fusions, known before anything is computed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from stemfuse.blending import fusion_class, make_fusion
from stemfuse.blending.constant import SUFFIXES
from stemfuse.blending.search import FEW
from stemfuse.separators import StemStore, Sums, Track, listed, matched, track_labels
from stemfuse.separators.errors import usage_errors

from .config import Cell, RunConfig
from .errors import RunError
from .known_inputs import check_inputs
from .missing_stems import Who, find_absent, in_common, say_absent, who
from .needs import PlannedTrack, needed_by
from .remixes import remixed_tracks
from .seeds import cell_with_seed
from .stored_separators import StoredSeparator, check_labels, check_new_files
from .workers import cores

log = logging.getLogger(__name__)


class Refit(NamedTuple):
    """Tested songs for which all fusions are fitted once more.

    Attributes
    ----------
    fold : int or None
        The group of songs that must not be fitted to; None where none is left out.
    separators : tuple of str
        Labels of those that have stems of the songs.
    """

    fold: int | None
    separators: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """All that a run is going to do, known before anything is computed."""

    config: RunConfig
    store: StemStore
    tracks: tuple[PlannedTrack, ...]
    separators: tuple[StoredSeparator, ...]
    fusions: tuple[Cell, ...]
    """Those of the recipe, cell by cell, with its seed where they take one."""
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By separator, songs that it has no stems of, where the recipe says that they are left out for all."""
    absent: Mapping[str, Sequence[PlannedTrack]] = field(default_factory=dict)
    """By separator, songs that it has no stems of, where the recipe says that fusions are fitted again without it."""
    dropped: str = ""
    """Which separators are left out, as too few songs have stems by all; empty where none is."""
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
        """By track, ``<subset>/<track>``, the folder of its estimates: below its data set's where others have both."""
        names = {planned.track: f"{planned.track.subset}/{planned.track.name}" for planned in self.tracks}
        count = Counter(names.values())
        data = {planned.track: planned.data for planned in self.tracks}
        return {track: name if count[name] == 1 else f"{data[track]}/{name}" for track, name in names.items()}

    @property
    def keys(self) -> dict[str, str]:
        """Store folder of every separator by its label."""
        return {separator.label: separator.key for separator in self.separators}

    def keys_of(self, track: Track) -> dict[str, str]:
        """Store folder of every separator that has stems of a track, or will have, by its label."""
        track_is = who(track)
        return {label: key for label, key in self.keys.items() if track_is not in self._absent.get(label, ())}

    @cached_property
    def _absent(self) -> dict[str, set[Who]]:
        return {label: {who(entry.track) for entry in entries} for label, entries in self.absent.items()}

    def entries(self) -> Iterator[tuple[Track, str]]:
        """All entries of the store that are needed: track and store folder of a separator."""
        for track in self.needed():
            for key in self.keys_of(track).values():
                yield track, key

    def attach(self, track: Track, labels: Sequence[str] | None = None) -> Track:
        """A track with the stems of the separators that it has some of, of the sources that its references have.

        Parameters
        ----------
        track : Track
            One of the plan's.
        labels : sequence of str, optional
            Only of these separators.
        """
        keys = {label: key for label, key in self.keys_of(track).items() if labels is None or label in labels}
        attached = matched(self.store.attach(track, keys), self.config.sources, usual=self._usual, own=self.picked)
        for note in attached.notes:
            if note not in (*track.notes, *self.said):
                log.warning("%s", note)
                self.said.add(note)
        return attached

    @property
    def picked(self) -> dict[str, Sums]:
        """By separator that the recipe says so of, which of its stems are picked or summed up."""
        parts = self.config.separators
        return {part.label or part.name: part.sources for part in parts if part.sources is not None}

    @cached_property
    def _usual(self) -> dict[str, set[str]]:
        """By separator whose stems were adopted, its sources in all songs."""
        stored = {separator.label for separator in self.separators if separator.stored}
        found: dict[str, set[str]] = {label: set() for label in stored}
        for track in self.needed():
            for label, key in self.keys_of(track).items():
                found.get(label, set()).update(self.store.record(track, key)["sources"] if label in stored else ())
        return found

    def of(self, *subsets: str) -> list[Track]:
        """Tracks of some subsets."""
        return [planned.track for planned in self.tracks if planned.track.subset in subsets]

    def fitted_on(self, refit: int | None = None) -> tuple[list[Track], list[Track]]:
        """Tracks that fusions are fitted to, and those that they are validated on.

        With folds the tested songs are fitted to as well, without those of the fold when songs are left out in turn.

        Parameters
        ----------
        refit : int, optional
            Which of `refits`; not given, the fit on all songs that have stems by all of `together`.
        """
        fold, labels = (None, self.together) if refit is None else self.refits[refit]
        train, valid = self.of(*self.config.fit.train), self.of(*self.config.fit.valid)
        if "train" in self.config.fit.train:
            spare = [planned.track for planned in self.tracks if planned.is_spare and planned.track in valid]
            train = list(dict.fromkeys([*train, *spare]))
            valid = [song for song in valid if song not in spare]
        if self.folds:
            songs = dict.fromkeys([*train, *self._crossed()])
            train = [song for song in songs if fold is None or self._fold_by_song.get(who(song)) != fold]
            valid = [song for song in valid if song not in songs]
        return self.having(labels, train), self.having(labels, valid)

    @cached_property
    def together(self) -> tuple[str, ...]:
        """Labels of the separators that saved fusions mix: all, or the most shared ones where no song has all."""
        labels = tuple(self.keys)
        if not self.absent:
            return labels
        fit = self.config.fit
        learnt_on = self.of(*fit.train) if self.learns() and not self.folds else self._crossed()
        songs = learnt_on or [planned.track for planned in self.tested()]
        if self.having(labels, songs):
            return labels
        sets = dict.fromkeys(tuple(self.keys_of(planned.track)) for planned in self.tested())
        return max(sets, key=lambda some: (len(self.having(some, songs)), len(some)))

    def mixed_by(self, cell: Cell, refit: int | None = None) -> tuple[str, ...]:
        """Labels of the separators that a fusion mixes: all of those that it is given, or those that it names."""
        labels = self.together if refit is None else self.refits[refit].separators
        return labels if cell.separators is None else tuple(label for label in labels if label in cell.separators)

    def having(self, labels: Sequence[str], tracks: Sequence[Track]) -> list[Track]:
        """Those of the tracks that have stems by all these separators."""
        return [track for track in tracks if set(labels) <= self.keys_of(track).keys()]

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

    @cached_property
    def refits(self) -> tuple[Refit, ...]:
        """For which tested songs fusions are fitted once more: those left out in turn, and those that lack stems."""
        found = (self._refit(planned.track) for planned in self.tested())
        return tuple(dict.fromkeys(refit for refit in found if refit is not None))

    def refit_of(self, track: Track) -> int | None:
        """Which of `refits` a song belongs to; None when it is fused by what is fitted on all songs."""
        refit = self._refit(track)
        return self.refits.index(refit) if refit in self.refits else None

    def _refit(self, track: Track) -> Refit | None:
        fold, labels = self._fold_by_song.get(who(track)), tuple(self.keys_of(track))
        return None if fold is None and labels == self.together else Refit(fold, labels)

    @cached_property
    def _fold_by_song(self) -> dict[Who, int]:
        return {who(song): index % self.folds for index, song in enumerate(self._crossed())} if self.folds else {}

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
            refits = range(len(self.refits)) if self.absent else ()
            fits = [self.fitted_on(number) for number in (None, *refits)]
            tracks = [*(track for fit in fits for part in fit for track in part), *tracks]
        return list(dict.fromkeys(tracks))


def plan_run(config: RunConfig) -> Plan:
    """Open the data and name the separators; nothing is separated and no weights are loaded.

    Raises
    ------
    StemfuseError
        Data, a separator, a fusion or an option is missing or unknown.
    """
    store = StemStore(config.store)
    fusions = tuple(cell_with_seed(cell, config.seed) for cell in config.cells())
    with usage_errors():
        for fusion in fusions:
            make_fusion(fusion.name, **fusion.options).check()
    planned, separators = needed_by(config, store)
    check_labels(separators, [cell.label for cell in fusions])
    new = [config.out / "fusions" / f"{cell.label}{suffix}" for cell in fusions for suffix in SUFFIXES]
    check_new_files(separators, new)
    plan = _with_remixes(_without_absent(Plan(config, store, planned, separators, fusions)))
    # two that cannot be told apart are an error before anything is computed
    plan.labels  # noqa: B018
    if not plan.tested():
        raise RunError("no track to test, expected a data set with a subset test, or single songs")
    _check_stems(plan)
    if plan.learns():
        _check_fit(plan)
    check_inputs(plan)
    return plan


def _without_absent(plan: Plan) -> Plan:
    """The plan without songs that it cannot do, as separators have no stems of them; which separators lack which."""
    missing, tracks, separators = plan.config.missing, plan.tracks, plan.separators
    absent = find_absent(tracks, separators, plan.store) if missing != "error" else {}
    dropped = ""
    if missing == "skip" and absent:
        separators, dropped = in_common(separators, absent, tracks, plan.learns())
        kept = {separator.label for separator in separators}
        absent = {label: entries for label, entries in absent.items() if label in kept}
    say_absent(absent, missing, len(tracks))
    lacking = [{who(entry.track) for entry in entries} for entries in absent.values()]
    if missing == "refit":
        # a song without any stems cannot be fused
        skipped = set.intersection(*lacking) if len(lacking) == len(separators) else set()
    else:
        skipped = set().union(*lacking)
    left = {label: [entry.named for entry in entries] for label, entries in absent.items()}
    return replace(
        plan,
        tracks=tuple(entry for entry in tracks if who(entry.track) not in skipped),
        separators=separators,
        left_out=left if missing == "skip" else {},
        absent=absent if missing == "refit" else {},
        dropped=dropped,
    )


def _with_remixes(plan: Plan) -> Plan:
    """The plan with the songs mixed anew that the recipe wants to be fitted on, written now if they are not there."""
    fit = plan.config.fit
    if fit.augment is None or not plan.learns():
        return plan
    if plan.folds:
        raise RunError(
            "fit.augment: songs are left out in turn, and what is mixed of them would not be; name other songs to test "
            "in fit.test, or leave out fit.augment"
        )
    songs = plan.fitted_on()[0]
    made = remixed_tracks(songs, fit.augment, plan.store, plan.separators, fit.train[0], plan.config.seed, plan.workers)
    data = next(entry.data for entry in plan.tracks if entry.track in songs)
    return replace(plan, tracks=(*plan.tracks, *(PlannedTrack(track, data) for track in made)))


def _check_stems(plan: Plan) -> None:
    """Refuse a plan in which a song cannot be fused: no other song that is fitted on has all of its separators."""
    if not (plan.absent and plan.learns()):
        return
    for number in (None, *range(len(plan.refits))):
        labels = plan.together if number is None else plan.refits[number].separators
        if not plan.fitted_on(number)[0]:
            songs = [entry.named for entry in plan.tested() if tuple(plan.keys_of(entry.track)) == labels]
            raise RunError(
                f"{listed(songs)}: no other song to fit on has stems by {' and '.join(labels)}; leave these songs or "
                "one of these separators out, or compare what is shared (--missing skip; in a recipe, missing: skip)"
            )


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
