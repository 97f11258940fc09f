"""Stems that other tools made: find them in their folders, and see whether they fit their mixtures."""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .audio import Samples, Signal
from .containers import LIBSNDFILE_SUFFIXES, PYAV_SUFFIXES, open_signal
from .errors import AudioError, TrackError
from .stems import SOURCES, Stems
from .track import FittedSignal, Track, fit_length

STEM_NAMES = dict(zip(SOURCES, SOURCES, strict=True))
STEM_NAMES |= {"drum": "drums", "others": "other", "vocal": "vocals", "voice": "vocals", "voices": "vocals"}
"""How tools write the four sources, in any case; ``no_``, ``lead_`` and the like before one make it another stem."""

OTHER_STEMS = ["instrumental", "instrum", "accompaniment", "karaoke", "mixture", "mix", "residual", "percussion"]
OTHER_STEMS += ["guitar", "piano", "keys", "strings", "wind", "brass", "woodwinds", "synth", "synthesizer"]
"""Stems that are none of the four sources: known, reported, never adopted."""

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
"""Who writes which layout; folders in another order are read too."""

How = Literal["refuse", "shift", "as-is"]
EXCERPT_S = 10

_WORD = "|".join(sorted((*STEM_NAMES, *OTHER_STEMS), key=len, reverse=True))
_ANY_WORD = rf"(?:(?:no|minus|without|lead|back|backing|male|female)[ _-])?(?:{_WORD})"
# the last one reads tracks whose names end in such a word: He said "no"
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
        """Open the files, check them by the rules of `check_alignment`, and give the stems as they are to be kept.

        Parameters
        ----------
        how : {"refuse", "shift", "as-is"}
            What becomes of an offset and of `Alignment.problems`: both are errors; the offset is taken out and the
            other problems are errors; or the stems are taken as they lie.
        **limits
            Those of `check_alignment`.

        Raises
        ------
        AudioError
            Rate, channels or length do not fit or a sample is not finite, whatever ``how`` says; or a problem stands.
        """
        if how not in ("refuse", "shift", "as-is"):
            raise AudioError(f"how={how!r} came, expected 'refuse', 'shift' or 'as-is'")
        signals = {source: open_signal(path) for source, path in self.files.items()}
        alignment = check_alignment(signals, self.track, **limits)
        late = alignment.offset or 0
        refused, shift = list(alignment.problems) if how != "as-is" else [], ""
        if late and how == "refuse":
            refused.insert(0, f"the stems are {abs(late)} samples {'late' if late > 0 else 'early'}")
            shift = "--shift to move them, or with "
        if refused:
            raise AudioError(
                f"track {self.track.name!r}: {'; '.join(refused)}: separate or export them again, or adopt them with "
                f"{shift}--as-is to take them as they lie"
            )
        return _fit(signals, self.track, late if how == "shift" else 0), alignment


