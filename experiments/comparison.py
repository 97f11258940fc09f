"""From folders of stems to the verdict: which weights, how much better than the best separator, and how sure."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from stemfuse.separators import StemStore, Sums, listed
from stemfuse.separators.names import check_name

from .config import BoundsConfig, DataConfig, FusionConfig, RunConfig, SeparatorConfig
from .errors import ConfigError
from .pipeline import run
from .recipes import load_config
from .run import Run
from .stages import adopt_folder
from .stored_separators import check_label
from .workers import Progress, silent

log = logging.getLogger(__name__)

BLEND = "blend"
"""The label of the fusion whose weights people could set by ear: none below 0, of each source 1 in all."""

LADDER = (
    FusionConfig(name="mean"),
    FusionConfig(name="least_squares", label=BLEND, options={"constraint": "simplex"}),
    FusionConfig(name="least_squares", options={"stems": "all", "mixture": True, "ridge": "auto"}),
)
"""What is tried, from the simplest to the one with most weights."""


@dataclass(frozen=True)
class Verdict:
    """What the scores of one data set say.

    Attributes
    ----------
    data : str
        Label of the data set.
    songs : int
        On which both have scores.
    best_single, best : str
        The separator and the fusion with the highest mean over sources; separators are compared on the songs that they
        have.
    best_single_db, best_db : float
        Their scores.
    low_db, high_db : float
        The 95 % interval of the gain, paired by song; NaN with too few songs.
    won : float
        Songs in which the fusion is better, ties count half.
    out_of : int, optional
        All songs, where a separator has no stems of some.
    """

    data: str
    songs: int
    best_single: str
    best: str
    best_single_db: float
    best_db: float
    low_db: float = math.nan
    high_db: float = math.nan
    won: float = math.nan
    out_of: int | None = None

    @property
    def gain_db(self) -> float:
        """How far the fusion is above the separator."""
        return self.best_db - self.best_single_db

    @property
    def is_sure(self) -> bool:
        """Whether the interval of the gain excludes 0."""
        return self.low_db > 0 or self.high_db < 0

    @property
    def songs_needed(self) -> int | None:
        """About how many songs make the interval exclude 0, if the gain stays: its width falls as their root grows."""
        if self.is_sure or not self.gain_db > 0 or not math.isfinite(self.low_db):
            return None
        half = (self.high_db - self.low_db) / 2
        return max(self.songs + 1, math.ceil(self.songs * (half / self.gain_db) ** 2))

    def lines(self) -> list[str]:
        """The verdict in words.

        Examples
        --------
        >>> verdict = Verdict("songs", 9, "mdx", "blend", 6.0, 6.2, -0.1, 0.5, 6.0)
        >>> for line in verdict.lines():
        ...     print(line)
        best separator: mdx, 6.00 dB; best fusion: blend, 6.20 dB
        gain: +0.20 dB, 95 % interval -0.10 to +0.50 dB, 6 of 9 songs won
        enough songs? no: the interval includes 0; about 21 songs would tell, if the gain stays
        """
        first = (
            f"best separator: {self.best_single}, {self.best_single_db:.2f} dB; "
            f"best fusion: {self.best}, {self.best_db:.2f} dB"
        )
        if self.out_of not in (None, self.songs):
            first += f", on the {self.songs} of {self.out_of} songs in which both have scores"
        if not math.isfinite(self.low_db):
            return [
                first,
                f"gain: {self.gain_db:+.2f} dB",
                f"enough songs? no: {self.songs} are too few for an interval",
            ]
        gain = (
            f"gain: {self.gain_db:+.2f} dB, 95 % interval {self.low_db:+.2f} to {self.high_db:+.2f} dB, "
            f"{self.won:g} of {self.songs} songs won"
        )
        if self.is_sure:
            return [first, gain, "enough songs? yes: the interval excludes 0"]
        needed = f"; about {self.songs_needed} songs would tell, if the gain stays" if self.songs_needed else ""
        return [first, gain, f"enough songs? no: the interval includes 0{needed}"]

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it; what is not known is None."""
        fields = {**vars(self), "gain_db": self.gain_db, "is_sure": self.is_sure, "songs_needed": self.songs_needed}
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value for name, value in fields.items()
        }


