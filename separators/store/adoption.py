"""Stems that other tools made, found by the layouts of their folders."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from stemfuse.separators.audio.containers import LIBSNDFILE_SUFFIXES, PYAV_SUFFIXES, open_signal
from stemfuse.separators.audio.signals import Signal
from stemfuse.separators.audio.sums import SumSignal
from stemfuse.separators.conversion import converted_to
from stemfuse.separators.errors import AudioError, TrackError, listed, wrong_usage
from stemfuse.separators.names import did_you_mean, shown
from stemfuse.separators.sources import INSTRUMENTS, OTHERS, REST, without_sums
from stemfuse.separators.stems import SOURCES, Stems
from stemfuse.separators.track import Track, fit_length

from .alignment import Alignment, check_alignment, fit_stems
from .claims import Claim, TrackNames, claim_all
from .stem_names import StemNames, spelled

TOOLS = {
    "<subset>/<track>/<source>": "museval estimates",
    "<track>/<source>": "one folder per track, as MSST and museval write",
    "<source>": "the folder of one track",
    "<model>/<track>/<source>": "demucs",
    "<track>_<source>": "MSST's older file names",
    "<track>_(<source>)_<model>": "audio-separator",
    "<track>_(<source>)": "UVR",
    "<track>_<model>_(<source>)": "UVR with model names",
    "<track>_<model>_<source>": "MVSEP",
}
"""The tool of each layout; folders in another order are read too."""

How = Literal["refuse", "shift", "as-is"]

MOST = 10
"""Tracks and files that are named one by one; of more, the number is said."""


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

    def signals(self) -> dict[str, Signal]:
        """The audio of every source; an `AudioError` where files that are added up differ in rate or channels."""
        signals: dict[str, Signal] = {}
        for source, path in self.files.items():
            parts = [open_signal(part) for part in (path, *self.added.get(source, ()))]
            if len(parts) > 1:
                fitted = {str(part): fit_length(part, self.track.length)[0] for part in parts}
                Stems.from_signals(fitted)
                signals[source] = SumSignal(fitted)
            else:
                signals[source] = parts[0]
        return signals

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
        signals = self.signals()
        if convert:
            form = self.track.rate, self.track.channels
            signals = {source: converted_to(signal, *form) for source, signal in signals.items()}
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


@dataclass(frozen=True)
class Adoption:
    """What `find_stems` found; ``str()`` puts it in words.

    Attributes
    ----------
    layout, model : str
        The roles of the paths' parts, a key of `TOOLS` where a tool is known for it; the model's name in the paths.
    found, without : tuple of FoundStems, tuple of str
        One for each track that has stems; names of the tracks that have none.
    incomplete : mapping of str to tuple of str
        By track, the sources that other tracks have and this one does not.
    ignored, left_over : mapping of str to tuple of Path, tuple of Path
        Files of the tracks that are not adopted, by what they are; audio files that are not a track's stem.
    """

    folder: Path
    layout: str
    model: str
    found: tuple[FoundStems, ...]
    without: tuple[str, ...]
    incomplete: Mapping[str, tuple[str, ...]]
    ignored: Mapping[str, tuple[Path, ...]]
    left_over: tuple[Path, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """What any of the tracks has."""
        return tuple(dict.fromkeys(source for stems in self.found for source in stems.files))

    @property
    def notes(self) -> tuple[str, ...]:
        """What is missing, added up, ignored and left over, one line each."""
        lines = [f"{name}: no stems" for name in self.without[:MOST]]
        if len(self.without) > MOST:
            lines.append(f"no stems of {len(self.without) - MOST} more tracks")
        lines += [f"{name}: no {' and no '.join(sources)}" for name, sources in self.incomplete.items()]
        sums = {
            f"{source} is the sum of {', '.join(path.stem for path in (stems.files[source], *paths))}"
            for stems in self.found[:1]
            for source, paths in stems.added.items()
        }
        lines += sorted(sums)
        lines += [f"ignored: {len(paths)} x {what}, such as {paths[0]}" for what, paths in self.ignored.items()]
        lines += [f"left over, not a track's stem: {path}" for path in self.left_over[:MOST]]
        if len(self.left_over) > MOST:
            lines.append(f"left over, not a track's stem: {len(self.left_over) - MOST} more files")
        return tuple(lines)

    def __str__(self) -> str:
        counts = Counter(source for stems in self.found for source in stems.files)
        head = (
            f"{self.folder}: {TOOLS.get(self.layout, 'no single known tool')} ({self.layout})"
            f"{self.model and f', model {self.model}'}; {len(self.found)} tracks, {counts.total()} stems: "
            + ", ".join(f"{counts[source]} {source}" for source in self.sources)
        )
        return "\n".join([head, *self.notes])


def find_stems(
    folder: str | os.PathLike[str],
    tracks: Iterable[Track],
    sources: Sequence[str] | None = None,
    model: str | None = None,
) -> Adoption:
    """Find the stems of tracks in a folder that another tool wrote.

    The names of the tracks are looked for in the paths, so a name may contain spaces, quotes or even ``_(Vocals)_``;
    the longest name that fits wins. Names are compared as they are, then in any case and Unicode form without dots and
    spaces at the ends, then by letters and digits alone, as tools replace other characters. Where tracks of several
    subsets have one name, the subset's folder decides; validation tracks may lie in ``train``. `TOOLS` lists the
    layouts, `STEM_NAMES` the words; the numbers that UVR puts before a name are ignored. Files of one track may lie in
    the folder itself. A file whose path does not name track and source is left over, never guessed.

    ``no_vocals``, ``instrumental`` and the like are the ``accompaniment`` where the data set has such a source, or
    where there is nothing beside the vocals. Where a model has parts of ``other`` (`INSTRUMENTS`) that are not asked
    for, these are added to its ``other``, which is only what is left beside them.

    Parameters
    ----------
    folder : path-like
        It is read with all its sub-folders.
    tracks : iterable of Track
        The tracks that were separated; only their names, subsets and sources are used.
    sources : sequence of str, optional
        Adopt these sources; those of the tracks' references when not given, `SOURCES` where there are none.
    model : str, optional
        Where there are files of several models, only those with this name in their paths.

    Raises
    ------
    TrackError
        Nothing is found, a name fits two tracks, two files are the same stem, or there are stems of several models.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> noise = np.random.default_rng(0).normal(0, 0.1, (4, 2, 22050)).astype("float32")
    >>> track = Track.from_arrays("What?", noise.sum(0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Stems(noise).write(f"{folder}/htdemucs/What_")
    ...     adoption = find_stems(folder, [track])
    ...     stems, alignment = adoption.found[0].load()
    >>> print(adoption.layout, alignment)
    <model>/<track>/<source> What?: drums, bass, other, vocals; offset 0, gain +0.00 dB, residual -1... dB
    """
    folder, tracks = Path(folder), list(tracks)
    if not folder.is_dir():
        raise TrackError(f"{folder}: {'a file' if folder.exists() else 'no such folder'}; expected a folder of stems")
    wanted = list(sources or _sources_of(tracks))
    stem_names = StemNames([*wanted, *([] if sources else [REST])])
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    audible = [path for path in paths if path.suffix.lower() in LIBSNDFILE_SUFFIXES | PYAV_SUFFIXES]
    claims, ignored, left_over = claim_all(audible, TrackNames(tracks), stem_names, model)
    if not claims:
        everything = StemNames([*_sources_of(tracks), REST])
        others, *_ = claim_all(audible, TrackNames(tracks), everything if sources else stem_names, None)
        _refuse_names(folder, others, everything, model, sources)
    label, of_model = _one_model(folder, claims, len(audible), len(tracks), wanted)
    found = _assign(folder, tracks, of_model, stem_names, wanted, not sources, ignored)
    return Adoption(
        folder,
        " and ".join(sorted({claim.layout for claim in of_model})),
        label,
        tuple(stems for stems in found if stems.files),
        tuple(stems.track.name for stems in found if not stems.files),
        _incomplete(found),
        {what: tuple(ignored[what]) for what in sorted(ignored)},
        tuple(left_over),
    )


def _incomplete(found: Iterable[FoundStems]) -> dict[str, tuple[str, ...]]:
    """By track, the sources that other tracks have and this one does not."""
    present = [stems for stems in found if stems.files]
    every = dict.fromkeys(source for stems in present for source in stems.files)
    missing = {stems.track.name: tuple(one for one in every if one not in stems.files) for stems in present}
    return {name: sources for name, sources in missing.items() if sources}


def _sources_of(tracks: Iterable[Track]) -> tuple[str, ...]:
    """Sources of the tracks' references, and the four, which can be summed up to others; all where there are none."""
    named = dict.fromkeys(source for track in tracks if track.references for source in track.references.sources)
    return tuple(named | dict.fromkeys(SOURCES if named else (*SOURCES, *INSTRUMENTS, *OTHERS, REST)))


def _refuse_names(
    folder: Path,
    claims: Mapping[str, list[Claim]],
    stem_names: StemNames,
    model: str | None,
    sources: Sequence[str] | None,
) -> None:
    """Raise where there are stems of the tracks, but none by the model, or of the sources, that were asked for."""
    if not claims:
        return
    if model is not None and not any(model in (name, name.rpartition("/")[2]) for name in claims):
        known = sorted(name or "(no model's name)" for name in claims)
        raise wrong_usage(
            TrackError(
                f"{folder}: no stems by model {shown(model)!r}{did_you_mean(model, known)}, there are those by "
                f"{listed(known)}; choose with --model"
            )
        )
    if sources:
        words = {stem_names.source(claim.word) or claim.word for of_model in claims.values() for claim in of_model}
        raise wrong_usage(
            TrackError(
                f"{folder}: no stems of {', '.join(sources)}{did_you_mean(sources[0], sorted(words))}, there are those "
                f"of {listed(sorted(words), most=20)}; choose with --sources"
            )
        )


def _one_model(
    folder: Path, claims: Mapping[str, list[Claim]], files: int, tracks: int, wanted: Sequence[str]
) -> tuple[str, list[Claim]]:
    """The only model's name and files."""
    if len(claims) == 1:
        return next(iter(claims.items()))
    models = [f"{name!r}: {len(of)} files such as {of[0].path}" for name, of in sorted(claims.items())]
    raise TrackError(
        f"{folder}: got stems of {len(claims)} models ({listed(models, between='; ')}), expected one model; "
        "name it with --model"
        if claims
        else f"{folder}: none of {files} audio files is a stem ({', '.join(wanted)}) of the {tracks} tracks; "
        f"expected {', '.join(TOOLS)}"
    )


def _assign(
    folder: Path,
    tracks: Sequence[Track],
    claims: Sequence[Claim],
    stem_names: StemNames,
    wanted: Sequence[str],
    is_open: bool,
    ignored: dict[str, list[Path]],
) -> list[FoundStems]:
    """The files of every track, one for each source, and those that are added to ``other``.

    Unless sources were asked for, an accompaniment beside its parts is ignored: it is their sum.
    """
    by_track: dict[int, list[Claim]] = defaultdict(list)
    for claim in claims:
        by_track[id(claim.track)].append(claim)
    sources = [stem_names.source(claim.word) for claim in claims]
    is_two_stem = not set(sources) - {None, "vocals", REST}
    taken = [*wanted, *([REST] if is_two_stem and REST not in wanted else [])]
    instruments = {spelled(claim.word) for claim in claims if stem_names.source(claim.word) is None}
    has_other = "other" in wanted and "other" in sources
    found = []
    for track in tracks:
        of_track: dict[str, list[Claim]] = defaultdict(list)
        for claim in by_track[id(track)]:
            of_track[stem_names.source(claim.word) or spelled(claim.word)].append(claim)
        kept = without_sums(of_track) if is_open else tuple(of_track)
        for word, of in list(of_track.items()):
            is_stem = word in taken or (has_other and word in instruments)
            if word not in kept or not is_stem:
                del of_track[word]
                for claim in of:
                    ignored[claim.word].append(claim.path)
            elif len(of) > 1:
                same = listed(folder / claim.path for claim in of)
                raise TrackError(f"track {track.name!r}: got {len(of)} files for {word}, expected one: {same}")
        files = {source: folder / of_track[source][0].path for source in taken if source in of_track}
        added = {word: folder / of_track[word][0].path for word in sorted(instruments) if word in of_track}
        if has_other and instruments and "other" in files and len(added) < len(instruments):
            del files["other"]
        is_sum = has_other and bool(instruments) and "other" in files
        found.append(FoundStems(track, files, {"other": tuple(added.values())} if is_sum else {}))
    return found
