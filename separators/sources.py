"""Sources: how tools spell them, in which order they come, and how some are picked and others summed up."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from .audio.sums import SumSignal
from .errors import StemfuseError, TrackError, listed
from .names import name_fault, shown
from .stems import SOURCES, Stems

REST = "accompaniment"
"""All sources but the voice, as one."""

SPELLINGS = {"drum": "drums", "others": "other", "vocal": "vocals", "voice": "vocals", "voices": "vocals"}
SPELLINGS |= dict.fromkeys(("instrumental", "instrumentals", "instrum", "inst", "backing_track"), REST)
SPELLINGS |= dict.fromkeys(("no_vocals", "no_vocal", "novocals", "minus_vocals", "without_vocals"), REST)
"""How tools spell sources; names that are not here are taken as they are."""

INSTRUMENTS = ("guitar", "piano", "keys", "strings", "wind", "brass", "woodwinds", "synth", "synthesizer")
"""Parts of ``other`` that models of more than four stems have of their own; their ``other`` is what is left then."""

OTHERS = ("speech", "music", "effects", "dialogue", "dialog", "sfx")
"""Sources of other fields than music."""

NOT_SOURCES = ("mixture", "mix", "mean", "linear_mixture")
"""Words that a source cannot be called: tables and labels use them for something else."""

Sums = Mapping[str, tuple[str, ...]]
"""By the name of a source, the sources that it is the sum of; its own name alone where it is picked."""


def source_of(word: str) -> str:
    """The source that a file's name or a tool's word means.

    Examples
    --------
    >>> source_of("Vocal"), source_of("no_vocals"), source_of("kazoo")
    ('vocals', 'accompaniment', 'kazoo')
    """
    word = word.lower()
    return SPELLINGS.get(word, word)


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


def in_order(sources: Iterable[str]) -> tuple[str, ...]:
    """Sources in the papers' order, others after them in theirs, each once.

    Examples
    --------
    >>> in_order(["piano", "vocals", "accompaniment", "drums"])
    ('drums', 'vocals', 'piano', 'accompaniment')
    """
    given = tuple(dict.fromkeys(sources))
    return (*(source for source in SOURCES if source in given), *(name for name in given if name not in SOURCES))


def without_sums(sources: Collection[str]) -> tuple[str, ...]:
    """Sources of one partition of the mixture: the accompaniment is left out where its parts are there.

    Examples
    --------
    >>> without_sums(["vocals", "accompaniment"]), without_sums(["drums", "vocals", "accompaniment"])
    (('vocals', 'accompaniment'), ('drums', 'vocals'))
    """
    parts = [source for source in sources if source not in ("vocals", REST)]
    return tuple(source for source in sources if source != REST or not parts)


def parse_sources(given: Any) -> dict[str, tuple[str, ...]]:
    """Read which sources are wanted, and which of them are sums.

    Parameters
    ----------
    given : str, sequence or mapping
        ``"vocals,accompaniment=drums+bass+other"``, the same as a list, or a mapping of names to a name, ``"a+b"`` or
        a list of names.

    Returns
    -------
    dict
        By name, in the order in which they are given; see `Sums`.

    Raises
    ------
    TrackError
        There is no name, a name twice, or one that no source can have.

    Examples
    --------
    >>> parse_sources("vocals,accompaniment=drums+bass+other")
    {'vocals': ('vocals',), 'accompaniment': ('drums', 'bass', 'other')}
    """
    if isinstance(given, str):
        given = [part.strip() for part in given.split(",") if part.strip()]
    if isinstance(given, Mapping):
        pairs = [(str(name), parts) for name, parts in given.items()]
    elif isinstance(given, Sequence):
        pairs = [(name.strip(), parts or name) for name, _, parts in (str(text).partition("=") for text in given)]
    else:
        pairs = []
    sums: dict[str, tuple[str, ...]] = {}
    for name, parts in pairs:
        texts = parts.split("+") if isinstance(parts, str) else list(parts or [name])
        names = tuple(check_source(str(text).strip()) for text in texts)
        if check_source(name) in sums or len(set(names)) < len(names):
            raise TrackError(f"sources: {name} is given twice, expected every name once")
        sums[name] = names
    if not sums:
        raise TrackError(f"got sources {given!r}, expected names such as vocals,accompaniment=drums+bass+other")
    return sums


def show_sources(sums: Sums) -> str:
    """Sources as the command line takes them; the inverse of `parse_sources`.

    Examples
    --------
    >>> show_sources({"vocals": ("vocals",), "accompaniment": ("drums", "bass")})
    'vocals,accompaniment=drums+bass'
    """
    return ",".join(name if parts == (name,) else f"{name}={'+'.join(parts)}" for name, parts in sums.items())


def summed(stems: Stems, sums: Sums) -> Stems:
    """Stems that are picked from others or summed up; nothing is read.

    Raises
    ------
    TrackError
        A part is missing.

    Examples
    --------
    >>> import numpy
    >>> pair = summed(Stems(numpy.ones((4, 2, 9))), parse_sources("vocals,accompaniment=drums+bass+other"))
    >>> pair.sources, pair["accompaniment"].read(0, 1)[0].tolist()
    (('vocals', 'accompaniment'), [3.0])
    """
    if all(parts == (name,) for name, parts in sums.items()):
        return stems.select(tuple(sums))
    return Stems.from_signals(
        {
            name: stems[name] if parts == (name,) else SumSignal({part: stems[part] for part in parts})
            for name, parts in sums.items()
        }
    )


def part_names(stems: Stems) -> tuple[str, ...]:
    """Sources that stems are, or are sums of.

    Examples
    --------
    >>> import numpy
    >>> part_names(summed(Stems(numpy.ones((4, 2, 9))), {"vocals": ("vocals",), "rest": ("drums", "bass")}))
    ('vocals', 'drums', 'bass')
    """
    signals = {source: stems[source] for source in stems.sources}
    sums = {source: signal.signals for source, signal in signals.items() if isinstance(signal, SumSignal)}
    return tuple(part for source in signals for part in sums.get(source, (source,)))


def reference_sums(given: Collection[str], wanted: Sums) -> dict[str, tuple[str, ...]]:
    """What the wanted sources are the sums of in one song.

    A song is the sum of its references: a source that it has no reference of does not sound in it. So a sum goes over
    the parts that there are, and a wanted source without any is not in the song.

    Examples
    --------
    >>> reference_sums(("drums", "other"), parse_sources("vocals,accompaniment=drums+bass+other"))
    {'accompaniment': ('drums', 'other')}
    """
    chosen: dict[str, tuple[str, ...]] = {}
    for name, parts in wanted.items():
        present = tuple(part for part in parts if part in given)
        if name in given and len(present) < len(parts):
            present = (name,)
        if present:
            chosen[name] = present
    return chosen


def stem_sums(
    given: Collection[str], references: Collection[str] | None, wanted: Sums | None = None
) -> tuple[dict[str, tuple[str, ...]], str]:
    """What a separator's stems become beside a song's references, and a note that says so where that is a sum.

    Parameters
    ----------
    given : collection of str
        The separator's sources.
    references : collection of str or None
        The song's sources; None where they are not known. With ``wanted`` those that they are sums of, see
        `part_names`.
    wanted : mapping, optional
        What the user wants. When not given, instruments that the references do not have are added to ``other``, and
        the stems of all instruments to an accompaniment, if the references have one.

    Raises
    ------
    TrackError
        There is a stem of which it is not known whether it belongs to ``other``, or none of the wanted sources.

    Examples
    --------
    >>> stem_sums(("other", "vocals", "guitar"), SOURCES)
    ({'other': ('other', 'guitar'), 'vocals': ('vocals',)}, 'other is the sum of other and guitar')
    >>> stem_sums(SOURCES, ("vocals", "accompaniment"))[0]
    {'vocals': ('vocals',), 'accompaniment': ('drums', 'bass', 'other')}
    """
    if wanted is not None:
        sums = _wanted_sums(given, references, wanted)
    elif references is None or set(given) <= set(references):
        return {source: (source,) for source in given}, ""
    elif REST in references and REST not in given and {"vocals", "other"} <= set(given):
        sums = {"vocals": ("vocals",), REST: tuple(source for source in given if source != "vocals")}
    else:
        sums = _with_other(given, references)
    said = [f"{name} is the sum of {listed(parts[:-1])} and {parts[-1]}" for name, parts in sums.items() if parts[1:]]
    return sums, "; ".join(said)


def _wanted_sums(
    given: Collection[str], references: Collection[str] | None, wanted: Sums
) -> dict[str, tuple[str, ...]]:
    sums: dict[str, tuple[str, ...]] = {}
    for name, parts in wanted.items():
        present = tuple(part for part in parts if part in given)
        # a part that is silent in the song need not be there
        if present and all(part in present or (references is not None and part not in references) for part in parts):
            sums[name] = present
        elif name in given:
            sums[name] = (name,)
    if not sums:
        raise TrackError(
            f"got stems of {', '.join(given)}, expected those that sources names: {show_sources(wanted)}; "
            "name others with --sources, or in the recipe under sources"
        )
    return sums


def _with_other(given: Collection[str], references: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Instruments that the references do not have go to ``other``, which holds them there."""
    sums: dict[str, tuple[str, ...]] = {source: (source,) for source in given}
    known = (*SOURCES, REST, *references)
    extras = tuple(source for source in given if source not in known)
    if not extras or "other" not in references or "other" not in given:
        return sums
    unknown = [source for source in extras if source not in INSTRUMENTS]
    if unknown:
        picked = ",".join(source for source in references if source in given)
        raise TrackError(
            f"got stems of {', '.join(given)}, the references have {', '.join(references)}: say whether "
            f"{listed(unknown)} is a part of other (--sources {picked.replace('other', f'other=other+{unknown[0]}')}) "
            f"or left out (--sources {picked})"
        )
    return {source: ("other", *extras) if source == "other" else (source,) for source in given if source not in extras}


