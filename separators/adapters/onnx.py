"""Any network in an ONNX file as a separator, described in YAML."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from stemfuse.separators.errors import SeparatorError
from stemfuse.separators.optional import import_optional

from .described_separator import DescribedSeparator
from .network_description import axes_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .described_network import DescribedNetwork


class Onnx(DescribedSeparator):
    """Any network in an ONNX file, run by onnxruntime; how it is used is described in YAML.

    Parameters
    ----------
    description : path-like
        A YAML file beside the network's, with the keys of
        `stemfuse.separators.adapters.network_description.NetworkDescription`: the short-time Fourier transform, chunks
        and how they are joined, axes of input and outputs, what the outputs hold and the sources that they are of.
    device : {"cpu", "cuda"}
        Where onnxruntime runs the network.

    Notes
    -----
    Files whose tensors lie in other files are refused, see `stemfuse.separators.foreign`.

    Examples
    --------
    >>> Onnx("vocals.yaml").description
    'vocals.yaml'
    """

    name: ClassVar[str] = "onnx"
    opaque: ClassVar[str] = "onnxruntime runs its file"
    needs: ClassVar[Mapping[str, str]] = {"onnx": "onnx", "onnxruntime": "onnx", "einops": "onnx", "torch": "onnx"}

    def __init__(self, description: str | os.PathLike[str], device: Literal["cpu", "cuda"] = "cpu") -> None:
        self.description, self.device = description, device

    def _open(self) -> DescribedNetwork:
        for package, extra in self.needs.items():
            import_optional(package, extra, self.name)
        from .described_network import DescribedNetwork

        session = self._session()
        given = self._described
        inputs, outputs = session.get_inputs(), [output.name for output in session.get_outputs()]
        name = self._chosen(given.input_name, [one.name for one in inputs], "input")
        names = [self._chosen(output.name, outputs, "output") for output in given.outputs]

        def run(packed: NDArray[np.float32]) -> list[NDArray[Any]]:
            return list(session.run(names, {name: packed}))

        network = DescribedNetwork(given, run, f"{self.name}: {self._file.name}")
        self._check_shape(next(one for one in inputs if one.name == name), network)
        return network

    def _session(self) -> Any:
        """An onnxruntime session for the file, whose content is within bounds."""
        import torch

        from stemfuse.separators.foreign.onnx_files import read_onnx
        from stemfuse.separators.foreign.table import ForeignFileError

        onnxruntime = import_optional("onnxruntime", "onnx", self.name)
        provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[self.device]
        if provider not in onnxruntime.get_available_providers():
            raise SeparatorError(f"{self.name}: device {self.device!r} cannot be used here: onnxruntime has none of it")
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = torch.get_num_threads()
        # its warnings are for those who export
        settings.log_severity_level = 3
        try:
            read_onnx(self._file)
            return onnxruntime.InferenceSession(str(self._file), settings, providers=[provider])
        except (OSError, ForeignFileError) as error:
            raise SeparatorError(f"{self.name}: {self._file}: {error}; fetch it again") from error
        # onnxruntime's errors have no common base
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise SeparatorError(f"{self.name}: {self._file}: onnxruntime refuses it ({reason})") from error

    def _chosen(self, name: str | None, known: list[str], what: str) -> str:
        if name is None and len(known) == 1:
            return known[0]
        if name not in known:
            raise SeparatorError(
                f"{self.name}: {self.description}: got {what} {name!r}, {self._file.name} has {', '.join(known)}"
            )
        return name

    def _check_shape(self, declared: Any, network: DescribedNetwork) -> None:
        """Refuse a description whose sizes are not those that the file was made for."""
        import numpy as np

        expected = network.input_shape
        # sizes that are free have names
        fixed = [size if isinstance(size, int) else None for size in declared.shape]
        if len(fixed) != len(expected) or any(
            size not in (None, own) for size, own in zip(fixed, expected, strict=True)
        ):
            axes = ", ".join(f"{axis} {network.sizes[axis]}" for axis in axes_of(self._described.input))
            raise SeparatorError(
                f"{self.name}: {self._file.name} takes {list(declared.shape)}, {self.description} gives it "
                f"{list(expected)} ({axes}); correct chunk, bins, channels or input there"
            )
        if declared.type != "tensor(float)":
            raise SeparatorError(
                f"{self.name}: {self._file.name} takes {declared.type}, expected {np.float32.__name__}"
            )
