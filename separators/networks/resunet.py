"""ResUNet143 in four subbands, which separates magnitude and phase: the vocals' model of MDX-Mixer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from stemfuse.separators.errors import SeparatorError
from stemfuse.separators.weights.tensors import State, renamed

from .spectrogram import OverlapAdd, transformed

BANDS, TAPS = 4, 64
CUT_OFF = 0.1414486
"""Of the filter bank's prototype, of half the sample rate."""
N_FFT, HOP = 512, 110
BINS = N_FFT // 2 + 1
CHANNELS = 2
PARTS = 4
"""Of each bin: a mask, real and imaginary part of a rotation, and what is added to the magnitude."""
TIME_DIVISOR = 32
FLOOR = 1e-5
"""Smallest magnitude."""
MOMENTUM = 0.01


class FilterBank(nn.Module):
    """Four uniform bands at a quarter of the sample rate, and back.

    The published filters are numerically optimised and come with the weights. New ones are a cosine-modulated
    Kaiser window (Lin and Vaidyanathan 1998), which reconstructs songs to 60 dB.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ana_conv_filter = nn.Conv1d(1, BANDS, TAPS, BANDS, bias=False)
        self.syn_conv_filter = nn.Conv1d(BANDS, BANDS, TAPS // BANDS, bias=False)
        time = torch.arange(TAPS) - (TAPS - 1) / 2
        # cut-off and window for which neighbouring bands add up to one
        prototype = torch.sinc(time * CUT_OFF) * CUT_OFF * torch.kaiser_window(TAPS, periodic=False, beta=8.699)
        band = torch.arange(BANDS)[:, None]
        phase = (2 * band + 1) * math.pi / (2 * BANDS) * time
        sign = torch.where(band % 2 == 0, 1.0, -1.0) * math.pi / 4
        analysis, synthesis = (2 * prototype * torch.cos(phase + shift) for shift in (sign, -sign))
        with torch.no_grad():
            self.ana_conv_filter.weight.copy_(analysis.flip(-1)[:, None])
            # each output phase takes every fourth tap of all bands
            phases = (BANDS * synthesis).reshape(BANDS, TAPS // BANDS, BANDS).permute(2, 0, 1)
            self.syn_conv_filter.weight.copy_(phases.flip(-1))
        self.requires_grad_(False)

    def analysis(self, audio: torch.Tensor) -> torch.Tensor:
        """(batch, channel, time) to (batch, channel * band, time / 4 + 16); time is a multiple of four."""
        batch, channels, _ = audio.shape
        rows = functional.pad(audio.flatten(0, 1)[:, None], (TAPS - BANDS, TAPS))
        bands: torch.Tensor = self.ana_conv_filter(rows)
        return bands.reshape(batch, channels * BANDS, -1)

    def synthesis(self, bands: torch.Tensor) -> torch.Tensor:
        """(batch, channel * band, time) to (batch, channel, time * 4 - 64), the inverse of `analysis`."""
        batch, channels, time = bands.shape
        rows = functional.pad(bands.reshape(batch * channels // BANDS, BANDS, time), (0, TAPS // BANDS - 1))
        phases: torch.Tensor = self.syn_conv_filter(rows)
        return phases.transpose(1, 2).reshape(batch, channels // BANDS, -1)[..., :-TAPS]


class ResidualConvolutions(nn.Module):
    """Two convolutions, each after normalisation and activation, added to their input."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels, momentum=MOMENTUM)
        self.bn2 = nn.BatchNorm2d(channels, momentum=MOMENTUM)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.shortcut: Any = None if in_channels == channels else nn.Conv2d(in_channels, channels, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, input, frame, bin) to (batch, channel, frame, bin)."""
        added = self.conv1(functional.leaky_relu(self.bn1(features), 0.01))
        added = self.conv2(functional.leaky_relu(self.bn2(added), 0.01))
        same = features if self.shortcut is None else self.shortcut(features)
        return torch.add(same, added)


class Block(nn.Module):
    """Four residual pairs of convolutions."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        for index in range(4):
            self.add_module(
                f"conv_block{index + 1}", ResidualConvolutions(channels if index else in_channels, channels)
            )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, input, frame, bin) to (batch, channel, frame, bin)."""
        for layer in self.children():
            features = layer(features)
        return features


class UpwardBlock(nn.Module):
    """Doubles the bins, and STFT frames except at the bottom, and joins the skip connection of its level."""

    def __init__(self, in_channels: int, channels: int, factor: tuple[int, int]) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels, momentum=MOMENTUM)
        self.conv1 = nn.ConvTranspose2d(in_channels, channels, factor, factor, bias=False)
        for index in range(4):
            layer = ResidualConvolutions(channels if index else 2 * channels, channels)
            self.add_module(f"conv_block{index + 2}", layer)

    def forward(self, features: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """(batch, input, frame, bin) to the skip's shape."""
        features = torch.cat([self.conv1(functional.relu(self.bn1(features))), skip], dim=1)
        for name, layer in self.named_children():
            if name.startswith("conv_block"):
                features = layer(features)
        return features


