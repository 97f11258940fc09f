"""Studies: cells of separators, options and seeds; shares of them; tables like the papers'."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
import soundfile as sf
import yaml

from makers.commands import command
from stemfuse.analysis import GramStatistics, scores_table
from stemfuse.blending import LeastSquares, load_fusion
from stemfuse.experiments import ConfigError, Run, RunError, load_config, parse_config, run
from stemfuse.experiments.config import FusionConfig
from stemfuse.experiments.plan import plan_run
from stemfuse.experiments.recipes import packaged_recipes, paper_tables
from stemfuse.experiments.recipes.papers import Paper
from stemfuse.experiments.record import FusionRecord
from stemfuse.experiments.report import study_tables
from stemfuse.experiments.report.data_sets import DataSetScores
from stemfuse.experiments.report.studies import _Scores
from stemfuse.separators import SOURCES, StemStore

ERRORS = {"near": 0.02, "far": 0.04}
TRAINED = {"segment": 4096, "shift": 4096, "epochs": 1}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Songs of noise in four sources with a subset to test, and stems by two systems with errors of known size."""
    root = tmp_path_factory.mktemp("studies")
    generator = np.random.default_rng(8)
    for index, subset in enumerate(("train", "train", "train", "test", "test")):
        audio = generator.normal(0, 0.1, (4, 2, 16000))
        song = f"song {index}"
        systems = {system: audio + generator.normal(0, size, audio.shape) for system, size in ERRORS.items()}
        files = {root / "songs" / subset / song: audio} | {
            root / name / subset / song: x for name, x in systems.items()
        }
        for folder, sources in files.items():
            folder.mkdir(parents=True)
            for source, samples in zip(SOURCES, sources, strict=True):
                sf.write(folder / f"{source}.wav", samples.T, 8000, "FLOAT")
    for system in ERRORS:
        done = command(
            "adopt",
            root / system,
            "--as",
            system,
            "--data",
            root / "songs",
            "--store",
            root / "store",
            "--mixture",
            "sum",
        )
        assert done.returncode == 0, done.stderr
    return root


def recipe(place, out, fusions, **changes):
    given = {
        "out": str(out),
        "store": str(place / "store"),
        "data": [{"path": str(place / "songs"), "label": "songs", "mixture": "sum"}],
        "separators": [{"name": system, "stored": True} for system in ERRORS],
        "fusions": fusions,
        "bounds": None,
        "players": {"tracks": 1, "duration_s": 1},
        "score": {"window_s": 0.5, "hop_s": 0.5},
        "workers": 1,
    }
    return given | changes


SOLVED = {"name": "least_squares", "options": {"stems": "all", "mixture": True}, "grid": {"separators": [[], ["far"]]}}
STUDY = [
    "mean",
    SOLVED | {"label": "solved"},
    {"name": "conv1x1", "options": TRAINED, "grid": {"separators": [["near"], ["near", "far"]]}, "seeds": 2},
]


@pytest.fixture(scope="module")
def finished(place):
    return run(recipe(place, place / "run", STUDY))


def labels(*fusions):
    return [cell.label for fusion in fusions for cell in FusionConfig(**fusion).cells()]


def test_a_fusion_stands_for_all_choices_of_separators_options_and_seeds():
    assert labels({"name": "mean"}) == ["mean"]
    assert labels({"name": "mean", "separators": ["a", "b"]}) == ["mean-a+b"]
    assert labels({"name": "mean", "label": "of both", "separators": ["a", "b"]}) == ["of both"]
    grid = {"separators": [[], ["a"]], "layers": [1, 2], "dropout": [0.0, 0.2]}
    study = FusionConfig(name="mlp_mixer", options={"epochs": 3}, grid=grid, seeds=2)
    cells = list(study.cells())
    assert len(cells) == len({cell.label for cell in cells}) == 16
    assert cells[0].label == "mlp_mixer-mixture-layers=1-dropout=0.0-seed=0"
    assert cells[-1].options == {"epochs": 3, "layers": 2, "dropout": 0.2}
    assert (cells[-1].separators, cells[-1].repeat, cells[-1].study) == (("a",), 1, "mlp_mixer")


