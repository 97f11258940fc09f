"""The last layer of a small network by least squares, from the features that its other layers give on new songs.

Run ``python benchmarks/last_layers.py NETWORK WEIGHTS DATA OUT [--chunks 60] [--ridge 0.003] [--minutes M]``: with
NETWORK ``demucs_small``, ``tfc_tdf_small`` or ``xumx_small``. Songs of ``DATA/train`` are mixed anew and changed as in
training. The last layer is linear in all three networks: taps of the waveform (Demucs), complex spectra of each bin
(TFC-TDF-U-Net), masks before they are rectified (X-UMX; there the error of a bin counts with the mixture's energy). So
its best weights in the sense of squared errors solve one linear system, where gradient descent takes thousands of
steps; those of the best SDR solve some in a row. A ridge pulls them to those in WEIGHTS.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from stemfuse.experiments.data import open_data
from stemfuse.separators import SOURCES
from stemfuse.separators.networks.chunking import centred
from stemfuse.separators.networks.spectrogram import transformed
from stemfuse.separators.networks.training.chunks import Augmentation, RandomChunks
from stemfuse.separators.networks.training.objectives import SDR_FLOOR, sdr_db
from stemfuse.separators.networks.training.trainable import trainable_class
from stemfuse.separators.weights.folder import read_notes
from stemfuse.separators.weights.tensors import load_strictly, save_state

FAMILIES = {"demucs_small": "demucs_v2", "tfc_tdf_small": "tfc_tdf_v2", "xumx_small": "xumx"}
RECIPES = Path(__file__).parents[1] / "docs" / "recipes"
CHUNK = {"demucs_small": {"chunk_s": 6}, "tfc_tdf_small": {"frames": 128}, "xumx_small": {"chunk_s": 6}}
"""Longer than in training: fewer ends."""

EDGES = (*range(32), *range(32, 96, 2), *range(96, 256, 4), *range(256, 1025, 16), 1025)
"""Bins of X-UMX that share the weights of STFT frames, and so one matrix."""


def solved(gram: Tensor, across: Tensor, before: Tensor, ridge: float) -> Tensor:
    """Weights (output, feature) that minimise the squared error plus the ridge's pull to those before."""
    size = gram.shape[-1]
    pull = ridge * gram.diagonal(dim1=-2, dim2=-1).mean(dim=-1)[..., None, None] * torch.eye(size, dtype=gram.dtype)
    return before + torch.linalg.solve(gram + pull, across - gram @ before.mT).mT


def with_ones(features: Tensor) -> Tensor:
    """Features (item, feature) with one more that is 1."""
    return torch.cat([features, torch.ones_like(features[:, :1])], dim=1)


def last_inputs(network: Any, layer: Any, argument: Tensor) -> tuple[Tensor, Tensor]:
    """What a network gives, and what one of its layers was given."""
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    output = network(argument)
    hook.remove()
    return output, seen[0]


class ByChunk:
    """Weights of a linear layer from second moments of each chunk, so that every chunk's SDR is known without audio.

    Squared errors alone would fit the loudest sources. The SDR of each source of each chunk is maximised, as in the
    training's loss ``sdr``: in each round a chunk counts by one over its error in the round before, plus `SDR_FLOOR`.
    """

    def __init__(self) -> None:
        self.moments: list[tuple[Tensor, Tensor, Tensor]] = []

    def collect(self, gram: Tensor, across: Tensor, references: Tensor, scale: Tensor) -> None:
        """Keep gram (feature, feature) and across (source, row, feature), over the energy of the mixture."""
        self.moments.append((scale * gram, scale * across, scale * references.double().square().sum(dim=(1, 2))))

    def fitted(self, before: Tensor, ridge: float, rounds: int) -> Tensor:
        """Weights (source, row, feature); without rounds those of the smallest squared error."""
        gram, across, energy = (torch.stack(some) for some in zip(*self.moments, strict=True))
        weights, shares = before, torch.ones_like(energy)
        for _ in range(rounds + 1):
            pairs = zip(shares.T, across.transpose(0, 1), before, strict=True)
            weights = torch.stack(
                [
                    solved(torch.einsum("c,cij->ij", share, gram), torch.einsum("c,crj->jr", share, own), start, ridge)
                    for share, own, start in pairs
                ]
            )
            errors = torch.einsum("sri,cij,srj->cs", weights, gram, weights)
            errors += energy - 2 * torch.einsum("sri,csri->cs", weights, across)
            shares = 1 / (errors.clamp_min(0) + SDR_FLOOR)
        return weights


