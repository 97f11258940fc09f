"""Paths read as track, stem, subset and model: which file claims to be whose stem."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from stemfuse.separators.clutter import is_clutter
from stemfuse.separators.errors import TrackError, listed
from stemfuse.separators.source_names import OTHERS, is_instrument
from stemfuse.separators.track import Track

from .stem_names import StemNames

_INPUT_SUFFIX = re.compile(r"(\.stem)?(\.(wav|flac|mp3|m4a|mp4))?$", re.IGNORECASE)


class Claim(NamedTuple):
    """A file that names a track and a stem; ``layout`` has the roles of its path's parts."""

    path: Path
    track: Track
    word: str
    layout: str
    model: str


def claim_all(
    audible: Iterable[Path], known: TrackNames, stem_names: StemNames, model: str | None
) -> tuple[dict[str, list[Claim]], dict[str, list[Path]], list[Path]]:
    """Stems by model, ignored files of tracks by what they are, and files that are left over."""
    claims: dict[str, list[Claim]] = defaultdict(list)
    ignored: dict[str, list[Path]] = defaultdict(list)
    left_over = []
    for path in audible:
        claim = _read_path(path, known, stem_names)
        if claim is None:
            left_over.append(path)
        elif stem_names.source(claim.word) is None and claim.word not in OTHERS and not is_instrument(claim.word):
            ignored[claim.word].append(path)
        elif model is not None and model not in (claim.model, claim.model.rpartition("/")[2]):
            ignored[f"{claim.word} of model {claim.model!r}"].append(path)
        else:
            claims[claim.model].append(claim)
    return claims, ignored, left_over


class TrackNames:
    """The tracks of a data set by their names, in any spelling."""

    def __init__(self, tracks: Sequence[Track]) -> None:
        self.tracks = tracks
        self.subsets = {_fold(track.subset) for track in tracks}
        self._names: dict[tuple[int, str], list[Track]] = defaultdict(list)
        for track in tracks:
            for key in enumerate(_folds(track.name)):
                self._names[key].append(track)

    def find(self, name: str, path: Path) -> Track | None:
        """The track with this name that a path may belong to; an error where several fit equally well."""
        named = {_fold(part) for part in path.parts[:-1]} & self.subsets
        for level, fold in enumerate(_folds(name)):
            fitting = self._names.get((level, fold), []) if fold else []
            if named:
                fitting = [track for track in fitting if named & _subset_folders(track)]
            if len(fitting) > 1:
                # other tools keep validation tracks where their files are, in train
                own = [track for track in fitting if _fold(track.subset) in named]
                fitting = own if len(own) == 1 else fitting
            if len(fitting) > 1:
                has_subsets = len({track.subset for track in fitting}) > 1
                names_of = listed(repr(one.name) + f" of {one.subset}" * has_subsets for one in fitting)
                advice = (
                    "put it into a folder with its subset's name" if has_subsets else "name it exactly as one of them"
                )
                raise TrackError(f"{path}: {name!r} fits the tracks {names_of}; {advice}")
            if fitting:
                return fitting[0]
        return None


def _subset_folders(track: Track) -> set[str]:
    """Folders that a track may lie in, by its subset."""
    return {_fold(track.subset), *(("train",) if track.subset == "valid" else ())}


def _read_path(path: Path, known: TrackNames, stem_names: StemNames) -> Claim | None:
    """Track, stem and roles of the parts of a path; None where it does not name track and stem."""
    if any(map(is_clutter, path.parts)):
        return None
    subsets = {"train", "valid", "test", *known.subsets}
    folders = {name: known.find(name, path) for name in path.parts[:-1]}
    for head, word, model, form in stem_names.readings(unicodedata.normalize("NFC", path.stem)):
        song = re.sub(r"^(\d+_){1,2}", "", head)
        track = known.find(head, path) or known.find(song, path)
        if track is None and song.casefold() in {"", "mixture", "mix"}:
            track = next(filter(None, reversed(folders.values())), None)
            if track is None and not folders and len(known.tracks) == 1:
                track = known.tracks[0]
            form = form.removeprefix("<track>_")
        if track is not None:
            roles = dict.fromkeys(folders, "<model>")
            roles |= {name: "<subset>" for name in folders if _fold(name) in subsets}
            roles |= {name: "<track>" for name, found in folders.items() if found is track}
            models = [name for name, role in roles.items() if role == "<model>" and name != "mixture"]
            layout = re.sub("(<model>/)+", "<model>/", "/".join((*roles.values(), form)))
            return Claim(path, track, _word(word), layout, "/".join(filter(None, (*models, model))))
    return None


def unknown_stems(
    claims: Iterable[Claim], left_over: Iterable[Path], known: TrackNames
) -> dict[Path, tuple[Track, str]]:
    """Track and word of files that are named as a track's stems are, but for a word that nobody knows.

    They lie in the track's own folder, or in that of all stems as ``<track>_<word>`` or ``<track>_(<word>)``.
    """
    forms: dict[Path, dict[tuple[str, str], Track]] = defaultdict(dict)
    for claim in claims:
        before, _, after = _word(claim.path.stem).rpartition(claim.word)
        forms[claim.path.parent][before, after] = claim.track
    found: dict[Path, tuple[Track, str]] = {}
    for path in left_over:
        name = _word(path.stem)
        for (before, after), track in sorted(forms[path.parent].items(), key=lambda form: len(form[0][0])):
            word = name[len(before) : len(name) - len(after)]
            is_marked = not before or (before.endswith("(") and after.startswith(")")) or word.isalnum()
            if name.startswith(before) and name.endswith(after) and word and is_marked and not is_clutter(path.name):
                found[path] = track, word
    return {path: named for path, named in found.items() if known.find(path.stem, path) is None}


def _fold(name: str) -> str:
    """A name in any case and Unicode form."""
    return unicodedata.normalize("NFC", name).casefold()


def _word(name: str) -> str:
    return re.sub("[ -]", "_", _fold(name))


def _folds(name: str) -> tuple[str, str, str]:
    """A name as it is, in any case and Unicode form, and by its letters and digits alone."""
    composed = _fold(name).strip(" .")
    return name, composed, "".join(filter(str.isalnum, _INPUT_SUFFIX.sub("", composed)))
