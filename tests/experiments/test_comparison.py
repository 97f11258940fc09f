"""From folders of stems to the verdict, with real systems and with planted ones."""

import json
import math
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from makers.audio import write_systems
from makers.commands import command
from stemfuse.experiments import ConfigError, Run, RunError, parse_config
from stemfuse.experiments.cli import app
from stemfuse.experiments.comparison import compare_stems
from stemfuse.experiments.lock import run_lock
from stemfuse.experiments.stages import separate
from stemfuse.experiments.verdict import Verdict, verdicts
from stemfuse.separators import StemStore

SYSTEMS = ("near", "far")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Four songs of speech and music without mixture files, and stems by two systems whose errors are independent."""
    root = tmp_path_factory.mktemp("comparison")
    write_systems(root, 4, {"near": 0.02, "far": 0.03})
    return root


@pytest.fixture(scope="module")
def compared(place):
    return compare_stems(place / "songs", {name: place / name for name in SYSTEMS}, place / "out", workers=1)


@pytest.mark.slow
def test_the_verdict_is_what_independent_errors_give(compared):
    """Errors of 0.02 and 0.03 are weighted as 9 to 4; the error of the blend is below both."""
    (verdict,) = verdicts(compared)
    assert (verdict.best_single, verdict.songs) == ("near", 4)
    error = 1 / (1 / 0.02**2 + 1 / 0.03**2)
    assert verdict.best_single_db == pytest.approx(10 * math.log10(0.1**2 / 0.02**2), abs=0.1)
    blend = compared.scores().query("fusion == 'blend' and metric == 'SDR'")["value"].median()
    assert blend == pytest.approx(10 * math.log10(0.1**2 / error), abs=0.1)
    assert verdict.best_db >= blend
    assert verdict.doubt == "4 songs are too few for an interval, which takes 5"
    assert verdict.won == 4
    weights = compared.fusion("blend").weights_.to_frame()
    near = weights[weights["input"].str.startswith("near.speech")]["weight"]
    assert near[near > 0].to_numpy() == pytest.approx(9 / 13, abs=0.01)


@pytest.mark.slow
def test_the_command_says_weights_gain_and_what_comes_next(place, compared):
    given = [str(place / "songs"), *(f"{name}={place / name}" for name in SYSTEMS), "--out", str(place / "out")]
    shown = CliRunner().invoke(app, ["compare", *given], catch_exceptions=False)
    assert shown.exit_code == 0
    for words in ("best separator: near", "enough songs? no: 4 songs are too few", "stemfuse fuse", "--stems near="):
        assert words in shown.stdout
    assert "--shift" not in shown.stdout
    read = CliRunner().invoke(app, ["compare", *given, "--json"], catch_exceptions=False)
    described = json.loads(read.stdout)
    assert described["verdicts"][0]["best_single"] == "near"
    assert described["weights"]["speech"]["near"] == pytest.approx(9 / 13, abs=0.01)


@pytest.mark.slow
def test_more_fusions_are_compared_beside_the_ladder(tmp_path):
    """With two systems the agreement says nothing, so that training songs decide, as in the blend."""
    write_systems(tmp_path, 3, {"near": 0.02, "far": 0.03})
    given = [
        str(tmp_path / "songs"),
        *(f"{name}={tmp_path / name}" for name in SYSTEMS),
        "--out",
        str(tmp_path / "out"),
    ]
    more = ["--fusion", "transductive", "--fusion", "minimum_variance", "--fusion", "mean", "--workers", "1"]
    assert CliRunner().invoke(app, ["compare", *given, *more], catch_exceptions=False).exit_code == 0
    scores = Run(tmp_path / "out" / "run").scores().query("metric == 'SDR'").groupby("fusion")["value"].median()
    assert scores["transductive"] == pytest.approx(scores["blend"], abs=0.15)
    assert scores["minimum_variance"] == pytest.approx(scores["mean"], abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--shift"], ["--as-is"], ["--shift", "--convert"]])
def test_the_next_command_takes_stems_as_they_were_taken(place, compared, options):
    given = [str(place / "songs"), *(f"{name}={place / name}" for name in SYSTEMS), "--out", str(place / "out")]
    shown = CliRunner().invoke(app, ["compare", *given, *options, "--workers", "1"], catch_exceptions=False)
    assert f"--stems far={place / 'far'} {' '.join(options)} --out fused" in shown.stdout


def one_folder_of_two_models(root):
    """Stems as audio-separator writes them, of both systems in one folder."""
    (root / "out").mkdir()
    for system in SYSTEMS:
        for file in (root / system).rglob("*.wav"):
            shutil.move(file, root / "out" / f"{file.parent.name}_({file.stem.title()})_model {system}.wav")
    return [f"{name}={root / 'out'}" for name in SYSTEMS] + [
        part for name in SYSTEMS for part in ("--model", f"{name}=model {name}")
    ]


def other_names(root):
    """A source of a name that nobody knows."""
    for song in (root / "songs").iterdir():
        parts = [soundfile.read(file)[0] for file in sorted(song.iterdir())]
        soundfile.write(song / "mixture.wav", sum(parts), 44_100, subtype="FLOAT")
    for name, other in (("speech", "kazoo"), ("music", "vocals")):
        for file in list(root.rglob(f"{name}.wav")):
            file.rename(file.with_name(f"{other}.wav"))
    return [f"{name}={root / name}" for name in SYSTEMS]


def late(root):
    """One system is late."""
    for file in (root / "far").rglob("*.wav"):
        audio, rate = soundfile.read(file)
        soundfile.write(file, np.pad(audio, ((500, 0), (0, 0)))[: len(audio)], rate, subtype="FLOAT")
    return [*(f"{name}={root / name}" for name in SYSTEMS), "--shift"]


@pytest.mark.slow
@pytest.mark.parametrize("given", [one_folder_of_two_models, other_names, late])
def test_the_commands_that_come_next_work(tmp_path, given):
    write_systems(tmp_path, 3, {"near": 0.02, "far": 0.03}, seconds=6)
    arguments = [str(part) for part in given(tmp_path)]
    out = ["--out", str(tmp_path / "out put"), "--workers", "1"]
    shown = CliRunner().invoke(app, ["compare", str(tmp_path / "songs"), *arguments, *out], catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    sources = {file.stem: soundfile.read(file)[0] for file in (tmp_path / "songs/song 1").iterdir()}
    sources.pop("mixture", None)
    song = tmp_path / "new" / "song 1.wav"
    song.parent.mkdir()
    soundfile.write(song, sum(sources.values()), 44_100, subtype="FLOAT")
    following = [shlex.split(line) for line in shown.stdout.splitlines() if line.startswith("  stemfuse ")]
    assert [command[1] for command in following] == ["fuse", "export"]
    fuse = [str(song) if part == "SONG" else part for part in following[0][1:]]
    fused = CliRunner().invoke(app, [*fuse[:-1], str(tmp_path / "fused"), "--workers", "1"], catch_exceptions=False)
    assert fused.exit_code == 0, fused.output
    for name, part in sources.items():
        made, _ = soundfile.read(tmp_path / "fused" / "song 1" / f"{name}.wav")
        error = made[:-500] - part[:-500]
        assert 10 * np.log10((part**2).sum() / (error**2).sum()) > 15
    export = CliRunner().invoke(app, [*following[1][1:-1], str(tmp_path / "x.sh")], catch_exceptions=False)
    assert export.exit_code == 0, export.output


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("near", "got --model near, expected LABEL=MODEL, such as near=near"),
        ("nera=x", "did you mean 'near'"),
        ("near=", "expected LABEL=MODEL"),
    ],
)
def test_models_are_named_by_label(place, tmp_path, model, words):
    given = [str(place / "songs"), *(f"{name}={place / name}" for name in SYSTEMS), "--out", tmp_path / "out"]
    shown = command("compare", *given, "--model", model)
    assert shown.returncode == 2
    assert words in " ".join(shown.stderr.split())


@pytest.mark.slow
def test_a_separator_that_lacks_songs_is_judged_on_those_that_it_has(tmp_path):
    write_systems(tmp_path, 4, {"near": 0.02, "far": 0.03, "best": 0.01}, {"best": {"song 3"}})
    found = compare_stems(
        tmp_path / "songs",
        {name: tmp_path / name for name in ("near", "far", "best")},
        tmp_path / "out",
        missing="refit",
        workers=1,
    )
    (verdict,) = verdicts(found)
    assert (verdict.best_single, verdict.songs, verdict.out_of, verdict.won) == ("best", 3, 4, 3)
    assert verdict.best_single_db == pytest.approx(20, abs=0.2)
    assert "on the 3 of 4 songs in which both have scores" in verdict.lines()[0]


@pytest.mark.slow
def test_a_perfect_separator_is_shown_as_one(tmp_path):
    write_systems(tmp_path, 2, {"near": 0.02, "perfect": 0.0}, seconds=5)
    given = [str(tmp_path / "songs"), *(f"{name}={tmp_path / name}" for name in ("near", "perfect"))]
    shown = CliRunner().invoke(app, ["compare", *given, "--out", str(tmp_path / "out")], catch_exceptions=False)
    assert shown.exit_code == 0
    assert "perfect: its SDR is infinite" in " ".join(shown.stdout.split())
    assert (tmp_path / "out" / "run" / "report" / "index.html").is_file()


def test_what_is_wrong_is_said_before_anything_is_done(place, tmp_path):
    with pytest.raises(ConfigError, match="at least two"):
        compare_stems(place / "songs", {"near": place / "near"}, tmp_path)
    with pytest.raises(ConfigError, match=r"nowhere: no such folder, expected one with stems by b"):
        compare_stems(place / "songs", {"a": place / "near", "b": Path("nowhere")}, tmp_path)
    with pytest.raises(ConfigError, match="has a slash"):
        compare_stems(place / "songs", {"a": place / "near", "../b": place / "far"}, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("data", "labels", "words"),
    [
        ("near", ("near", "far"), "has a comparison on .*songs, not on"),
        ("songs", ("near", "third"), "of near, far, not of near, third"),
        ("songs", ("x", "y"), "of near, far, not of x, y"),
    ],
)
def test_a_comparison_of_others_is_not_replaced(place, tmp_path, data, labels, words):
    before = {
        "out": str(tmp_path / "run"),
        "store": str(tmp_path / "store"),
        "data": [str(place / "songs")],
        "separators": [{"name": name, "stored": True} for name in SYSTEMS],
    }
    Run(tmp_path / "run").write_config(parse_config(before))
    with pytest.raises(ConfigError, match=words):
        compare_stems(place / data, dict(zip(labels, (place / "near", place / "far"), strict=True)), tmp_path)


def test_how_many_songs_are_needed():
    assert Verdict("", 9, "a", "b", 6.0, 6.2, -0.1, 0.5, 6).songs_needed == 21
    assert Verdict("", 9, "a", "b", 6.0, 5.9, -0.4, 0.2, 4).songs_needed is None
    few = "enough songs? no: 2 songs are too few for an interval, which takes 5; about 6 songs would tell, if the gain"
    assert Verdict("", 2, "a", "b", 6.0, 6.2).lines()[-1] == f"{few} stays"
    assert Verdict("", 9, "a", "b", 6.0, 6.2).to_dict()["low_db"] is None


@pytest.mark.slow
@pytest.mark.parametrize("lacking", [{"song 2"}, {"song 1", "song 2"}, {"song 0", "song 1", "song 2"}])
def test_stems_of_an_earlier_folder_are_not_mixed_in(tmp_path, monkeypatch, lacking):
    write_systems(tmp_path / "first", 4, {"near": 0.02, "far": 0.03})
    write_systems(tmp_path / "second", 4, {"near": 0.04}, {"near": lacking})
    monkeypatch.setattr("stemfuse.experiments.pipeline.STAGES", {"separate": separate})
    songs, out = tmp_path / "first" / "songs", tmp_path / "out"
    compare_stems(songs, {name: tmp_path / "first" / name for name in SYSTEMS}, out, workers=1)
    given = {"near": tmp_path / "second" / "near", "far": tmp_path / "first" / "far"}
    with pytest.raises(RunError, match=f"no usable stems by near .* of {', '.join(sorted(lacking))}"):
        compare_stems(songs, given, out, workers=1)
    store = StemStore(out / "store")
    assert len(store.tracks_of(store.find("near"))) == 4 - len(lacking)


@pytest.mark.parametrize("labels", [("near", "far"), ("far", "near"), ("near", "other")])
def test_nothing_is_adopted_while_another_process_works_in_the_folder(tmp_path, labels):
    write_systems(tmp_path, 1, dict.fromkeys(labels, 0.02))
    with run_lock(tmp_path / "out" / "run"), pytest.raises(RunError, match="is in use by process"):
        compare_stems(tmp_path / "songs", {name: tmp_path / name for name in labels}, tmp_path / "out", workers=1)
    assert not (tmp_path / "out" / "store").exists()
