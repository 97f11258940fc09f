"""Names of sources: how tools spell them, which are instruments, and what no source can be called."""

from __future__ import annotations

import re
import unicodedata

from .errors import StemfuseError, TrackError
from .names import name_fault, shown

REST = "accompaniment"
"""All sources but the voice, as one."""

SPELLINGS = {"drum": "drums", "others": "other", "vocal": "vocals", "voice": "vocals", "voices": "vocals"}
SPELLINGS |= dict.fromkeys(("instrumental", "instrumentals", "instrum", "inst", "backing_track"), REST)
SPELLINGS |= dict.fromkeys(("no_vocals", "no_vocal", "novocals", "minus_vocals", "without_vocals"), REST)
"""How tools spell sources; names that are not here are taken as they are."""

INSTRUMENTS = (
    *("guitar", "piano", "keys", "keyboard", "strings", "wind", "brass", "woodwind", "synth", "synthesizer", "organ"),
    *("percussion", "horn", "saxophone", "sax", "trumpet", "trombone", "flute", "clarinet", "oboe", "violin", "viola"),
    *("cello", "harp", "harpsichord", "accordion", "harmonica", "banjo", "mandolin", "ukulele", "marimba", "xylophone"),
    *("vibraphone", "orchestra", "plucked"),
)
"""Parts of ``other`` that models of more than four stems have of their own; their ``other`` is what is left then."""

INSTRUMENT_KINDS = (
    *("acoustic", "electric", "lead", "rhythm", "clean", "distorted", "bowed", "plucked", "grand", "upright", "pipe"),
    *("church", "french", "english", "other"),
)
"""Words that stand before or after an instrument: acoustic guitar."""

_INSTRUMENT = re.compile(
    r"(?:(?:{0})[ _-])*(?:{1})(?:e?s)?(?:[ _-](?:{0}|\d+))*".format("|".join(INSTRUMENT_KINDS), "|".join(INSTRUMENTS))
)

OTHERS = ("speech", "music", "effects", "dialogue", "dialog", "sfx")
"""Sources of other fields than music."""

NOT_SOURCES = ("mixture", "mix", "mean", "linear_mixture")
"""Words that a source cannot be called: tables and labels use them for something else."""


def source_of(word: str) -> str:
    """The source that a file's name or a tool's word means.

    Examples
    --------
    >>> source_of("Vocal"), source_of("no_vocals"), source_of("kazoo")
    ('vocals', 'accompaniment', 'kazoo')
    """
    # one word has several forms in Unicode, and file systems give any of them
    word = unicodedata.normalize("NFC", unicodedata.normalize("NFC", word).casefold())
    return SPELLINGS.get(re.sub("[ -]", "_", word), word)


def is_instrument(name: str) -> bool:
    """Whether a source is a part of ``other``: one of `INSTRUMENTS`, also in the plural, numbered, or of a known kind.

    Examples
    --------
    >>> [is_instrument(name) for name in ("guitars", "acoustic_guitar", "Strings 2", "lead_vocals", "kazoo")]
    [True, True, True, False, False]
    """
    return _INSTRUMENT.fullmatch(source_of(name)) is not None


def source_fault(name: str) -> str:
    """What is wrong with a name of a source; empty when nothing is.

    Examples
    --------
    >>> source_fault("lead guitar"), source_fault("a.b")
    ('', 'has a dot')
    """
    if name in NOT_SOURCES:
        return "is no name of a source"
    # dots part labels, the other signs part what recipes and commands say
    marks = {"has a dot": ".", "has a comma": ",", "has a plus": "+", "has an equals sign": "="}
    return name_fault(name) or next((fault for fault, mark in marks.items() if mark in name), "")


def check_source(name: str, error: type[StemfuseError] = TrackError) -> str:
    """A name that a source can have; else a TrackError, or ``error``, that says why not."""
    if fault := source_fault(name):
        raise error(f"source '{shown(name)[:100]}' {fault}, give it another name, such as drums or vocals")
    return name
