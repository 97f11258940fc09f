"""A separator of a run or a command: where its stems lie, and how it is made when some are missing."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

from stemfuse.separators import (
    Separator,
    StemfuseError,
    StemStore,
    StoreError,
    digest,
    list_separators,
    load_separator,
    separator_class,
    trust,
)
from stemfuse.separators.errors import listed
from stemfuse.separators.labels import BEST_PER_SOURCE, MIXTURE
from stemfuse.separators.names import did_you_mean, shown
from stemfuse.separators.store.entry import describe_separator
from stemfuse.separators.store.stem_store import adopted_key
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
    """

    label: str
    key: str
    name: str
    options: str
    stored: bool
    is_trusted: bool = False

    @property
    def devices(self) -> list[str]:
        """Devices that it separates on."""
        options = json.loads(self.options)
        parameter = inspect.signature(separator_class(self.name)).parameters.get("device")
        return resolve_devices(str(options.get("device", parameter.default if parameter else "cpu")))

    def load(self) -> Separator:
        """The separator, one per process."""
        return _load(self.name, self.options, self.is_trusted)

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
    options = json.dumps(part.options, sort_keys=True)
    if part.stored:
        return StoredSeparator(part.label or part.name, store.find(part.name), part.name, options, True)
    separator = _load(part.name, options)
    is_trusted = part.trust or _trusting.get()
    return StoredSeparator(part.label or separator.name, store.key(separator), part.name, options, False, is_trusted)


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
        A separator's name, its folder in the store, or ``label=`` and one of these.
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
    folders = store.keys()
    if not equals:
        label = name.rpartition("-")[0] if name in folders else name
    if description is not None:
        return _described(label, _key_described(name, description, store), description, store)
    key = _known_key(name, store)
    if key is None:
        return stored_separator(SeparatorConfig(name=name, label=label), store)
    return _described(label, key, store.description(key), store)


def known_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a description without those that are not set and that the separator does not have any more.

    Examples
    --------
    >>> known_options("demucs_small", {"channels": None, "device": "cpu"})
    {'device': 'cpu'}
    """
    known = inspect.signature(separator_class(name)).parameters
    return {option: value for option, value in options.items() if option in known or value is not None}


def _key_described(label: str, description: Mapping[str, Any], store: StemStore) -> str | None:
    """The store's folder with the very stems of a description, or with those that were adopted in their place."""
    name = str(description.get("name"))
    own = {key: value for key, value in description.items() if key != "sums"}
    exact = f"{name}-{str(own.get('fingerprint') or digest(own))[:8]}"
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
        if made is not None and key is None and (difference := _difference(made.load(), description)):
            here = f"take {name} as it is here with --separators {label}={name}"
            raise StoreError(f"separator {label}: {name} {difference}; {_otherwise(label, name)}, or {here}")
        if made is not None and key in (None, made.key):
            return made
    if key is None:
        raise StoreError(
            f"{store.root}: no stems by {label}, which was {name!r} when the fusion was fitted and {reason}; "
            f"{_otherwise(label, name)}, or adopt them with stemfuse adopt"
        )
    return StoredSeparator(label, key, name, json.dumps(options), True)


def _difference(made: Separator, description: Mapping[str, Any]) -> str:
    """What a separator has that its description has not; empty where it gives the same stems."""
    now = describe_separator(made)
    for what in ("version", "fingerprint", "weights"):
        here, then = now.get(what), description.get(what)
        if what == "weights" and then is not None:
            # the same file may have another name
            if sorted((here or {}).values()) != sorted(then.values()):
                return f"has weights {_shown(here or {})} here, the fusion was fitted with {_shown(then)}"
        elif then is not None and here != then:
            return f"has {what} {here} here, the fusion was fitted with {then}"
    return ""


def _shown(weights: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({sha256[:8]})" for name, sha256 in weights.items()) or "of no file"


def _otherwise(label: str, name: str) -> str:
    """How to come by the stems of a separator that cannot be made as it was when the fusion was fitted."""
    known = inspect.signature(separator_class(name)).parameters if name in list_separators() else {}
    own = next((option for option in ("weights", "repo", "description") if option in known), "")
    separate = f"separate the songs first (stemfuse separate SONG --separator {name} --option {own}=PATH --store STORE)"
    return f"{f'{separate} and name this --store, or ' * bool(own)}give its stems with --stems {label}=DIR"
