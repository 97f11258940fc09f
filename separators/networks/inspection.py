"""What is inside a separator: layers and their sizes, operations per second of music, reach, and TDF matrices."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from stemfuse.separators.audio.signals import ArraySignal, Signal
from stemfuse.separators.separator import BaseSeparator, Separator, separate_signal
from stemfuse.separators.trusted import trust

RECURRENT = (nn.LSTM, nn.GRU, nn.RNN)
CONTAINERS = ("ModuleList", "ModuleDict")
FAR = 100.0
"""By how much the sample, or STFT bin, is changed whose effect is looked for, in largest values of the input."""


@dataclass(frozen=True)
class Layer:
    """A part of a network.

    Attributes
    ----------
    name, kind : str
        Its place in the network, and its class.
    is_leaf : bool
        Whether it has no parts of its own.
    parameters : int
        Numbers that are learnt.
    output : tuple of int
        Shape of what it gave last; empty where it was not called.
    operations : float
        Floating-point operations (a multiplication and an addition are two) for a second of music, its parts included.
    """

    name: str
    kind: str
    is_leaf: bool
    parameters: int
    output: tuple[int, ...]
    operations: float


@dataclass(frozen=True)
class Network:
    """One network of a separator.

    Attributes
    ----------
    kind : str
        Its class.
    parameters, bytes : int
        Numbers that are learnt; all tensors in memory.
    layers : tuple of Layer
        All of its parts, in the network's order.
    reach : mapping of str to tuple of (int, int, int)
        How far one place in the middle of the input is heard in the output, by axis: before, after, and how many there
        are. Empty where it was not measured.
    is_recurrent : bool
        Whether it has recurrent layers, which hear all of their input.
    matrices : mapping of str to ndarray, shape (bin, bin)
        Fully connected layers over frequency (TDF), outputs and inputs: of two with a bottleneck their product, without
        what is between them.
    """

    kind: str
    parameters: int
    bytes: int
    layers: tuple[Layer, ...]
    reach: Mapping[str, tuple[int, int, int]]
    is_recurrent: bool
    matrices: Mapping[str, NDArray[np.float32]] = field(repr=False)

    def blocks(self) -> list[Layer]:
        """What the network is made of, at the highest level that has more than one part in it."""
        containers = {layer.name for layer in self.layers if layer.kind in CONTAINERS}
        return [
            layer
            for layer in self.layers
            if layer.name not in containers and _ancestors(layer.name) <= containers and layer.parameters
        ]


def _ancestors(name: str) -> set[str]:
    parts = name.split(".")[:-1]
    return {".".join(parts[: end + 1]) for end in range(len(parts))}


@dataclass(frozen=True)
class Inspection:
    """What is inside a separator, and in those that it runs.

    Attributes
    ----------
    name : str
        Of the separator.
    sources : tuple of str
        What it separates.
    networks : mapping of str to Network
        By source or name.
    members : mapping of str to Inspection
        Separators that it runs, by the label that it has for them.
    operations : float
        Of the networks, for a second of music, all members included; signal processing is not counted.
    seconds : float
        That it took for a second of music here, all members included.
    highest_hz : float, optional
        Where the band ends that the networks hear.
    opaque : str
        Why it cannot be looked into, so that only its time is known; empty where it can.
    """

    name: str
    sources: tuple[str, ...]
    networks: Mapping[str, Network]
    members: Mapping[str, Inspection]
    operations: float
    seconds: float
    highest_hz: float | None = None
    opaque: str = ""

    @property
    def unseen(self) -> tuple[str, ...]:
        """Labels of the members that cannot be looked into, at any depth: sums are without them."""
        found = [(label, *member.unseen) if member.opaque else member.unseen for label, member in self.members.items()]
        return tuple(dict.fromkeys(label for labels in found for label in labels))

    @property
    def parameters(self) -> int:
        """Numbers that are learnt, in all networks that can be looked into."""
        own = sum(network.parameters for network in self.networks.values())
        return own + sum(member.parameters for member in self.members.values())

    def matrices(self) -> dict[str, dict[str, NDArray[np.float32]]]:
        """TDF matrices by network, those of members too: ``{"vocals": {"encoders.0": ...}}``."""
        found = {name: dict(network.matrices) for name, network in self.networks.items() if network.matrices}
        for label, member in self.members.items():
            found |= {name if name == label else f"{label} {name}": each for name, each in member.matrices().items()}
        return found

    def bands(self) -> dict[str, float | None]:
        """Where the band of each network's matrices ends, in Hz, by the names in `matrices`."""
        found: dict[str, float | None] = dict.fromkeys(self.networks, self.highest_hz)
        for label, member in self.members.items():
            found |= {name if name == label else f"{label} {name}": each for name, each in member.bands().items()}
        return found

    def record(self) -> dict[str, Any]:
        """All but the matrices, of which it has the shapes, as JSON takes it."""
        return {
            "separator": self.name,
            "sources": list(self.sources),
            "parameters": None if self.opaque else self.parameters,
            "operations_per_s": None if self.opaque else self.operations,
            "seconds_per_s": self.seconds,
            "opaque": self.opaque,
            "unseen": list(self.unseen),
            "networks": {name: _record(network) for name, network in self.networks.items()},
            "members": {label: member.record() for label, member in self.members.items()},
        }


