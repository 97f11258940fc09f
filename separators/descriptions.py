"""Separators from their descriptions: made again as they were, or refused where they are others now."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from .errors import SeparatorError
from .separator import Separator, digest, list_separators, load_separator, separator_class
from .store.entry import describe_separator


def known_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a description without those that are not set and that the separator does not have any more.

    Examples
    --------
    >>> known_options("demucs_small", {"channels": None, "device": "cpu"})
    {'device': 'cpu'}
    """
    known = inspect.signature(separator_class(name)).parameters
    return {option: value for option, value in options.items() if option in known or value is not None}


def described_fingerprint(description: Mapping[str, Any]) -> str:
    """Fingerprint of the separator that described itself so.

    Of adopted stems it is that of the name: their files differ from song to song.

    Examples
    --------
    >>> separator = load_separator("repet_sim")
    >>> described_fingerprint(separator.describe()) == separator.fingerprint()
    True
    """
    if "adopted" in description:
        return digest({"adopted": description.get("name")})
    own = {key: value for key, value in description.items() if key != "sums"}
    return str(own.get("fingerprint") or digest(own))


def difference(made: Separator, description: Mapping[str, Any]) -> str:
    """What a separator has that its description has not; empty where it gives the same stems.

    Examples
    --------
    >>> separator = load_separator("repet_sim")
    >>> difference(separator, separator.describe()), difference(separator, {"version": "0"})
    ('', 'has version 1 here, the fusion was fitted with 0')
    """
    now = describe_separator(made)
    for what in ("version", "weights", "fingerprint"):
        here, then = now.get(what), description.get(what)
        if what == "weights" and then is not None:
            # the same file may have another name
            if sorted((here or {}).values()) != sorted(then.values()):
                return f"has weights {_shown(here or {})} here, the fusion was fitted with {_shown(then)}"
        elif then is not None and here != then:
            return f"has {what} {here} here, the fusion was fitted with {then}"
    return ""


def described_separator(description: Mapping[str, Any]) -> Separator:
    """Make the separator that described itself so.

    Parameters
    ----------
    description : mapping
        Its ``describe()``, as a fusion's file or a store keeps it.

    Raises
    ------
    SeparatorError
        It is not registered, or not what it was; the message says what has changed.
    StemfuseError
        It cannot be made.

    Examples
    --------
    >>> described_separator(load_separator("repet_sim", neighbours=7).describe()).options()["neighbours"]
    7
    """
    name = str(description.get("name"))
    if "adopted" in description or name not in list_separators():
        raise SeparatorError(
            f"stems by {name!r} cannot be made here: they are another tool's; separate and fuse with a store that has "
            "them (stemfuse adopt)"
        )
    made = load_separator(name, **known_options(name, description.get("options", {})))
    if changed := difference(made, description):
        raise SeparatorError(f"{name} {changed}")
    return made


def _shown(weights: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({sha256[:8]})" for name, sha256 in weights.items()) or "of no file"
