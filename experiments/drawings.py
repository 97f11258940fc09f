"""What can be drawn of a file or folder: weights, runs, searches, trainings, networks; found out, and drawn by name."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemfuse.blending.weights import counted
from stemfuse.separators.errors import wrong_usage
from stemfuse.separators.foreign.documents import read_text
from stemfuse.separators.foreign.table import DOCUMENT_BYTES, ForeignFileError
from stemfuse.separators.names import did_you_mean

from .errors import ConfigError, RunError
from .workers import Progress, silent

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from optuna import Study

    from stemfuse.blending import MixingWeights
    from stemfuse.separators import WeightsLike

    from .report.tables import Comparison
    from .run import Run

BLOCKS = ("block", "sdr_db", "parameters", "operations")


@dataclass(frozen=True)
class Drawings:
    """The figures of one thing.

    Attributes
    ----------
    what : str
        What it is, in words: ``"a run"``.
    kinds : mapping of str to callable
        By name, what draws the figure; the first is drawn when none is named.
    """

    what: str
    kinds: Mapping[str, Callable[[], Figure]]

    def draw(self, kind: str | None = None) -> Figure:
        """The figure of a kind, or the first.

        Raises
        ------
        ConfigError
            No such figure can be drawn of this; the message lists those that can.
        """
        if not self.kinds:
            raise ConfigError(f"{self.what}: there is nothing to draw")
        wanted = next(iter(self.kinds)) if kind is None else kind
        if wanted not in self.kinds:
            raise ConfigError(
                f"got {wanted!r}; of {self.what} can be drawn: {', '.join(self.kinds)}"
                f"{did_you_mean(wanted, self.kinds)}"
            )
        return self.kinds[wanted]()


@dataclass(frozen=True)
class Wanted:
    """What narrows a drawing down.

    Attributes
    ----------
    segments : sequence of int
        Of weights, these alone.
    song, store, stems, convert
        The song that a fusion's weights are predicted for, and where its stems are, as in
        `stemfuse.experiments.stages.fuse.fuse_paths`.
    fusion : str
        Of a run, the label of the fusion whose weights, search or training is drawn; empty for all.
    source : str
        Of a search, the source; empty for the first.
    metric : str
        Of scores.
    options : mapping
        Of a separator.
    folded : bool, optional
        See `stemfuse.analysis.plot_weights`.
    trust : bool
        Whether code in a separator's files may run.
    title : str
        In place of the name.
    """

    segments: Sequence[int] = ()
    song: Path | None = None
    store: Path | None = None
    stems: Mapping[str, Path] | None = None
    convert: bool = False
    fusion: str = ""
    source: str = ""
    metric: str = "SDR"
    options: Mapping[str, Any] | None = None
    folded: bool | None = None
    trust: bool = False
    title: str = ""


def drawings_of(path: Path | str, wanted: Wanted | None = None, progress: Progress = silent) -> Drawings:
    """What can be drawn of a file, a folder, or a separator by its name.

    Parameters
    ----------
    path : path-like
        Weights (``.npz``) or another saved fusion, a run's folder, a search's journal or database (``.journal``,
        ``.db``), a training's history (``.csv``), a study of blocks (``.csv``), or the name of a separator.
    wanted : Wanted, optional
        What narrows it down.
    progress : callable
        Told of what is computed.

    Raises
    ------
    StemfuseError
        It is missing, or nothing that can be drawn.

    Examples
    --------
    >>> import tempfile
    >>> from stemfuse import MixingWeights
    >>> file = Path(tempfile.mkdtemp(), "blend.npz")
    >>> MixingWeights.same_source({"bass": {"a": 0.5, "b": 0.5}}).save(file)
    >>> list(drawings_of(file).kinds)
    ['matrix', 'parts']
    """
    wanted, place = wanted or Wanted(), Path(path)
    if place.is_dir():
        from .run import Run

        return _of_run(Run.open(place), wanted)
    if not place.exists() and place.suffix == "":
        return _of_separator(str(path), wanted)
    if place.suffix in (".journal", ".db", ".sqlite", ".sqlite3"):
        return _of_storage(place, wanted)
    if place.suffix == ".csv":
        return _of_table(place, wanted)
    return weights_drawings(fusion_weights(place, wanted, progress), wanted, place.name)


def weights_drawings(weights: MixingWeights, wanted: Wanted, name: str = "") -> Drawings:
    """What can be drawn of mixing weights."""
    drawn = partial(
        weights.plot, segment=list(wanted.segments) or None, title=wanted.title or name, folded=wanted.folded
    )
    said = f"weights of {counted(len(weights.matrix), 'segment')}"
    return Drawings(f"{name}, {said}" if name else said, {how: partial(drawn, how) for how in weights.figures})


def draw_difference(first: Path, second: Path, wanted: Wanted, progress: Progress = silent) -> Figure:
    """What the weights of one file have more than those of another: second minus first."""
    from stemfuse.analysis.figures import plot_difference

    one, other = (fusion_weights(file, wanted, progress) for file in (first, second))
    title = wanted.title or f"{second.name} minus {first.name}"
    return plot_difference(one, other, title=title, folded=wanted.folded)


def fusion_weights(file: Path, wanted: Wanted, progress: Progress = silent) -> MixingWeights:
    """Weights of a saved fusion: those that hold for all songs, or those that are predicted for the song."""
    from stemfuse.blending import MixingWeights, load_fusion

    fusion = load_fusion(file)
    if not fusion.is_linear:
        raise ConfigError(f"{file}: a {fusion.kind} fusion has no weights to draw")
    if (constant := fusion.constant_weights) is not None:
        return constant
    if wanted.song is None:
        raise ConfigError(f"{file}: its weights are predicted for each song; name one with --song, and its --store")
    from .stages.fuse import fuse_paths

    with tempfile.TemporaryDirectory() as folder:
        made = fuse_paths(
            file,
            [wanted.song],
            Path(folder),
            wanted.store,
            save_weights=True,
            progress=progress,
            convert=wanted.convert,
            stems=dict(wanted.stems or {}),
        )
        weights = [found for place in made for found in sorted(place.glob("weights*.npz"))]
        if len(weights) != 1:
            raise ConfigError(
                f"{wanted.song}: has weights of {len(weights)} songs or channels, expected one: name one song"
            )
        return MixingWeights.load(weights[0])


def _of_run(run: Run, wanted: Wanted) -> Drawings:
    """Scores, gains and bounds of a run; or weights, search and training of one of its fusions."""
    if wanted.fusion:
        return _of_fusion(run, wanted)
    from stemfuse.analysis import FEWEST_TRACKS
    from stemfuse.analysis.figures import plot_bounds, plot_gains, plot_scores, plot_weights_grid

    from .report.data_sets import scored_data
    from .report.fusions import bound_tables
    from .report.tables import comparisons
    from .run import BOUNDS

    data = next(iter(scored_data(run)), None)
    kinds: dict[str, Callable[[], Figure]] = {}
    if data is not None:
        kinds["scores"] = lambda: plot_scores(data.masked, wanted.metric, data.methods, data.fusions)
        if data.fusions and len(data.tracks) >= FEWEST_TRACKS and set(data.complete) - set(data.fusions):
            # thousands of draws: only where they are drawn
            kinds["gains"] = lambda: plot_gains(_first(comparisons(data), run).rows, data.fusions)
    if (run.path / BOUNDS).is_file():
        import pandas as pd

        bound_tables(run)  # a file that was changed or damaged is said so
        table = pd.read_csv(run.path / BOUNDS)
        first = table["data"].iloc[0] if data is None or data.label not in set(table["data"]) else data.label
        kinds["bounds"] = lambda: plot_bounds(table[table["data"] == first])
    if any(kept.linear and not kept.songs for kept in run.record().fusions.values()):
        kinds["matrix"] = lambda: plot_weights_grid(dict(_constant(run)), title=wanted.title, folded=wanted.folded)
    return Drawings(f"{run.path}, a run (--fusion draws one of {', '.join(run.record().fusions) or 'none'})", kinds)


def _first(compared: Sequence[Comparison], run: Run) -> Comparison:
    if not compared:
        raise ConfigError(f"{run.path}: no gains, as no single separator has scores on these songs")
    return compared[0]


def _constant(run: Run) -> list[tuple[str, WeightsLike]]:
    """Constant weights of a run's fusions, by label."""
    fusions = ((label, run.fusion(label)) for label, kept in run.record().fusions.items() if kept.linear)
    return [(label, weights) for label, fusion in fusions if (weights := fusion.constant_weights) is not None]


