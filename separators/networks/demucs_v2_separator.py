"""Demucs v2 and Danna-Sep's variant of it as separators, and what it takes to train them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from stemfuse.separators.audio.signals import RATE, Signal
from stemfuse.separators.blocks import whole
from stemfuse.separators.errors import SeparatorError, TrainingError
from stemfuse.separators.stems import SOURCES

from .network_separator import DANNA_SEP_TAIL, NetworkSeparator, checked_chunk
from .training.trainable import TrainableNetwork, checked_shares

if TYPE_CHECKING:
    import torch

    from .training.objectives import SeparationObjective

DANNA_SEP_HEAD = RATE // 2
"""Silence that Danna-Sep's Demucs is given before a song, in samples."""

LIMIT = 0.99
"""Largest sample of Danna-Sep's Demucs; larger ones are clipped."""

PUBLISHED_WIDTHS = (48, 64)
"""Channels of the published Demucs v2, which was trained on standardised songs."""


class WaveformSeparator(NetworkSeparator):
    """Base of the separators by Demucs v2 and by Danna-Sep's variant of it.

    Attributes
    ----------
    four_decoders : bool
        Whether it is Danna-Sep's, with a decoder for each source.
    """

    four_decoders: ClassVar[bool]
    _width: int | None

    def options(self) -> dict[str, Any]:
        """The constructor's arguments as they were given."""
        # `channels` of a separator are those of the audio
        options = super().options()
        return options | {"channels": self._width} if "channels" in options else options

    def _build(self) -> Any:
        from stemfuse.separators.weights.tensors import count, load_strictly, read_state

        from .demucs_v2 import DemucsFourDecodersNetwork, DemucsV2Network, demucs_state

        tensors, width, four_decoders = demucs_state(read_state(self._file), self._file)
        if four_decoders != self.four_decoders:
            other = "demucs_danna" if four_decoders else "demucs_v2"
            raise SeparatorError(f"{self.name}: {self._file} has weights of {other}: take that separator for it")
        if self._width not in (None, width):
            raise SeparatorError(f"{self.name}: got channels={self._width}, but {self._file} has {width}; leave it out")
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
        Length of the chunks in seconds.
    overlap : float
        Of neighbouring chunks, as a part of their length: at least 0, less than 1. KUIELab used a half.
    standardise : bool, optional
        Give the network the song with a mean of zero and a standard deviation of one, both over all samples, and
        scale the stems back. When not given: as in the notes of a file that was trained here; else yes for networks
        of 64 or 48 channels, no for others.
    device : str
        Torch device that the network runs on, chunk by chunk; songs stay in main memory.

    Notes
    -----
    Standardising reads the whole song once beforehand: memory grows by 21 MB a minute until that is done.

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
            raise SeparatorError(f"{self.name}: got overlap={overlap!r}, expected a number from 0 to less than 1")
        if not isinstance(segment_s, (int, float)) or not 1 <= segment_s * RATE * (1 - overlap) < float("inf"):
            raise SeparatorError(f"{self.name}: got segment_s={segment_s!r}, expected seconds, longer than the overlap")
        self.weights, self._width, self.device = weights, channels, device
        self.segment_s, self.overlap, self.standardise = segment_s, overlap, standardise

    def song_to_inspect(self) -> tuple[float, float]:
        """A part of a chunk; those of long songs overlap."""
        return min(6.0, self.segment_s), 1 / (1 - self.overlap)

    @property
    def _names(self) -> Sequence[str]:
        published = {64: ("demucs-e07c671f.th", "demucs_extra-3646af93.th"), 48: ("demucs48_hq-28a1282c.th",)}
        chosen = [self._width] if self._width else [64, 48]
        return ["demucs_v2.safetensors", *(name for width in chosen for name in published.get(width, ()))]

    def apply(self, mixture: Signal) -> Iterator[torch.Tensor]:
        """See `NetworkSeparator`."""
        import torch

        from .chunking import separate_overlapping, tensors_of

        network = self._network
        width = network.encoder[0][0].out_channels
        standardise = self._chosen("standardise", self.standardise, width in PUBLISHED_WIDTHS)
        mean, deviation = torch.zeros(()), torch.ones(())
        if standardise:
            song = torch.from_numpy(whole(mixture))
            mean, deviation = song.mean(), song.std()
            del song
        # silence has no deviation, and becomes silence
        divisor = deviation if deviation > 0 else 1.0
        read = tensors_of(mixture)
        for block in separate_overlapping(
            lambda start, stop: (read(start, stop) - mean) / divisor,
            mixture.length,
            lambda audio: network(audio.to(self.device)),
            round(self.segment_s * RATE),
            self.overlap,
            network.valid_length,
        ):
            yield block.mul_(deviation).add_(mean)


