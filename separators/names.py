"""Names from outside: one rule for those that can name a file, and one way to show those that cannot."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from .errors import StemfuseError

LONGEST = 200
"""Most bytes of a name in UTF-8: file systems take 255, and files of a run add digests and suffixes to it."""

_HIDDEN = re.compile(r"\.[^\W\d]")
"""How hidden files begin, ours among them; titles such as ".38 Special" and "...Baby" are names."""


def shown(text: object, keep: str = "") -> str:
    r"""Text for a terminal, a log, a table or a drawing: what is no visible character is written as an escape.

    These are control characters, ESC and line ends among them, marks that change the direction of writing, characters
    that no font has, and bytes of file names that are not UTF-8.

    Parameters
    ----------
    text : object
        Its ``str()`` is shown.
    keep : str
        Characters that are left as they are, such as line ends.

    Examples
    --------
    >>> print(shown("red \x1b[31m, a line\n, caf\u00e9"))
    red \x1b[31m, a line\n, café
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in keep else _escaped(sign) for sign in text)


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """What to add to a message about an unknown name: the known one that is most like it; empty when none is.

    Examples
    --------
    >>> did_you_mean("least_squars", ["mean", "least_squares"]), did_you_mean("x", ["mean"])
    (" (did you mean 'least_squares'?)", '')
    """
    known = {other.casefold().replace("-", "_"): other for other in known}
    folded = name.casefold().replace("-", "_")
    near = difflib.get_close_matches(folded, known, 1) or [
        other for other in known if len(folded) > 2 and (other.startswith(folded) or folded.startswith(f"{other}_"))
    ]
    return f" (did you mean '{shown(known[near[0]])}'?)" if near else ""


def name_fault(name: str) -> str:
    """What is wrong with a name that would become that of a file or folder; empty when nothing is.

    Examples
    --------
    >>> name_fault("A Song"), name_fault("../evil")
    ('', 'has a slash')
    """
    faults = {
        "is empty": not name.strip(),
        "stands for a folder above": name in (".", ".."),
        "has a slash": any(sign in name for sign in "/\\"),
        "has invisible characters": not name.isprintable(),
        "begins as hidden files do": _HIDDEN.match(name) is not None,
        f"is longer than {LONGEST} bytes": len(name.encode("utf-8", "surrogatepass")) > LONGEST,
        "begins or ends with a space": name != name.strip(),
    }
    return next((fault for fault, is_there in faults.items() if is_there), "")


def check_name(name: str, what: str, error: type[StemfuseError]) -> str:
    """A name that can be that of a file or folder.

    Parameters
    ----------
    name : str
        From a file, a folder or a command line.
    what : str
        What has the name, for the message: ``"track"``.
    error : type
        Raised when it cannot.

    Raises
    ------
    StemfuseError
        Or ``error``: the name cannot be used; the message shows it escaped, and says why.
    """
    fault = name_fault(name)
    if fault:
        raise error(f"{what} '{shown(name)[:LONGEST]}' {fault}, give it a name that a file can have")
    return name