def _of_fusion(run: Run, wanted: Wanted) -> Drawings:
    label, known = wanted.fusion, run.record().fusions
    if label not in known:
        raise wrong_usage(
            RunError(
                f"{run.path}: no fusion {label!r}, expected one of {', '.join(known) or 'none'}"
                f"{did_you_mean(label, known)}"
            )
        )
    described, fusion = known[label], run.fusion(label)
    kinds: dict[str, Callable[[], Figure]] = {}
    if fusion.is_linear and (weights := fusion.constant_weights) is not None:
        kinds |= weights_drawings(weights, wanted, label).kinds
    elif described.songs:
        kinds |= _song_weights(run, wanted)
    if described.history:
        kinds["training"] = _of_table(run.checksums.require(described.history), wanted, label).kinds["training"]
    if described.studies:
        from stemfuse.blending import open_studies

        studies = open_studies(str(run.path / (described.journal or f"fusions/{label}.journal")), described.studies)
        objectives = fusion.arguments()["objectives"]
        kinds |= _of_studies(studies, [objectives] if isinstance(objectives, str) else list(objectives), wanted)
    return Drawings(f"{label} of {run.path}", kinds)


def _song_weights(run: Run, wanted: Wanted) -> Mapping[str, Callable[[], Figure]]:
    """Of weights that were predicted song by song: those of the one that is named, else of the first."""
    from stemfuse.blending import MixingWeights

    songs = run.record().fusions[wanted.fusion].songs
    name = next(iter(songs)) if wanted.song is None else wanted.song.stem
    if name not in songs:
        raise ConfigError(
            f"{run.path}: {wanted.fusion} has no weights of {name!r}, expected one of {', '.join(songs)}"
            f"{did_you_mean(name, songs)}"
        )
    weights = MixingWeights.load(run.checksums.require(songs[name].file))
    return weights_drawings(weights, wanted, f"{wanted.fusion}, {name}").kinds


