"""Sums of signals, which are added up when they are read."""

from __future__ import annotations

from collections.abc import Mapping

from .signals import Samples, Signal


class SumSignal(Signal):
    """Signals of one shape, added up when they are read.

    Parameters
    ----------
    signals : mapping of str to Signal
        All of one rate, channel count and length.

    Examples
    --------
    >>> import numpy
    >>> from stemfuse.separators.audio import ArraySignal
    >>> ones = ArraySignal(numpy.ones((2, 100)))
    >>> SumSignal({"drums": ones, "bass": ones}).read(0, 2)
    array([[2., 2.],
           [2., 2.]], dtype=float32)
    """

    def __init__(self, signals: Mapping[str, Signal]) -> None:
        first = next(iter(signals.values()))
        self.rate, self.channels, self.length = first.rate, first.channels, first.length
        self.signals = dict(signals)

    @property
    def parts(self) -> tuple[Signal, ...]:
        """The signals that are added up."""
        return tuple(self.signals.values())

    def _read(self, start: int, stop: int) -> Samples:
        first, *others = self.signals.values()
        total = first.read(start, stop).copy()
        for signal in others:
            total += signal.read(start, stop)
        return total

    def __str__(self) -> str:
        return f"sum of {', '.join(map(str, self.signals.values()))}"
