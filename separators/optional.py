"""Packages that are not always installed: imported when needed; when missing, the error says what to install."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .errors import SeparatorError, StemfuseError


def import_optional(module: str, extra: str, what: str, error: type[StemfuseError] = SeparatorError) -> Any:
    """Import a module of a package that an extra of stemfuse installs.

    Parameters
    ----------
    module : str
        Such as ``"onnxruntime"``.
    extra : str
        The extra that installs it, such as ``"onnx"``.
    what : str
        What needs it, for the message: ``"ONNX files"``.
    error : type
        What is raised when it is missing.

    Returns
    -------
    module
        The imported module.

    Raises
    ------
    SeparatorError
        Or ``error``: the package is not installed; the message says how to install it.

    Examples
    --------
    >>> import_optional("json", "search", "searches").dumps([1])
    '[1]'
    >>> import_optional("nobody_has_this", "onnx", "ONNX files")
    Traceback (most recent call last):
    ...
    stemfuse.separators.errors.SeparatorError: ONNX files: the package nobody_has_this is missing: pip install ...
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as problem:
        package = module.partition(".")[0]
        if problem.name is None or problem.name.partition(".")[0] != package:
            raise
        raise error(f"{what}: the package {package} is missing: pip install 'stemfuse[{extra}]'") from problem
