"""A separator of a run or a command: where its stems lie, and how it is made when some are missing."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from stemfuse.blending.fused_separator import FusedSeparator, Part, SavedFusion
from stemfuse.separators import (
    Separator,
    StemfuseError,
    StemStore,
    StoreError,
    Track,
    list_separators,
    load_separator,
    separator_class,
    trust,
)
from stemfuse.separators.descriptions import described_fingerprint, difference, known_options
from stemfuse.separators.errors import listed
from stemfuse.separators.labels import BEST_PER_SOURCE, MIXTURE
from stemfuse.separators.names import did_you_mean, shown
from stemfuse.separators.separator import named_separator
from stemfuse.separators.store.entry import describe_separator
from stemfuse.separators.store.layout import adopted_key
from stemfuse.separators.trusted import ADVICE, needs_trust

from .config import SeparatorConfig
from .errors import ConfigError
from .machine import resolve_devices

_trusting: ContextVar[bool] = ContextVar("trusting", default=False)


@contextmanager
def trusting(given: bool) -> Iterator[None]:
    """Until the block ends, separators that are named may run programs and code of others, where that is given.

    It is for the command line's ``--trust``: a recipe says so separator by separator, and descriptions in fusions and
    stores cannot say it.
    """
    token = _trusting.set(given)
    try:
        yield
    finally:
        _trusting.reset(token)


@dataclass(frozen=True)
class StoredSeparator:
    """Where a separator's stems lie, and how it is made; travels to another process.

    Attributes
    ----------
    label : str
        Its name in tables and in labels of channels.
    key : str
        Its folder in the store.
    name : str
        The name that it is registered under.
    options : str
        Its arguments, as JSON.
    stored : bool
        Whether only stems that lie in the store are used.
    is_trusted : bool
        Whether it may run a program, or code in a file, of others.
    parts : tuple of StoredSeparator
        Of a fusion that is used as a separator, those whose stems it fuses, by the fusion's labels.
    """

    label: str
    key: str
    name: str
    options: str
    stored: bool
    is_trusted: bool = False
    parts: tuple[StoredSeparator, ...] = ()

    @property
    def devices(self) -> list[str]:
        """Devices that it separates on."""
        options = json.loads(self.options)
        parameter = inspect.signature(separator_class(self.name)).parameters.get("device")
        return resolve_devices(str(options.get("device", parameter.default if parameter else "cpu")))

    @property
    def depth(self) -> int:
        """How many fusions have to be made before it, one of the other's stems; its parts have less."""
        return 1 + max(part.depth for part in self.parts) if self.parts else 0

    @property
    def files(self) -> tuple[Path, ...]:
        """Files of the fusion that it is, and of those among its parts."""
        if self.name != SavedFusion.name or self.stored:
            return ()
        return SavedFusion(**json.loads(self.options)).files()

    def load(self) -> Separator:
        """The separator, one per process."""
        # the file of a fusion may be another one now
        if self.parts:
            return load_separator(self.name, **json.loads(self.options))
        return _load(self.name, self.options, self.is_trusted)

    def description(self, track: Track, store: StemStore) -> Any:
        """How it describes itself, by the record of a track's stems; a fusion by the file that was named here."""
        if self.parts and not self.stored:
            return json.loads(json.dumps(describe_separator(self.load()), default=str))
        return store.record(track, self.key)["separator"]

    def can_give(self, track: Track, store: StemStore) -> bool:
        """Whether there are stems of a track, or they can be made: of its parts as well."""
        if store.content_of(track, self.key) is not None:
            return True
        return not self.stored and all(part.can_give(track, store) for part in self.parts)

    def is_current(self, track: Track, store: StemStore) -> bool:
        """Whether stems that lie in the store were fused of the stems that its parts have now; those may be gone."""
        if not self.parts:
            return True
        made_of = store.record(track, self.key).get("made_of", {})
        for part in self.parts:
            content = store.content_of(track, part.key)
            if content is not None and not (content == made_of.get(part.label) and part.is_current(track, store)):
                return False
        return True

    def all_parts(self) -> Iterator[StoredSeparator]:
        """Its parts, and theirs."""
        for part in self.parts:
            yield part
            yield from part.all_parts()

    def check_trust(self) -> None:
        """Refuse a separator that runs code of others, unless the user said so; a ConfigError says how."""
        if needs_trust(self.name) and not self.is_trusted:
            raise ConfigError(f"separator {self.label} ({self.name}) runs a program, or code in a file: {ADVICE}")


