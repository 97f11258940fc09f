"""Digests of all that a run, and each of its fits, depends on: what has the same digest is not computed again."""

from __future__ import annotations

import hashlib

from stemfuse.blending import fusion_class, make_fusion
from stemfuse.separators import StemfuseError, StemStore, Track, digest

from .config import FusionConfig
from .machine import describe_versions
from .plan import Plan

NUMERIC = ("stemfuse", "numpy", "scipy", "museval")
"""Packages whose versions the results depend on; those that separators use are in their fingerprints."""


def numeric_versions() -> dict[str, str]:
    """Versions of the packages that scores depend on."""
    return {name: version for name, version in describe_versions().items() if name in NUMERIC}


def run_identity(plan: Plan) -> str:
    """Digest of all that the results depend on, but for the stems, which may not be there yet."""
    seeded = plan.config.model_copy(update={"fusions": plan.fusions})
    config = seeded.model_dump(mode="json", exclude={"out", "workers", "store"})
    needed = set(plan.needed())
    tracks = [
        (entry.data, entry.track.subset, entry.track.name, entry.track.length, _audio(plan.store, entry.track))
        for entry in plan.tracks
        if entry.track in needed
    ]
    files = {part.label or part.name: _files_of(part) for part in plan.fusions if _files_of(part)}
    about = {"config": config, "tracks": tracks, "keys": plan.keys, "versions": numeric_versions()}
    about |= {"files": files} if files else {}
    absent = {label: [entry.named for entry in entries] for label, entries in plan.absent.items()}
    return digest(about | ({"absent": absent} if absent else {}))


def _files_of(part: FusionConfig) -> list[str]:
    """Digests of the files that a fusion's options name."""
    files = make_fusion(part.name, **part.options).files()
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def _audio(store: StemStore, track: Track) -> object:
    """Content of mixture and references, or why it cannot be read: the stage that needs it says so."""
    try:
        return store.content(track, {})
    except StemfuseError as error:
        return str(error)


def fit_digest(plan: Plan, part: FusionConfig, refit: int | None = None) -> str:
    """Digest of all that a fitted fusion depends on; ``part`` is one of the plan's, with its seed."""
    train, valid = plan.fitted_on(refit) if fusion_class(part.name).learns else ([], [])
    keys = {label: plan.keys[label] for label in (plan.together if refit is None else plan.refits[refit].separators)}
    tracks = [[plan.store.content(track, keys) for track in part] for part in (train, valid)]
    version = describe_versions()["stemfuse"]
    about: dict[str, object] = {
        "fusion": part.model_dump(mode="json"),
        "tracks": tracks,
        "keys": keys,
        "stemfuse": version,
    }
    about |= {"files": files} if (files := _files_of(part)) else {}
    # which other fits belong to it
    about |= {"refits": [list(each) for each in plan.refits]} if refit is None and plan.absent else {}
    return digest(about | ({"sources": plan.config.sources} if plan.config.sources else {}))
