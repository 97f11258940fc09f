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
        for tensor in _tensors(model.graph, onnx):
            _check(tensor, onnx)
    except (OSError, ForeignFileError):
        raise
    # protobuf's errors have no common base that it exports
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ForeignFileError(f"is no ONNX file or a damaged one ({reason})") from error
    return model


def _tensors(graph: Any, onnx: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t


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
