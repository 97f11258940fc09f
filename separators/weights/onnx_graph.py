"""The published ONNX files of KUIELab-MDX-Net as weights of our network, recognised by their order in the graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stemfuse.separators.errors import SeparatorError
from stemfuse.separators.foreign.onnx_files import read_onnx
from stemfuse.separators.foreign.table import ForeignFileError
from stemfuse.separators.optional import import_optional

from .tensors import State

_EPSILON = 1e-5
"""Of the network's normalisations."""


@dataclass(frozen=True)
class WeightedNode:
    """A node of a graph that has weights, and these in their order."""

    kind: str
    weights: list[NDArray[Any]]
    epsilon: float


@dataclass(frozen=True)
class Graph:
    """An ONNX file of a TFC-TDF-U-Net.

    Attributes
    ----------
    path : Path
        The file.
    """

    path: Path

    @cached_property
    def _model(self) -> Any:
        try:
            return read_onnx(self.path)
        except OSError as error:
            raise SeparatorError(f"{self.path}: cannot be read ({error.strerror or error}); copy it again") from error
        except ForeignFileError as error:
            raise SeparatorError(f"{self.path}: {error}; fetch it again") from error

    @property
    def frames(self) -> int | None:
        """Number of STFT frames that the graph takes; None when it takes any."""
        inputs = self._model.graph.input
        sizes = [dimension.dim_value for dimension in inputs[0].type.tensor_type.shape.dim] if inputs else []
        return int(sizes[3]) or None if len(sizes) == 4 else None

    @cached_property
    def nodes(self) -> list[WeightedNode]:
        """All nodes that have weights, in the graph's order, which is that of the calculation.

        Raises
        ------
        SeparatorError
            A tensor or an attribute is none that can be used.
        """
        try:
            return self._weighted_nodes()
        # a graph's attributes and tensors may have any type and shape
        except (ValueError, TypeError, LookupError, AttributeError, MemoryError) as error:
            reason = " ".join(str(error).split())[:200]
            raise SeparatorError(f"{self.path}: is a damaged ONNX file ({reason}); fetch it again") from error

    def _weighted_nodes(self) -> list[WeightedNode]:
        from onnx import helper, numpy_helper

        known = {tensor.name: numpy_helper.to_array(tensor) for tensor in self._model.graph.initializer}
        nodes = []
        for node in self._model.graph.node:
            settings = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
            if node.op_type == "Constant" and "value" in settings:
                known[node.output[0]] = numpy_helper.to_array(settings["value"])
            elif node.op_type in ("Identity", "Transpose") and node.input[0] in known:
                known[node.output[0]] = np.transpose(known[node.input[0]], settings.get("perm"))
            elif node.op_type in ("Conv", "ConvTranspose", "MatMul", "BatchNormalization"):
                weights = [known[name] for name in node.input[1:] if name in known]
                nodes.append(WeightedNode(node.op_type, weights, settings.get("epsilon", _EPSILON)))
        return nodes

    def state(self) -> State:
        """Weights in the form of KUIELab's training code, as `tfc_tdf_state` takes them.

        An exporter folds a normalisation into the convolution before it; that normalisation becomes the identity here.

        Raises
        ------
        SeparatorError
            The graph is not that of such a network; the message has the first layer that differs.
        """
        kinds = [node.kind for node in self.nodes]
        if "MatMul" not in kinds:
            raise SeparatorError(f"{self.path}: no TFC-TDF-U-Net, for its graph has no fully connected layers")
        layers = kinds[: kinds.index("MatMul")].count("Conv") - 1
        return self._filled(list(_modules(kinds.count("ConvTranspose"), layers)))

    def _filled(self, modules: list[tuple[str, str, str]]) -> State:
        state: State = {}
        remaining = list(self.nodes)
        for kind, name, norm in modules:
            found = remaining.pop(0) if remaining else None
            if found is None or found.kind != kind or not found.weights:
                got = "the end" if found is None else f"{found.kind} with {len(found.weights)} weights"
                raise SeparatorError(f"{self.path}: no TFC-TDF-U-Net v2: got {got} for {name}, expected {kind}")
            weight = torch.from_numpy(found.weights[0].copy())
            state[f"{name}.weight"] = weight.T.contiguous() if kind == "MatMul" else weight
            if kind != "MatMul":
                # transposed convolutions have their outputs second
                outputs = weight.shape[1 if kind == "ConvTranspose" else 0]
                bias = found.weights[1] if len(found.weights) > 1 else np.zeros(outputs, np.float32)
                state[f"{name}.bias"] = torch.from_numpy(bias.copy())
            if norm and remaining and remaining[0].kind == "BatchNormalization":
                state |= _normalisation(norm, remaining.pop(0), self.path)
            elif norm and kind != "MatMul":
                state |= _identity(norm, len(state[f"{name}.bias"]))
        if remaining:
            raise SeparatorError(f"{self.path}: no TFC-TDF-U-Net v2: {len(remaining)} nodes with weights are too many")
        return state


class OnnxNetwork(nn.Module):
    """An ONNX file of one input and one output as a network on the CPU that cannot be trained.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    SeparatorError
        onnxruntime is not installed or refuses the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        onnxruntime = import_optional("onnxruntime", "onnx", f"{path} with --option runtime=onnxruntime")
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = torch.get_num_threads()
        try:
            self.session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        # its errors have no common base
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise SeparatorError(f"{path}: onnxruntime refuses it ({reason}); fetch it again") from error

    def forward(self, packed: torch.Tensor) -> torch.Tensor:
        """The output of the file's graph for one input."""
        name = self.session.get_inputs()[0].name
        return torch.from_numpy(self.session.run(None, {name: packed.numpy()})[0])


def _modules(levels: int, layers: int) -> Iterator[tuple[str, str, str]]:
    """Kind of node, name of the layer, name of its normalisation; in the order of the calculation."""

    def block(name: str) -> Iterator[tuple[str, str, str]]:
        for layer in range(layers):
            yield "Conv", f"{name}.tfc.H.{layer}.0", f"{name}.tfc.H.{layer}.1"
        yield "MatMul", f"{name}.tdf.0", f"{name}.tdf.1"
        yield "MatMul", f"{name}.tdf.3", f"{name}.tdf.4"

    yield "Conv", "first_conv.0", "first_conv.1"
    for level in range(levels):
        yield from block(f"encoding_blocks.{level}")
        yield "Conv", f"ds.{level}.0", f"ds.{level}.1"
    yield from block("bottleneck_block")
    for level in range(levels):
        yield "ConvTranspose", f"us.{level}.0", f"us.{level}.1"
        yield from block(f"decoding_blocks.{level}")
    yield "Conv", "final_conv.0", ""


def _normalisation(name: str, node: WeightedNode, path: Path) -> State:
    if len(node.weights) != 4:
        raise SeparatorError(f"{path}: the normalisation for {name} has {len(node.weights)} weights, expected 4")
    weight, bias, mean, variance = (torch.from_numpy(weights.copy()) for weights in node.weights)
    # our networks all have the same epsilon
    variance = variance + (node.epsilon - _EPSILON)
    return {
        f"{name}.weight": weight,
        f"{name}.bias": bias,
        f"{name}.running_mean": mean,
        f"{name}.running_var": variance,
    }


def _identity(name: str, channels: int) -> State:
    """A normalisation that changes nothing, although epsilon is added to its variance."""
    return {
        f"{name}.weight": torch.full((channels,), 1 + _EPSILON).sqrt(),
        f"{name}.bias": torch.zeros(channels),
        f"{name}.running_mean": torch.zeros(channels),
        f"{name}.running_var": torch.ones(channels),
    }
