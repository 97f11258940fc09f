"""The stage that bounds: what any linear mix could reach on the test tracks, and what each separator is worth."""

from __future__ import annotations

from stemfuse.blending import bounds, leave_one_out
from stemfuse.experiments.conversion import comparable
from stemfuse.experiments.plan import Plan
from stemfuse.experiments.run import BOUNDS, LEAVE_ONE_OUT, Run
from stemfuse.experiments.workers import Progress
from stemfuse.separators import Track

from .measure import measure


def bound(plan: Plan, run: Run, progress: Progress) -> None:
    """Write what any linear mix could reach on the test tracks, and what each separator is worth there."""
    import pandas as pd

    options = plan.config.bounds
    by_data = {} if options is None else _tracks_by_data(plan)
    reached, worth = [], []
    if options is not None and by_data:
        measure([track for tracks in by_data.values() for track in tracks], plan.workers, progress)
        for done, (data, tracks) in enumerate(by_data.items()):
            progress("bound", done, len(by_data))
            reached.append(bounds(tracks, **options.model_dump()).assign(data=data))
            if len(plan.separators) > 1:
                worth.append(leave_one_out(tracks).assign(data=data))
        progress("bound", len(by_data), len(by_data))
    for name, tables in ((BOUNDS, reached), (LEAVE_ONE_OUT, worth)):
        if tables:
            run.write_text(name, pd.concat(tables, ignore_index=True).to_csv(index=False))
        else:
            # that of another recipe would be shown with the scores of this one
            (run.path / name).unlink(missing_ok=True)


def _tracks_by_data(plan: Plan) -> dict[str, list[Track]]:
    """Test tracks with references and stems by all separators, by data set."""
    by_data: dict[str, list[Track]] = {}
    for planned in plan.tested():
        if planned.track.references is not None and plan.having(tuple(plan.keys), [planned.track]):
            by_data.setdefault(planned.data, []).append(plan.attach(planned.track))
    return {data: comparable(tracks, plan.config.convert) for data, tracks in by_data.items()}