class ResUNetSubband(nn.Module):
    """ResUNet143 of decoupled magnitude and phase, on the four bands of a filter bank: waveform to waveform.

    Parameters
    ----------
    widths : tuple of int
        Channels of the levels, the published ones when left out.

    Notes
    -----
    Names and shapes of the tensors are the authors', without those of their Fourier transform.

    References
    ----------
    Q. Kong, Y. Cao, H. Liu, K. Choi, Y. Wang, "Decoupling magnitude and phase estimation with deep ResUNet for music
    source separation", ISMIR 2021, section 3; H. Liu, Q. Kong, J. Liu, "CWS-PResUNet", MDX workshop at ISMIR 2021, for
    the subbands.

    Examples
    --------
    >>> network = ResUNetSubband(widths=(2, 2, 2, 2, 2, 2)).eval()
    >>> tuple(network(torch.zeros(1, 2, 9001)).shape)
    (1, 2, 9001)
    """

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128, 256, 384, 384)) -> None:
        super().__init__()
        self.levels = range(1, len(widths) + 1)
        self.pqmf = FilterBank()
        self.bn0 = nn.BatchNorm2d(BINS, momentum=MOMENTUM)
        inputs = (CHANNELS * BANDS, *widths)
        for level in self.levels:
            self.add_module(f"encoder_block{level}", Block(inputs[level - 1], widths[level - 1]))
        for letter in "abcd":
            self.add_module(f"conv_block7{letter}", Block(widths[-1], widths[-1]))
        upward = (widths[-1], *widths[::-1])
        for level in self.levels:
            factor = (1, 2) if level == 1 else (2, 2)
            self.add_module(f"decoder_block{level}", UpwardBlock(upward[level - 1], upward[level], factor))
        self.after_conv_block1 = Block(widths[0], widths[0])
        self.after_conv2 = nn.Conv2d(widths[0], CHANNELS * PARTS * BANDS, 1)

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        """The source (batch, 2, time) in a mixture (batch, 2, time) of at least 2,000 samples."""
        time = mixture.shape[-1]
        # in mixed precision, bands and transforms stay in single precision
        precise = torch.autocast(mixture.device.type, enabled=False)
        with precise:
            bands = self.pqmf.analysis(functional.pad(mixture, (0, -time % BANDS)))
            spectrum = transformed(bands, N_FFT, HOP).transpose(2, 3)
            loudness = spectrum.abs().clamp_min(FLOOR)
        features = self._unet(loudness)
        with precise:
            separated = self._applied(features.float(), loudness, spectrum / loudness)
            inverse = OverlapAdd(N_FFT, HOP)
            inverse.add(0, separated.transpose(2, 3))
            return self.pqmf.synthesis(inverse.take(bands.shape[-1]))[..., :time]

    def _unet(self, loudness: torch.Tensor) -> torch.Tensor:
        """(batch, channel * band, frame, bin) to (batch, channel * part * band, frame, bin)."""
        frames = loudness.shape[2]
        features = self.bn0(loudness.transpose(1, 3)).transpose(1, 3)
        features = functional.pad(features, (0, -1, 0, -frames % TIME_DIVISOR))
        skips = []
        for level in self.levels:
            skips.append(self.get_submodule(f"encoder_block{level}")(features))
            features = functional.avg_pool2d(skips[-1], (1, 2) if level == self.levels[-1] else 2)
        for letter in "abcd":
            features = self.get_submodule(f"conv_block7{letter}")(features)
        for level in self.levels:
            features = self.get_submodule(f"decoder_block{level}")(features, skips.pop())
        features = self.after_conv2(self.after_conv_block1(features))
        return functional.pad(features, (0, 1))[:, :, :frames]

    def _applied(self, features: torch.Tensor, loudness: torch.Tensor, phase: torch.Tensor) -> torch.Tensor:
        """Complex spectrum (batch, channel * band, frame, bin) of the source."""
        batch, _, frames, bins = features.shape
        parts = features.reshape(batch, CHANNELS, PARTS, BANDS, frames, bins)
        mask, real, imaginary, added = parts.unbind(dim=2)
        rotation = torch.complex(torch.tanh(real), torch.tanh(imaginary))
        rotation = rotation / rotation.abs().clamp_min(1e-10)
        mask, added, rotation = (part.flatten(1, 2) for part in (mask, added, rotation))
        return functional.relu(loudness * torch.sigmoid(mask) + torch.tanh(added)) * (phase * rotation)


def resunet_state(state: Mapping[str, torch.Tensor], path: Path) -> tuple[State, tuple[int, ...]]:
    """Weights of a `ResUNetSubband`, without those of the Fourier transform.

    Parameters
    ----------
    state : mapping of str to Tensor
        As `read_state` gives it.
    path : Path
        For the message.

    Returns
    -------
    tensors : dict
        In the authors' form, which is ours.
    widths : tuple of int
        Channels of the levels.

    Raises
    ------
    SeparatorError
        The names are not those of such a network.
    """
    tensors = renamed(state, [(r"^(module|model)\.", "")])
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(("stft.", "istft."))}
    last = [f"encoder_block{level}.conv_block4.conv2.weight" for level in range(1, 7)]
    missing = [name for name in [*last, "pqmf.ana_conv_filter.weight"] if name not in tensors]
    if missing:
        raise SeparatorError(f"{path}: no ResUNet143 in subbands ({missing[0]} is missing)")
    return tensors, tuple(len(tensors[name]) for name in last)