@cache
def _load(name: str, options: str, is_trusted: bool = False) -> Separator:
    separator = load_separator(name, **json.loads(options))
    return trust(separator) if is_trusted else separator


def stored_separator(part: SeparatorConfig, store: StemStore) -> StoredSeparator:
    """Where a configured separator keeps its stems, and how it is made."""
    options = json.dumps(part.options, sort_keys=True, default=os.fspath)
    if part.stored:
        return StoredSeparator(part.label or part.name, store.find(part.name), part.name, options, True)
    made = separator_class(part.name)
    if inspect.isclass(made) and issubclass(made, FusedSeparator):
        # who trusts a fusion trusts its separators
        with trusting(part.trust or _trusting.get()):
            return _stored_fusion(part, store)
    separator = _load(part.name, options)
    is_trusted = part.trust or _trusting.get()
    return StoredSeparator(part.label or separator.name, store.key(separator), part.name, options, False, is_trusted)


def _stored_fusion(given: SeparatorConfig, store: StemStore) -> StoredSeparator:
    """A fusion that is used as a separator, and the separators whose stems it fuses."""
    options = dict(given.options)
    separator = load_separator(given.name, **options)
    assert isinstance(separator, FusedSeparator)
    found = {label: find_separator(f"{label}={part.name}", store) for label, part in _open(separator).items()}
    if found:
        # which separators these are is part of its identity
        named = {label: _description(part, store) for label, part in found.items()}
        options["separators"] = {**(options.get("separators") or {}), **named}
        separator = load_separator(given.name, **options)
        assert isinstance(separator, FusedSeparator)
    parts = [found.get(label) or _stored_part(label, part, store) for label, part in separator.parts().items()]
    text = json.dumps(options, sort_keys=True, default=os.fspath)
    label, key = given.label or separator.name, store.key(separator)
    return StoredSeparator(label, key, given.name, text, False, parts=tuple(parts))


def _open(separator: FusedSeparator) -> dict[str, Part]:
    return {label: part for label, part in separator.parts().items() if part.is_open}


def _stored_part(label: str, part: Part, store: StemStore) -> StoredSeparator:
    if part.description is None:
        return stored_separator(SeparatorConfig(name=part.name, label=label, options=dict(part.options)), store)
    return _described(label, _key_described(label, part.description, store), part.description, store)


def _description(separator: StoredSeparator, store: StemStore) -> dict[str, Any]:
    """How a separator describes itself: by its stems, or by what it is here."""
    described: Mapping[str, Any]
    described = store.description(separator.key) if separator.stored else describe_separator(separator.load())
    return json.loads(json.dumps(described, default=str))  # type: ignore[no-any-return]


def check_labels(separators: Sequence[StoredSeparator], others: Sequence[str] = ()) -> None:
    """Refuse separators with equal labels, before anything is done: one would silently stand for both.

    Parameters
    ----------
    separators : sequence of StoredSeparator
        Of one command or run.
    others : sequence of str
        Labels of fusions beside them.

    Raises
    ------
    ConfigError
        Two have one label; the message names what it stands for and how to tell them apart.
    """
    for separator in separators:
        check_label(separator.label, others)
    stands_for: dict[str, list[str]] = {}
    for separator in separators:
        stands_for.setdefault(separator.label, []).append(separator.key)
    for label, keys in stands_for.items():
        if len(keys) > 1:
            raise ConfigError(
                f"{len(keys)} separators are called {shown(label)!r} ({listed(map(shown, keys))}); give each a label "
                f"of its own: --separators a={shown(keys[0])},b={shown(keys[1])}, or label: in a recipe"
            )


def check_new_files(separators: Sequence[StoredSeparator], new: Sequence[Path]) -> None:
    """Refuse to write a fusion over one that it fuses, itself or within another: it would be its own separator.

    Raises
    ------
    ConfigError
        The message names the file and the separator.
    """
    places = {file.resolve() for file in new}
    for separator in separators:
        if taken := [file for file in separator.files if file.resolve() in places]:
            raise ConfigError(
                f"{taken[0]}: is a file of the separator {shown(separator.label)!r}, and a fusion cannot be its own "
                "separator; choose another place for the new one"
            )