@dataclass(frozen=True)
class Adoption:
    """What `find_stems` found; ``str()`` says it in words.

    Attributes
    ----------
    layout, model : str
        Roles of the paths' parts, a key of `TOOLS` where a tool is known for it; the model that the paths name.
    found, without : tuple of FoundStems, tuple of str
        One for each track that has stems; names of the tracks that have none.
    ignored, left_over : mapping of str to tuple of Path, tuple of Path
        Files of the tracks that are not adopted, by what they are; audio files that are no track's stem.
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
        return "\n".join(lines + [f"left over, no track's stem: {path}" for path in self.left_over])


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

    Paths are read with the tracks' names in hand, so a name may hold spaces, quotes or even ``_(Vocals)_``: the
    longest that fits wins. Names are compared as they are, then in any case and Unicode form without dots and spaces
    at the ends, then by letters and digits alone, for tools replace other characters. `TOOLS` lists the layouts,
    `STEM_NAMES` the words; numbers that UVR sets before a name are passed over. A file that does not say track and
    source is left over, never guessed.

    Parameters
    ----------
    folder : path-like
        Read with all its sub-folders.
    tracks : iterable of Track
        What was separated; only names and subsets are used.
    sources, model : sequence of str, str, optional
        Adopt these sources alone; where several models lie mixed, the files with this one's name in their paths.

    Raises
    ------
    TrackError
        Nothing found, a name that fits two tracks, two files for one stem, or stems of several models.

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
        listed = "; ".join(f"{name!r}: {len(of)} files such as {of[0].path}" for name, of in sorted(claims.items()))
        raise TrackError(
            f"{folder}: stems of {len(claims)} models lie mixed ({listed}); name one of them with --model"
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
            listed = ", ".join(map(str, of))
            raise TrackError(f"track {track.name!r}: {len(of)} files claim to be {source}: {listed}; keep one")
        files.update((source, path) for path in of)
    return files


def _read_path(path: Path, names: Mapping[tuple[int, str], list[Track]], subsets: Container[str]) -> _Claim | None:
    """What a path says: the track, the stem, the roles of its parts; None where it does not say track and stem."""
    folders = {name: _find_track(name, names, path) for name in path.parts[:-1]}
    # ._vocals.wav is what macOS leaves beside vocals.wav on foreign disks
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
    """The track of this name; an error where several fit equally well."""
    for level, fold in enumerate(_folds(name)):
        fitting = names.get((level, fold), []) if fold else []
        if len(fitting) > 1:
            listed = ", ".join(repr(track.name) for track in fitting)
            raise TrackError(f"{path}: {name!r} fits the tracks {listed}; name it exactly as one of them")
        if fitting:
            return fitting[0]
    return None


@dataclass(frozen=True)
class Alignment:
    """How the stems of a track lie against its mixture; ``str()`` says it in words.

    Attributes
    ----------
    offset : int or None
        Samples by which the stems are late (negative: early); None where it cannot be told.
    correlation : float
        Of the stems' sum with the mixture at this offset, over the whole song.
    gain_db, residual_db : float or None
        Level of the sum against the mixture, and what the sum leaves of it; None unless all four sources are there.
    problems, warnings : tuple of str
        What refuses the stems besides an offset, and what does not.
    """

    track: str
    sources: tuple[str, ...]
    offset: int | None
    correlation: float
    gain_db: float | None
    residual_db: float | None
    problems: tuple[str, ...]
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        offset = "unknown" if self.offset is None else f"{self.offset:+d}" if self.offset else "0"
        # adding 0 makes -0.00 +0.00
        gain = "" if self.gain_db is None else f", gain {round(self.gain_db, 2) + 0:+.2f} dB"
        level = gain if self.residual_db is None else f"{gain}, residual {self.residual_db:.1f} dB"
        lines = [f"{self.track}: {', '.join(self.sources)}; offset {offset}{level}"]
        lines += [f"  problem: {problem}" for problem in self.problems]
        return "\n".join(lines + [f"  warning: {warning}" for warning in self.warnings])


def check_alignment(
    stems: Stems | Mapping[str, Signal], track: Track, search_s: float = 1.0, gain_limit_db: float = 6.0
) -> Alignment:
    """Measure how stems lie against the mixture that they were separated from.

    Rate and channels have to be the mixture's, the length as `fit_length` allows, samples finite. The offset is the
    highest peak of the generalised cross-correlation with phase transform (Knapp and Carter 1976) of mixture and sum
    of stems, over those 10 s where both are loudest; gains do not matter to it, and one source is enough. It is told
    where no peak more than 1 ms away is two thirds as high (exact loops and other songs have such), or where the sum
    is the mixture within -40 dB as it lies. At this offset the whole song gives correlation, gain and residual.

    Problems are an inverted polarity, of the sum or of one stem; a sum of four sources that differs from the
    mixture's level by more than ``gain_limit_db``, or has no offset and correlates with it by less than 0.5 (another
    song); a sum of fewer that is the mixture within -20 dB (the ``other`` of two-stem models is all but the
    voice). Warnings are a gain above 0.1 dB; stems scaled one by one, as peak normalisation does; silent or equal
    stems; a mended length; an unknown offset.

    Parameters
    ----------
    stems : Stems or mapping of str to Signal
        As they were found. They and the mixture are read once, and again where there is an offset, 10 s at a time.
    track : Track
        What was separated.
    search_s, gain_limit_db : float
        Largest offset that is looked for, in seconds; largest difference in level that is no problem.

    Raises
    ------
    AudioError
        Rate, channels or length do not fit, or a sample is not finite.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(0, 0.1, (4, 2, 44100))
    >>> late = Stems(np.pad(noise, ((0, 0), (0, 0), (37, 0)))[..., :44100] / 2)
    >>> print(check_alignment(late, Track.from_arrays("noise", noise.sum(0))))
    noise: drums, bass, other, vocals; offset +37, gain -6.02 dB, residual -1... dB
      problem: their sum is 6.0 dB quieter than the mixture
    """
    signals = {source: stems[source] for source in (stems.sources if isinstance(stems, Stems) else stems)}
    fitted = _fit(signals, track)
    mended = [note for signal in signals.values() if (note := fit_length(signal, track.frames)[1])]
    gram, loudest = _gram(track.mixture, fitted)
    offset = _find_offset(track.mixture, fitted, loudest, round(search_s * track.rate))
    if offset:
        gram, _ = _gram(track.mixture, fitted, offset)
    cross, norm = gram[0, 1:].sum(), np.sqrt(gram[0, 0] * gram[1:, 1:].sum())
    correlation = float(cross / norm) if norm else 0.0
    left = max(1 - correlation**2, 1e-15)
    offset = 0 if offset is None and left < 1e-4 else offset
    missing = ", ".join(source for source in SOURCES if source not in fitted.sources)
    gain_db = float(20 * np.log10(abs(cross) / gram[0, 0])) if cross and not missing else None
    residual_db = None if gain_db is None else float(10 * np.log10(left))
    problems, warnings = _judge_stems(fitted.sources, gram, 0.0 if gain_db is None else left)
    if offset is None:
        warnings.append("the offset cannot be told: their sum follows the mixture nowhere, or loops exactly")
        if not missing and correlation < 0.5 and gram[0, 0]:
            other = f"another song, or more than {search_s:g} s off"
            problems.append(f"their sum is not like the mixture (correlation {correlation:.2f}): {other}")
    elif correlation < 0:
        problems.append("their polarity is inverted")
    if missing and left < 0.01:
        accompaniment = "the 'other' of a two-stem model is the accompaniment, adopt its vocals alone"
        problems.append(f"they already sum to the mixture, without {missing}: {accompaniment}")
    if gain_db is not None and abs(gain_db) > 0.1:
        side = "louder" if gain_db > 0 else "quieter"
        text = f"their sum is {abs(gain_db):.1f} dB {side} than the mixture"
        (problems if abs(gain_db) > gain_limit_db else warnings).append(text)
    facts = (track.name, fitted.sources, offset, correlation, gain_db, residual_db)
    return Alignment(*facts, problems=tuple(problems), warnings=(*mended, *warnings))


def _fit(signals: Mapping[str, Signal], track: Track, late: int = 0) -> Stems:
    """Signals as stems of the track's length, moved to an earlier time by ``late`` samples."""
    frames = track.frames + max(late, 0)
    stems = Stems.from_signals({source: FittedSignal(signal, frames) for source, signal in signals.items()})

    def read(start: int, stop: int) -> Samples:
        moved = stems.read(max(start + late, 0), max(stop + late, 0))
        return np.pad(moved, ((0, 0), (0, 0), (stop - start - moved.shape[2], 0)))

    moved = Stems.lazy(read, stems.sources, stems.channels, track.frames, stems.rate) if late else stems
    return track.with_stems({"this folder": moved}).stems["this folder"]