def _of_storage(file: Path, wanted: Wanted) -> Drawings:
    """All studies of a journal or database."""
    from stemfuse.blending.databases import patiently, shown_address
    from stemfuse.blending.studies import import_optuna, open_storage, open_studies

    if not file.is_file():
        raise wrong_usage(ConfigError(f"{file}: no such file, expected the trials of a search"))
    storage = str(file) if file.suffix == ".journal" else f"sqlite:///{file}"
    opened, optuna = open_storage(storage, writing=False), import_optuna()
    names = patiently(lambda: optuna.study.get_all_study_names(opened), shown_address(storage))
    if not names:
        raise ConfigError(f"{file}: has no search in it")
    studies = open_studies(storage, {name: name for name in names})
    several = max(len(study.directions) for study in studies.values())
    return Drawings(
        f"{file.name}, a search", _of_studies(studies, ["first", "second"] if several > 1 else ["objective"], wanted)
    )


def _of_studies(
    studies: Mapping[str, Study], metrics: Sequence[str], wanted: Wanted
) -> Mapping[str, Callable[[], Figure]]:
    from stemfuse.analysis.figures import plot_search
    from stemfuse.analysis.figures.searches import kinds_of

    # in a journal the study of a source is called after it, with a digest
    source = wanted.source or next(iter(studies))
    found = [name for name in studies if source in (name, name.rpartition("-")[0])]
    if not found:
        raise ConfigError(f"got --source {source}, expected one of {', '.join(studies)}{did_you_mean(source, studies)}")
    study = studies[found[0]]
    return {
        kind: partial(plot_search, study, kind, wanted.title or source, metrics) for kind in kinds_of(study, metrics)
    }


def _of_table(file: Path, wanted: Wanted, name: str = "") -> Drawings:
    """A training's history, or a study of blocks: the columns tell."""
    import pandas as pd

    from stemfuse.analysis.figures import plot_blocks, plot_training

    if not file.is_file():
        raise wrong_usage(ConfigError(f"{file}: no such file, expected the history of a training"))
    try:
        table = pd.read_csv(StringIO(read_text(file, DOCUMENT_BYTES)))
    except (ValueError, ForeignFileError) as error:
        raise ConfigError(f"{file}: no table can be read ({' '.join(str(error).split())[:200]})") from error
    title = wanted.title or name or file.stem
    if set(BLOCKS) <= set(table):
        table[[*BLOCKS[1:]]] = table[[*BLOCKS[1:]]].apply(pd.to_numeric, errors="coerce")
        return Drawings(f"{file.name}, a study of blocks", {"blocks": partial(plot_blocks, table, title)})
    if "epoch" not in table:
        raise ConfigError(
            f"{file}: got the columns {', '.join(map(str, table))[:200]}, expected epoch and train_loss of a training, "
            f"or {', '.join(BLOCKS)} of a study of blocks"
        )
    rows: list[dict[str, float]] = table.apply(pd.to_numeric, errors="coerce").to_dict("records")
    return Drawings(f"{file.name}, a training", {"training": partial(plot_training, rows, title)})


def _of_separator(name: str, wanted: Wanted) -> Drawings:
    """TDF layers of a separator's networks side by side, and sizes of their blocks."""
    from stemfuse.separators import list_separators, load_separator
    from stemfuse.separators.optional import require_packages

    if name not in list_separators():
        known = list_separators()
        raise wrong_usage(
            ConfigError(
                f"{name}: no such file, folder or separator{did_you_mean(name, known)}; expected weights, a fusion, "
                "a run, a search, a training's history.csv, or one of stemfuse list separators"
            )
        )
    require_packages({"torch": "torch"}, "plot of a separator", ConfigError)
    from stemfuse.separators.networks.inspection import inspect_separator

    found = inspect_separator(load_separator(name, **(wanted.options or {})), trusted=wanted.trust)
    return Drawings(f"{name}, a separator", _layer_drawings(found, wanted.title or name))


def _layer_drawings(found: Any, title: str) -> Mapping[str, Callable[[], Figure]]:
    import pandas as pd

    from stemfuse.analysis.figures import plot_frequency_maps, plot_layers

    kinds: dict[str, Callable[[], Figure]] = {}
    matrices, bands = found.matrices(), found.bands()
    for name, layers in matrices.items():
        kind = "tdf" if len(matrices) == 1 else f"tdf-{name}"
        kinds[kind] = partial(plot_frequency_maps, layers, bands[name], f"{title}, {name}: TDF layers")
    for name, network in found.networks.items():
        rows = [(layer.name, layer.parameters, layer.operations) for layer in network.blocks()]
        table = pd.DataFrame(rows, columns=["block", "parameters", "operations"])
        if rows:
            kind = "layers" if len(found.networks) == 1 else f"layers-{name}"
            kinds[kind] = partial(plot_layers, table, f"{title}, {name}")
    return kinds
