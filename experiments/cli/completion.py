"""Completion of names by the shell: separators, fusions and what can be listed, found without loading any of them."""

from __future__ import annotations

from collections.abc import Callable


def names(what: str) -> Callable[[str], list[str]]:
    """What completes the names of ``"separators"``, ``"fusions"`` or ``"catalogues"``.

    Examples
    --------
    >>> names("fusions")("least")
    ['least_squares']
    """

    def complete(incomplete: str) -> list[str]:
        return [name for name in _known(what) if name.startswith(incomplete)]

    return complete


def _known(what: str) -> list[str]:
    if what == "separators":
        from stemfuse.separators import list_separators

        return list_separators()
    if what == "fusions":
        from stemfuse.blending import list_fusions

        return list_fusions()
    from .catalogue import CATALOGUES

    return list(CATALOGUES)