class DemucsDanna(WaveformSeparator):
    """Danna-Sep's Demucs with a decoder for each source.

    The network is given the whole song at once, as its authors did. With 48 channels a minute of music takes some 5 GB
    of memory; ``segment_s`` limits it.

    Parameters
    ----------
    weights : path-like, optional
        The file. If not given: ``demucs_4_decoders.pth`` from the folder ``demucs_danna`` of `weights_folder`.
    channels : int, optional
        Of the network's highest level; weights with others are refused. Published are 48.
    segment_s : float, optional
        Give the network chunks of so many seconds instead, half a chunk apart, and keep the middle half of each.
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
        self._chunk = 0 if segment_s is None else checked_chunk(self.name, segment_s)
        self.weights, self._width, self.segment_s, self.device = weights, channels, segment_s, device

    def song_to_inspect(self) -> tuple[float, float]:
        """A chunk, of which the middle half is kept, or some seconds of a song that is separated as a whole."""
        return (3.0, 1.0) if self.segment_s is None else (self.segment_s, 2.0)

    @property
    def _names(self) -> Sequence[str]:
        return ["demucs_danna.safetensors", "demucs_4_decoders.pth"]

    def apply(self, mixture: Signal) -> Iterator[torch.Tensor]:
        """See `NetworkSeparator`."""
        from .chunking import separate_in_halves, tensors_of

        read = tensors_of(mixture)
        if self._chunk:
            yield from separate_in_halves(read, mixture.length, self._separate_chunk, self._chunk)
        else:
            yield self._separate_chunk(read(0, mixture.length)[None])[0].cpu()

    def _separate_chunk(self, audio: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        time = audio.shape[-1]
        given = functional.pad(audio, (DANNA_SEP_HEAD, DANNA_SEP_TAIL)).to(self.device)
        stems = self._network(given)[..., DANNA_SEP_HEAD : DANNA_SEP_HEAD + time].clamp_(-LIMIT, LIMIT)
        # the output is shorter than the input
        return functional.pad(stems, (0, time - stems.shape[-1]))


class TrainableDemucsV2(TrainableNetwork):
    """Demucs v2 to be trained; the defaults are the published sizes.

    Examples
    --------
    >>> TrainableDemucsV2(resample=False).notes()
    {'standardise': True, 'resample': False}
    """

    separator: ClassVar[str] = DemucsV2.name
    standardise: ClassVar[bool] = True

    channels: int = Field(64, ge=1, description="of the highest level; each below has twice as many")
    depth: int = Field(6, ge=1, description="levels")
    resample: bool = Field(True, description="whether the layers work at twice the sample rate")
    chunk_s: float = Field(10.0, gt=0, description="length of the separated middle of a chunk in seconds")
    loss: Literal["l1", "l2", "sdr"] = Field("l1", description="of waveforms")
    weights: tuple[float, ...] = Field((), description="of the sources in the loss; equal when not given")

    def _network(self) -> Any:
        from .demucs_v2 import DemucsV2Network

        return DemucsV2Network(self.channels, self.depth, self.resample)

    @property
    def length(self) -> int:
        """See `TrainableNetwork`; a little longer than the output."""
        import torch

        with torch.device("meta"):
            return int(self._network().valid_length(round(self.chunk_s * RATE)))

    def objective(self) -> SeparationObjective:
        """See `TrainableNetwork`."""
        from .training.objectives import WaveformObjective

        return WaveformObjective(self._network(), loss=self.loss, weights=checked_shares(self.weights, SOURCES))

    def notes(self) -> dict[str, Any]:
        """See `TrainableNetwork`."""
        return {"standardise": self.standardise, "resample": self.resample}

    def state(self, path: Path) -> Mapping[str, Any]:
        """See `TrainableNetwork`."""
        from stemfuse.separators.weights.tensors import read_state

        from .demucs_v2 import demucs_state

        return demucs_state(read_state(path), path)[0]


class TrainableDemucsDanna(TrainableNetwork):
    """Danna-Sep's Demucs with four decoders to be trained; the defaults are the published sizes.

    Examples
    --------
    >>> TrainableDemucsDanna(chunk_s=2.0).length
    88200
    """

    separator: ClassVar[str] = DemucsDanna.name

    channels: int = Field(48, ge=1, description="of the highest level; each below has twice as many")
    chunk_s: float = Field(10.0, gt=0, description="length of a chunk in seconds")
    loss: Literal["l1", "l2", "sdr"] = Field("l1", description="of waveforms")
    weights: tuple[float, ...] = Field((), description="of the sources in the loss; equal when not given")

    @property
    def length(self) -> int:
        """See `TrainableNetwork`."""
        return round(self.chunk_s * RATE)

    def objective(self) -> SeparationObjective:
        """See `TrainableNetwork`."""
        from .demucs_v2 import DemucsFourDecodersNetwork
        from .training.objectives import BeginningObjective

        network = DemucsFourDecodersNetwork(self.channels)
        # a step at the bottom is 2048 samples
        if network.output_length(self.length) < self.length // 2:
            raise TrainingError(f"{self.separator}: got chunk_s={self.chunk_s}, expected at least 0.2 seconds")
        return BeginningObjective(network, loss=self.loss, weights=checked_shares(self.weights, SOURCES))

    def state(self, path: Path) -> Mapping[str, Any]:
        """See `TrainableNetwork`."""
        from stemfuse.separators.weights.tensors import read_state

        from .demucs_v2 import demucs_state

        return demucs_state(read_state(path), path)[0]
