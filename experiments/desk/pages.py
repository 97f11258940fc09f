"""The desk's page: its files as they are served, and one file with everything in it, for an excerpt of a song."""

from __future__ import annotations

import base64
import io
import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from stemfuse.experiments.report import busiest_start_s, safe_name
from stemfuse.experiments.run import DESK, Run

from .song import DeskSong

FOLDER = Path(__file__).parent / "page"
LONGEST_S = 10.0
"""Length of the audio in such a page: all channels of four separators take some 20 MB."""

FULL_SCALE = 0.999
IMPORT = re.compile(r'^import \{[^}]*\} from "\./([a-z_]+\.js)";\n', re.MULTILINE)


@cache
def page_files() -> frozenset[str]:
    """Names of the files of the page."""
    return frozenset(path.name for path in FOLDER.iterdir() if path.is_file())


def page_file(name: str) -> str:
    """The text of one of them."""
    return (FOLDER / name).read_text(encoding="utf-8")


def bundle(name: str = "desk.js") -> str:
    """A module with all that it imports, as one module that imports nothing; each file once, after what it needs.

    Pages that are opened from disk cannot import modules from other files. The files keep to one form for this: named
    imports on lines of their own, and no two top-level names alike.

    Examples
    --------
    >>> "import {" in bundle(), "export " in bundle()
    (False, False)
    """
    parts: dict[str, str] = {}

    def add(module: str) -> None:
        if module not in parts:
            text = page_file(module)
            for needed in IMPORT.findall(text):
                add(needed)
            parts[module] = re.sub(r"^export ", "", IMPORT.sub("", text), flags=re.MULTILINE)

    add(name)
    return "\n".join(parts.values())


def excerpt_path(name: str) -> str:
    """Where the page of a song's excerpt lies in a run, by what the song is called."""
    return f"{DESK}/{safe_name(name)}.html"


def write_excerpt(
    run_folder: str | os.PathLike[str], song: DeskSong, duration_s: float = LONGEST_S, start_s: float | None = None
) -> Path:
    """Write the desk with an excerpt of a song as one HTML file, which works without a server.

    The SDR is that of the whole song and of any passage of the excerpt; the audio is 16-bit FLAC.

    Parameters
    ----------
    run_folder : path-like
        The run; the file lies in its ``report/desk``.
    song : DeskSong
        With its blends.
    duration_s : float
        Length of the excerpt, at most `LONGEST_S`.
    start_s : float, optional
        Where it starts; when not given, where most sources sound.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    AudioError
        Stems have NaN, or the file cannot be written.
    """
    track = song.track
    seconds = min(duration_s, LONGEST_S)
    start_s = busiest_start_s(track, seconds) if start_s is None else start_s
    start = min(max(round(start_s * track.rate), 0), track.length - 1)
    stop = min(start + max(round(seconds * track.rate), 1), track.length, start + song.longest)
    document = song.document(audio=_compressed(song, start, stop), weighted=song.weighted(start, stop))
    Run(run_folder).write_text(excerpt_path(song.name), one_page(document))
    return Path(run_folder) / excerpt_path(song.name)


def one_page(document: dict[str, Any]) -> str:
    """The desk with a song's document in it, as one HTML file."""
    # in a script element, only "</script" and "<!--" could end the text
    data = json.dumps(document, ensure_ascii=True).replace("<", "\\u003c")
    scripts = (
        f'<script type="application/json" id="song">{data}</script>\n'
        f'<script type="text/plain" id="processor">\n{page_file("processor.js")}</script>\n'
        f'<script type="module">\n{bundle()}</script>'
    )
    html = page_file("desk.html")
    for tag, text in (
        ('<link rel="stylesheet" href="desk.css">', f"<style>\n{page_file('desk.css')}</style>"),
        ('<script type="module" src="desk.js"></script>', scripts),
    ):
        before, found, after = html.partition(tag)
        assert found, tag
        html = before + text + after
    return html


def _compressed(song: DeskSong, start: int, stop: int) -> dict[str, Any]:
    """Every signal of a passage as FLAC of 16 bits, at one common gain by which none clips."""
    blocks = song.read(start, stop)
    peak = max(float(np.abs(block).max(initial=0)) for block in blocks)
    gain = FULL_SCALE / peak if peak > FULL_SCALE else 1.0
    signals = []
    for block in blocks:
        file = io.BytesIO()
        soundfile.write(file, gain * block.T, song.track.rate, "PCM_16", format="FLAC")
        signals.append(base64.b64encode(file.getvalue()).decode())
    return {"start": start, "stop": stop, "gain": gain, "signals": signals}
