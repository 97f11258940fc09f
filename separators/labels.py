"""Labels of channels, such as ``"mdx.drums.right"``: made, written and parsed here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import StemfuseError
from .names import name_fault, shown
from .source_names import source_fault
from .stems import SOURCES

if TYPE_CHECKING:
    from .track import Track

MIXTURE = "mixture"
"""The word in place of a separator's name in labels of the mixture's channels."""


BEST_PER_SOURCE = "best per source"
"""The word in place of a method's name where each source is taken from the separator that is best at it."""


class ChannelLabel(NamedTuple):
    """The name of one input or output channel.

    Attributes
    ----------
    separator : str
        The separator's label, which may hold dots; ``"mixture"`` for a channel of the mixture; empty for an output.
    source : str
        The source; empty for a channel of the mixture.
    channel : str
        ``"left"``, ``"right"``, ``"mono"``, or a number from 1.

    Examples
    --------
    >>> str(ChannelLabel("mdx", "drums", "right")), str(ChannelLabel("mixture", "", "left"))
    ('mdx.drums.right', 'mixture.left')
    >>> ChannelLabel.parse("drums.left")
    ChannelLabel(separator='', source='drums', channel='left')
    >>> ChannelLabel.parse("mixture.left").is_mixture
    True
    """

    separator: str
    source: str
    channel: str

    def __str__(self) -> str:
        return ".".join(part for part in self if part)

    @classmethod
    def parse(cls, text: str) -> ChannelLabel:
        """Read a label from text; the inverse of ``str()``.

        Raises
        ------
        ValueError
            The text has no dot.
        """
        signal, dot, channel = str(text).rpartition(".")
        if not dot:
            raise ValueError(
                f"got label {text!r}, expected separator.source.channel, mixture.channel or source.channel"
            )
        if signal == MIXTURE:
            return cls(MIXTURE, "", channel)
        separator, _, source = signal.rpartition(".")
        return cls(separator, source, channel)

    @property
    def signal(self) -> str:
        """The signal that the channel belongs to: ``"mdx.drums"``, ``"mixture"`` or, for an output, ``"drums"``."""
        return str(self._replace(channel=""))

    @property
    def is_mixture(self) -> bool:
        """Whether it is a channel of the mixture."""
        return self.separator == MIXTURE and not self.source

    @property
    def is_stem(self) -> bool:
        """Whether it is a channel of a separator's stem."""
        return bool(self.separator and self.source)


class WeightsLike(Protocol):
    """The part of mixing weights that measuring and drawing needs; `stemfuse.blending.MixingWeights` has it."""

    @property
    def matrix(self) -> NDArray[Any]:
        """Weights, (segment, output, input)."""

    @property
    def inputs(self) -> Sequence[str]:
        """One label per input channel, such as ``"mixture.left"`` or ``"mdx.drums.right"``."""

    @property
    def outputs(self) -> Sequence[str]:
        """One label per output channel, such as ``"drums.left"``."""

    @property
    def starts_s(self) -> NDArray[np.float64]:
        """Where each segment begins, in seconds."""

    @property
    def duration_s(self) -> float | None:
        """Length of every segment when segments overlap, in seconds."""


@lru_cache(maxsize=4096)
def _label_fault(text: str, is_output: bool) -> str:
    separator, source, channel = ChannelLabel.parse(text) if "." in text else (text, "", "")
    if not channel:
        return "names no channel"
    if is_output:
        return f"is no name of a source: it {fault}" if (fault := source_fault(text.rpartition(".")[0])) else ""
    # the separator's label is text alone: the store has rules of its own for its folders
    faults = {
        "channel": name_fault(channel),
        "source": source_fault(source) if source or separator != MIXTURE else "",
    }
    return next((f"is no label: its {what} {fault}" for what, fault in faults.items() if fault), "")


def check_channel_labels(inputs: Sequence[str], outputs: Sequence[str], error: type[StemfuseError]) -> None:
    """Raise unless each label names a channel of a source or of the mixture, and outputs sources that can name files.

    Parameters
    ----------
    inputs, outputs : sequence of str
        As a file has them, so they may be anything.
    error : type
        What is raised.
    """
    for what, labels, is_output in (("input", inputs, False), ("output", outputs, True)):
        for label in labels:
            if fault := _label_fault(label, is_output):
                example = "drums.left" if is_output else "mixture.left or mdx.drums.left"
                raise error(f"{what} '{shown(label)[:100]}' {fault}; expected a label such as {example}")


def channel_names(channels: int) -> tuple[str, ...]:
    """Names of channels, the ends of labels: left and right, or mono, or numbers from 1.

    Examples
    --------
    >>> channel_names(2), channel_names(1), channel_names(3)
    (('left', 'right'), ('mono',), ('1', '2', '3'))
    """
    named = {1: ("mono",), 2: ("left", "right")}
    return named.get(channels, tuple(str(channel + 1) for channel in range(channels)))


def stem_labels(separator: str, sources: Sequence[str], channels: int = 2) -> tuple[str, ...]:
    """Labels of a separator's stems, such as ``"mdx.drums.left"``: sources in order, channels within."""
    return tuple(str(ChannelLabel(separator, source, name)) for source in sources for name in channel_names(channels))


def mixture_labels(channels: int = 2) -> tuple[str, ...]:
    """Labels of the mixture's channels, such as ``"mixture.left"``."""
    return stem_labels(MIXTURE, ("",), channels)


def output_labels(sources: Sequence[str] = SOURCES, channels: int = 2) -> tuple[str, ...]:
    """Labels of output channels, such as ``"drums.left"``: sources in order, channels within."""
    return stem_labels("", sources, channels)


def input_labels(track: Track, mixture: bool = True) -> tuple[str, ...]:
    """Labels of all input channels of a track: the mixture's first, then each separator's stems.

    Parameters
    ----------
    track : Track
        With stems attached.
    mixture : bool
        Whether the mixture's channels are among the inputs.

    Returns
    -------
    tuple of str
        Such as ``"mixture.left"`` and ``"mdx.drums.right"``.
    """
    stems = [stem_labels(name, stems.sources, track.channels) for name, stems in track.stems.items()]
    return sum(stems, mixture_labels(track.channels) if mixture else ())
