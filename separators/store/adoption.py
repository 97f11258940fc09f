"""Stems that other tools made, found by the layouts of their folders."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stemfuse.separators.audio.containers import LIBSNDFILE_SUFFIXES, PYAV_SUFFIXES, open_signal
from stemfuse.separators.errors import AudioError, TrackError, UnreadableError, listed, wrong_usage
from stemfuse.separators.names import did_you_mean, shown
from stemfuse.separators.source_names import INSTRUMENTS, OTHERS, REST, is_instrument
from stemfuse.separators.sources import Sums, check_parts_of_other
from stemfuse.separators.stems import SOURCES, Stems
from stemfuse.separators.track import Track

from .alignment import Alignment
from .claims import Claim, TrackNames, claim_all, unknown_stems
from .found_stems import FoundStems, How, assign
from .stem_names import StemNames, spelled

log = logging.getLogger(__name__)

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

Loaded = tuple[FoundStems, Stems, Alignment]

MOST = 10
"""Tracks and files that are named one by one; of more, the number is said."""


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

    def load(self, how: How = "refuse", convert: bool = False) -> tuple[Adoption, list[Loaded]]:
        """Load the stems of all tracks, see `FoundStems.load`; a track with a file that cannot be read has none.

        Returns
        -------
        adoption : Adoption
            Without the tracks that are passed over, each of which is said in a warning.
        loaded : list of tuple of FoundStems, Stems, Alignment
            Those of the others.

        Raises
        ------
        AudioError
            No track is left, or there is only one; or stems are refused by ``how``.
        """
        loaded: list[Loaded] = []
        faults: dict[str, AudioError] = {}
        for stems in self.found:
            try:
                stems.open()
            except AudioError as error:
                faults[stems.track.name] = error
                continue
            try:
                loaded.append((stems, *stems.load(how, convert)))
            except UnreadableError as error:
                # its header is whole, what follows is not
                faults[stems.track.name] = error
        if not loaded or len(self.found) + len(self.without) == 1:
            for fault in faults.values():
                raise fault
        for name, fault in faults.items():
            log.warning("track %r is passed over: %s", name, fault)
        found = tuple(stems for stems, _, _ in loaded)
        return replace(self, found=found, without=(*self.without, *faults)), loaded

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
    sources: Sequence[str] | Sums | None = None,
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
    for, these are added to its ``other``, which is only what is left beside them; a stem beside ``other`` of which
    nobody knows whether it is a part of it is an error, unless ``sources`` says so.

    Parameters
    ----------
    folder : path-like
        It is read with all its sub-folders.
    tracks : iterable of Track
        The tracks that were separated; only their names, subsets and sources are used.
    sources : sequence of str, or mapping, optional
        Adopt these sources, or sums of them (see `stemfuse.separators.parse_sources`); those of the tracks' references
        when not given, all where there are none.
    model : str, optional
        Where there are files of several models, only those with this name in their paths.

    Raises
    ------
    TrackError
        Nothing is found, a name fits two tracks, two files are the same stem, there are stems of several models, or a
        stem beside ``other`` that nobody knows.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from stemfuse.separators import Stems
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
    given = sources or _sources_of(tracks)
    sums = dict(given) if isinstance(given, Mapping) else {source: (source,) for source in given}
    wanted = list(dict.fromkeys(name for pair in sums.items() for name in (pair[0], *pair[1])))
    stem_names = StemNames([*wanted, *([] if sources else [REST])])
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    audible = [path for path in paths if path.suffix.lower() in LIBSNDFILE_SUFFIXES | PYAV_SUFFIXES]
    names = TrackNames(tracks)
    claims, ignored, left_over = claim_all(audible, names, stem_names, model)
    if not claims:
        everything = StemNames([*_sources_of(tracks), REST])
        others, *_ = claim_all(audible, names, everything if sources else stem_names, None)
        _refuse_names(folder, others, everything, model, wanted if sources else None)
    label, of_model = _one_model(folder, claims, len(audible), len(tracks), wanted)
    if not sources:
        _check_unknown(folder, of_model, stem_names, unknown_stems(of_model, left_over, names))
        if not any(track.references for track in tracks):
            sums |= {word: (word,) for word in map(spelled, (claim.word for claim in of_model)) if is_instrument(word)}
    found = assign(folder, tracks, of_model, stem_names, sums, not sources, ignored)
    adoption = Adoption(
        folder,
        " and ".join(sorted({claim.layout for claim in of_model})),
        label,
        tuple(stems for stems in found if stems.files),
        tuple(stems.track.name for stems in found if not stems.files),
        _incomplete(found),
        {what: tuple(ignored[what]) for what in sorted(ignored)},
        tuple(left_over),
    )
    # a list may have names that are only looked for
    missing = [source for source in sources or () if source not in adoption.sources]
    if isinstance(sources, Mapping) and missing:
        raise wrong_usage(
            TrackError(
                f"{folder}: no stems of {missing[0]}{did_you_mean(missing[0], adoption.ignored)}, there are those of "
                f"{listed(adoption.sources, 20)}; choose with --sources"
            )
        )
    return adoption


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


def _check_unknown(
    folder: Path, claims: Iterable[Claim], stem_names: StemNames, unknown: Mapping[Path, tuple[Track, str]]
) -> None:
    """Refuse stems beside a model's ``other`` that may be parts of it, where a track's references hold them so."""
    beside: dict[int, dict[str, None]] = defaultdict(dict)
    for claim in claims:
        beside[id(claim.track)][stem_names.source(claim.word) or spelled(claim.word)] = None
    odd: dict[int, dict[str, None]] = defaultdict(dict)
    tracks = {id(claim.track): claim.track for claim in claims}
    for path, (track, word) in unknown.items():
        with contextlib.suppress(AudioError):
            open_signal(folder / path)
            odd[id(track)][word] = None
    for key, words in beside.items():
        references = tracks[key].references
        extras = [word for word in (*words, *odd[key]) if word in OTHERS or word in odd[key] or is_instrument(word)]
        if references is None or "other" not in words or not {"other", REST} & set(references.sources):
            continue
        extras = [word for word in extras if word not in references.sources]
        try:
            check_parts_of_other(extras, [*words, *odd[key]], references.sources)
        except TrackError as error:
            raise TrackError(f"{folder}: track {tracks[key].name!r}: {error}") from error
