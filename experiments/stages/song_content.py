"""What a song's scores and excerpts are made of: its audio, its stems, and the fusions that fuse it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stemfuse.experiments.plan import Plan
from stemfuse.experiments.record import RunRecord
from stemfuse.experiments.run import Run
from stemfuse.separators import Track


@dataclass(frozen=True)
class SongContent:
    """What the scores and the excerpts of a song depend on."""

    audio: Mapping[str, object]
    """Of mixture and references."""
    methods: Mapping[str, object]
    """By method, the stems and the fusion."""


def song_content(plan: Plan, run: Run, record: RunRecord, track: Track) -> SongContent:
    """Digests of all audio of a song, and of the fusions that fuse it."""
    content, kept = plan.store.content(track, plan.keys_of(track)), run.checksums.read()
    audio = {what: content[what] for what in content if what != "stems"}
    methods: dict[str, object] = dict(content["stems"])
    for label, fusion in record.fusions.items():
        # not the journal of a search, which grows
        apart = {fusion.journal, fusion.history}
        if not (own := fusion.file_of(plan.refit_of(track))):
            continue
        if fusion.folds:
            # of the fusion that was fitted for the song, nothing but its own file and those beside it
            beside = f"{own.removesuffix(Path(own).suffix)}."
            apart = {file for file in fusion.files if not file.startswith(beside)}
        files = [kept.get(file, ("",))[0] for file in fusion.files if file not in apart]
        methods[label] = [fusion.digest, files, content["stems"]]
    return SongContent(audio, methods)
