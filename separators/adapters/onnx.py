"""Any network in an ONNX file as a separator, described in YAML."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from stemfuse.separators.audio.signals import Samples, Signal
from stemfuse.separators.errors import MissingWeightsError, SeparatorError
from stemfuse.separators.optional import import_optional
from stemfuse.separators.separator import BaseSeparator
from stemfuse.separators.weights.digests import verified_sha256

from .network_description import NetworkDescription, axes_of, read_description

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .described_network import DescribedNetwork


class DescribedSeparator(BaseSeparator):
    """Base of the separators by a file of somebody's network and its description.

    A subclass runs the file in `_open`. Making one touches no file.
    """

    not_in_identity = frozenset({"description", "device"})
    description: str | os.PathLike[str]

    def __getstate__(self) -> dict[str, Any]:
        # other processes get the options, not the network
        return {name: value for name, value in vars(self).items() if name not in ("_described", "_network")}

    @cached_property
    def _described(self) -> NetworkDescription:
        return read_description(self.description, self.name)

    @property
    def _file(self) -> Path:
        path = Path(self.description).expanduser().parent / Path(self._described.file).expanduser()
        if not path.is_file():
            raise MissingWeightsError(f"{self.name}: {path} is missing, which {self.description} describes")
        return path

    @property
    def sources(self) -> tuple[str, ...]:  # type: ignore[override]  # the description says so
        """What it separates."""
        return self._described.sources

    @property
    def rate(self) -> int:  # type: ignore[override]
        """Sample rate in Hz."""
        return self._described.rate

    @property
    def channels(self) -> int:  # type: ignore[override]
        """Of the mixtures that it takes."""
        return self._described.channels

    @property
    def trained_on(self) -> tuple[str, ...] | None:  # type: ignore[override]
        """As the description says; None when it does not."""
        return self._described.trained_on

    def weights_sha256(self) -> dict[str, str]:
        """Name and sha256 of the network's file.

        Raises
        ------
        MissingWeightsError
            The description or the file is missing.
        """
        return {self._file.name: verified_sha256(self._file)}

    def describe(self) -> dict[str, Any]:
        """All that the output depends on, with the description but for the file's name."""
        return super().describe() | {"network": self._described.model_dump(mode="json", exclude={"file", "trained_on"})}

    def _open(self) -> DescribedNetwork:
        raise NotImplementedError

    @cached_property
    def _network(self) -> DescribedNetwork:
        return self._open()

    def load(self) -> None:
        """Read the network now, see `BaseSeparator`."""
        self.weights_sha256()
        _ = self._network

    def _blocks(self, mixture: Signal) -> Iterator[Samples]:
        self.weights_sha256()
        yield from self._network.separate(mixture)


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