def scored_sums(references: Collection[str], given: Collection[str]) -> tuple[dict[str, tuple[str, ...]], ...]:
    """What is scored of a method: sums of the references, and sums of its estimates, of the same sources.

    Estimates of vocals and accompaniment, the latter under any of its names, are scored together, against the vocals
    and the sum of all other references, as museval does it. Estimates that are finer than the references are summed up
    as in `stem_sums`. All other sources are scored where both sides have them; those that only one has do not count.

    Raises
    ------
    TrackError
        There is no such source, or a stem of which it is not known whether it belongs to ``other``.

    Examples
    --------
    >>> truth, estimates = scored_sums(SOURCES, ("vocals", "accompaniment"))
    >>> truth
    {'vocals': ('vocals',), 'accompaniment': ('drums', 'bass', 'other')}
    """
    estimates, _ = stem_sums(given, references)
    rest = tuple(source for source in references if source != "vocals")
    both: dict[str, tuple[str, ...]] = {source: (source,) for source in references if source in estimates}
    if REST in estimates and REST not in references and rest and not set(both) - {"vocals"}:
        both[REST] = rest
    if not both:
        raise TrackError(
            f"got estimates of {', '.join(given)}, the references have {', '.join(references)}: expected some of the "
            "same sources; say with --sources what is a sum of what"
        )
    return both, {source: estimates[source] for source in both}
