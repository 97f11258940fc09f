"""Networks in TorchScript files as separators: loading one runs its code, which takes trust and the file's digest."""

from __future__ import annotations

import hashlib
import io
import os
import re
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from stemfuse.separators.errors import SeparatorError, wrong_usage
from stemfuse.separators.optional import import_optional
from stemfuse.separators.trusted import check_trust

from .described_separator import DescribedSeparator

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .described_network import DescribedNetwork


class TorchScript(DescribedSeparator):
    """A network in a TorchScript file, described in YAML; what is in the file is run.

    Such a file is a program. It is loaded only where the user trusts the separator, see `stemfuse.separators.trust`,
    and only when its content has the digest that was given: another file in its place is not run.

    Parameters
    ----------
    description : path-like
        As for the separator ``onnx``. A network with several outputs gives them as a dictionary with the names
        in the description, or as a tuple in its order.
    sha256 : str
        Of the file, in 64 hexadecimal digits, from where you have it; ``sha256sum FILE`` prints it.
    device : str
        Torch device that the network runs on.

    Examples
    --------
    >>> TorchScript("vocals.yaml", sha256="0" * 64).is_trusted
    False
    """

    name: ClassVar[str] = "torchscript"
    opaque: ClassVar[str] = "its file is a program, which torch runs as a whole"
    runs_code = True
    needs: ClassVar[Mapping[str, str]] = {"torch": "torch", "einops": "onnx"}

    def __init__(self, description: str | os.PathLike[str], sha256: str, device: str = "cpu") -> None:
        self.description, self.sha256, self.device = description, sha256, device
        if not re.fullmatch("[0-9a-fA-F]{64}", sha256):
            raise wrong_usage(
                SeparatorError(f"{self.name}: got sha256={sha256[:80]!r}, expected 64 hexadecimal digits")
            )

    def weights_sha256(self) -> dict[str, str]:
        """Name and sha256 of the network's file, which is the one that was given.

        Raises
        ------
        SeparatorError
            The file has another content.
        """
        found = super().weights_sha256()
        for digest in found.values():
            self._check_digest(digest)
        return found

    def _check_digest(self, found: str) -> None:
        if found != self.sha256.lower():
            raise SeparatorError(
                f"{self.name}: {self._file} has the sha256 {found}, expected {self.sha256.lower()} as given: it is "
                "another file, which is not run"
            )

    def _open(self) -> DescribedNetwork:
        # before anything is imported for it, let alone read
        check_trust(self, f"the program in {self._file}")
        for package, extra in self.needs.items():
            import_optional(package, extra, self.name)
        from .described_network import DescribedNetwork

        network = self._loaded()

        def run(packed: NDArray[np.float32]) -> list[NDArray[Any]]:
            return self._in_order(self._called(network, packed))

        return DescribedNetwork(self._described, run, f"{self.name}: {self._file.name}")

    def _loaded(self) -> Any:
        """The network; the bytes that are run are those whose digest was compared."""
        import torch

        content = self._file.read_bytes()
        self._check_digest(hashlib.sha256(content).hexdigest())
        try:
            with warnings.catch_warnings():
                # it is not deprecated for those who have such files
                warnings.simplefilter("ignore")
                load: Callable[..., Any] = torch.jit.load
                return load(io.BytesIO(content), map_location=self.device).eval()
        # its errors have no common base
        except Exception as error:
            raise SeparatorError(f"{self.name}: {self._file}: cannot be loaded ({_short(error)})") from error

    def _called(self, network: Any, packed: NDArray[np.float32]) -> Any:
        import torch

        try:
            return network(torch.from_numpy(packed).to(self.device))
        except Exception as error:
            raise SeparatorError(
                f"{self.name}: {self._file.name} failed on an input of shape {list(packed.shape)} ({_short(error)})"
            ) from error

    def _in_order(self, given: Any) -> list[NDArray[Any]]:
        """What the network gave, as arrays in the description's order."""
        import torch

        described = self._described.outputs
        found = [given] if isinstance(given, torch.Tensor) else given
        if isinstance(found, dict):
            found = [found.get(output.name) for output in described]
        if not isinstance(found, list | tuple) or len(found) != len(described):
            raise SeparatorError(f"{self.name}: {self._file.name} gave no {len(described)} outputs as described")
        if not all(isinstance(output, torch.Tensor) for output in found):
            kinds = ", ".join(type(output).__name__ for output in found)
            raise SeparatorError(
                f"{self.name}: {self._file.name} gave {kinds}, expected tensors; correct name in outputs"
            )
        return [output.detach().cpu().numpy() for output in found]


def _short(error: Exception) -> str:
    """The last line of an error, in which TorchScript says what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
