"""Demucs v2 and Danna-Sep's variant of it as separators."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from stemfuse.separators.audio.signals import RATE
from stemfuse.separators.errors import SeparatorError

from .network_separator import NetworkSeparator

if TYPE_CHECKING:
    import torch


SHIFT = RATE // 2
"""Silence before a song, in samples, as Danna-Sep gives its Demucs."""


TAIL = 1024
"""Silence after it."""


LIMIT = 0.99
"""What Danna-Sep limits the samples of its Demucs to."""


PUBLISHED_WIDTHS = (48, 64)
"""Channels of the published Demucs v2, which was trained on standardised songs."""


def checked_segment(separator: str, segment_s: float) -> int:
    """Samples of a segment whose quarters are whole; a length that no network takes raises a `SeparatorError`."""
    if not isinstance(segment_s, (int, float)) or not 0.5 <= segment_s < float("inf"):
        raise SeparatorError(f"{separator}: segment_s={segment_s!r} came, expected at least 0.5 seconds")
    return round(segment_s * RATE / 4) * 4


class WaveformSeparator(NetworkSeparator):
    """Base of the separators by one of the two networks that grew from Demucs v2."""

    four_decoders: ClassVar[bool]
    _width: int | None

    def options(self) -> dict[str, Any]:
        """The constructor's arguments as they were given."""
        # `channels` of a separator are those of the audio
        return super().options() | {"channels": self._width}

    @cached_property
    def _network(self) -> Any:
        from stemfuse.separators.weights.tensors import count, load_strictly, read_state

        from .demucs_v2 import DemucsFourDecodersNetwork, DemucsV2Network, demucs_state

        tensors, width, four_decoders = demucs_state(read_state(self._file), self._file)
        if four_decoders != self.four_decoders:
            other = "demucs_danna" if four_decoders else "demucs_v2"
            raise SeparatorError(f"{self.name}: {self._file} has weights of {other}: take that separator for it")
        if self._width not in (None, width):
            raise SeparatorError(f"{self.name}: channels={self._width} came, {self._file} has {width}; leave it out")
        if four_decoders:
            network: Any = DemucsFourDecodersNetwork(width)
        else:
            network = DemucsV2Network(width, count(tensors, "encoder"), self._notes.get("resample", True))
        return load_strictly(network, tensors, self._file).to(self.device)


class DemucsV2(WaveformSeparator):
    """Demucs v2, all four sources from the waveform.

    Parameters
    ----------
    weights : path-like, optional
        The file. If not given: from the folder ``demucs_v2`` of `weights_folder`, as published.
    channels : int, optional
        Of the network's highest level; weights with others are refused. Published are 64 and 48.
    segment_s : float
        Length of the pieces in seconds.
    overlap : float
        Of neighbouring pieces, as a part of their length: at least 0, less than 1. KUIELab used a half.
    standardise : bool, optional
        Give the network the song with a mean of zero and a standard deviation of one, both over all samples, and
        scale the stems back. When not given: as the network was trained, which files trained here tell; else with 64
        or 48 channels yes, with others no.
    device : str
        Torch device that the network runs on, piece by piece; songs stay in main memory.

    Notes
    -----
    The class of the demucs package (separator ``"demucs"``) is not sample-exact with these weights.

    References
    ----------
    A. Défossez, N. Usunier, L. Bottou, F. Bach, "Music source separation in the waveform domain", 2019.

    Examples
    --------
    >>> DemucsV2(segment_s=20.0, overlap=0.5).sources
    ('drums', 'bass', 'other', 'vocals')
    """

    name: ClassVar[str] = "demucs_v2"
    origin = "dl.fbaipublicfiles.com/demucs/v3.0/"
    four_decoders = False

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        channels: int | None = None,
        segment_s: float = 40.0,
        overlap: float = 0.25,
        standardise: bool | None = None,
        device: str = "cpu",
    ) -> None:
        if not isinstance(overlap, (int, float)) or not 0 <= overlap < 1:
            raise SeparatorError(f"{self.name}: overlap={overlap!r} came, expected a number from 0 to less than 1")
        if not isinstance(segment_s, (int, float)) or not 1 <= segment_s * RATE * (1 - overlap) < float("inf"):
            raise SeparatorError(
                f"{self.name}: segment_s={segment_s!r} came, expected seconds, longer than the overlap"
            )
        self.weights, self._width, self.device = weights, channels, device
        self.segment_s, self.overlap, self.standardise = segment_s, overlap, standardise

    @property
    def _names(self) -> Sequence[str]:
        published = {64: ("demucs-e07c671f.th", "demucs_extra-3646af93.th"), 48: ("demucs48_hq-28a1282c.th",)}
        chosen = [self._width] if self._width else [64, 48]
        return ["demucs_v2.safetensors", *(name for width in chosen for name in published.get(width, ()))]

    def _apply(self, mixture: torch.Tensor) -> torch.Tensor:
        from .demucs_v2 import separate_in_segments

        width = self._network.encoder[0][0].out_channels
        standardise = self._option("standardise", width in PUBLISHED_WIDTHS)
        mean, deviation = (mixture.mean(), mixture.std()) if standardise else (0.0, 1.0)
        # silence has no deviation, and becomes silence
        given = (mixture - mean) / (deviation if deviation > 0 else 1.0)
        stems = separate_in_segments(given, self._network, round(self.segment_s * RATE), self.overlap, self.device)
        return stems.mul_(deviation).add_(mean)


class DemucsDanna(WaveformSeparator):
    """Danna-Sep's Demucs with a decoder for each source.

    The whole song goes through the network at once, as its authors did it: with 48 channels a minute of music takes
    some 5 GB of memory, which ``segment_s`` bounds.

    Parameters
    ----------
    weights : path-like, optional
        The file. If not given: ``demucs_4_decoders.pth`` from the folder ``demucs_danna`` of `weights_folder`.
    channels : int, optional
        Of the network's highest level; weights with others are refused. Published are 48.
    segment_s : float, optional
        Give the network pieces of so many seconds instead, half a piece apart, and keep the middle half of each.
    device : str
        Torch device that the network runs on.

    References
    ----------
    C.-Y. Yu, K.-W. Cheuk, "Danna-Sep: unite to separate them all", MDX workshop at ISMIR 2021.

    Examples
    --------
    >>> DemucsDanna().sources
    ('drums', 'bass', 'other', 'vocals')
    """

    name: ClassVar[str] = "demucs_danna"
    origin = "huggingface.co/spaces/yoyololicon/Danna-Sep, folder checkpoints"
    four_decoders = True

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        channels: int | None = None,
        segment_s: float | None = None,
        device: str = "cpu",
    ) -> None:
        self._segment = 0 if segment_s is None else checked_segment(self.name, segment_s)
        self.weights, self._width, self.segment_s, self.device = weights, channels, segment_s, device

    @property
    def _names(self) -> Sequence[str]:
        return ["demucs_danna.safetensors", "demucs_4_decoders.pth"]

    def _apply(self, mixture: torch.Tensor) -> torch.Tensor:
        from .chunking import separate_in_halves

        if not self._segment:
            return self._separate_piece(mixture[None])[0].cpu()
        return separate_in_halves(mixture, self._separate_piece, self._segment)

    def _separate_piece(self, audio: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        time = audio.shape[-1]
        given = functional.pad(audio, (SHIFT, TAIL)).to(self.device)
        stems = self._network(given)[..., SHIFT : SHIFT + time].clamp_(-LIMIT, LIMIT)
        # the network gives less than it gets
        return functional.pad(stems, (0, time - stems.shape[-1]))
