"""Copies of songs at other pitches and tempos, rendered once and kept on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stemfuse.separators.audio.signals import FileSignal, Samples, write_audio
from stemfuse.separators.audio.whole_files import whole_folder
from stemfuse.separators.errors import TrainingError
from stemfuse.separators.optional import import_optional
from stemfuse.separators.stems import SOURCES, Stems
from stemfuse.separators.track import Track
from stemfuse.separators.training.audio_contents import audio_contents


@dataclass(frozen=True)
class Stretching:
    """Which copies are made of every song.

    Parameters
    ----------
    copies : int
        Number of copies of each song; pitch and tempo are drawn for each.
    semitones : int
        Largest change of pitch, up or down, in whole steps.
    percent : int
        Largest change of tempo, up or down, in steps of ten.
    seed : int
        Of the random draws.

    References
    ----------
    M. Kim, W. Choi, J. Chung, D. Lee, S. Jung, "KUIELab-MDX-Net: a two-stream neural network for music demixing",
    MDX workshop at ISMIR 2021: two semitones and 20 percent, rendered beforehand.

    Examples
    --------
    >>> Stretching(copies=3).drawn(0)
    [(1, 20), (-2, 20), (2, 0)]
    """

    copies: int = 4
    semitones: int = 2
    percent: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.copies, self.semitones, self.percent, self.seed) < 0 or not self.percent < 100:
            raise TrainingError(f"got {self}, expected no negative number, and less than 100 percent")

    def drawn(self, song: int) -> list[tuple[int, int]]:
        """Semitones and percent of the copies of a song, given by its number: all different, none without a change."""
        tempos = range(-(self.percent // 10) * 10, self.percent + 1, 10)
        pitches = range(-self.semitones, self.semitones + 1)
        changes = [(pitch, tempo) for pitch in pitches for tempo in tempos if (pitch, tempo) != (0, 0)]
        order = np.random.default_rng([self.seed, song]).permutation(len(changes))
        return [changes[index] for index in order[: self.copies]]


def stretched(audio: Samples, rate: int, semitones: float, percent: float) -> Samples:
    """Shift the pitch and change the tempo of audio (channel, time).

    Parameters
    ----------
    audio : ndarray, shape (channel, time)
        Any audio.
    rate : int
        Its sample rate in Hz.
    semitones : float
        By how much the pitch rises.
    percent : float
        By how much the tempo rises.

    Returns
    -------
    ndarray, shape (channel, time)
        Shorter for a positive change of tempo, longer for a negative one.

    Notes
    -----
    The library is Signalsmith Stretch: it keeps transients and the image between channels better than a plain phase
    vocoder, needs no external program, gives the same samples every time, and its licence is MIT.

    Raises
    ------
    TrainingError
        The package python-stretch is not installed.

    Examples
    --------
    >>> tone = np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100, dtype=np.float32)
    >>> faster = stretched(np.stack([tone, tone]), 44_100, 2, 25)
    >>> faster.shape, int(np.abs(np.fft.rfft(faster[0], 44_100)).argmax())
    ((2, 35280), 495)
    """
    what = "stretched copies (without the option stretch there are none)"
    stretch = import_optional("python_stretch.Signalsmith", "train", what, TrainingError).Stretch(0)
    stretch.preset(len(audio), rate)
    stretch.setTimeFactor(1 + percent / 100)
    stretch.setTransposeSemitones(semitones)
    return np.asarray(stretch.process(np.ascontiguousarray(audio, dtype=np.float32)), dtype=np.float32)


def stretched_copies(
    tracks: Sequence[Track],
    folder: str | os.PathLike[str],
    stretching: Stretching,
    progress: Callable[[int, int], None] | None = None,
    remembered: str | os.PathLike[str] | None = None,
) -> list[list[Stems]]:
    """Stretched copies of the stems of tracks; those that are in the folder already are not made again.

    Parameters
    ----------
    tracks : sequence of Track
        With references.
    folder : path-like
        ``<folder>/<track>-<digest of its audio>/<semitones>_<percent>/<source>.wav``, 16 bit. A copy appears whole or
        not at all.
    stretching : Stretching
        How many copies, and their changes.
    progress : callable, optional
        Called as ``progress(done, total)`` after each track.
    remembered : path-like, optional
        Folder in which digests of the tracks' audio are kept, such as that of the checkpoint; ``folder`` if not given.

    Returns
    -------
    list of list of Stems
        The copies of each track.

    Raises
    ------
    TrainingError
        The package python-stretch is not installed, or the folder cannot be written.
    """
    songs = []
    contents = audio_contents(tracks, folder if remembered is None else remembered)
    for number, (track, content) in enumerate(zip(tracks, contents, strict=True)):
        changes = stretching.drawn(number)
        song = Path(folder, f"{track.name}-{content[:12]}")
        places = [song / f"{semitones:+d}_{percent:+d}" for semitones, percent in changes]
        for place, change in zip(places, changes, strict=True):
            if not place.is_dir():
                _render(track, place, *change)
        songs.append(
            [Stems.from_signals({name: FileSignal(place / f"{name}.wav") for name in SOURCES}) for place in places]
        )
        if progress is not None:
            progress(number + 1, len(tracks))
    return songs


def _render(track: Track, place: Path, semitones: int, percent: int) -> None:
    with whole_folder(place, error=TrainingError) as folder:
        for source in SOURCES:
            audio = stretched(track.required_references()[source].read(), track.rate, semitones, percent)
            # samples beyond full scale would be clipped
            audio /= max(1.0, float(np.abs(audio).max()))
            write_audio([folder / f"{source}.wav"], [audio[None]], track.rate, len(audio), subtype="PCM_16")