def compare_stems(
    data: Path,
    methods: Mapping[str, Path],
    out: Path,
    mixture: Literal["file", "sum"] = "sum",
    sources: Sums | None = None,
    how: Literal["refuse", "shift", "as-is"] = "refuse",
    convert: bool = False,
    missing: Literal["error", "skip", "refit"] = "error",
    workers: int | None = None,
    progress: Progress = silent,
    models: Mapping[str, str] = MappingProxyType({}),
) -> Run:
    """Adopt stems that several tools made, fit the ladder of fusions, and score all on songs they have not seen.

    Where the data set has no training songs apart, songs are left out in turn. A second call goes on where the first
    one stopped.

    Parameters
    ----------
    data : Path
        A data set with references, or a folder of songs.
    methods : mapping of str to Path
        By label, the folder of a tool's stems; see `stemfuse.separators.StemStore.adopt` for layouts.
    out : Path
        Folder of the store and the run.
    mixture : {"sum", "file"}
        ``"sum"`` adds up the sources where a song has no mixture file.
    sources : mapping, optional
        Sources that are picked or summed up; see `stemfuse.separators.parse_sources`.
    how : {"refuse", "shift", "as-is"}
        What to do with stems that are offset against their mixture.
    convert : bool
        Whether songs may be converted to one rate and number of channels.
    missing : {"error", "skip", "refit"}
        Songs that a tool has no stems of: an error, left out for all, or fused by the others with weights of their own.
    workers : int, optional
        Processes; one per core when not given.
    progress : callable
        Called as ``progress(stage, done, total)``.
    models : mapping of str to str
        By label, which model's stems are taken from a folder that has several.

    Returns
    -------
    Run
        The finished run; see `verdicts`.

    Raises
    ------
    StemfuseError
        A folder is missing or does not fit; nothing is scored then.
    """
    if len(methods) < 2:
        raise ConfigError(f"got {len(methods)} folder of stems, expected at least two: a=DIR b=DIR")
    taken = [fusion.label or fusion.name for fusion in LADDER]
    for label, folder in methods.items():
        check_name(label, "separator", ConfigError)
        check_label(label, taken, f"give the separator another name: my_{label}=DIR")
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no such folder, expected one with stems by {label}")
    _check_same(out / "run", data, list(methods))
    given: dict[str, Any] = {"sources": sources} if sources else {}
    recipe = RunConfig(
        out=out / "run",
        store=out / "store",
        data=(DataConfig(path=data, mixture=mixture),),
        separators=tuple(SeparatorConfig(name=label, stored=True) for label in methods),
        fusions=LADDER,
        bounds=BoundsConfig(bands_hz=None),
        convert=convert,
        missing=missing,
        workers=workers,
        **given,
    )

    def adopt() -> None:
        for done, (label, folder) in enumerate(methods.items()):
            progress("adopt", done, len(methods))
            taken = adopt_folder(
                folder,
                label,
                data,
                recipe.store,
                how,
                models.get(label),
                sources=sources,
                replace=True,
                show=log.info,
                mixture=mixture,
                convert=convert,
                apart=True,
            )
            # the store is this comparison's own: all that it has is of these folders, nothing of earlier ones
            store = StemStore(recipe.store)
            store.keep_only(store.find(label), [Path(entry["path"]) for entry in taken])
        progress("adopt", len(methods), len(methods))

    return run(recipe, progress, prepare=adopt)


def _check_same(folder: Path, data: Path, labels: Sequence[str]) -> None:
    """Refuse the folder of a comparison of other data or methods, whose results would be gone."""
    file = folder / "config.yaml"
    if not file.is_file():
        return
    kept = load_config(file)
    before = [part.label or part.name for part in kept.separators]
    songs = [part.path for part in kept.data]
    if [path.resolve() for path in songs] != [data.resolve()]:
        raise ConfigError(f"{folder.parent}: has a comparison on {listed(songs)}, not on {data}; choose another --out")
    if set(before) - set(labels):
        raise ConfigError(
            f"{folder.parent}: has a comparison of {', '.join(before)}, not of {', '.join(labels)}; name all of them, "
            "or choose another --out"
        )


def verdicts(finished: Run) -> list[Verdict]:
    """What a run's scores say, for each data set with a separator and a fusion that have all sources.

    Parameters
    ----------
    finished : Run
        Of any recipe.
    """
    from stemfuse.analysis import compare
    from stemfuse.analysis.aggregates import MEAN

    from .report.tables import ScoreTable, scored_data

    found = []
    for data in scored_data(finished):
        metric = data.metrics[0]
        means = ScoreTable.of(data, metric).grid[MEAN].dropna()
        fused, singles = (means[means.index.isin(data.fusions) == is_fusion] for is_fusion in (True, False))
        if fused.empty or singles.empty:
            continue
        best = str(fused.idxmax())
        rows = data.masked[(data.masked["metric"] == metric) & data.masked["fusion"].isin([best, *singles.index])]
        # separators may have other songs each: the best is the one that is nearest to the fusion on the songs of both
        against = compare(rows, best, metric).query("source == @MEAN").set_index("fusion")
        single = str(against["difference"].idxmax())
        pair = compare(rows[rows["fusion"].isin([single, best])], single, metric).query("source == @MEAN").iloc[0]
        scores = {"best_single_db": float(pair["baseline_value"]), "best_db": float(pair["value"])}
        interval = {"low_db": float(pair["low"]), "high_db": float(pair["high"])}
        won, songs = float(pair["win_rate"] * pair["tracks"]), int(pair["tracks"])
        found.append(Verdict(data.label, songs, single, best, **scores, **interval, won=won, out_of=len(data.tracks)))
    return found
