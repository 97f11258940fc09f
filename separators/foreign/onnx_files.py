"""ONNX: graphs with all of their tensors in them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any

from stemfuse.separators.optional import import_optional

from .table import DEPTH, ForeignFileError


def read_onnx(path: str | os.PathLike[str]) -> Any:
    """The model of an ONNX file.

    Raises
    ------
    ForeignFileError
        It is none, damaged, or its tensors are in other files or of other sizes than their data.
    OSError
        The file is missing or cannot be read.
    """
    onnx = import_optional("onnx", "onnx", str(path))
    try:
        model = onnx.load(os.fspath(path), load_external_data=False)
        for tensor in _tensors(model):
            _check(tensor, onnx)
    except (OSError, ForeignFileError):
        raise
    # protobuf's errors have no common base that it exports
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ForeignFileError(f"is no ONNX file or a damaged one ({reason})") from error
    return model


def _tensors(model: Any) -> Iterator[Any]:
    """All tensors of a model: also those of functions, and of graphs within nodes, such as branches and loops."""
    graphs = [model.graph, *(part for step in model.training_info for part in (step.initialization, step.algorithm))]
    nodes = [node for function in model.functions for node in function.node]
    while graphs or nodes:
        for graph in graphs:
            yield from graph.initializer
            if graph.sparse_initializer:
                raise ForeignFileError("has sparse tensors, expected all values of a network")
            nodes.extend(graph.node)
        attributes = [attribute for node in nodes for attribute in node.attribute]
        graphs, nodes = [], []
        for attribute in attributes:
            yield from attribute.tensors
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                raise ForeignFileError("has sparse tensors, expected all values of a network")
            graphs += [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]


_VALUES = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
"""Where a tensor has its values when it has no bytes; two small ones may share one of them."""


def _check(tensor: Any, onnx: Any) -> None:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise ForeignFileError(f"has the tensor {tensor.name[:80]!r} in another file, expected it within")
    if len(tensor.dims) > DEPTH or any(size < 0 for size in tensor.dims):
        raise ForeignFileError(f"has a tensor {tensor.name[:80]!r} of no shape")
    values = math.prod(tensor.dims)
    if tensor.HasField("raw_data"):
        size = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        if values * size != len(tensor.raw_data) and size > 1:
            raise ForeignFileError(
                f"has a tensor {tensor.name[:80]!r} of shape {list(tensor.dims)} with {len(tensor.raw_data)} bytes"
            )
    elif values > 2 * (held := max(len(getattr(tensor, name)) for name in _VALUES)):
        raise ForeignFileError(f"has a tensor {tensor.name[:80]!r} of shape {list(tensor.dims)} with {held} values")
