"""Sources: in which order they come, and how some are picked and others summed up."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from .audio.sums import SumSignal
from .errors import TrackError, listed
from .source_names import REST, check_source, is_instrument, source_of
from .stems import SOURCES, Stems

Sums = Mapping[str, tuple[str, ...]]
"""By the name of a source, the sources that it is the sum of; its own name alone where it is picked."""


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
    """Sources of one partition of the mixture: the accompaniment is left out where known parts of it are there.

    Examples
    --------
    >>> without_sums(["vocals", "accompaniment", "kazoo"]), without_sums(["drums", "vocals", "accompaniment"])
    (('vocals', 'accompaniment', 'kazoo'), ('drums', 'vocals'))
    """
    has_parts = any((source in SOURCES and source != "vocals") or is_instrument(source) for source in sources)
    return tuple(source for source in sources if source != REST or not has_parts)


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
        By name, in the order in which they are given; see `Sums`. Parts are spelled as files' sources are: see
        `source_of`.

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
        pairs = [(name.strip(), parts) for name, _, parts in (str(text).partition("=") for text in given)]
    else:
        pairs = []
    sums: dict[str, tuple[str, ...]] = {}
    for label, parts in pairs:
        texts = parts.split("+") if isinstance(parts, str) and parts else list(parts or [label])
        names = tuple(source_of(check_source(str(text).strip())) for text in texts)
        # what is picked has the name of its source, however it is spelled; others have the name that they are given
        name = names[0] if texts == [check_source(label)] else label
        if name in sums or len(set(names)) < len(names):
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
    own = _spelled_in(stems.sources)
    sums = {name: tuple(own(part) or part for part in parts) for name, parts in sums.items()}
    if all(parts == (name,) for name, parts in sums.items()):
        return stems.select(tuple(sums))
    return Stems.from_signals(
        {
            name: stems[name] if parts == (name,) else SumSignal({part: stems[part] for part in parts})
            for name, parts in sums.items()
        }
    )


def _spelled_in(given: Collection[str]) -> Callable[[str], str | None]:
    """What gives a source's name as ``given`` spells it; None where it is not there."""
    known = {source_of(name): name for name in given}
    return lambda name: name if name in given else known.get(source_of(name))


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
    own = _spelled_in(given)
    absent = absent_parts(given, wanted)
    chosen: dict[str, tuple[str, ...]] = {}
    for name, parts in wanted.items():
        present = tuple(filter(None, map(own, parts)))
        whole = own(name)
        if whole is not None and len(present) < len(parts) and name not in absent:
            present = (whole,)
        if present:
            chosen[name] = present
    return chosen


def absent_parts(given: Collection[str], wanted: Sums) -> dict[str, tuple[str, ...]]:
    """By wanted source, the parts that a song has no reference of; a source that is there as a whole lacks none.

    Examples
    --------
    >>> absent_parts(("drums", "other"), parse_sources("vocals,accompaniment=drums+bass+other"))
    {'vocals': ('vocals',), 'accompaniment': ('bass',)}
    """
    own = _spelled_in(given)
    absent = {name: tuple(part for part in parts if own(part) is None) for name, parts in wanted.items()}
    return {name: parts for name, parts in absent.items() if parts and own(name) is None}


def stem_sums(
    given: Collection[str],
    references: Collection[str] | None,
    wanted: Sums | None = None,
    usual: Collection[str] = (),
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
    usual : collection of str
        The separator's sources in all songs: a sum is left out where a part of it is missing in this song alone.

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
        sums = _wanted_sums(given, references, wanted, usual)
    elif references is None or {*given, *usual} <= set(references):
        return {source: (source,) for source in given}, ""
    elif REST in references and REST not in given and {"vocals", "other"} <= {*given, *usual}:
        parts = tuple(source for source in given if source != "vocals")
        is_whole = parts and set(usual) <= {*given, "vocals"}
        sums = {source: (source,) for source in given if source == "vocals"} | ({REST: parts} if is_whole else {})
    else:
        sums = _with_other(given, references, usual)
    said = [f"{name} is the sum of {listed(parts[:-1])} and {parts[-1]}" for name, parts in sums.items() if parts[1:]]
    return sums, "; ".join(said)


def _wanted_sums(
    given: Collection[str], references: Collection[str] | None, wanted: Sums, usual: Collection[str]
) -> dict[str, tuple[str, ...]]:
    own, true = _spelled_in(given), _spelled_in(references or ())
    lost = {source_of(source) for source in usual if own(source) is None}
    sums: dict[str, tuple[str, ...]] = {}
    for name, parts in wanted.items():
        present = tuple(filter(None, map(own, parts)))
        # a part that is silent in the song need not be there; a reference of the whole does not say which are
        unsure = lost if true(name) else set()
        needed = [part for part in parts if references is None or true(part) is not None or part in unsure]
        if present and all(own(part) is not None for part in needed):
            sums[name] = present
        elif (whole := own(name)) is not None:
            sums[name] = (whole,)
    if not sums:
        raise TrackError(
            f"got stems of {', '.join(given)}, expected those that sources names: {show_sources(wanted)}; "
            "name others with --sources, or in the recipe under sources"
        )
    return sums


def _with_other(
    given: Collection[str], references: Collection[str], usual: Collection[str]
) -> dict[str, tuple[str, ...]]:
    """Instruments that the references do not have go to ``other``, which holds them there."""
    known = (*SOURCES, REST, *references)
    extras = tuple(source for source in dict.fromkeys((*given, *usual)) if source not in known)
    if not extras or "other" not in references or "other" not in given:
        return {source: (source,) for source in given}
    check_parts_of_other(extras, given, references)
    sums = {source: ("other", *extras) if source == "other" else (source,) for source in given if source not in extras}
    return {source: parts for source, parts in sums.items() if set(parts) <= set(given)}


def check_parts_of_other(extras: Collection[str], given: Collection[str], references: Collection[str]) -> None:
    """Refuse stems beside ``other`` of which nobody knows whether they belong to it; a TrackError says what to do."""
    unknown = [source for source in extras if not is_instrument(source)]
    if not unknown:
        return
    whole = "other"
    picked: dict[str, tuple[str, ...]] = {source: (source,) for source in references if source in given}
    if whole not in references:
        whole = REST
        picked |= {REST: tuple(source for source in given if source not in ("vocals", *extras))}
    with_extras = picked | {whole: (*picked[whole], *extras)}
    raise TrackError(
        f"got stems of {listed(given, most=12)}, the references have {', '.join(references)}: say whether "
        f"{listed(unknown)} is a part of {whole} (--sources {show_sources(with_extras)}) or left out "
        f"(--sources {show_sources(picked)})"
    )


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