class Demucs(ByChunk):
    """The last transposed convolution: each of four phases sees the present and the previous step."""

    def __init__(self, objective: Any) -> None:
        super().__init__()
        self.network, self.layer = objective.network, objective.network.decoder[-1][2]

    def add(self, mixture: Tensor, references: Tensor) -> None:
        """Take in one chunk."""
        output, features = last_inputs(self.network, self.layer, mixture)
        target = centred(references, output.shape[-1])[0].double()
        taken = features[0].double()
        # before the first step and after the last one there is only one of the two
        pairs = with_ones(torch.cat([taken[:, 1:], taken[:, :-1]]).T)
        # (source, channel, step, phase)
        phases = target[..., 4:-4].unflatten(-1, (-1, 4))[:, :, : len(pairs)]
        across = torch.einsum("sctp,tf->scpf", phases, pairs).flatten(1, 2)
        self.collect(pairs.T @ pairs, across, target, 1 / mixture.double().square().sum())

    def finish(self, ridge: float, rounds: int = 0) -> None:
        """Put the new weights in."""
        weight, bias = self.layer.weight.data, self.layer.bias.data
        sources, channels = 4, weight.shape[1] // 4
        # (source, channel, phase, feature)
        taps = weight.unflatten(1, (sources, channels)).unflatten(3, (2, 4)).permute(1, 2, 4, 3, 0).flatten(3)
        offset = bias.reshape(sources, channels, 1, 1).expand(-1, -1, 4, -1)
        new = self.fitted(torch.cat([taps, offset], dim=3).flatten(1, 2).double(), ridge, rounds).float()
        new = new.unflatten(1, (channels, 4))
        weight.copy_(new[..., :-1].unflatten(3, (2, -1)).permute(4, 0, 1, 3, 2).reshape(weight.shape))
        # one bias for all phases
        bias.copy_(new[..., -1].mean(dim=2).flatten())


