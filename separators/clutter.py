"""Files and folders that are no music: what file systems and their programs leave between songs."""

from __future__ import annotations

import re

CLUTTER = frozenset(
    {
        *("@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "__macosx", "lost+found"),
        *("$recycle.bin", "recycler", "system volume information", "found.000", "network trash folder"),
        *("__pycache__", "thumbs.db", "desktop.ini", "icon\r", "temporary items"),
    }
)
"""Names in lower case: of Synology, QNAP, macOS, Windows and Linux."""

EXTRAS = frozenset({"metadata", "meta", "info", "docs", "logs", "cache", "tmp", "temp", "json", "csv", "txt", "images"})
EXTRAS |= {
    "artwork",
    "covers",
    "annotations",
    "lyrics",
    "midi",
    "scripts",
    "previews",
    "thumbnails",
    "licenses",
    "lists",
}
"""Names in lower case of folders that people keep beside songs; such a one counts as no song when it has no audio."""

_HIDDEN = re.compile(r"\.([^\W\d]|@)")


def is_clutter(name: str) -> bool:
    """Whether a file or folder of this name is no music; titles such as "...Baby" and ".38 Special" are names of songs.

    Examples
    --------
    >>> [is_clutter(name) for name in ("@eaDir", "__MACOSX", "._vocals.wav", ".DS_Store", "...Baby", "metadata")]
    [True, True, True, True, False, False]
    """
    return name.casefold() in CLUTTER or name.startswith("._") or _HIDDEN.match(name) is not None
