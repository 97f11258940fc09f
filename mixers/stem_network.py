"""Networks that score each separator's stem of a source from short-time power spectra, and weights that follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .features import signals_of
from .frame_sequences import FrameSequences
from .losses import FLOOR
from .weight_grid import WeightGrid


class StemNetwork(nn.Module):
    """Weights of each source's own stems, positive and of sum one, from a score of every stem.

    Parameters
    ----------
    inputs, outputs : sequence of str
        Labels of channels.
    stems : mapping of str to sequence of str
        By source, the signals that are scored; see `stemfuse.mixers.power_spectra.own_stems`.
    bands : int
        Of the features; see `stemfuse.mixers.power_spectra.power_features`.
    hidden, dropout : int, float
        Width of each source's two hidden layers, and the share of their units dropped in training.
    variant : {"adaptive", "constant", "averaging"}
        Scores from a network of each source, which is given the levels of the mixture and of the source's stems; or
        one value per stem; or the stems' evidence times one factor of each source.
    constraint : {"simplex", "selection"}
        Weights are the softmax of scores, or one for the largest.
    scale : float
        Scores are multiplied by it before the softmax.

    Examples
    --------
    >>> inputs, outputs = ["a.bass.left", "b.bass.left"], ["bass.left"]
    >>> network = StemNetwork(inputs, outputs, {"bass": ["a.bass", "b.bass"]}, bands=3)
    >>> network(torch.zeros(5, 11)).shape, network(torch.zeros(11)).tolist()
    (torch.Size([5, 1, 2]), [[0.5, 0.5]])
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        inputs: Sequence[str],
        outputs: Sequence[str],
        stems: Mapping[str, Sequence[str]],
        bands: int,
        hidden: int = 32,
        dropout: float = 0.2,
        variant: str = "adaptive",
        constraint: str = "simplex",
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.grid = WeightGrid(inputs, outputs, constraint=constraint)
        self.variant, self.bands, self.scale = variant, bands, scale
        signals = list(signals_of(inputs))
        self.places = [[signals.index(signal) for signal in own] for own in stems.values()]
        self.signals, self.counts = len(signals), [len(own) for own in stems.values()]
        features = (1 + sum(self.counts)) * bands + sum(self.counts)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        if variant == "adaptive":
            self.networks = nn.ModuleList(
                _perceptron((1 + count) * bands, hidden, count, dropout) for count in self.counts
            )
        elif variant == "constant":
            self.values = nn.ParameterList(torch.zeros(count) for count in self.counts)
        else:
            # evidence decides little at first: all stems count about the same
            self.factors = nn.Parameter(torch.zeros(len(self.counts)))

    def scores(self, features: Tensor) -> list[Tensor]:
        """By source, a score of each of its stems, (..., stem), for features (..., feature)."""
        if self.variant == "constant":
            return [value.expand(*features.shape[:-1], -1) for value in self.values]
        evidence = torch.split(features[..., (1 + sum(self.counts)) * self.bands :], self.counts, -1)
        if self.variant == "averaging":
            factors = nn.functional.softplus(self.factors)
            return [factor * values for factor, values in zip(factors, evidence, strict=True)]
        levels = ((features - self.mean) / self.deviation)[..., : (1 + sum(self.counts)) * self.bands]
        mixture, *own = torch.split(levels, [self.bands, *(count * self.bands for count in self.counts)], -1)
        return [network(torch.cat([mixture, each], -1)) for network, each in zip(self.networks, own, strict=True)]

    def forward(self, features: Tensor) -> Tensor:
        """Weights (..., output, input) of frames with features (..., feature)."""
        rows = []
        for scores, places in zip(self.scores(features), self.places, strict=True):
            row = scores.new_zeros(*scores.shape[:-1], self.signals)
            row[..., places] = scores * self.scale
            rows.append(row)
        weights: Tensor = self.grid(torch.stack(rows, -2).flatten(-2))
        return weights


def _perceptron(inputs: int, hidden: int, outputs: int, dropout: float) -> nn.Sequential:
    """Two hidden layers; the last one starts at zero, so that all stems count the same at first."""
    last = nn.Linear(hidden, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    layers: list[nn.Module] = []
    for width in (inputs, hidden):
        layers += [nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, last)


class ScoreObjective(nn.Module):
    """Squared error in dB of the SDR that a network predicts for each stem of a source, from second moments.

    Parameters
    ----------
    network : StemNetwork
        Its scores are in dB.
    inputs, outputs : sequence of str
        Labels of channels.
    """

    def __init__(self, network: StemNetwork, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        groups, rows = list(signals_of(inputs).values()), list(signals_of(outputs).values())
        self.pairs = [(rows[source], [groups[place] for place in own]) for source, own in enumerate(network.places)]

    def decibels(self, moments: Tensor, cross: Tensor, energies: Tensor) -> list[Tensor]:
        """By source, the SDR of each of its stems, (..., stem); see `FLOOR` for silent ones."""
        found = []
        for rows, stems in self.pairs:
            signal = energies[..., rows].sum(-1) + FLOOR
            errors = [
                moments[..., columns, columns].sum(-1) - 2 * cross[..., rows, columns].sum(-1) + signal
                for columns in stems
            ]
            found.append(torch.stack([10 * torch.log10(signal / error.clamp(min=FLOOR)) for error in errors], -1))
        return found

    def start_at_means(self, data: FrameSequences) -> None:
        """Let the network predict each stem's mean SDR at first."""
        *_, moments, cross, energies, _, sounding = map(torch.from_numpy, data.__getitems__(range(len(data))))
        for source, decibels in enumerate(self.decibels(moments, cross, energies)):
            counted = sounding[..., source]
            if counted.any():
                *_, bias = self.network.networks[source].parameters()
                bias.data.copy_(decibels[counted].mean(0))

    def forward(
        self, features: Tensor, moments: Tensor, cross: Tensor, energies: Tensor, present: Tensor, sounding: Tensor
    ) -> Tensor:
        """Loss per sequence; see `stemfuse.mixers.gram_network.GramObjective` for the parameters."""
        total = features.new_zeros(len(features))
        predicted, true = self.network.scores(features), self.decibels(moments, cross, energies)
        for source, (scores, decibels) in enumerate(zip(predicted, true, strict=True)):
            counted = sounding[..., source].to(features.dtype)
            squared = (scores - decibels).square().mean(-1) * counted
            total = total + squared.sum(1) / counted.sum(1).clamp(min=1)
        return total / len(self.pairs)