def _record(network: Network) -> dict[str, Any]:
    record = {name: value for name, value in vars(network).items() if name != "matrices"}
    return record | {
        "layers": [asdict(layer) for layer in network.layers],
        "reach": {axis: dict(zip(("before", "after", "of"), far, strict=True)) for axis, far in network.reach.items()},
        "matrices": {name: list(matrix.shape) for name, matrix in network.matrices.items()},
    }


def inspect_separator(separator: Separator, seed: int = 0, trusted: bool = False) -> Inspection:
    """Look inside a separator: it separates some seconds of noise, and what its networks do is counted.

    Parameters
    ----------
    separator : Separator
        Any one; one whose networks are not known is only timed.
    seed : int
        Of the noise.
    trusted : bool
        Whether it, and what it consists of, may run programs and code of others, see `stemfuse.separators.trust`.

    Returns
    -------
    Inspection
        Operations and seconds are those of long songs: chunks that overlap are counted as often as they are separated.

    Raises
    ------
    MissingWeightsError
        Weights are not on this machine.
    SeparatorError
        It runs code of others, and is not trusted.

    Examples
    --------
    >>> from stemfuse.separators import load_separator
    >>> found = inspect_separator(load_separator("tfc_tdf_small"))
    >>> found.parameters, sorted(found.matrices()["all"])[:2]
    (662812, ['bottleneck_block.tdf', 'decoding_blocks.0.tdf'])
    """
    own = separator if isinstance(separator, BaseSeparator) else None
    if trusted:
        trust(separator)
    members = {} if own is None else own.members()
    if members:
        inside = {label: inspect_separator(member, seed, trusted) for label, member in members.items()}
        return Inspection(
            separator.name,
            separator.sources,
            {},
            inside,
            sum(member.operations for member in inside.values()),
            sum(member.seconds for member in inside.values()),
        )
    modules: dict[str, nn.Module] = {} if own is None else dict(own.networks())
    seconds, factor = (3.0, 1.0) if own is None else own.song_to_inspect()
    channels = 2 if own is None else own.channels
    noise = np.random.default_rng(seed).normal(0, 0.1, (channels, max(1, round(seconds * separator.rate))))
    song = ArraySignal(noise.astype(np.float32), separator.rate)
    started = time.perf_counter()
    _separate(separator, song)
    spent = time.perf_counter() - started
    # what counts takes time of its own
    with _counted(modules) as counts:
        if modules:
            _separate(separator, song)
    per_second = factor / seconds
    networks = {name: _network(module, counts[name], per_second) for name, module in modules.items()}
    total = counts[""].operations[""] * per_second
    highest = own.highest_hz() if own is not None and modules else None
    opaque = own.opaque if own is not None and not modules else ""
    return Inspection(separator.name, separator.sources, networks, {}, total, spent * per_second, highest, opaque)


def _separate(separator: Separator, song: Signal) -> None:
    for _ in separate_signal(separator, song).blocks():
        pass


@dataclass
class _Counts:
    """What was counted of a network: by the name of each part, operations and the shape of its output."""

    operations: dict[str, float] = field(default_factory=dict)
    outputs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    given: torch.Tensor | None = None


@contextmanager
def _counted(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, _Counts]]:
    """Count the operations of these networks in the block, and of each of their parts."""
    counts = {name: _Counts() for name in modules}
    meter = _Meter()
    handles = []
    for name, module in modules.items():
        for part, inside in module.named_modules():
            handles += _hooks(inside, part, counts[name], meter)
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()
    # no network has this name
    counts[""] = _Counts({"": float(meter.total)})


class _Meter:
    """Counts the operations of networks while one of their parts is called: what else is computed stays as fast."""

    def __init__(self) -> None:
        self._flops = FlopCounterMode(display=False, custom_mapping=_recurrent_formulas())
        self._stack, self._depth, self._before = ExitStack(), 0, 0

    @property
    def total(self) -> int:
        """Operations until now."""
        return self._before + (self._flops.get_total_flops() if self._depth else 0)

    def begin(self) -> int:
        """A part is called; operations until then."""
        if not self._depth:
            self._stack.enter_context(self._flops)
        self._depth += 1
        return self.total

    def end(self) -> int:
        """A part is done; operations until then."""
        done = self.total
        self._depth -= 1
        if not self._depth:
            self._stack.close()
            self._before = done
        return done


