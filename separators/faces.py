"""Faces: how objects show themselves in notebooks, as tables in which names are text, and as sound to play."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Literal

import numpy as np
import soundfile

from .audio.signals import Samples
from .errors import AudioError
from .names import shown
from .optional import import_optional

LONGEST_S = 600.0
"""Seconds that a player may hold: a notebook keeps the sound in itself."""


def text_of(value: object) -> str:
    """A value as text of HTML: nothing in it is markup, nothing is invisible.

    Examples
    --------
    >>> text_of("<b>&")
    '&lt;b&gt;&amp;'
    """
    return escape(shown(value))


def html_table(
    columns: Sequence[object], rows: Iterable[Sequence[object]], title: object = "", note: object = ""
) -> str:
    """A table of text; numbers stand at the right.

    Examples
    --------
    >>> html_table(["a"], [["<i>"]], "songs")
    '<table><caption ...>songs</caption><thead><tr><th ...>a</th></tr></thead>...&lt;i&gt;...</table>'
    """
    head = "".join(_cell(column, "th", place) for place, column in enumerate(columns))
    body = "".join(
        "<tr>" + "".join(_cell(value, "td" if place else "th", place) for place, value in enumerate(row)) + "</tr>"
        for row in rows
    )
    caption = f'<caption style="text-align: left; font-weight: bold">{text_of(title)}</caption>' if str(title) else ""
    said = f'<div style="opacity: 0.7">{text_of(note)}</div>' if str(note) else ""
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{said}"


def html_facts(title: object, facts: Mapping[str, object]) -> str:
    """What is known of a thing: a line for each fact that is not empty."""
    rows = "".join(
        f'<tr><th style="text-align: left">{text_of(name)}</th><td style="text-align: left">{text_of(value)}</td></tr>'
        for name, value in facts.items()
        if value not in ("", None)
    )
    caption = f'<caption style="text-align: left; font-weight: bold">{text_of(title)}</caption>'
    return f"<table>{caption}<tbody>{rows}</tbody></table>"


def _cell(value: object, tag: str, place: int) -> str:
    return f'<{tag} style="text-align: {"right" if place else "left"}">{text_of(value)}</{tag}>'


def clock(seconds: float) -> str:
    """A length of time as players show it.

    Examples
    --------
    >>> clock(7.04), clock(201)
    ('7.0 s', '3:21')
    """
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def player(samples: Samples, rate: int, form: Literal["flac", "mp3"] = "flac") -> Any:
    """A player for notebooks.

    Parameters
    ----------
    samples : ndarray, shape (channel, time)
        Made softer where they go beyond full scale; never louder.
    rate : int
        In Hz.
    form : {"flac", "mp3"}
        FLAC is exact, MP3 a tenth as large.

    Returns
    -------
    IPython.display.Audio
        With the sound in it.

    Raises
    ------
    AudioError
        IPython is not installed, the sound is too long or empty, or the form does not take it.
    """
    display = import_optional("IPython.display", "notebook", "a player", AudioError)
    if not 0 < samples.shape[-1] <= LONGEST_S * rate:
        raise AudioError(
            f"got {samples.shape[-1] / rate:.1f} s to play, expected more than 0 and up to {LONGEST_S:.0f}: "
            "give start_s and seconds"
        )
    if form not in ("flac", "mp3"):
        raise AudioError(f"got form {form!r}, expected flac or mp3")
    largest = float(np.abs(samples).max())
    subtype = {"flac": "PCM_16", "mp3": "MPEG_LAYER_III"}[form]
    file = io.BytesIO()
    try:
        soundfile.write(file, (samples / max(1.0, largest)).T, rate, format=form.upper(), subtype=subtype)
    except (soundfile.LibsndfileError, ValueError) as error:
        raise AudioError(
            f"{form} takes no sound of {len(samples)} channels at {rate} Hz; choose another form"
        ) from error
    made = display.Audio(data=file.getvalue(), rate=rate)
    made.mimetype = {"flac": "audio/flac", "mp3": "audio/mpeg"}[form]
    return made