def check_label(label: str, others: Sequence[str] = (), advice: str = "give one of them another label") -> None:
    """Refuse a separator's label that means something else in tables or in labels of channels.

    Parameters
    ----------
    label : str
        Of a separator.
    others : sequence of str
        Labels of fusions beside it.
    advice : str
        What to do, for the message.

    Raises
    ------
    ConfigError
        The label is taken.
    """
    if label in others:
        raise ConfigError(f"a separator and a fusion are called {shown(label)!r}; {advice}")
    means = {MIXTURE: "the song itself in labels of channels", BEST_PER_SOURCE: "a row of tables"}
    if label in means:
        raise ConfigError(f"a separator is called {label!r}, which is {means[label]}; give it another name")


def find_separator(text: str, store: StemStore, description: Mapping[str, Any] | None = None) -> StoredSeparator:
    """Find the separator of a name: one whose stems lie in the store, else a registered one.

    Parameters
    ----------
    text : str
        A separator's name, its folder in the store, the file of a saved fusion, or ``label=`` and one of these.
    store : StemStore
        Where stems are, or will be.
    description : mapping, optional
        The separator's own description from when the fusion was fitted.

    Raises
    ------
    StemfuseError
        The name is neither in the store nor registered, or the store has several of that name.
    """
    label, equals, name = text.rpartition("=")
    if description is None and (named_separator(text)[1] or Path(text).is_file()):
        # the file of a fusion; its path may have an equals sign in it
        if Path(text).expanduser().is_file():
            label, name = "", text
        return stored_separator(SeparatorConfig(name=name, label=label or None), store)
    folders = store.keys()
    if not equals:
        label = name.rpartition("-")[0] if name in folders else name
    if description is not None:
        return _described(label, _key_described(name, description, store), description, store)
    key = _known_key(name, store)
    if key is None:
        return stored_separator(SeparatorConfig(name=name, label=label), store)
    return _described(label, key, store.description(key), store)


def _key_described(label: str, description: Mapping[str, Any], store: StemStore) -> str | None:
    """The store's folder with the very stems of a description, or with those that were adopted in their place."""
    name = str(description.get("name"))
    exact = f"{name}-{described_fingerprint(description)[:8]}"
    folders = store.keys()
    found = next((key for key in (exact, adopted_key(label), adopted_key(name)) if key in folders), None)
    if found is not None or name in list_separators():
        return found
    try:
        return store.find(label)
    except StoreError:
        return None


def _known_key(name: str, store: StemStore) -> str | None:
    """The store's folder of this name; None when a registered separator has to make it."""
    try:
        key = store.find(name)
    except StoreError:
        folders = store.keys()
        labels = sorted({folder.rpartition("-")[0] for folder in folders})
        if name in labels:
            raise
        if name in list_separators():
            return None
        near = did_you_mean(name, [*labels, *list_separators()])
        raise ConfigError(
            f"{store.root}: no separator named {name!r}{near}; the store has {listed(labels, 20) or 'none'}, "
            "and stemfuse list separators names those that can make stems; others are adopted first"
        ) from None
    return key if store.entries(key) else None


def _described(label: str, key: str | None, description: Mapping[str, Any], store: StemStore) -> StoredSeparator:
    """A separator made from its description; its stored stems alone where it is not registered, or differs now."""
    name, options = str(description.get("name")), dict(description.get("options", {}))
    reason = "cannot be made here"
    if name in list_separators() and "adopted" not in description:
        options = known_options(name, options)
        try:
            made = stored_separator(SeparatorConfig(name=name, label=label, options=options), store)
        except StemfuseError as error:
            made, reason = None, f"cannot be made here ({error})"
        if made is not None and key is None and (changed := difference(made.load(), description)):
            here = f"take {name} as it is here with --separators {label}={options.get('file', name)}"
            raise StoreError(f"separator {label}: {name} {changed}; {_otherwise(label, name)}, or {here}")
        if made is not None and key in (None, made.key):
            return made
    if key is None:
        raise StoreError(
            f"{store.root}: no stems by {label}, which was {name!r} when the fusion was fitted and {reason}; "
            f"{_otherwise(label, name)}, or adopt them with stemfuse adopt"
        )
    return StoredSeparator(label, key, name, json.dumps(options), True)


def _otherwise(label: str, name: str) -> str:
    """How to come by the stems of a separator that cannot be made as it was when the fusion was fitted."""
    known = inspect.signature(separator_class(name)).parameters if name in list_separators() else {}
    own = next((option for option in ("weights", "repo", "file", "description") if option in known), "")
    separate = f"separate the songs first (stemfuse separate SONG --separator {name} --option {own}=PATH --store STORE)"
    return f"{f'{separate} and name this --store, or ' * bool(own)}give its stems with --stems {label}=DIR"
