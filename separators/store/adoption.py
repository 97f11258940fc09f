"""Stems that other tools made, found by the layouts of their folders."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from stemfuse.separators.audio.containers import LIBSNDFILE_SUFFIXES, PYAV_SUFFIXES, open_signal
from stemfuse.separators.errors import AudioError, TrackError, listed
from stemfuse.separators.stems import SOURCES, Stems
from stemfuse.separators.track import Track

from .alignment import Alignment, check_alignment, fit_stems

STEM_NAMES = dict(zip(SOURCES, SOURCES, strict=True))
STEM_NAMES |= {"drum": "drums", "others": "other", "vocal": "vocals", "voice": "vocals", "voices": "vocals"}
"""How tools spell the four sources, in any case; with ``no_``, ``lead_`` and the like before it, it is another stem."""

OTHER_STEMS = ["instrumental", "instrum", "accompaniment", "karaoke", "mixture", "mix", "residual", "percussion"]
OTHER_STEMS += ["guitar", "piano", "keys", "strings", "wind", "brass", "woodwinds", "synth", "synthesizer"]
"""Stems that are none of the four sources: they are recognised and reported, never adopted."""

TOOLS = {
    "<subset>/<track>/<source>": "museval estimates",
    "<track>/<source>": "one folder per track, as MSST and museval write",
    "<model>/<track>/<source>": "demucs",
    "<track>_<source>": "MSST's older file names",
    "<track>_(<source>)_<model>": "audio-separator",
    "<track>_(<source>)": "UVR",
    "<track>_<model>_(<source>)": "UVR with model names",
    "<track>_<model>_<source>": "MVSEP",
}
"""The tool of each layout; folders in another order are read too."""

How = Literal["refuse", "shift", "as-is"]

_WORD = "|".join(sorted((*STEM_NAMES, *OTHER_STEMS), key=len, reverse=True))
_ANY_WORD = rf"(?:(?:no|minus|without|lead|back|backing|male|female)[ _-])?(?:{_WORD})"
# the last one is for tracks whose names end in such a word: He said "no"
_READINGS = (
    (re.compile(rf"[ _-]?\((?P<word>{_ANY_WORD})\)", re.IGNORECASE), "(<source>)"),
    (re.compile(rf"(?:^|[ _.-])(?P<word>{_ANY_WORD})$", re.IGNORECASE), "<source>"),
    (re.compile(rf"(?:^|[ _.-])(?P<word>{_WORD})$", re.IGNORECASE), "<source>"),
)
_INPUT_SUFFIX = re.compile(r"(\.stem)?(\.(wav|flac|mp3|m4a|mp4))?$", re.IGNORECASE)


@dataclass(frozen=True)
class FoundStems:
    """The files of one track, one per source, in the order of `SOURCES`."""

    track: Track
    files: Mapping[str, Path]

    def load(self, how: How = "refuse", **limits: float) -> tuple[Stems, Alignment]:
        """Open the files, check them by the rules of `check_alignment`, and return the stems as they are to be stored.

        Parameters
        ----------
        how : {"refuse", "shift", "as-is"}
            With ``"refuse"`` an offset and `Alignment.problems` are errors; with ``"shift"`` an offset is corrected and
            the problems are errors; with ``"as-is"`` the stems are taken as they are.
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
        signals = {source: open_signal(path) for source, path in self.files.items()}
        alignment = check_alignment(signals, self.track, **limits)
        late = alignment.late
        refused = {"refuse": alignment.faults, "shift": alignment.problems, "as-is": ()}[how]
        shift = "--shift to move them, or with " if how == "refuse" and any(late.values()) else ""
        if refused:
            raise AudioError(
                f"track {self.track.name!r}: {'; '.join(refused)}: separate or export them again, or adopt them with "
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
    ignored, left_over : mapping of str to tuple of Path, tuple of Path
        Files of the tracks that are not adopted, by what they are; audio files that are not a track's stem.
    """

    folder: Path
    layout: str
    model: str
    found: tuple[FoundStems, ...]
    without: tuple[str, ...]
    ignored: Mapping[str, tuple[Path, ...]]
    left_over: tuple[Path, ...]

    def __str__(self) -> str:
        counts = Counter(source for stems in self.found for source in stems.files)
        lines = [
            f"{self.folder}: {TOOLS.get(self.layout, 'no single known tool')} ({self.layout})"
            f"{self.model and f', model {self.model}'}; {len(self.found)} tracks, {counts.total()} stems: "
            + ", ".join(f"{counts[source]} {source}" for source in SOURCES if counts[source])
        ]
        lines += [f"{name}: no stems" for name in self.without]
        lines += [f"ignored: {len(paths)} x {what}, such as {paths[0]}" for what, paths in self.ignored.items()]
        return "\n".join(lines + [f"left over, not a track's stem: {path}" for path in self.left_over])


class _Claim(NamedTuple):
    path: Path
    track: Track
    word: str
    layout: str
    model: str


def find_stems(
    folder: str | os.PathLike[str], tracks: Iterable[Track], sources: Sequence[str] = SOURCES, model: str | None = None
) -> Adoption:
    """Find the stems of tracks in a folder that another tool wrote.

    The names of the tracks are looked for in the paths, so a name may contain spaces, quotes or even ``_(Vocals)_``;
    the longest name that fits wins. Names are compared as they are, then in any case and Unicode form without dots and
    spaces at the ends, then by letters and digits alone, as tools replace other characters. `TOOLS` lists the layouts,
    `STEM_NAMES` the words; the numbers that UVR puts before a name are ignored. A file whose path does not name track
    and source is left over, never guessed.

    Parameters
    ----------
    folder : path-like
        It is read with all its sub-folders.
    tracks : iterable of Track
        The tracks that were separated; only their names and subsets are used.
    sources, model : sequence of str, str, optional
        Adopt only these sources; where there are files of several models, only those with this name in their paths.

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
    subsets = {"train", "valid", "test", *(track.subset.casefold() for track in tracks)}
    names: dict[tuple[int, str], list[Track]] = defaultdict(list)
    for track in tracks:
        for key in enumerate(_folds(track.name)):
            names[key].append(track)
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    audible = [path for path in paths if path.suffix.lower() in LIBSNDFILE_SUFFIXES | PYAV_SUFFIXES]
    claims: dict[str, list[_Claim]] = defaultdict(list)
    ignored: dict[str, list[Path]] = defaultdict(list)
    left_over = []
    for path in audible:
        claim = _read_path(path, names, subsets)
        if claim is None:
            left_over.append(path)
        elif STEM_NAMES.get(claim.word) not in sources:
            ignored[claim.word].append(path)
        elif model is not None and model not in (claim.model, claim.model.rpartition("/")[2]):
            ignored[f"{claim.word} of model {claim.model!r}"].append(path)
        else:
            claims[claim.model].append(claim)
    if len(claims) != 1:
        models = [f"{name!r}: {len(of)} files such as {of[0].path}" for name, of in sorted(claims.items())]
        raise TrackError(
            f"{folder}: got stems of {len(claims)} models ({listed(models, between='; ')}), expected one model; "
            "name it with --model"
            if claims
            else f"{folder}: none of {len(audible)} audio files is a stem of the {len(tracks)} tracks; "
            f"expected {', '.join(TOOLS)}"
        )
    ((label, of_model),) = claims.items()
    found = [FoundStems(track, _files_of(track, folder, of_model)) for track in tracks]
    return Adoption(
        folder,
        " and ".join(sorted({claim.layout for claim in of_model})),
        label,
        tuple(stems for stems in found if stems.files),
        tuple(stems.track.name for stems in found if not stems.files),
        {what: tuple(ignored[what]) for what in sorted(ignored)},
        tuple(left_over),
    )


def _files_of(track: Track, folder: Path, claims: Iterable[_Claim]) -> dict[str, Path]:
    """The claimed files of one track, one for each source."""
    files: dict[str, Path] = {}
    for source in SOURCES:
        of = [folder / claim.path for claim in claims if claim.track is track and STEM_NAMES[claim.word] == source]
        if len(of) > 1:
            raise TrackError(f"track {track.name!r}: got {len(of)} files for {source}, expected one: {listed(of)}")
        files.update((source, path) for path in of)
    return files


def _read_path(path: Path, names: Mapping[tuple[int, str], list[Track]], subsets: Container[str]) -> _Claim | None:
    """Track, stem and roles of the parts of a path; None where it does not name track and stem."""
    folders = {name: _find_track(name, names, path) for name in path.parts[:-1]}
    # macOS writes ._vocals.wav beside vocals.wav on foreign disks
    for head, word, model, form in () if path.name.startswith("._") else _readings(path.stem):
        song = re.sub(r"^(\d+_){1,2}", "", head)
        track = _find_track(head, names, path) or _find_track(song, names, path)
        if track is None and song.casefold() in {"", "mixture", "mix"}:
            track = next(filter(None, reversed(folders.values())), None)
            form = form.removeprefix("<track>_")
        if track is not None:
            roles = dict.fromkeys(folders, "<model>")
            roles |= {name: "<subset>" for name in folders if name.casefold() in subsets}
            roles |= {name: "<track>" for name, found in folders.items() if found is track}
            models = [name for name, role in roles.items() if role == "<model>" and name != "mixture"]
            layout = re.sub("(<model>/)+", "<model>/", "/".join((*roles.values(), form)))
            word = re.sub("[ -]", "_", word.casefold())
            return _Claim(path, track, word, layout, "/".join(filter(None, (*models, model))))
    return None


def _readings(name: str) -> list[tuple[str, str, str, str]]:
    """Ways to read a file name as track, stem, model and form, longest track first."""
    readings = []
    for pattern, source in _READINGS:
        for match in pattern.finditer(name):
            before, after = name[: match.start()], name[match.end() :].strip(" _-")
            for cut in re.finditer("[ _.-]|$", before):
                model = before[cut.end() :].strip(" _.-")
                form = ["<track>", *["<model>"] * bool(model), source, *["<model>"] * bool(after)]
                models = "_".join(filter(None, (model, after)))
                readings.append((before[: cut.start()], match["word"], models, "_".join(form)))
    return sorted(readings, key=lambda reading: -len(reading[0]))


def _folds(name: str) -> tuple[str, str, str]:
    """A name as it is, in any case and Unicode form, and by its letters and digits alone."""
    composed = unicodedata.normalize("NFC", name).casefold().strip(" .")
    return name, composed, "".join(filter(str.isalnum, _INPUT_SUFFIX.sub("", composed)))


def _find_track(name: str, names: Mapping[tuple[int, str], list[Track]], path: Path) -> Track | None:
    """The track with this name; an error where several fit equally well."""
    for level, fold in enumerate(_folds(name)):
        fitting = names.get((level, fold), []) if fold else []
        if len(fitting) > 1:
            names_of = listed(repr(track.name) for track in fitting)
            raise TrackError(f"{path}: {name!r} fits the tracks {names_of}; name it exactly as one of them")
        if fitting:
            return fitting[0]
    return None
