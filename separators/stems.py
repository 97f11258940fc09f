"""Stems: the named audio of one track, in memory or read when asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .audio.signals import BLOCK, RATE, Samples, Signal, as_samples, write_audio
from .errors import AudioError, TrackError, WriteError
from .names import check_name

SOURCES = ("drums", "bass", "other", "vocals")
"""The papers' and musdb's order. Adapters reorder to it by name, never by position."""

ReadStems = Callable[[int, int], Samples]


class Stems:
    """Named audio of one track: one signal per source, all of one rate, channel count and length.

    Parameters
    ----------
    audio : array_like, shape (source, channel, time)
        Converted to float32, full scale 1, by `as_samples`.
    sources : sequence of str
        One name per entry of the first axis.
    rate : int
        Sample rate in Hz.

    Raises
    ------
    AudioError
        The shape does not fit the sources.

    See Also
    --------
    Stems.from_signals : stems that stay in their files.
    Stems.lazy : stems that are computed when they are read.

    Examples
    --------
    >>> import numpy as np
    >>> stems = Stems(np.ones((4, 2, 100)))
    >>> stems.sources
    ('drums', 'bass', 'other', 'vocals')
    >>> stems["bass"].read(0, 10).shape
    (2, 10)
    """

    def __init__(self, audio: NDArray[np.floating], sources: Sequence[str] = SOURCES, rate: int = RATE) -> None:
        array = as_samples(audio)
        sources = tuple(sources)
        if array.ndim != 3 or len(array) != len(sources):
            raise AudioError(
                f"got stems of shape {array.shape} for {len(sources)} sources {sources}, "
                f"expected (source, channel, time) = ({len(sources)}, channel, time)"
            )
        self._set(sources, array.shape[1], array.shape[2], rate, partial(_slice, array))

    def _set(self, sources: tuple[str, ...], channels: int, length: int, rate: int, read: ReadStems) -> None:
        if len(set(sources)) != len(sources):
            raise AudioError(f"got sources {sources}, expected different names")
        self.sources, self.channels, self.length, self.rate = sources, channels, length, int(rate)
        self._read = read

    @classmethod
    def lazy(cls, read: ReadStems, sources: Sequence[str], channels: int, length: int, rate: int = RATE) -> Stems:
        """Stems that ``read(start, stop) -> (source, channel, time)`` computes when a range is asked for."""
        stems = cls.__new__(cls)
        stems._set(tuple(sources), channels, length, rate, read)
        return stems

    @classmethod
    def from_signals(cls, signals: Mapping[str, Signal]) -> Stems:
        """Stems whose sources are signals of their own, files for instance.

        Parameters
        ----------
        signals : mapping of str to Signal
            All of one rate, channel count and length.

        Raises
        ------
        AudioError
            There is no signal, or they differ; the message names one that differs.
        """
        if not signals:
            raise AudioError("got no signal, expected one for each source")
        first, *others = signals.values()
        for signal in others:
            for what in ("rate", "channels", "length"):
                if getattr(signal, what) != getattr(first, what):
                    raise AudioError(
                        f"{signal}: got {what} {getattr(signal, what)}, expected {getattr(first, what)} as in {first}"
                    )
        stems = cls.lazy(
            partial(_stack, tuple(signals.values())),
            tuple(signals),
            first.channels,
            first.length,
            first.rate,
        )
        stems._signals = dict(signals)
        return stems

    _signals: Mapping[str, Signal] | None = None

    def read(self, start: int = 0, stop: int | None = None) -> Samples:
        """Read samples ``start`` to ``stop`` of all sources: (source, channel, time), float32."""
        stop = self.length if stop is None else stop
        if not 0 <= start <= stop <= self.length:
            raise AudioError(f"stems: got a range of samples {start} to {stop}, expected one within 0 to {self.length}")
        return self._read(start, stop)

    @property
    def audio(self) -> Samples:
        """All samples, (source, channel, time), float32; files are read and lazy stems computed each time."""
        return self.read()

    def blocks(self, size: int = BLOCK) -> Iterator[tuple[int, Samples]]:
        """Yield ``(start, samples)`` of all sources from the beginning to the end."""
        for start in range(0, self.length, size):
            yield start, self.read(start, min(start + size, self.length))

    def __getitem__(self, source: str) -> Signal:
        if source not in self.sources:
            raise TrackError(f"got source {source!r}, expected one of {', '.join(self.sources)}")
        if self._signals is not None:
            return self._signals[source]
        return _StemSignal(self, source)

    def select(self, sources: Sequence[str]) -> Stems:
        """Stems of some of the sources, in this order; nothing is read."""
        sources = tuple(sources)
        if sources == self.sources:
            return self
        if self._signals is not None:
            return Stems.from_signals({source: self[source] for source in sources})
        unknown = [source for source in sources if source not in self.sources]
        if unknown:
            raise TrackError(f"got source {unknown[0]!r}, expected some of {', '.join(self.sources)}")
        rows = [self.sources.index(source) for source in sources]
        return Stems.lazy(partial(_read_rows, self, rows), sources, self.channels, self.length, self.rate)

    def write(self, folder: str | os.PathLike[str], subtype: str = "FLOAT", suffix: str = ".wav") -> None:
        """Write every source to ``folder/<source>.wav``, block by block; the folder is made when missing.

        Parameters
        ----------
        folder : path-like
            The folder of the files; each file appears whole or not at all.
        subtype : str
            libsndfile's sample format: ``"FLOAT"``, ``"PCM_24"``, ``"PCM_16"``.
        suffix : str
            ``".wav"`` or ``".flac"``.

        Raises
        ------
        AudioError
            A source's name cannot be that of a file in this folder, or the files cannot be written.
        """
        folder = Path(folder)
        for source in self.sources:
            check_name(source, "source", AudioError)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(f"{folder}: cannot be made ({error.strerror}); choose another folder") from error
        paths = [folder / f"{source}{suffix}" for source in self.sources]
        write_audio(paths, (block for _, block in self.blocks()), self.rate, self.channels, subtype)

    def play(
        self,
        source: str | None = None,
        start_s: float = 0.0,
        seconds: float = 10.0,
        form: Literal["flac", "mp3"] = "flac",
    ) -> Any:
        """A player of one source, or of the sum of all, for notebooks.

        Parameters
        ----------
        source : str, optional
            The sum of all when not given.
        start_s, seconds : float
            Which part.
        form : {"flac", "mp3"}
            FLAC is exact, MP3 a tenth as large in the notebook.

        Returns
        -------
        IPython.display.Audio
            Made softer where samples go beyond full scale.

        Raises
        ------
        AudioError
            IPython is not installed, or nothing lies in this part.
        TrackError
            There is no such source.
        """
        from .faces import player

        start, stop = (min(self.length, max(0, round(at * self.rate))) for at in (start_s, start_s + seconds))
        samples = self.read(start, stop).sum(0) if source is None else self[source].read(start, stop)
        return player(samples, self.rate, form)

    def __repr__(self) -> str:
        return f"<Stems {', '.join(self.sources)}: {self.channels} x {self.length} at {self.rate} Hz>"

    def _repr_html_(self) -> str:
        from .faces import clock, html_facts

        facts = {"sources": ", ".join(self.sources), "length": clock(self.length / self.rate)}
        return html_facts("Stems", facts | {"format": f"{self.channels} channels at {self.rate} Hz"})


# functions and not lambdas, so that stems travel between processes
def _slice(array: Samples, start: int, stop: int) -> Samples:
    return array[:, :, start:stop]


def _read_rows(stems: Stems, rows: list[int], start: int, stop: int) -> Samples:
    selected: Samples = stems.read(start, stop)[rows]
    return selected


def _stack(signals: Sequence[Signal], start: int, stop: int) -> Samples:
    return np.stack([signal.read(start, stop) for signal in signals])


class _StemSignal(Signal):
    """One source of stems that are computed together."""

    def __init__(self, stems: Stems, source: str) -> None:
        self.rate, self.channels, self.length = stems.rate, stems.channels, stems.length
        self._stems, self._source = stems, source

    def _read(self, start: int, stop: int) -> Samples:
        samples: Samples = self._stems.read(start, stop)[self._stems.sources.index(self._source)]
        return samples

    def __str__(self) -> str:
        return f"stem {self._source}"
