"""Commands of fusions and scores: fit, fuse, combine, export, score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from stemfuse.experiments.errors import ConfigError
from stemfuse.experiments.printed import PrintedTable

from .completion import names
from .console import (
    AsIs,
    Convert,
    Json,
    Mixture,
    Models,
    NamedSources,
    Option,
    Replace,
    Shift,
    Sources,
    Store,
    Trust,
    Workers,
    check_choice,
    escape_json,
    given_sources,
    how_to_take,
    json_text,
    messages,
    named_songs,
    one_of,
    parse_options,
    print_table,
    progress_bars,
    results,
)
from .exporting import MODELS, write_export
from .pivot import show_weights, weights_of

app = typer.Typer()


@app.command(epilog="Example: stemfuse combine a/vocals.wav b/vocals.wav --how avg_wave --weights 2,1 --out vocals.wav")
def combine(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="one stem, separated by several separators")],
    how: Annotated[str, typer.Option("--how", help="avg_wave, median_fft, max_fft, crossover, ...")],
    out: Annotated[Path, typer.Option("--out", help="the new file, .wav or .flac")],
    weights: Annotated[str, typer.Option("--weights", help="one per file, for the averages: w1,w2,...")] = "",
    option: Option = [],  # noqa: B006  (typer reads the default, nobody changes it)
    replace: Replace = False,
) -> None:
    """Combine files of one stem by a classical rule, streaming from file to file."""
    from stemfuse.blending import combine_files
    from stemfuse.experiments.outputs import check_output, new_file

    check_output(out)
    if missing := [file for file in files if not file.is_file()]:
        raise ConfigError(f"{missing[0]}: no such file, expected the files of one stem")
    if out.resolve() in (file.resolve() for file in files):
        raise ConfigError(f"{out}: got one of the files that are combined; choose another --out")
    try:
        given = [float(weight) for weight in weights.split(",")] if weights else None
    except ValueError as error:
        raise ConfigError(f"got --weights {weights}, expected numbers such as 2,1") from error
    options = parse_options(option)
    with new_file(out, replace) as temporary:
        combine_files(files, how, temporary, given, shown=out, **options)
    results.print(str(out))


@app.command(epilog="Example: stemfuse score --references MUSDB18-HQ --estimates mdx --estimates demucs --out scores")
def score(
    references: Annotated[Path, typer.Option("--references", help="data set, or one folder of sources")],
    estimates: Annotated[
        list[Path], typer.Option("--estimates", help="museval tree, or one folder; repeat it to compare methods")
    ],
    backend: Annotated[str, typer.Option("--backend", help="fast or museval: the same values")] = "fast",
    window: Annotated[float, typer.Option("--window", min=0.01, max=3600, help="frame length in seconds")] = 1.0,
    hop: Annotated[float, typer.Option("--hop", min=0.01, max=3600, help="frame distance in seconds")] = 1.0,
    metrics: Annotated[
        str,
        typer.Option(
            "--metrics", help="SDR: of BSS Eval that alone, much faster; and SI_SDR,bleedless,fullness,L1_frequency"
        ),
    ] = "",
    sources: Sources = None,
    missing: Annotated[
        str, typer.Option("--missing", help="tracks that some methods lack: warn, skip them for all, or error")
    ] = "warn",
    out: Annotated[Path | None, typer.Option("--out", help="folder for scores; goes on where it stopped")] = None,
    convert: Convert = False,
    model: Annotated[
        str | None, typer.Option("--model", help="which one, where a folder has stems by several models")
    ] = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Score estimates as museval does, several methods on the same frames."""
    from stemfuse.experiments.config import ScoreConfig
    from stemfuse.experiments.recipes import parse_part
    from stemfuse.experiments.stages.score import score_folders

    if absent := [folder for folder in estimates if not folder.exists()]:
        raise ConfigError(f"{absent[0]}: no such folder, expected one with estimates")
    options = parse_part(
        ScoreConfig,
        {
            "window_s": window,
            "hop_s": hop,
            "backend": backend,
            "metrics": [name for name in metrics.split(",") if name],
        },
    )
    with progress_bars() as progress:
        table = score_folders(
            references,
            estimates,
            options,
            out,
            workers,
            progress,
            given_sources(sources),
            one_of("--missing", missing, ("warn", "skip", "error")),
            convert,
            model,
        )
    if as_json:
        print(escape_json(table.to_json(orient="records", indent=1, force_ascii=False)))
    else:
        print_table(PrintedTable.of(table))
        results.print(named_songs(table.attrs["songs"]), markup=False)