@pytest.mark.parametrize(
    ("fusion", "words"),
    [
        ({"name": "conv1x1", "grid": {"epochs": []}}, "epochs has no values"),
        ({"name": "conv1x1", "grid": {"epochs": [1, 1]}}, "epochs has a value twice"),
        ({"name": "conv1x1", "grid": {"epochs": [1]}, "options": {"epochs": 2}}, "stands in the grid and beside it"),
        ({"name": "conv1x1", "grid": {"separators": [["near"]]}, "separators": ["far"]}, "in the grid and beside it"),
        ({"name": "conv1x1", "grid": {"separators": ["near", "far"]}}, "expected lists of labels"),
        ({"name": "conv1x1", "separators": ["nearer"]}, "got separator 'nearer', expected some of near, far"),
        ({"name": "conv1x1", "seeds": 0}, "seeds"),
        ({"name": "conv1x1", "grid": {"epochs": [*range(101)], "batch": [*range(1, 101)]}}, "the grid has 10100 cells"),
        ({"name": "mean", "seeds": 3}, "mean takes no seed, all would be equal"),
        ({"name": "conv1x1", "grid": {"epohcs": [1]}}, "epohcs"),
    ],
)
def test_a_study_that_cannot_be_is_refused_before_any_work(place, tmp_path, fusion, words):
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe(place, tmp_path / "run", ["mean", fusion])))
    done = command("run", file)
    assert done.returncode == 2
    assert words in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_group_shares_what_it_says(place, tmp_path):
    shared = {"separators": ["near"], "seeds": 2, "options": {"epochs": 1}}
    group = {"fusions": ["conv1x1", {"name": "gram_mixer", "seeds": 1}], **shared}
    cells = parse_config(recipe(place, tmp_path, [group])).cells()
    assert [cell.label for cell in cells] == ["conv1x1-near-seed=0", "conv1x1-near-seed=1", "gram_mixer-near-seed=0"]
    assert all(cell.options == {"epochs": 1} for cell in cells)


@pytest.mark.slow
def test_cells_mix_what_they_name_with_seeds_of_their_own(finished):
    record = finished.record()
    assert record.fusions["conv1x1-near-seed=1"].options["seed"] == 1
    near = finished.fusion("conv1x1-near-seed=0").weights_
    assert near.separators == ("near",)
    assert finished.fusion("conv1x1-near+far-seed=0").weights_.separators == ("near", "far")
    assert not np.array_equal(near.matrix, finished.fusion("conv1x1-near-seed=1").weights_.matrix)
    assert finished.fusion("solved-mixture").weights_.inputs == ("mixture.left", "mixture.right")
    # a cell is what the fusion fitted to these stems alone is
    store = StemStore(finished.config.store)
    plan = plan_run(finished.config)
    songs = [store.attach(song, {"far": plan.keys["far"]}) for song in plan.of("train")]
    alone = LeastSquares(stems="all", mixture=True).fit(songs).weights_
    found = finished.fusion("solved-far").weights_
    assert found.inputs == alone.inputs
    np.testing.assert_allclose(found.matrix, alone.matrix, atol=1e-6)


def test_statistics_of_some_stems_are_taken_from_those_of_all(place, monkeypatch):
    plan = plan_run(parse_config(recipe(place, place / "run", STUDY)))
    song = plan.of("train")[0]
    whole = plan.attach(song)
    part = whole.only(["far"])
    expected = GramStatistics.from_track(part, 800, 800)
    GramStatistics.of(whole, 800, 800)
    monkeypatch.setattr(GramStatistics, "from_track", lambda *_: pytest.fail("audio was read again"))
    found = GramStatistics.of(part, 800, 800, whole=whole)
    assert (found.inputs, found.outputs) == (expected.inputs, expected.outputs)
    np.testing.assert_allclose(found.moments, expected.moments, rtol=1e-9, atol=1e-12)
    assert GramStatistics.of(part, 800, 800).inputs == expected.inputs