class TFCTDF(ByChunk):
    """The last convolution, of one bin and STFT frame; the waveform is linear in its weights, too.

    Every feature is transformed back twice, as the real and as the imaginary part of a spectrum.
    """

    def __init__(self, objective: Any) -> None:
        super().__init__()
        self.network, self.transform = objective.network, objective.transform
        self.layer = objective.network.final_conv[0]

    def add(self, mixture: Tensor, references: Tensor) -> None:
        """Take in one chunk."""
        _, features = last_inputs(self.network, self.layer, self.transform.pack(mixture))
        taken = torch.cat([features[0], torch.ones_like(features[0, :1])])
        nothing = torch.zeros_like(taken)
        packed = torch.stack([taken, nothing, nothing, taken], dim=1)
        # (part, feature) in one axis
        waves = self.transform.unpack(packed, mixture.shape[-1]).transpose(0, 1).flatten(0, 1).double()
        across = torch.einsum("sct,ft->scf", references[0].double(), waves)
        self.collect(waves @ waves.T, across, references[0], 1 / mixture.double().square().sum())

    def finish(self, ridge: float, rounds: int = 0) -> None:
        """Put the new weights in."""
        weight, bias = self.layer.weight.data, self.layer.bias.data
        before = torch.cat([weight[:, :, 0, 0], bias[:, None]], dim=1).double()
        # outputs are (source, channel, part)
        by_source = before.reshape(4, len(before) // 8, -1)
        new = self.fitted(by_source, ridge, rounds).reshape(before.shape).float()
        weight[:, :, 0, 0], bias[:] = new[:, :-1], new[:, -1]


class XUMX:
    """The last layer of each source's decoder: masks of all bins and both channels."""

    def __init__(self, objective: Any) -> None:
        self.network, self.n_fft = objective.network, objective.n_fft
        size, self.bins = self.network.shape.hidden + 1, self.network.shape.bins
        self.groups = torch.bucketize(torch.arange(self.bins), torch.tensor(EDGES[1:]), right=True)
        self.gram = torch.zeros(4, len(EDGES) - 1, size, size)
        self.across = torch.zeros(4, size, 2 * self.bins)

    def add(self, mixture: Tensor, references: Tensor) -> None:
        """Take in one chunk."""
        spectrum = transformed(mixture, self.n_fft, self.n_fft // 4)[0]
        true = transformed(references, self.n_fft, self.n_fft // 4)[0]
        encoded = self.network.encode(spectrum.abs()[None])
        power = (spectrum.abs().square() / mixture.square().mean()).mean(dim=0)
        grouped = torch.zeros(len(EDGES) - 1, power.shape[1]).index_add_(0, self.groups, power)
        grouped /= torch.bincount(self.groups)[:, None]
        weights = grouped[self.groups] + 1e-12
        for number, name in enumerate(SOURCES):
            hidden = self.network.layer_dec[name]["dec"][:3](encoded.flatten(0, 1))
            hidden = with_ones(hidden)
            ratio = (true[number] * spectrum.conj()).real / spectrum.abs().square().clamp_min(1e-12)
            target = (ratio.clamp(-0.5, 1.5) * weights).flatten(0, 1)
            self.across[number] += hidden.T @ target.T
            for group, row in enumerate(grouped):
                weighted = hidden * row.sqrt()[:, None]
                self.gram[number, group] += weighted.T @ weighted

    def finish(self, ridge: float, rounds: int = 0) -> None:
        """Put the new weights in, always those of least squares; normalisation and scale become 1."""
        for number, name in enumerate(SOURCES):
            decoder, scales = self.network.layer_dec[name]["dec"], self.network.mean_scale
            linear, norm = decoder[3], decoder[4]
            slope = norm.weight.data / (norm.running_var + norm.eps).sqrt()
            scale, mean = scales[f"output_scale_{name}"].data.repeat(2), scales[f"output_mean_{name}"].data
            weight = (scale * slope)[:, None] * linear.weight.data
            offset = scale * (norm.bias.data - slope * norm.running_mean) + mean.repeat(2)
            before = torch.cat([weight, offset[:, None]], dim=1).double()
            new = torch.empty_like(before)
            for group in range(len(EDGES) - 1):
                rows = (self.groups == group).repeat(2)
                gram, across = self.gram[number, group].double(), self.across[number][:, rows].double()
                new[rows] = solved(gram, across, before[rows], ridge)
            linear.weight.data.copy_(new[:, :-1])
            # the scale is of a bin, the offset of a bin and a channel
            norm.weight.data.fill_(1.0)
            norm.running_mean.zero_()
            norm.running_var.fill_(1.0 - norm.eps)
            norm.bias.data.copy_(new[:, -1])
            scales[f"output_scale_{name}"].data.fill_(1.0)
            scales[f"output_mean_{name}"].data.zero_()


SYSTEMS = {"demucs_small": Demucs, "tfc_tdf_small": TFCTDF, "xumx_small": XUMX}


def chunks_of(data: Path, trainable: Any, count: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Mixtures (1, channel, time) and their stems (1, source, channel, time), mixed anew."""
    tracks = open_data(data, "sum").tracks("train")
    changed = Augmentation(remix=0.8, gain=(0.25, 1.5))
    drawn = RandomChunks(tracks, trainable.length, count, changed, (), trainable.standardise, seed)
    for number in range(count):
        stems = torch.as_tensor(drawn[number])[None]
        mixture = stems.sum(dim=1)
        if mixture.square().mean() > 1e-7:
            yield mixture, stems


def mean_sdr(objective: Any, pairs: list[tuple[Tensor, Tensor]]) -> list[float]:
    """SDR of each source in dB, mean over chunks, as in the loss ``sdr``."""
    made = []
    for mixture, stems in pairs:
        estimates = objective.separate(mixture)
        given = (objective.covered(part, estimates.shape[-1]) for part in (stems, mixture))
        made.append(sdr_db(estimates, *given, SDR_FLOOR)[0])
    return [round(float(db), 2) for db in torch.stack(made).mean(dim=0)]


def main() -> None:
    """Solve, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=list(SYSTEMS))
    parser.add_argument("weights", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--chunks", type=int, default=60)
    parser.add_argument("--ridge", type=float, nargs="+", default=[0.003])
    parser.add_argument("--rounds", type=int, default=8, help="after that of least squares; X-UMX has none")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="take no further chunk after so long")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    name = arguments.network
    recipe = yaml.safe_load((RECIPES / f"train-{name}-real.yaml").read_text())
    trainable = trainable_class(FAMILIES[name])(**{**recipe["network"], **CHUNK[name]})
    objective = trainable.objective().eval()
    load_strictly(objective.network, trainable.state(arguments.weights), arguments.weights)
    system, start = SYSTEMS[name](objective), time.monotonic()
    with torch.no_grad():
        for number, pair in enumerate(chunks_of(arguments.data, trainable, arguments.chunks, arguments.seed)):
            system.add(*pair)
            print(number, end=" ", flush=True)
            if time.monotonic() - start > 60 * arguments.minutes:
                break
    before = {key: value.clone() for key, value in objective.network.state_dict().items()}
    notes = read_notes(arguments.weights)
    notes["trained_on"] = list(dict.fromkeys([*notes.get("trained_on", ()), f"{arguments.data.name}/train"]))
    for ridge in arguments.ridge:
        objective.network.load_state_dict(before)
        system.finish(ridge, arguments.rounds)
        out = arguments.out.with_stem(f"{arguments.out.stem}-{ridge:g}") if len(arguments.ridge) > 1 else arguments.out
        save_state(objective.network, out, half=True, **notes)
        print(out, flush=True)


if __name__ == "__main__":
    main()
