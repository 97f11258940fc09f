"""Packages that are not always installed: imported when needed; when missing, the error says what to install."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from .errors import SeparatorError, StemfuseError, wrong_usage


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
        raise wrong_usage(_missing(what, [package], extra, error)) from problem


def missing_packages(needs: Mapping[str, str]) -> list[str]:
    """Packages that are not installed, of those that something needs; nothing is imported.

    Examples
    --------
    >>> missing_packages({"json": "search", "nobody_has_this": "onnx"})
    ['nobody_has_this']
    """
    return [package for package in needs if find_spec(package) is None]


def require_packages(needs: Mapping[str, str], what: str, error: type[StemfuseError] = SeparatorError) -> None:
    """Raise when a package is not installed, before any work is done.

    Parameters
    ----------
    needs : mapping of str to str
        By package, the extra of stemfuse that installs it.
    what : str
        What needs them, for the message.
    error : type
        What is raised.

    Raises
    ------
    SeparatorError
        Or ``error``: the message says how to install what is missing.
    """
    if missing := missing_packages(needs):
        raise wrong_usage(_missing(what, missing, needs[missing[0]], error))


def install_command(extra: str) -> str:
    """What installs an extra.

    Examples
    --------
    >>> install_command("torch")
    "pip install 'stemfuse[torch]'"
    """
    return f"pip install 'stemfuse[{extra}]'"


def _missing(what: str, packages: list[str], extra: str, error: type[StemfuseError]) -> StemfuseError:
    several = len(packages) > 1
    listed = ", ".join(packages)
    return error(
        f"{what}: the package{'s' * several} {listed} {'are' if several else 'is'} missing: {install_command(extra)}"
    )