@pytest.mark.slow
def test_tables_give_mean_and_spread_over_seeds(finished):
    solved, trained = study_tables(finished)
    assert [row.keys for row in solved.rows] == [("mixture alone",), ("far",)]
    assert [row.keys for row in trained.rows] == [("near",), ("near + far",)]
    assert [row.size for row in trained.rows] == [2, 2]
    scores = finished.scores()
    means = []
    for seed in (0, 1):
        own = scores[
            (scores["fusion"] == f"conv1x1-near-seed={seed}") & (scores["metric"] == "SDR") & (scores["frame"] >= 0)
        ]
        means.append(own[own["source"] == "bass"].groupby("track")["value"].median().median())
    assert trained.rows[0].values["bass"] == pytest.approx(np.mean(means), abs=1e-9)
    assert trained.rows[0].spreads["bass"] == pytest.approx(np.std(means, ddof=1), abs=1e-9)
    # the page has them, and draws the best cell of each study only
    page = finished.report_path.read_text()
    assert 'id="studies"' in page
    assert sum(f"mixing matrix of conv1x1-{name}" in page for name in ("near-seed=0", "near-seed=1")) <= 1
    printed = command("table", finished.path)
    assert "±" in printed.stdout
    rows = list(csv.DictReader(io.StringIO(command("table", finished.path, "--as", "csv").stdout)))
    assert float(rows[2]["bass"]) == pytest.approx(np.mean(means))
    assert "\\toprule" in command("table", finished.path, "--as", "latex").stdout
    assert "<td>near + far</td>" in command("table", finished.path, "--as", "html").stdout
    assert command("table", finished.path, "--as", "word").returncode == 2


@pytest.mark.slow
def test_a_run_goes_on_cell_by_cell(place, finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished.path, out)
    files = {file.name: file.read_bytes() for file in (out / "fusions").glob("*.npz")}
    more = [*STUDY[:2], STUDY[2] | {"seeds": 3}]
    again = run(recipe(place, out, more))
    record = again.record()
    assert "conv1x1-near-seed=2" in record.fusions
    assert all((out / "fusions" / name).read_bytes() == content for name, content in files.items())
    assert record.fusions["solved-far"].seconds == finished.record().fusions["solved-far"].seconds


@pytest.mark.slow
def test_shares_on_several_machines_make_the_same_run(place, finished, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe(place, tmp_path / "run", STUDY)))
    for share in ("1/3", "2/3", "3/3"):
        done = command("run", file, "--cells", share)
        assert done.returncode == 0, done.stderr
        assert f"share {share[0]} of 3 is done" in done.stdout
    assert not (tmp_path / "run").exists()
    seconds = {
        label: fusion.seconds
        for folder in (tmp_path / "run.shares").iterdir()
        for label, fusion in Run(folder).record().fusions.items()
    }
    assert command("run", file).returncode == 0
    whole = Run.open(tmp_path / "run")
    # nothing was fitted again
    assert {label: fusion.seconds for label, fusion in whole.record().fusions.items()} == seconds
    for label in seconds:
        np.testing.assert_array_equal(whole.fusion(label).weights_.matrix, finished.fusion(label).weights_.matrix)
    assert whole.scores().equals(finished.scores())


@pytest.mark.long
def test_a_damaged_share_is_fitted_again(place, finished, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe(place, tmp_path / "run", STUDY)))
    assert command("run", file, "--cells", "1/1").returncode == 0
    share = tmp_path / "run.shares" / "1-of-1"
    weights = share / "fusions" / "solved-far.npz"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    for part in (share / ".parts").glob("*.parquet"):
        part.write_bytes(part.read_bytes()[:-1])
    assert command("run", file).returncode == 0
    whole = Run.open(tmp_path / "run")
    assert whole.scores().equals(finished.scores())
    assert load_fusion(whole.path / "fusions" / "solved-far.npz").weights_.separators == ("far",)


