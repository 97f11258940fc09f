"""D3Net as a separator, its sizes, and what it takes to train it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from stemfuse.separators.audio.signals import Signal
from stemfuse.separators.errors import SeparatorError, TrainingError
from stemfuse.separators.stems import SOURCES
from stemfuse.separators.weights.folder import WeightFile, find_weights, given_weights, read_notes

from .network_separator import MaskSeparator, checked_source
from .training.trainable import Source, TrainableSource

if TYPE_CHECKING:
    import torch

    from .spectrogram import SongSpectrum
    from .training.chunks import RandomChunks
    from .training.objectives import SeparationObjective
    from .wiener import Frames

N_FFT = 4096
"""Window of the published networks in samples; the hop is a quarter of it."""

SPLITS: Mapping[str, int] = {"drums": 128, "bass": 192, "other": 256, "vocals": 256}
"""Bins of the low band of the published networks."""

PATCHES: Mapping[str, int] = {"drums": 256, "bass": 384, "other": 256, "vocals": 256}
"""STFT frames that the published networks are given at a time; each is in two patches."""

TRAINED = 256
"""STFT frames of the chunks that the published networks were trained on."""


@dataclass(frozen=True)
class BandShape:
    """The sizes of the part of a `D3NetNetwork` that works on one band.

    Attributes
    ----------
    features : int
        Channels that the band's magnitudes become at first.
    growth : tuple of int
        Channels that a block gives, from block to block: downwards, bottom, upwards. The number is odd.
    layers : tuple of int
        Convolutions in each group of a block.
    groups : int
        Groups of convolutions in a block.
    """

    features: int
    growth: tuple[int, ...]
    layers: tuple[int, ...]
    groups: int = 2

    @property
    def levels(self) -> int:
        """How often STFT frames and bins are halved."""
        return len(self.growth) // 2

    @property
    def is_sound(self) -> bool:
        """Whether a network can have these sizes."""
        odd = len(self.growth) % 2 == 1 and len(self.growth) == len(self.layers)
        return odd and min(self.features, self.groups, *self.growth, *self.layers) >= 1


@dataclass(frozen=True)
class D3NetShape:
    """The sizes of a `D3NetNetwork`, which decide its tensors.

    Attributes
    ----------
    low, high, full : BandShape
        Of the bins below ``split``, of those above, and of all of them.
    split : int
        Number of bins in the low band.
    used_bins, bins : int
        How many, from the lowest, are separated; and how many there are.
    final_growth, final_layers : int
        Of the block that joins the bands.
    """

    low: BandShape = BandShape(32, (16, 18, 20, 22, 20, 18, 16), (5, 5, 5, 5, 4, 4, 4))
    high: BandShape = BandShape(8, (2,) * 5, (1,) * 5, groups=1)
    full: BandShape = BandShape(32, (13, 14, 15, 16, 17, 16, 14, 12, 11), (4, 5, 6, 7, 8, 6, 5, 4, 4))
    split: int = 256
    used_bins: int = 1600
    bins: int = 2049
    final_growth: int = 12
    final_layers: int = 3

    @property
    def divisor(self) -> int:
        """STFT frames are a multiple of this."""
        return 1 << max(band.levels for band in (self.low, self.high, self.full))


PUBLISHED: Mapping[str, D3NetShape] = {
    "drums": D3NetShape(
        low=BandShape(32, (16, 18, 20, 22, 20, 18, 16), (5, 5, 5, 4, 4, 4, 4)),
        full=BandShape(32, (13, 14, 15, 16, 16, 16, 14, 12, 11), (4, 5, 6, 7, 8, 6, 6, 4, 4)),
        split=SPLITS["drums"],
    ),
    "bass": D3NetShape(
        low=BandShape(32, (16, 18, 18, 20, 18, 16, 16), (5, 5, 5, 5, 4, 4, 4)),
        high=BandShape(8, (2,) * 7, (1,) * 7, groups=1),
        full=BandShape(32, (10, 10, 12, 14, 16, 14, 12, 8, 8), (4, 5, 6, 7, 8, 6, 6, 4, 4)),
        split=SPLITS["bass"],
    ),
    "other": D3NetShape(),
    "vocals": D3NetShape(),
}
"""Sizes of the published networks."""


class D3Net(MaskSeparator):
    """D3Net, a network for each source: all four with a multichannel Wiener filter over the whole song, or one alone.

    Every STFT frame is separated four times, in two patches and with its channels as they are and exchanged. Bins
    above 17.2 kHz are shared alike. The filter is the one of the other networks here; the authors' own is regularised
    a little differently. One source alone has the mixture's phase, and no filter. Memory grows by 170 MB a minute for
    the masks of four sources, and by twice that while they are put together.

    Files trained here carry their window, the number of bins in the low band and the STFT frames of a patch.

    Parameters
    ----------
    weights : path-like, optional
        Folder with ``drums.h5``, ``bass.h5``, ``other.h5`` and ``vocals.h5``, or files of these names that end in
        ``.safetensors``; with ``source``, its file. If not given: the folder ``d3net`` of `weights_folder`.
    source : str, optional
        The one source that is separated, one of `SOURCES`; all four when not given.
    device : str
        Torch device that the networks and the filter run on.

    References
    ----------
    N. Takahashi, Y. Mitsufuji, "D3Net: densely connected multidilated DenseNet for music source separation", 2020.

    Examples
    --------
    >>> D3Net().sources, D3Net(source="bass").sources
    (('drums', 'bass', 'other', 'vocals'), ('bass',))
    """

    name: ClassVar[str] = "d3net"
    origin = "nnabla.org/pretrained-models/ai-research-code/d3net/mss/d3net-mss.zip"
    needs: ClassVar[Mapping[str, str]] = {**MaskSeparator.needs, "h5py": "networks"}

    def __init__(
        self, weights: str | os.PathLike[str] | None = None, source: str | None = None, device: str = "cpu"
    ) -> None:
        self.sources = SOURCES if source is None else checked_source(self.name, source)
        self.weights, self.source, self.device = weights, source, device

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_file_notes"}

    def weight_files(self) -> tuple[WeightFile, ...]:
        """A file for each source."""
        if self.weights is not None and self.source is not None:
            return (WeightFile((Path(self.weights).name,), self.source),)
        return tuple(WeightFile((f"{source}.safetensors", f"{source}.h5")) for source in self.sources)

    def weight_folders(self) -> tuple[Path, ...]:
        """The separator's part of the weights folder, or the user's own folder."""
        if self.weights is None or self.source is not None:
            return super().weight_folders()
        return (Path(self.weights).expanduser(),)

    def _find_files(self) -> tuple[Path, ...]:
        if self.weights is not None and self.source is not None:
            return (given_weights(self.name, self.weights),)
        return find_weights(self.name, self.weight_files(), self.weight_folders(), self.origin)

    @cached_property
    def _file_notes(self) -> dict[str, dict[str, Any]]:
        """By source, the notes in its file."""
        return {source: read_notes(path) for source, path in zip(self.sources, self._files, strict=True)}

    def networks(self) -> Mapping[str, Any]:
        """By source, its network."""
        self.load()
        return dict(self._network)

    def _build(self) -> Any:
        """By source, its network."""
        from stemfuse.separators.weights.tensors import load_strictly, read_hdf5_state, read_state

        from .d3net import D3NetNetwork, d3net_state

        networks = {}
        for source, path in zip(self.sources, self._files, strict=True):
            read = read_hdf5_state if path.suffix == ".h5" else read_state
            state, shape = d3net_state(read(path), source, path, self._file_notes[source].get("split"))
            if 2 * shape.bins - 2 != self._n_fft:
                raise SeparatorError(
                    f"{self.name}: {path} is of windows of {2 * shape.bins - 2} samples, expected {self._n_fft} as in "
                    f"{self._files[0].name}: train all alike"
                )
            networks[source] = load_strictly(D3NetNetwork(shape), state, path).to(self.device)
        return networks

    def apply(self, mixture: Signal) -> Iterator[torch.Tensor]:
        """See `NetworkSeparator`."""
        import torch

        def masks(spectrum: SongSpectrum) -> Frames:
            whole = torch.stack([self._mask(spectrum, source) for source in self.sources])
            return lambda start, stop: whole[..., start:stop]

        yield from self._filtered(mixture, self._n_fft, 0, masks, wiener=self.source is None)

    @property
    def _n_fft(self) -> int:
        """Window of the first file in samples, which all have to have; the hop is a quarter of it."""
        return int(self._file_notes[self.sources[0]].get("n_fft", N_FFT))

    def _mask(self, spectrum: SongSpectrum, source: str) -> torch.Tensor:
        """Mask (2, bin, frame) of one source."""
        from .chunking import mean_masks

        patch = self._file_notes[source].get("patch", PATCHES[source])
        return mean_masks(
            self._network[source],
            lambda start, stop: spectrum.frames_between(start, stop).abs()[None],
            spectrum.frames,
            patch,
        )[0]


class TrainableD3Net(TrainableSource):
    """A network of D3Net to be trained; the defaults are the published sizes for its source.

    Examples
    --------
    >>> TrainableD3Net().length, TrainableD3Net(source="bass").notes()
    (261120, {'source': 'bass', 'n_fft': 4096, 'split': 192, 'patch': 384})
    """

    separator: ClassVar[str] = D3Net.name

    source: Source = Field("vocals", description="what it separates")
    n_fft: int = Field(N_FFT, ge=32, multiple_of=4, description="window in samples; the hop is a quarter of it")
    frames: int = Field(TRAINED, ge=4, multiple_of=2, description="STFT frames of a chunk in training")
    patch: int | None = Field(
        None, ge=4, multiple_of=2, description="STFT frames that are separated at a time; bass: 1.5 chunks, else one"
    )
    used_bins: int = Field(1600, ge=2, description="bins that are separated, from the lowest")
    split: int | None = Field(None, ge=1, description="bins of the low band; as published when not given")
    low: BandShape | None = Field(None, description="of the low band: features, growth, layers, groups")
    high: BandShape | None = Field(None, description="of the high band; all as published when not given")
    full: BandShape | None = Field(None, description="of all bins")
    final_growth: int = Field(12, ge=1, description="channels that the block which joins the bands gives")
    final_layers: int = Field(3, ge=1, description="its convolutions")

    @property
    def length(self) -> int:
        """See `TrainableNetwork`."""
        return self.n_fft // 4 * (self.frames - 1)

    @property
    def shape(self) -> D3NetShape:
        """Sizes of the network: those that were given, the others as published for the source."""
        published = PUBLISHED[self.source]
        return D3NetShape(
            self.low or published.low,
            self.high or published.high,
            self.full or published.full,
            split=self.split or published.split,
            used_bins=self.used_bins,
            bins=self.n_fft // 2 + 1,
            final_growth=self.final_growth,
            final_layers=self.final_layers,
        )

    @property
    def separated_frames(self) -> int:
        """STFT frames that are separated at a time."""
        return self.patch or self.frames * PATCHES[self.source] // TRAINED // 2 * 2

    def objective(self) -> SeparationObjective:
        """See `TrainableNetwork`."""
        from .d3net import D3NetNetwork
        from .training.objectives import MagnitudeObjective

        self._check(self.shape)
        return MagnitudeObjective(D3NetNetwork(self.shape), self.n_fft, self.separated_frames, sources=self.sources)

    def _check(self, shape: D3NetShape) -> None:
        bands = {
            "low": (shape.low, shape.split),
            "high": (shape.high, shape.used_bins - shape.split),
            "full": (shape.full, shape.used_bins),
        }
        for name, (band, bins) in bands.items():
            if not band.is_sound:
                raise TrainingError(
                    f"{self.separator}: got {name}={band}, expected an odd number of growths, as many layers, and no "
                    "number below 1"
                )
            if bins < 1 or bins % (1 << band.levels):
                raise TrainingError(
                    f"{self.separator}: got {bins} bins in the {name} band, expected a multiple of "
                    f"{1 << band.levels}: change split or used_bins, or give it fewer growths"
                )
        if shape.used_bins > shape.bins or self.length <= self.n_fft // 2:
            raise TrainingError(
                f"{self.separator}: got used_bins={shape.used_bins}, frames={self.frames}, expected at most "
                f"{shape.bins} bins, and more samples than half a window"
            )

    def prepare(self, objective: SeparationObjective, data: RandomChunks, count: int) -> None:
        """Scale every bin of the mixture to mean zero and deviation one, and the output to the source's."""
        import torch

        from .spectrogram import transformed

        chunks = [torch.as_tensor(data[number]) for number in range(count)]
        network, used = objective.network, slice(None, self.used_bins)
        for offset, scale, part in (
            (network.in_offset, network.in_scale, [chunk.sum(0) for chunk in chunks]),
            (network.decode_bias, network.decode_scale, [chunk[objective.chosen[0]] for chunk in chunks]),
        ):
            loudness = torch.cat([transformed(audio, self.n_fft, self.n_fft // 4).abs() for audio in part], dim=-1)
            # (bin, channel and frame)
            deviation, mean = torch.std_mean(loudness.transpose(0, 1).flatten(1), dim=-1)
            bins = slice(None) if offset is network.in_offset else used
            # silent bins have no deviation
            scale.data.copy_(deviation.clamp_min(1e-4 * float(deviation.max()) + 1e-8)[bins])
            offset.data.copy_(mean[bins])

    def notes(self) -> dict[str, Any]:
        """See `TrainableNetwork`."""
        return {
            "source": self.source,
            "n_fft": self.n_fft,
            "split": self.shape.split,
            "patch": self.separated_frames,
        }

    def state(self, path: Path) -> Mapping[str, Any]:
        """See `TrainableNetwork`."""
        from stemfuse.separators.weights.tensors import read_hdf5_state, read_state

        from .d3net import d3net_state

        read = read_hdf5_state if path.suffix == ".h5" else read_state
        return d3net_state(read(path), self.source, path, self.shape.split)[0]
