"""Which sources separators give, as far as a plan knows it, and fusions that cannot be fitted to them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING

from stemfuse.blending import FusionError, make_fusion
from stemfuse.blending.fused_separator import SavedFusion
from stemfuse.separators import StemfuseError, Track, in_order
from stemfuse.separators.sources import part_names, stem_sums

from .errors import ConfigError
from .stored_separators import StoredSeparator

if TYPE_CHECKING:
    from .plan import Plan


def check_inputs(plan: Plan) -> None:
    """Refuse fusions that cannot be fitted to what the separators give, before anything is computed.

    Raises
    ------
    ConfigError
        The message names the fusion.
    """
    songs = plan.fitted_on()[0] if plan.learns() else [entry.track for entry in plan.tested()]
    given = {separator.label: known_sources(plan, separator, songs) for separator in plan.separators}
    for cell in plan.fusions:
        try:
            fusion = make_fusion(cell.name, **cell.options)
            fusion.check_inputs({label: given[label] for label in plan.mixed_by(cell)})
        except FusionError as error:
            raise ConfigError(f"fusion {cell.label}: {error}") from error


def known_sources(plan: Plan, separator: StoredSeparator, songs: Sequence[Track]) -> tuple[str, ...] | None:
    """Sources of a separator's stems as they are fused: by the store's records, or its own; None where not known."""
    found: list[str] = []
    for song in songs:
        if (own := _own_sources(plan, separator, song)) is None:
            continue
        found += _fused(plan, separator.label, own, song)
    return in_order(found) or None


def _own_sources(plan: Plan, separator: StoredSeparator, song: Track) -> tuple[str, ...] | None:
    """What a separator gives of a song."""
    if separator.parts:
        fused = separator.load()
        fusion = fused.described if isinstance(fused, SavedFusion) else None
        weights = None if fusion is None else fusion.constant_weights
        return fused.sources if fusion is None else None if weights is None else weights.sources
    if not separator.stored:
        # a model that says so only when it is loaded is not asked
        stated = inspect.getattr_static(separator.load(), "sources")
        return stated if isinstance(stated, tuple) else None
    try:
        return tuple(plan.store.record(song, separator.key)["sources"])
    except (StemfuseError, KeyError):
        return None


def _fused(plan: Plan, label: str, own: Sequence[str], song: Track) -> tuple[str, ...]:
    """The sources of a song's references that stems are, or are summed up to."""
    wanted = plan.picked.get(label, plan.config.sources)
    references = song.references
    if references is None:
        return tuple(own)
    names = references.sources if wanted is None else part_names(references)
    try:
        sums = stem_sums(own, names, wanted)[0]
    except StemfuseError:
        # what is wrong with it is said where stems are attached
        return ()
    return tuple(source for source in sums if source in references.sources)