Separators = Annotated[
    str, typer.Option("--separators", help="A,B,C: names, folders in the store, or label=name", show_default=False)
]


@app.command(
    epilog="Example: stemfuse fit least_squares --data MUSDB18-HQ --store stems --separators mdx,xumx --out blend.npz"
)
def fit(
    fusion: Annotated[
        str,
        typer.Argument(
            metavar="FUSION",
            help="one of stemfuse list fusions",
            show_default=False,
            autocompletion=names("fusions"),
        ),
    ],
    data: Annotated[Path, typer.Option("--data", help="data set with references", show_default=False)],
    store: Store,
    separators: Separators,
    out: Annotated[Path, typer.Option("--out", help="the new file: .npz, .json without weights", show_default=False)],
    option: Option = [],  # noqa: B006  (typer reads the default, nobody changes it)
    train: Annotated[str, typer.Option("--train", help="subsets to fit to")] = "train",
    valid: Annotated[str, typer.Option("--valid", help="subsets to validate on")] = "valid",
    convert: Convert = False,
    folds: Annotated[
        int | None,
        typer.Option(
            "--folds",
            min=0,
            max=1000,
            help="leave training tracks out in turn, in this many groups [where there are no validation tracks]",
            show_default=False,
        ),
    ] = None,
    sources: Sources = None,
    mixture: Mixture = "file",
    missing: Annotated[
        str, typer.Option("--missing", help="songs that a separator has no stems of: skip, or error")
    ] = "error",
    augment: Annotated[
        str,
        typer.Option(
            "--augment",
            metavar="KEY=VALUE,...",
            help="separate=20,seconds=30: fit on as many songs mixed anew of sources of different songs, too",
        ),
    ] = "",
    training: Annotated[
        list[str],
        typer.Option(
            "--training",
            metavar="KEY=VALUE",
            help="how a mixer is trained, as in a recipe's training: accelerator=cuda, precision=bf16-mixed, "
            "log=tensorboard, ...; may be repeated",
        ),
    ] = [],  # noqa: B006  (typer reads the default, nobody changes it)
    trust: Trust = False,
    workers: Workers = None,
    replace: Replace = False,
    as_json: Json = False,
) -> None:
    """Fit a fusion on a data set; missing stems are separated first. What is stopped goes on with the same command."""
    from stemfuse.blending import load_fusion
    from stemfuse.experiments.config import AugmentConfig, TrainingConfig
    from stemfuse.experiments.recipes import parse_part
    from stemfuse.experiments.stages.single_fit import fit_fusion
    from stemfuse.experiments.stored_separators import trusting
    from stemfuse.experiments.training import is_follower

    options = parse_options(option)
    trained = parse_part(TrainingConfig, parse_options(training), "--training")
    with progress_bars() as progress, trusting(trust):
        table = fit_fusion(
            fusion,
            options,
            data,
            store,
            _listed(separators),
            out,
            _listed(train),
            _listed(valid),
            folds,
            workers,
            progress,
            convert,
            one_of("--mixture", mixture, ("file", "sum")),
            given_sources(sources),
            replace,
            one_of("--missing", missing, ("error", "skip")),
            parse_part(AugmentConfig, parse_options(_listed(augment)), "--augment") if augment else None,
            trained,
        )
    if is_follower():
        return
    if as_json:
        rows = json.loads(table.to_json(orient="records", force_ascii=False))
        # the fusion's own row has its weights
        print(json_text([row | (weights_of(load_fusion(out)) if row["SDR, dB"] == fusion else {}) for row in rows]))
    else:
        if len(table):
            print_table(PrintedTable.of(table))
            results.print(named_songs(table.attrs["songs"]), markup=False)
        show_weights(out)
    messages.print(f"saved: {out}", markup=False)