def _gram(mixture: Signal, stems: Stems, offset: int = 0) -> tuple[NDArray[np.float64], int]:
    """Products of [mixture, stems] with each other over the song, stems read `offset` later; where both are loudest."""
    size, inputs = EXCERPT_S * mixture.rate, 1 + len(stems.sources)
    gram, loudness = np.zeros((inputs, inputs)), {0: 0.0}
    for start in range(max(0, -offset), mixture.frames - max(0, offset), size):
        stop = min(start + size, mixture.frames - max(0, offset))
        parts = [mixture.read(start, stop)[None], stems.read(start + offset, stop + offset)]
        rows = np.concatenate(parts).reshape(inputs, -1).astype(np.float64)
        products = rows @ rows.T
        gram += products
        loudness[start] = products[0, 0] * products[1:, 1:].sum()
    return gram, max(loudness, key=loudness.__getitem__)


def _find_offset(mixture: Signal, stems: Stems, start: int, search: int) -> int | None:
    """Samples by which the stems are late, from the excerpt at `start`; None where the peak is not distinct."""
    stop = min(start + EXCERPT_S * mixture.rate, mixture.frames)
    # tapered, since edges at the same place in both would correlate
    total = stems.read(start, stop).sum(0, dtype=np.float64) * np.hanning(stop - start)
    first, last = max(start - search, 0), min(stop + search, mixture.frames)
    around = np.pad(mixture.read(first, last), ((0, 0), (first - start + search, stop + search - last)))
    size = 1 << (around.shape[1] - 1).bit_length()
    cross = (np.fft.rfft(around, size) * np.fft.rfft(total, size).conj()).sum(0)
    # bins that hold next to nothing are noise: their phase counts less
    magnitude = np.abs(cross) + 0.01 * np.abs(cross).mean() + 1e-300
    heights = np.abs(np.fft.irfft(cross / magnitude, size)[: 2 * search + 1])
    peak = int(heights.argmax())
    away = np.abs(np.arange(len(heights)) - peak) > mixture.rate // 1000
    return search - peak if heights[away].max(initial=0.0) < heights[peak] / 1.5 else None


def _judge_stems(sources: Sequence[str], gram: NDArray[np.float64], left: float) -> tuple[list[str], list[str]]:
    """Problems and warnings that single stems tell: silence, copies, gains of their own that explain what is left."""
    energy = gram.diagonal()
    heard = [index for index in range(1, len(energy)) if energy[index] > 1e-9 * energy[0]]
    problems, warnings = [], [f"{source} is silent" for index, source in enumerate(sources, 1) if index not in heard]
    for first, second in itertools.combinations([0, *heard], 2):
        if gram[first, second] ** 2 > (1 - 1e-6) * energy[first] * energy[second]:
            warnings.append(f"{('the mixture', *sources)[first]} and {sources[second - 1]} are the same audio")
    inverse = np.linalg.lstsq(gram[np.ix_(heard, heard)], gram[heard, 0])[0] if left > 1e-6 else np.zeros(len(heard))
    if 1 - inverse @ gram[heard, 0] / max(energy[0], 1e-300) < left / 4:
        scales = {sources[index - 1]: 1 / gain for index, gain in zip(heard, inverse, strict=True)}
        problems = [f"the polarity of {source} is inverted" for source, scale in scales.items() if scale < 0]
        listed = ", ".join(f"{source} {20 * np.log10(abs(scale)):+.1f} dB" for source, scale in scales.items())
        warnings.append(f"they were scaled one by one ({listed}): turn the tool's normalisation off")
    return problems, warnings