def _hooks(module: nn.Module, name: str, counts: _Counts, meter: _Meter) -> list[Any]:
    begun: list[int] = []

    def before(_: nn.Module, given: Any) -> None:
        begun.append(meter.begin())
        if not name and counts.given is None and given and isinstance(given[0], torch.Tensor):
            counts.given = given[0].detach().clone()

    def after(_: nn.Module, __: Any, output: Any) -> None:
        counts.operations[name] = counts.operations.get(name, 0.0) + meter.end() - begun.pop()
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, torch.Tensor):
            counts.outputs[name] = tuple(first.shape)

    return [module.register_forward_pre_hook(before), module.register_forward_hook(after)]


def _recurrent_formulas() -> dict[Any, Any]:
    """Operations of recurrent layers, which torch does not count: every weight once for each step."""

    def whole(given: Any, states: Any, weights: Any, *_: Any, **__: Any) -> int:
        used = sum(int(np.prod(shape)) for shape in weights if len(shape) == 2)
        return 2 * int(given[0]) * int(given[1]) * used

    def one(given: Any, first: Any, second: Any, *_: Any, **__: Any) -> int:
        return 2 * int(given[0]) * int(given[1]) * (int(np.prod(first)) + int(np.prod(second)))

    aten = torch.ops.aten
    named = {aten.lstm: whole, aten.gru: whole, aten.mkldnn_rnn_layer: one}
    return {operator: _by_shape(formula) for operator, formula in named.items()}


def _by_shape(formula: Callable[..., int]) -> Callable[..., int]:
    def counted(*given: Any, out_shape: Any = None, **more: Any) -> int:
        return formula(*given)

    return counted


def _network(module: nn.Module, counts: _Counts, per_second: float) -> Network:
    layers = tuple(
        Layer(
            name,
            type(part).__name__,
            next(part.children(), None) is None,
            sum(parameter.numel() for parameter in part.parameters()),
            counts.outputs.get(name, ()),
            counts.operations.get(name, 0.0) * per_second,
        )
        for name, part in module.named_modules()
        if name
    )
    return Network(
        type(module).__name__,
        sum(parameter.numel() for parameter in module.parameters()),
        sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values()),
        layers,
        _reach(module, counts.given),
        any(isinstance(part, RECURRENT) for part in module.modules()),
        frequency_matrices(module),
    )


def _reach(module: nn.Module, given: torch.Tensor | None) -> dict[str, tuple[int, int, int]]:
    """How far one place in the middle of a network's input changes its output, along frequency and time."""
    if given is None or not given.is_floating_point() or given.dim() not in (3, 4):
        return {}
    axes = {"samples": -1} if given.dim() == 3 else {"bins": -2, "STFT frames": -1}
    middle = [given.shape[at] // 2 for at in axes.values()]
    changed = given.clone()
    changed[(..., *middle)] += FAR * given.abs().max().clamp_min(1.0)  # type: ignore[index]
    with torch.inference_mode():
        difference = (module(given) != module(changed)).flatten(0, -1 - len(axes)).any(0)
    found = {}
    for (axis, at), place in zip(axes.items(), middle, strict=True):
        others = [other for other in range(difference.dim()) if other - difference.dim() != at]
        touched = (difference.any(others[0]) if others else difference).nonzero().flatten()
        # where networks trim their output, it is the middle of the input all the same
        place -= (given.shape[at] - difference.shape[at]) // 2
        if len(touched):
            found[axis] = (place - int(touched.min()), int(touched.max()) - place, int(difference.shape[at]))
    return found


def frequency_matrices(module: nn.Module) -> dict[str, NDArray[np.float32]]:
    """Matrices of the fully connected layers over frequency (TDF) of a network, by the name of their block.

    Parameters
    ----------
    module : Module
        The network.

    Returns
    -------
    dict of str to ndarray, shape (bin, bin)
        Outputs and inputs. A layer alone is its weights; two with a bottleneck are the product of theirs: biases,
        normalisation and what is cut off at zero in between are left out.

    References
    ----------
    W. Choi, M. Kim, J. Chung, D. Lee, S. Jung, "Investigating U-Nets with various intermediate blocks for
    spectrogram-based singing voice separation", ISMIR 2020, section 2.2.

    Examples
    --------
    >>> layers = nn.Sequential(nn.Linear(8, 2, bias=False), nn.ReLU(), nn.Linear(2, 8, bias=False))
    >>> matrices = frequency_matrices(nn.ModuleDict({"tdf": layers}))
    >>> bool((matrices["tdf"] == (layers[2].weight @ layers[0].weight).detach().numpy()).all())
    True
    """
    found = {}
    for name, part in module.named_modules():
        linear = [layer for layer in part if isinstance(layer, nn.Linear)] if isinstance(part, nn.Sequential) else []
        if not linear or linear[0].in_features != linear[-1].out_features:
            continue
        weights = [layer.weight.detach().float().cpu() for layer in linear]
        product = weights[0]
        for weight in weights[1:]:
            product = weight @ product
        found[name] = product.numpy().astype(np.float32)
    return found
