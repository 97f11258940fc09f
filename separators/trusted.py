"""Trust: a separator that runs code of others does so only where its user says so, never because a file says so."""

from __future__ import annotations

import inspect
from typing import TypeVar

from .errors import SeparatorError, wrong_usage
from .separator import BaseSeparator, Separator, separator_class

Trusted = TypeVar("Trusted", bound=Separator)

ADVICE = "add --trust (in a recipe, trust: true beside its name; in Python, trust(separator)) if you know what it runs"
"""How trust is given."""


def trust(separator: Trusted) -> Trusted:
    """Allow a separator to run what others wrote: a program, or the code in a file.

    Trust is no option: options also come from fusions, stem stores and records that others made, and none of these can
    give it. It belongs to one separator, and to its copies in other processes.

    Parameters
    ----------
    separator : Separator
        Of one that runs nothing of others, nothing changes.

    Returns
    -------
    Separator
        The same object.

    Examples
    --------
    >>> from stemfuse.separators import load_separator
    >>> copying = load_separator(
    ...     "command", arguments=["cp", "{mixture}", "{folder}/vocals.wav"], stems=["vocals"], version="1"
    ... )
    >>> copying.is_trusted, trust(copying).is_trusted
    (False, True)
    """
    if isinstance(separator, BaseSeparator) and separator.runs_code:
        separator.is_trusted = True
    return separator


def needs_trust(name: str) -> bool:
    """Whether a registered separator runs code of others.

    Examples
    --------
    >>> needs_trust("command"), needs_trust("centre_channel")
    (True, False)
    """
    made = separator_class(name)
    return inspect.isclass(made) and issubclass(made, BaseSeparator) and made.runs_code


def check_trust(separator: BaseSeparator, what: str) -> None:
    """Refuse to run what nobody has said to trust.

    Parameters
    ----------
    separator : BaseSeparator
        That is about to run something.
    what : str
        What it runs, for the message.

    Raises
    ------
    SeparatorError
        Trust was not given.
    """
    if not separator.is_trusted:
        raise wrong_usage(SeparatorError(f"{separator.name}: runs {what}: {ADVICE}"))
