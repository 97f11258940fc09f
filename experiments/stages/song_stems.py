"""Folders of stems that other tools made, named on the command line and taken into a store for songs that are fused."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from stemfuse.blending import BaseFusion
from stemfuse.experiments.errors import ConfigError
from stemfuse.experiments.stored_separators import StoredSeparator
from stemfuse.separators import SOURCES, ChannelLabel, StemStore, Sums, Track, TrackError, in_order, listed
from stemfuse.separators.names import did_you_mean
from stemfuse.separators.source_names import INSTRUMENTS, OTHERS, REST
from stemfuse.separators.store.found_stems import How

log = logging.getLogger(__name__)

WELL_KNOWN = frozenset((*SOURCES, *INSTRUMENTS, *OTHERS, REST))
"""Sources whose stems are found without being asked for."""


def sources_to_take(fusion: BaseFusion, sums: Mapping[str, Sums]) -> dict[str, tuple[str, ...]]:
    """By separator, the sources that a fusion needs of it, where they have names that no finder knows by itself.

    Parameters
    ----------
    fusion : BaseFusion
        Fitted.
    sums : mapping of str to mapping
        By separator, what its stems are summed up to before they are fused.
    """
    needed = {label: list(described.get("adopted", ())) for label, described in fusion.separators_.items()}
    weights = fusion.constant_weights
    for channel in map(ChannelLabel.parse, weights.inputs if weights is not None else ()):
        if not channel.is_mixture:
            needed.setdefault(channel.separator, []).append(channel.source)
    for label, wanted in sums.items():
        needed[label] = [part for parts in wanted.values() for part in parts]
    taken = {label: in_order(names) for label, names in needed.items() if not WELL_KNOWN.issuperset(names)}
    for label, described in fusion.separators_.items():
        adopted = described.get("adopted", {})
        # what was added up where the fusion was fitted is added up here
        if any(" + " in str(files) for files in adopted.values()):
            taken[label] = tuple(dict.fromkeys([*SOURCES, *adopted]))
    return taken


def parse_stems(given: Sequence[str], option: str = "") -> dict[str, Path]:
    """Folders by label, from ``label=DIR``.

    Parameters
    ----------
    given : sequence of str
        As they stand on the command line.
    option : str
        What stands before each, for messages.

    Raises
    ------
    ConfigError
        One has another form, names no folder, or a label comes twice.

    Examples
    --------
    >>> parse_stems(["mdx=/usr"])
    {'mdx': PosixPath('/usr')}
    """
    folders: dict[str, Path] = {}
    for text in given:
        shown = f"{option} {text}".strip()
        label, equals, path = text.partition("=")
        if not (label and equals and path):
            raise ConfigError(f"got {shown}, expected {f'{option} '.lstrip()}NAME=DIR, such as mdx=separated/mdx")
        if label in folders:
            raise ConfigError(f"got {shown}, but {label} has a folder already; give each separator once")
        folders[label] = Path(path).expanduser()
        if not folders[label].is_dir():
            raise ConfigError(f"{path}: no such folder, expected one with stems by {label}")
    return folders


def parse_models(given: Sequence[str], labels: Collection[str]) -> dict[str, str]:
    """Which model's stems are taken from a folder that has several, by label, from ``label=model``.

    Raises
    ------
    ConfigError
        One has another form, is of a label that has no folder, or a label comes twice.

    Examples
    --------
    >>> parse_models(["mdx=UVR_MDXNET_KARA"], ["mdx", "demucs"])
    {'mdx': 'UVR_MDXNET_KARA'}
    """
    models: dict[str, str] = {}
    for text in given:
        label, equals, model = text.partition("=")
        if not (label and equals and model):
            raise ConfigError(f"got --model {text}, expected LABEL=MODEL, such as {next(iter(labels), 'a')}={text}")
        if label not in labels:
            near = did_you_mean(label, labels)
            raise ConfigError(f"got --model {text}, the folders of stems are {listed(labels) or 'none'}{near}")
        if label in models:
            raise ConfigError(f"got --model {text}, but {label} has the model {models[label]} already; give one")
        models[label] = model
    return models


def take_stems(
    folders: Mapping[str, Path],
    tracks: Sequence[Track],
    store: StemStore,
    convert: bool = False,
    how: How = "refuse",
    sources: Mapping[str, Sequence[str]] = MappingProxyType({}),
    models: Mapping[str, str] = MappingProxyType({}),
) -> list[StoredSeparator]:
    """Take stems that other tools made of these songs into a store, checked against the songs.

    Parameters
    ----------
    folders : mapping of str to Path
        By the label of the separator; any layout that `stemfuse.separators.find_stems` reads.
    tracks : sequence of Track
        The songs.
    store : StemStore
        A temporary one.
    convert : bool
        Whether stems at another rate than the song, or with other channels, are converted.
    how : {"refuse", "shift", "as-is"}
        What to do with stems that are offset against their song; see `stemfuse.separators.FoundStems.load`.
    sources : mapping of str to sequence of str, optional
        By label, the sources to take, as `sources_to_take` says; else all that have a well-known name.
    models : mapping of str to str, optional
        By label, which model's stems, where a folder has some by several.

    Returns
    -------
    list of StoredSeparator
        One for each label.

    Raises
    ------
    StemfuseError
        A song has no stems there, or they do not fit the song.
    """
    made = []
    for label, folder in folders.items():
        adoption, alignments = store.adopt(
            folder, label, tracks, how, models.get(label), sources.get(label), convert=convert
        )
        if adoption.without:
            raise TrackError(f"{folder}: no stems of {listed(adoption.without)}; expected those of every song")
        # a folder may have stems of many other songs
        for note in replace(adoption, left_over=()).notes:
            log.warning("%s: %s", label, note)
        for alignment in alignments:
            for warning in alignment.warnings:
                log.warning("%s, %s: %s", label, alignment.track, warning)
        key = store.find(label)
        made.append(StoredSeparator(label, key, label, "{}", True))
    return made
