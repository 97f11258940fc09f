"""Folders of estimates that any tool wrote: whose they are, and their audio."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stemfuse.experiments.errors import ConfigError
from stemfuse.separators import (
    Adoption,
    AudioError,
    Contents,
    FoundStems,
    Signal,
    Stems,
    Track,
    TrackError,
    find_stems,
    fit_length,
)
from stemfuse.separators.errors import listed
from stemfuse.separators.names import check_name

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Estimates:
    """One method's estimates of one track; travels to another process."""

    found: FoundStems

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources that are scored: those that have references."""
        references = self.found.track.required_references().sources
        return tuple(source for source in references if source in self.found.files)

    def signals(self) -> dict[str, Signal]:
        """Audio of the scored sources."""
        signals = self.found.signals()
        return {source: signals[source] for source in self.sources}

    def stems(self, track: Track) -> Stems:
        """Estimates, as long as the track's mixture by the rule of `fit_length`.

        Raises
        ------
        AudioError
            Rate or channels are not the track's.
        """
        fitted: dict[str, Signal] = {}
        for source, signal in self.signals().items():
            for got, expected, unit in (
                (signal.rate, track.rate, "Hz"),
                (signal.channels, track.channels, "channels"),
            ):
                if got != expected:
                    raise AudioError(
                        f"{signal}: got {got} {unit}, the references of {track.name!r} have {expected}: convert the "
                        "estimates, or separate again at the references' rate and channels"
                    )
            fitted[source], _ = fit_length(signal, track.length)
        return Stems.from_signals(fitted)

    def content(self, contents: Contents) -> dict[str, str]:
        """Digest of every source's samples."""
        return {source: contents.sha256(signal) for source, signal in self.signals().items()}


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
    tracks: Sequence[Track], methods: Mapping[str, Path], model: str | None = None
) -> list[tuple[Track, dict[str, Estimates]]]:
    """Tracks that have estimates, with those of every method; what is missing or ignored is a warning.

    Parameters
    ----------
    tracks : sequence of Track
        With references.
    methods : mapping of str to Path
        By name, the root of each method's estimates, in any layout that `find_stems` reads.
    model : str, optional
        Which one, where a folder has stems by several models.

    Raises
    ------
    TrackError
        There are no estimates by a method, or they are not unique; see `find_stems`.
    """
    found: dict[str, dict[int, Estimates]] = {}
    for label, root in methods.items():
        adoption = find_stems(root, tracks, model=model)
        _warn(label, adoption, tracks)
        of_tracks = {id(stems.track): Estimates(stems) for stems in adoption.found}
        scored = {source for estimates in of_tracks.values() for source in estimates.sources}
        if unscored := [source for source in adoption.sources if source not in scored]:
            log.warning("%s: no references of %s: not scored", label, ", ".join(unscored))
        found[label] = {track: estimates for track, estimates in of_tracks.items() if estimates.sources}
        if not found[label]:
            raise TrackError(
                f"{root}: has stems ({', '.join(adoption.sources)}), but none of a source with references; expected "
                f"some of {', '.join(dict.fromkeys(one for t in tracks for one in t.required_references().sources))}"
            )
    together = [(track, {label: of[id(track)] for label, of in found.items() if id(track) in of}) for track in tracks]
    return [(track, of_methods) for track, of_methods in together if of_methods]


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
