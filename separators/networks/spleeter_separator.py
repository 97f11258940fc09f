"""Spleeter as a separator."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from stemfuse.separators.audio.signals import Signal
from stemfuse.separators.errors import SeparatorError
from stemfuse.separators.sources import in_order
from stemfuse.separators.weights.folder import WeightFile, find_weights

from .network_separator import NetworkSeparator

if TYPE_CHECKING:
    import torch

N_FFT, HOP = 4096, 1024
FRONT = N_FFT
"""Zeros in front of a song, as in Spleeter since July 2020: no sample is under a part of the windows only."""
DIVISOR = 64
"""Of the numbers of bins and of STFT frames."""

INSTRUMENTS: Mapping[int, tuple[str, ...]] = {
    2: ("vocals", "accompaniment"),
    4: ("vocals", "drums", "bass", "other"),
    5: ("vocals", "piano", "drums", "bass", "other"),
}
"""What the published editions separate, in the order of their files."""

FILES = ("model.index", "model.data-00000-of-00001")


class Spleeter(NetworkSeparator):
    """Spleeter: vocals and accompaniment, four sources, or these and a piano.

    The published TensorFlow checkpoint is read without TensorFlow. Only the bins below ``bins`` are separated, which
    are 11 kHz as published; what becomes of those above says ``extension``.

    Parameters
    ----------
    weights : path-like, optional
        Folder with ``model.index`` and ``model.data-00000-of-00001``. If not given: ``spleeter/2stems`` of
        `weights_folder` (``4stems``, ``5stems``).
    stems : int
        2, 4 or 5: which edition.
    exponent : float
        Of the magnitudes that the sources' masks are in the ratio of.
    bins : int
        Bins that are separated, from the lowest: a multiple of 64. With 1536 these are 16 kHz, by the same weights.
    extension : str
        Masks above: ``"zeros"``, as published, so that the stems sum to the mixture without its treble; or
        ``"average"``, the mean of the masks below.
    mwf : bool
        Refine the sources by one iteration of the multichannel Wiener filter over the whole song, whose masks are kept:
        memory grows by 40 MB a minute for two stems. Which magnitudes Spleeter's own filter is given was not compared.
    frames : int
        STFT frames that the network is given at a time, which do not overlap: a multiple of 64. With others than the
        published 512, which are 12 s, the stems differ.
    device : str
        Torch device that the network and the filter run on.

    References
    ----------
    R. Hennequin, A. Khlif, F. Voituret, M. Moussallam, "Spleeter: a fast and efficient music source separation tool
    with pre-trained models", Journal of Open Source Software 5(50), 2020.

    Examples
    --------
    >>> Spleeter(stems=2).sources, Spleeter(stems=5).sources
    (('vocals', 'accompaniment'), ('drums', 'bass', 'other', 'vocals', 'piano'))
    """

    name: ClassVar[str] = "spleeter"
    origin = "github.com/deezer/spleeter, release v1.4.0"
    needs: ClassVar[Mapping[str, str]] = {**NetworkSeparator.needs, "google_crc32c": "networks"}
    editions: ClassVar[Sequence[Mapping[str, Any]]] = tuple({"stems": stems} for stems in INSTRUMENTS)

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        stems: int = 2,
        exponent: float = 2.0,
        bins: int = 1024,
        extension: str = "zeros",
        mwf: bool = False,
        frames: int = 512,
        device: str = "cpu",
    ) -> None:
        if stems not in INSTRUMENTS:
            raise SeparatorError(f"{self.name}: got stems={stems!r}, expected 2, 4 or 5")
        if not isinstance(exponent, int | float) or not 0 < exponent <= 10:
            raise SeparatorError(f"{self.name}: got exponent={exponent!r}, expected a number above 0, at most 10")
        if type(bins) is not int or not 0 < bins <= N_FFT // 2 or bins % DIVISOR:
            raise SeparatorError(
                f"{self.name}: got bins={bins!r}, expected a multiple of {DIVISOR}, at most {N_FFT // 2}"
            )
        if type(frames) is not int or frames < DIVISOR or frames % DIVISOR:
            raise SeparatorError(f"{self.name}: got frames={frames!r}, expected a multiple of {DIVISOR}")
        if extension not in ("zeros", "average"):
            raise SeparatorError(f"{self.name}: got extension={extension!r}, expected 'zeros' or 'average'")
        self.weights, self.stems, self.exponent, self.bins = weights, stems, exponent, bins
        self.extension, self.mwf, self.frames, self.device = extension, mwf, frames, device
        self.sources = in_order(INSTRUMENTS[stems])

    def weight_files(self) -> tuple[WeightFile, ...]:
        """The index of the checkpoint, and its tensors."""
        folder = f"{self.stems}stems/" if self.weights is None else ""
        return tuple(WeightFile((f"{folder}{name}",)) for name in FILES)

    def weight_folders(self) -> tuple[Path, ...]:
        """The separator's part of the weights folder, or the user's own folder."""
        own = None if self.weights is None else Path(self.weights).expanduser()
        return super().weight_folders() if own is None else (own.parent if own.name == FILES[0] else own,)

    def _find_files(self) -> tuple[Path, ...]:
        return find_weights(self.name, self.weight_files(), self.weight_folders(), self.origin)

    def _build(self) -> Any:
        from stemfuse.separators.weights.tensors import load_strictly, read_bundle

        from .spleeter import SpleeterNetwork, spleeter_state

        state, shape = spleeter_state(read_bundle(self._file), self.stems, self._file)
        return load_strictly(SpleeterNetwork(shape), state, self._file).to(self.device)

    def apply(self, mixture: Signal) -> Iterator[torch.Tensor]:
        """See `NetworkSeparator`."""
        import torch

        from .spectrogram import OverlapAdd

        song = OverlapAdd(N_FFT, HOP, centred=False, device="cpu")
        order = [INSTRUMENTS[self.stems].index(source) for source in self.sources]
        stop = FRONT + mixture.length
        taken = 0
        for start, block in self._spectra(mixture):
            song.add(start, block[order].to(torch.complex64))
            done = min(song.finished, stop)
            samples = song.take(done)[..., max(0, FRONT - taken) :]
            taken = done
            if samples.shape[-1]:
                yield samples

    def _spectra(self, mixture: Signal) -> Iterator[tuple[int, torch.Tensor]]:
        """Spectra (instrument, 2, bin, frame) of the stems, with the numbers of their first STFT frames."""
        import torch

        from .wiener import filtered_blocks

        spectrum = _Spectrum(mixture, self.device)
        starts = range(0, spectrum.frames, self.frames)
        ranges = [(start, min(start + self.frames, spectrum.frames)) for start in starts]
        blocks = ((start, spectrum.frames_between(start, stop)) for start, stop in ranges)
        if not self.mwf:
            for start, block in blocks:
                yield start, self._extended(self._masks(block), block.shape[1]) * block
            return
        # the ratio is one of power, which the filter makes of magnitudes
        whole = torch.cat([self._masks(block).sqrt() for _, block in blocks], dim=-1)

        def masks(start: int, stop: int) -> torch.Tensor:
            return self._extended(whole[..., start:stop], N_FFT // 2 + 1)

        yield from filtered_blocks(spectrum.frames_between, spectrum.frames, masks)

    def _masks(self, block: torch.Tensor) -> torch.Tensor:
        """Masks (instrument, 2, bin, frame) of the bins that are separated, of a block (2, bin, frame)."""
        from torch.nn import functional

        from .spleeter import ratio_masks

        frames = block.shape[-1]
        # the last frames of a song are followed by silence
        magnitudes = functional.pad(block[:, : self.bins].abs().transpose(1, 2), (0, 0, 0, self.frames - frames))
        masks = ratio_masks(self._network(magnitudes[None])[0], self.exponent)
        return masks[..., :frames, :].transpose(-1, -2)

    def _extended(self, masks: torch.Tensor, bins: int) -> torch.Tensor:
        """Masks of all bins."""
        import torch

        above = masks.new_zeros(()) if self.extension == "zeros" else masks.mean(dim=-2, keepdim=True)
        return torch.cat([masks, above.expand(*masks.shape[:-2], bins - masks.shape[-2], masks.shape[-1])], dim=-2)


@dataclass(frozen=True)
class _Spectrum:
    """The spectrum of a song after `FRONT` zeros; windows begin with its first sample, and zeros follow its end."""

    mixture: Signal
    device: str

    @property
    def frames(self) -> int:
        """Number of STFT frames."""
        return -(-(FRONT + self.mixture.length) // HOP)

    def frames_between(self, start: int, stop: int) -> torch.Tensor:
        """STFT frames from ``start`` to ``stop``, (2, bin, frame)."""
        from .chunking import tensors_of, widened
        from .spectrogram import transformed

        first, last = start * HOP - FRONT, (stop - 1) * HOP + N_FFT - FRONT
        audio = widened(tensors_of(self.mixture), self.mixture.length, first, last)
        return transformed(audio.to(self.device), N_FFT, HOP, centred=False)
