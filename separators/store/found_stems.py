"""The stems of one track that were found: one file for each source, or several that are added up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from stemfuse.separators.audio.containers import open_signal
from stemfuse.separators.audio.signals import Signal
from stemfuse.separators.audio.sums import SumSignal
from stemfuse.separators.conversion import converted_to
from stemfuse.separators.errors import AudioError, TrackError, listed
from stemfuse.separators.source_names import REST, is_instrument
from stemfuse.separators.sources import Sums, without_sums
from stemfuse.separators.stems import Stems
from stemfuse.separators.track import Track, fit_length

from .alignment import Alignment, check_alignment, fit_stems
from .claims import Claim
from .stem_names import StemNames, spelled

How = Literal["refuse", "shift", "as-is"]


@dataclass(frozen=True)
class FoundStems:
    """The files of one track.

    Attributes
    ----------
    track : Track
        Whose stems they are.
    files : mapping of str to Path
        One per source, in the order of the sources that were asked for.
    added : mapping of str to tuple of Path
        Files that are added to that of a source: the instruments of a model that has more sources than the data set.
    """

    track: Track
    files: Mapping[str, Path]
    added: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)

    def signals(self, convert: bool = False) -> dict[str, Signal]:
        """The audio of every source, at the track's rate and with its channels where it is to be converted.

        Files that are added up and differ from the track in rate or channels are an `AudioError` otherwise.
        """
        return {source: self.signal(source, convert) for source in self.files}

    def signal(self, source: str, convert: bool = False) -> Signal:
        """The audio of one source."""
        parts = [open_signal(part) for part in (self.files[source], *self.added.get(source, ()))]
        if convert:
            parts = [converted_to(part, self.track.rate, self.track.channels) for part in parts]
        if len(parts) == 1:
            return parts[0]
        for part in parts:
            self.track.check_form(part, f"{part} has")
        fitted = {str(part): fit_length(part, self.track.length)[0] for part in parts}
        Stems.from_signals(fitted)
        return SumSignal(fitted)

    def open(self) -> None:
        """Read the headers of all files; an `AudioError` says which of them cannot be read."""
        for part in (path for source in self.files for path in (self.files[source], *self.added.get(source, ()))):
            open_signal(part)

    def load(self, how: How = "refuse", convert: bool = False, **limits: float) -> tuple[Stems, Alignment]:
        """Open the files, check them by the rules of `check_alignment`, and return the stems as they are to be stored.

        Parameters
        ----------
        how : {"refuse", "shift", "as-is"}
            With ``"refuse"`` an offset and `Alignment.problems` are errors; with ``"shift"`` an offset is corrected and
            the problems are errors; with ``"as-is"`` the stems are taken as they are.
        convert : bool
            Whether stems at another rate than the track, or with other channels, are resampled, copied to stereo or
            mixed down to mono; see `converted_to`.
        **limits
            The limits of `check_alignment`.

        Returns
        -------
        stems : Stems
            Of the track's length.
        alignment : Alignment
            What was measured.

        Raises
        ------
        AudioError
            There is an error by ``how``; or, in any case, rate, channels or length do not fit or a sample is not
            finite.
        """
        if how not in ("refuse", "shift", "as-is"):
            raise AudioError(f"got how={how!r}, expected 'refuse', 'shift' or 'as-is'")
        signals = self.signals(convert)
        alignment = check_alignment(signals, self.track, **limits)
        late = alignment.late
        refused = {"refuse": alignment.faults, "shift": alignment.problems, "as-is": ()}[how]
        shift = "--shift to move them, or " if how == "refuse" and any(late.values()) else ""
        if refused:
            raise AudioError(
                f"track {self.track.name!r}: {'; '.join(refused)}: separate or export them again, or add "
                f"{shift}--as-is to take them as they are"
            )
        return fit_stems(signals, self.track, late if how == "shift" else None), alignment


def assign(
    folder: Path,
    tracks: Sequence[Track],
    claims: Sequence[Claim],
    stem_names: StemNames,
    wanted: Sums,
    is_open: bool,
    ignored: dict[str, list[Path]],
) -> list[FoundStems]:
    """The files of every track, those of each source, and those that are added to ``other``.

    Unless sources were asked for (``is_open``), an accompaniment beside its parts is ignored: it is their sum.
    """
    by_track: dict[int, list[Claim]] = defaultdict(list)
    for claim in claims:
        by_track[id(claim.track)].append(claim)
    sources = {stem_names.source(claim.word) for claim in claims}
    sums = dict(wanted)
    if not sources - {None, "vocals", REST}:
        sums.setdefault(REST, (REST,))
    extras = {spelled(claim.word) for claim in claims if stem_names.source(claim.word) is None}
    if "other" in sources and sums.get("other") == ("other",):
        sums["other"] = ("other", *sorted(extra for extra in extras if is_instrument(extra) and extra not in sums))
    taken = {name for pair in sums.items() for name in (pair[0], *pair[1])}
    found = []
    for track in tracks:
        of_track: dict[str, list[Claim]] = defaultdict(list)
        for claim in by_track[id(track)]:
            of_track[stem_names.source(claim.word) or spelled(claim.word)].append(claim)
        kept = without_sums(of_track) if is_open else tuple(of_track)
        paths: dict[str, Path] = {}
        for word, of in of_track.items():
            if word not in kept or word not in taken:
                for claim in of:
                    ignored[claim.word].append(claim.path)
            elif len(of) > 1:
                same = listed(folder / claim.path for claim in of)
                raise TrackError(f"track {track.name!r}: got {len(of)} files for {word}, expected one: {same}")
            else:
                paths[word] = folder / of[0].path
        found.append(_found(track, paths, sums))
    return found


def _found(track: Track, paths: Mapping[str, Path], sums: Sums) -> FoundStems:
    """The files of one track; a source of which a part is missing is left out, unless there is a file of the whole."""
    files: dict[str, Path] = {}
    added: dict[str, tuple[Path, ...]] = {}
    for name, parts in sums.items():
        own = parts if all(part in paths for part in parts) else () if name in parts else (name,)
        if own and own[0] in paths:
            files[name], *others = (paths[part] for part in own)
            added |= {name: tuple(others)} if others else {}
    return FoundStems(track, files, added)