@pytest.mark.parametrize("share", ["0/2", "3/2", "2", "a/b", "1/0", "-1/2", "9/9"])
def test_shares_that_are_none_are_refused(place, tmp_path, share):
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe(place, tmp_path / "run", STUDY)))
    done = command("run", file, "--cells", share)
    assert done.returncode == 2
    assert "--cells" in done.stderr
    assert not list(tmp_path.glob("run*"))


@pytest.mark.slow
def test_a_fusion_that_cannot_be_fitted_is_named_and_the_others_are_done(place, tmp_path):
    # the mean of no separator is nothing
    fusions = ["mean", {"name": "mean", "separators": []}, {"name": "residual", "separators": []}]
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe(place, tmp_path / "run", fusions)))
    done = command("run", file)
    assert done.returncode == 1
    assert "2 of 3 fusions could not be fitted: mean-mixture: " in done.stderr
    assert "residual-mixture" in done.stderr
    assert "Traceback" not in done.stderr
    assert "near" in done.stdout
    record = Run.open(tmp_path / "run").record()
    assert list(record.fusions) == ["mean"]
    assert set(record.failed) == {"mean-mixture", "residual-mixture"}
    # the rest of it is a run like any other
    file.write_text(yaml.safe_dump(recipe(place, tmp_path / "run", ["mean"])))
    assert command("run", file).returncode == 0
    assert not Run.open(tmp_path / "run").record().failed
    with pytest.raises(ValueError, match="no stems"):
        run(recipe(place, tmp_path / "other", fusions[1:]))


@pytest.mark.slow
def test_stems_of_a_separator_are_picked_for_it_alone(place, tmp_path):
    separators = [{"name": "near", "stored": True, "sources": ["vocals"]}, {"name": "far", "stored": True}]
    fusions = ["mean", {"name": "least_squares", "separators": ["near"], "options": {"stems": "all", "mixture": True}}]
    found = run(recipe(place, tmp_path / "run", fusions, separators=separators))
    weights = found.fusion("least_squares-near").weights_
    assert weights.inputs == ("mixture.left", "mixture.right", "near.vocals.left", "near.vocals.right")
    scored = found.scores()
    assert set(scored.loc[scored["fusion"] == "near", "source"]) == {"vocals"}
    mean = found.fusion("mean").weights_
    assert set(mean.separators) == {"near", "far"}
    assert [label for label in mean.inputs if label.startswith("near")] == ["near.vocals.left", "near.vocals.right"]


def paper(*rows, **table):
    return Paper(title="a paper", sources=SOURCES, tables=({"title": "Table 1", "rows": rows, **table},))


def test_rows_of_a_paper_stand_beside_its_figures():
    values = {"a": (3.0, 5.0), "b": (4.0, 2.0), "mix-x=1": (6.0, 1.0), "mix-x=2": (5.0, 4.0)}
    import pandas as pd

    scores = pd.concat(
        scores_table("song", name, ["bass", "vocals"], {"SDR": [[bass], [vocals]]})
        for name, (bass, vocals) in values.items()
    )
    cells = {f"mix-x={x}": FusionRecord(study="mix", varied={"x": x}, options={"x": x}) for x in (1, 2)}
    data = DataSetScores("songs", True, (), scores, scores, scores, ("a", "b", "mix-x=2"), ("mix-x=2",), {}, cells)
    rows = paper(
        {"method": "best single", "name": "single"},
        {"method": "best pick", "name": "pick", "figures": {"bass": 3.5, "mean": 4.0}},
        {"method": "best of mix", "name": "mixer"},
        {"method": "nobody", "name": "none"},
    ).tables[0]
    found = {row.keys[0]: row for row in _Scores.of(data).rows(rows)}
    assert list(found) == ["single", "pick", "mixer"]
    assert found["single"].values == {"bass": 3.0, "vocals": 5.0, "mean": 4.0}
    assert found["pick"].values == {"bass": 4.0, "vocals": 5.0, "mean": 4.5}
    assert found["mixer"].values == {"bass": 5.0, "vocals": 4.0, "mean": 4.5}
    averaged = paper(study="mix", by=["separators"]).tables[0]
    (row,) = _Scores.of(data).rows(averaged)
    assert row.size == 2
    assert row.values == {"bass": 5.5, "vocals": 2.5, "mean": 4.0}
    assert row.spreads["bass"] == pytest.approx(np.sqrt(0.5))
    chosen = paper(study="mix", by=["x"], where={"x": 2}).tables[0]
    assert [row.keys for row in _Scores.of(data).rows(chosen)] == [("2",)]


