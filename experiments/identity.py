"""Digests of all that a run, and each of its fits, depends on: what has the same digest is not computed again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import stemfuse
from stemfuse.blending import BaseFusion, make_fusion
from stemfuse.separators import StemfuseError, StemStore, Track, digest

from .config import Cell
from .machine import describe_versions, versions_of
from .plan import Plan
from .training import trains

NUMERIC = ("stemfuse", "numpy", "scipy", "museval")
"""Packages whose versions scores depend on; stems name their own content, and `fit_versions` is for fits."""


def numeric_versions() -> dict[str, str]:
    """Versions of the packages that scores depend on."""
    return {name: version for name, version in describe_versions().items() if name in NUMERIC}


def fit_versions(fusion: BaseFusion) -> dict[str, str]:
    """Versions of the packages that a fusion's weights, and what it fuses, depend on."""
    return {"stemfuse": stemfuse.__version__, **versions_of(("numpy", "scipy", *fusion.packages()))}


def sha256_of(files: Iterable[Path]) -> list[str]:
    """Digests of files."""
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def run_identity(plan: Plan) -> str:
    """Digest of all that the results depend on, but for the stems, which may not be there yet."""
    left_out: dict[str, Any] = dict.fromkeys(("out", "workers", "store", "training"), True)
    # to trust a separator changes no stem
    left_out["separators"] = {"__all__": {"trust"}}
    config = plan.config.model_dump(mode="json", exclude=left_out)
    config["fusions"] = [cell.recipe() for cell in plan.fusions]
    needed = set(plan.needed())
    tracks = [
        (entry.data, entry.track.subset, entry.track.name, entry.track.length, _audio(plan.store, entry.track))
        for entry in plan.tracks
        if entry.track in needed
    ]
    made = {cell.label: make_fusion(cell.name, **cell.options) for cell in plan.fusions}
    about: dict[str, object] = {"config": config, "tracks": tracks, "keys": plan.keys, "versions": numeric_versions()}
    about["fits"] = {label: fit_versions(fusion) for label, fusion in made.items()}
    files = {label: sha256_of(fusion.files()) for label, fusion in made.items() if fusion.files()}
    about |= {"files": files} if files else {}
    about |= _trained_by(plan, *made.values())
    absent = {label: [entry.named for entry in entries] for label, entries in plan.absent.items()}
    return digest(about | ({"absent": absent} if absent else {}))


def _audio(store: StemStore, track: Track) -> object:
    """Content of mixture and references, or why it cannot be read: the stage that needs it says so."""
    try:
        return store.content(track, {})
    except StemfuseError as error:
        return str(error)


def fit_digest(plan: Plan, cell: Cell, refit: int | None = None) -> str:
    """Digest of all that a fitted fusion depends on; ``cell`` is one of the plan's, with its seed."""
    fusion = make_fusion(cell.name, **cell.options)
    train, valid = plan.fitted_on(refit) if fusion.learns else ([], [])
    keys = {label: plan.keys[label] for label in plan.mixed_by(cell, refit)}
    about: dict[str, object] = {
        "fusion": cell.recipe(),
        "tracks": [[plan.store.content(track, keys) for track in part] for part in (train, valid)],
        "keys": keys,
        "versions": fit_versions(fusion),
    }
    about |= {"files": files} if (files := sha256_of(fusion.files())) else {}
    about |= _trained_by(plan, fusion)
    if refit is None:
        about |= _refits(plan) if fusion.learns or plan.absent else {}
        about |= {} if fusion.learns else {"given": _given(plan)}
    picked = {label: sums for label, sums in plan.picked.items() if label in keys}
    about |= {"picked": picked} if picked else {}
    return digest(about | ({"sources": plan.config.sources} if plan.config.sources else {}))


def _trained_by(plan: Plan, *fusions: BaseFusion) -> dict[str, object]:
    """What decides trainings beside the fusions' own arguments; nothing where it is as usual, or nothing is trained."""
    deciding = plan.config.training.deciding
    return {"training": deciding} if deciding and any(map(trains, fusions)) else {}


def _refits(plan: Plan) -> dict[str, object]:
    """Which other fits belong to a fusion, whose songs these are, and what they are fitted on beside its own songs."""
    tested = [planned.track for planned in plan.tested()]
    # songs that lack stems, and stems by separators that the saved fusions do not mix
    fits = [plan.fitted_on(number) for number in range(len(plan.refits))] if plan.absent and plan.learns() else []
    seen = dict.fromkeys(track for fit in fits for part in fit for track in part)
    return {
        "refits": [list(each) for each in plan.refits],
        "songs": [[plan.store.contents.sha256(song.mixture), plan.refit_of(song)] for song in tested],
        "others": [plan.store.content(track, plan.keys_of(track)) for track in seen],
    }


def _given(plan: Plan) -> list[object]:
    """Sources of all stems and references: all that a fusion looks at which learns nothing."""
    found = set()
    for planned in plan.tested():
        track = planned.track
        found.add(("", track.references.sources if track.references is not None else ()))
        for label, key in plan.keys_of(track).items():
            found.add((label, tuple(plan.store.record(track, key)["sources"])))
    return [list(each) for each in sorted(found)]
