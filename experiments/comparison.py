"""From folders of stems to a run on them: adopted, a ladder of fusions fitted, all scored on unseen songs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
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

ALL_STEMS = {"stems": "all", "mixture": True, "ridge": "auto"}

LADDER = (
    FusionConfig(name="mean"),
    FusionConfig(name="least_squares", label=BLEND, options={"constraint": "simplex"}),
    FusionConfig(name="least_squares", options=ALL_STEMS),
    FusionConfig(name="fitted_wiener", options={"base": {"kind": "least_squares", "arguments": ALL_STEMS}}),
)
"""What is tried, from the simplest to the one with most weights."""
_NAMED = {fusion.label or fusion.name for fusion in LADDER}


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
    fusions: Sequence[str] = (),
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
    fusions : sequence of str
        Names of further fusions, which are fitted with their usual options beside the ladder.

    Returns
    -------
    Run
        The finished run; see `stemfuse.experiments.verdict.verdicts`.

    Raises
    ------
    StemfuseError
        A folder is missing or does not fit; nothing is scored then.
    """
    if len(methods) < 2:
        raise ConfigError(f"got {len(methods)} folder of stems, expected at least two: a=DIR b=DIR")
    ladder = (*LADDER, *(FusionConfig(name=name) for name in dict.fromkeys(fusions) if name not in _NAMED))
    taken = [fusion.label or fusion.name for fusion in ladder]
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
        fusions=ladder,
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