@app.command(epilog="Example: stemfuse fuse blend.npz song.mp3 --out fused")
def fuse(
    file: Annotated[Path, typer.Argument(metavar="FUSION_FILE", help="file that fit saved", show_default=False)],
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="data sets or songs", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="folder for the fused stems", show_default=False)],
    store: Annotated[
        Path | None, typer.Option("--store", help="stem store [a temporary one]", show_default=False)
    ] = None,
    separators: Annotated[
        str, typer.Option("--separators", help="separators that the file does not name: label=name")
    ] = "",
    stems: Annotated[
        list[str],
        typer.Option("--stems", metavar="LABEL=DIR", help="stems of these songs by another tool; may be repeated"),
    ] = [],  # noqa: B006  (typer reads the default, nobody changes it)
    shift: Shift = False,
    as_is: AsIs = False,
    save_weights: Annotated[bool, typer.Option("--save-weights", help="weights.npz beside each song's stems")] = False,
    subtype: Annotated[str, typer.Option("--subtype", help="sample format: FLOAT, PCM_24, PCM_16")] = "FLOAT",
    convert: Convert = False,
    mixture: Mixture = "file",
    sources: NamedSources = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="replace stems of other songs or fusions in --out")
    ] = False,
    model: Models = [],  # noqa: B006  (typer reads the default, nobody changes it)
    trust: Trust = False,
    workers: Workers = None,
) -> None:
    """Fuse songs or data sets; missing stems are separated first. Run it again, it goes on where it stopped."""
    from stemfuse.experiments.stages.fuse import fuse_paths
    from stemfuse.experiments.stages.song_stems import parse_models, parse_stems
    from stemfuse.experiments.stored_separators import trusting

    given, how = parse_stems(stems, "--stems"), how_to_take(shift, as_is)
    if how != "refuse" and not given:
        raise ConfigError(f"got --{how}, which is of stems that are given; expected --stems LABEL=DIR with it")
    with progress_bars() as progress, trusting(trust):
        folders = fuse_paths(
            file,
            paths,
            out,
            store,
            _listed(separators),
            save_weights,
            subtype,
            workers,
            progress,
            convert,
            one_of("--mixture", mixture, ("file", "sum")),
            given,
            replace,
            how,
            models=parse_models(model, given),
            sources=given_sources(sources),
        )
    for folder in folders:
        results.print(str(folder))


@app.command(epilog="Example: stemfuse export blend.npz --as msst --out ensemble.sh")
def export(
    file: Annotated[Path, typer.Argument(metavar="FUSION_FILE", help="file that fit saved", show_default=False)],
    program: Annotated[
        str,
        typer.Option(
            "--as",
            help="demucs, msst, audio-separator, kuielab (its mixer) or kuielab_mdx (networks and mixer)",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="the new file; of kuielab_mdx a folder", show_default=False)],
    option: Annotated[
        list[str],
        typer.Option(
            "--option",
            metavar="KEY=VALUE",
            help=f"what the program needs: {MODELS} says what each separator is (demucs, audio-separator), "
            "or names the file of each network (kuielab_mdx); nearest=true takes the nearest weighted average",
        ),
    ] = [],  # noqa: B006  (typer reads the default, nobody changes it)
    replace: Replace = False,
) -> None:
    """Write a constant blend in the form of another program, or as the separator kuielab_mdx."""
    from stemfuse.blending import EXPORTS, load_fusion

    check_choice(program, "--as", EXPORTS)
    write_export(load_fusion(file), file, program, parse_options(option), out, replace)
    results.print(str(out))


def _listed(text: str) -> list[str]:
    return [part for part in text.split(",") if part]
