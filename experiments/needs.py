"""What a recipe needs: its tracks and its separators; all that is missing is said at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from stemfuse.separators import StemfuseError, StemStore, Track, separator_class

from .config import RunConfig
from .data import open_data
from .errors import SeveralProblemsError
from .seeds import separator_with_seed
from .stored_separators import StoredSeparator, stored_separator
from .subsets import check_asked, is_small


@dataclass(frozen=True)
class PlannedTrack:
    """A track of a run with the data set it belongs to."""

    track: Track
    data: str
    is_spare: bool = False
    """Whether a small data set's split would set it aside to validate on: it is fitted on instead, see `is_small`."""

    @property
    def named(self) -> str:
        """``<subset>/<track>``."""
        return f"{self.track.subset}/{self.track.name}"


def needed_by(config: RunConfig, store: StemStore) -> tuple[tuple[PlannedTrack, ...], tuple[StoredSeparator, ...]]:
    """Tracks and separators of a recipe; no audio is read and no weights are loaded.

    Raises
    ------
    StemfuseError
        A data set or the weights of a separator are missing; of several problems, the error has a line for each.
    """
    problems: list[StemfuseError] = []
    tracks, separators = _tracks(config, problems), _separators(config, store, problems)
    _raise(problems)
    check_asked(config, [entry.track.subset for entry in tracks])
    return tracks, separators


def _tracks(config: RunConfig, problems: list[StemfuseError]) -> tuple[PlannedTrack, ...]:
    """The tracks of all data sets, as far as the recipe wants them."""
    planned: list[PlannedTrack] = []
    for part in config.data:
        with _collected(problems):
            found = open_data(part.path, mixture=part.mixture, sources=config.sources).only(part.names)
            for subset in part.subsets or found.subsets:
                tracks = found.tracks(subset)[: part.tracks]
                planned += [PlannedTrack(track, part.name, subset == "valid" and is_small(found)) for track in tracks]
    return tuple(planned)


def _separators(config: RunConfig, store: StemStore, problems: list[StemfuseError]) -> tuple[StoredSeparator, ...]:
    """The separators of a recipe, whose weights have to be there."""
    found = []
    for part in config.separators:
        with _collected(problems):
            seeded = part if part.stored else separator_with_seed(part, separator_class(part.name), config.seed)
            found.append(stored_separator(seeded, store))
    return tuple(found)


@contextmanager
def _collected(problems: list[StemfuseError]) -> Iterator[None]:
    """Keep what is wrong with one thing, so that all that is missing can be said at once."""
    try:
        yield
    except StemfuseError as error:
        problems.append(error)


def _raise(problems: Sequence[StemfuseError]) -> None:
    """Raise what is wrong: as it is, or several things in one error, a line each."""
    said = list(dict.fromkeys(map(str, problems)))
    if len(said) == 1:
        raise problems[0]
    if said:
        raise SeveralProblemsError(said, is_usage=all(problem.is_usage for problem in problems))
