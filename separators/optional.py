"""Packages that not everybody has: imported when they are needed, and what to install when they are missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .errors import SeparatorError, StemfuseError


def import_optional(module: str, extra: str, what: str, error: type[StemfuseError] = SeparatorError) -> Any:
    """A module of a package that an extra of stemfuse brings.

    Parameters
    ----------
    module : str
        Such as ``"onnxruntime"``.
    extra : str
        The extra that brings it, such as ``"onnx"``.
    what : str
        What needs it, for the message: ``"ONNX files"``.
    error : type
        What is raised when it is missing.

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