@pytest.mark.slow
def test_figures_of_a_paper_are_in_the_table_with_differences(finished):
    table = study_tables(finished, paper({"method": "near", "name": "C", "figures": {"bass": 7.0}}))[0]
    printed = table.printed()
    assert [row[0] for row in printed.rows] == ["C", "  in the paper", "  ours above it"]
    frame = table.to_frame()
    assert frame["bass above paper"][0] == pytest.approx(frame["bass"][0] - 7.0)
    nothing = command("table", finished.path, "--like", "uhlich2017")
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert "has no row of the tables of Network blending; its fusions are mean, solved-mixture" in nothing.stderr
    unknown = command("table", finished.path, "--like", "mdx")
    assert unknown.returncode == 2
    assert "mdx_mixer" in unknown.stderr


@pytest.mark.parametrize("name", packaged_recipes())
def test_recipes_of_papers_say_what_is_missing_on_one_screen(name, tmp_path, monkeypatch):
    monkeypatch.setenv("STEMFUSE_WEIGHTS", str(tmp_path / "weights"))
    done = command("run", name, cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert "musdb18hq" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 40
    assert paper_tables(name).tables


@pytest.mark.parametrize("name", packaged_recipes())
def test_recipes_of_papers_name_each_method_of_their_tables(name):
    for changes in ([], ["data=synth"]):
        config = load_config(name, changes)
        cells = config.cells()
        known = {cell.label for cell in cells} | {part.label or part.name for part in config.separators}
        known |= {f"best of {cell.study}" for cell in cells} | {"best pick", "best single"}
        tables = paper_tables(name).tables
        named = {row.method for table in tables for row in table.rows}
        # each table has a row in both forms, and each of its studies is one
        assert all(not table.rows or {row.method for row in table.rows} & known for table in tables)
        studies = {table.study for table in tables} - {""}
        assert studies <= {cell.study for cell in cells} or not changes, (studies, named)


def test_a_recipe_that_nobody_knows_is_named_with_those_there_are(tmp_path):
    done = command("run", "mdx_mixr", cwd=tmp_path)
    assert done.returncode == 2
    assert "did you mean 'mdx_mixer'" in done.stderr


@pytest.mark.slow
def test_songs_of_a_band_are_made_where_they_are_missing(tmp_path):
    band = {"songs": {"train": 1, "test": 1}, "seconds": 1, "seed": 3}
    given = {
        "out": str(tmp_path / "run"),
        "store": str(tmp_path / "store"),
        "data": [{"path": str(tmp_path / "band"), "real": False, "band": band}],
        "separators": ["centre_channel"],
        "bounds": None,
        "players": {"tracks": 0},
        "workers": 1,
    }
    found = run(given)
    assert len(list((tmp_path / "band").glob("*/*/mixture.wav"))) == 2
    assert json.loads((found.path / "record.json").read_text())["finished"]
    with pytest.raises((ConfigError, RunError, ValueError), match=r"subset|train"):
        run(given | {"data": [{"path": str(tmp_path / "new"), "band": band | {"songs": {"tests": 1}}}]})
