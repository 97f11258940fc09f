"""Names of stems: how tools spell sources, and how a file's name is read as track, stem and model."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from stemfuse.separators.source_names import INSTRUMENT_KINDS, INSTRUMENTS, OTHERS, REST, SPELLINGS
from stemfuse.separators.stems import SOURCES

STEM_NAMES = {source: source for source in (*SOURCES, REST)} | SPELLINGS
"""How tools spell sources, in any case; with ``no_``, ``lead_`` and the like before it, it is another stem."""

OTHER_STEMS = ["karaoke", "mixture", "mix", "residual", *INSTRUMENTS, *(f"{one}s" for one in INSTRUMENTS)]
"""Stems that are recognised and reported, and taken in only as parts of a sum or where they are asked for."""

_BEFORE = f"(?:no|minus|without|lead|back|backing|male|female|{'|'.join(INSTRUMENT_KINDS)})[ _-]"


class Reading(NamedTuple):
    """A way to read a file's name; ``form`` has the roles of its parts."""

    track: str
    word: str
    model: str
    form: str


class StemNames:
    """The words for stems of a data set: those of `STEM_NAMES` and `OTHER_STEMS`, and the sources' own names.

    Parameters
    ----------
    sources : iterable of str
        The sources that are looked for.

    Examples
    --------
    >>> names = StemNames(["speech", "accompaniment"])
    >>> names.source("no_vocals"), names.source("Speech"), names.source("drums"), names.source("guitar")
    ('accompaniment', 'speech', None, None)
    >>> names.readings("My Song_(Speech)_mdx")[0]
    Reading(track='My Song', word='Speech', model='mdx', form='<track>_(<source>)_<model>')
    """

    def __init__(self, sources: Iterable[str]) -> None:
        self._wanted: dict[str, str] = {}
        for source in sources:
            self._wanted.setdefault(STEM_NAMES.get(_word(source), _word(source)), source)
        self._patterns = _patterns(frozenset(self._wanted))

    def source(self, word: str) -> str | None:
        """The source that a word stands for, under the name that it was asked for; None for other stems."""
        return self._wanted.get(STEM_NAMES.get(_word(word), _word(word)))

    def readings(self, name: str) -> list[Reading]:
        """Ways to read a file's name without its suffix, longest track first."""
        readings = []
        for pattern, source in self._patterns:
            for match in pattern.finditer(name):
                before, after = name[: match.start()], name[match.end() :].strip(" _-")
                for cut in re.finditer("[ _.-]|$", before):
                    model = before[cut.end() :].strip(" _.-")
                    form = ["<track>", *["<model>"] * bool(model), source, *["<model>"] * bool(after)]
                    models = "_".join(filter(None, (model, after)))
                    readings.append(Reading(before[: cut.start()], match["word"], models, "_".join(form)))
        return sorted(readings, key=lambda reading: -len(reading.track))


def spelled(word: str) -> str:
    """A word for a stem as it is counted and shown: lower case, joined by ``_``."""
    return STEM_NAMES.get(_word(word), _word(word))


def _word(text: str) -> str:
    return re.sub("[ -]", "_", unicodedata.normalize("NFC", text).casefold())


@lru_cache
def _patterns(wanted: frozenset[str]) -> tuple[tuple[re.Pattern[str], str], ...]:
    """Patterns of the words in a file's name, and what the part is called."""
    every = {*STEM_NAMES, *OTHER_STEMS, *OTHERS, *wanted}
    words = sorted((one for one in every if not re.match(_BEFORE, one)), key=lambda word: (-len(word), word))
    word = "|".join(re.escape(one).replace("_", "[ _-]") for one in words)
    any_word = rf"(?:{_BEFORE})?(?:{word})"
    # the last one is for tracks whose names end in such a word: He said "no"
    return (
        (re.compile(rf"[ _-]?\((?P<word>{any_word})\)", re.IGNORECASE), "(<source>)"),
        (re.compile(rf"(?:^|[ _.-])(?P<word>{any_word})$", re.IGNORECASE), "<source>"),
        (re.compile(rf"(?:^|[ _.-])(?P<word>{word})$", re.IGNORECASE), "<source>"),
    )
