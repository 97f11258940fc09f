import json
import os
import shutil

import numpy as np
import pytest
import soundfile

from makers.commands import command, process
from makers.places import ROOT
from stemfuse.blending import MixingWeights, load_fusion, make_fusion
from stemfuse.experiments import load_config, open_data, parse_config, run
from stemfuse.experiments.band import synthesize
from stemfuse.experiments.plan import plan_run
from stemfuse.experiments.run import Run
from stemfuse.experiments.stages import fit as fit_stage
from stemfuse.experiments.stages import fit_fusion, fuse_paths, separate
from stemfuse.experiments.workers import silent
from stemfuse.separators import SOURCES, StemfuseError, StemStore, load_separator

SEPARATORS = ("harmonic_percussive", "centre_channel")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two songs to fit on and one to test on, and a store with the stems of two separators."""
    folder = tmp_path_factory.mktemp("fusing")
    synthesize(folder / "band", {"train": 2, "test": 1}, 3.0, seed=8)
    fit_fusion("mean", {}, folder / "band", folder / "store", SEPARATORS, folder / "mean.npz", workers=1)
    return folder


def fit(place, name, out, **options):
    return fit_fusion(name, options, place / "band", place / "store", SEPARATORS, place / out, workers=1)


def test_fit_saves_what_load_reads_and_shows_scores(place):
    table = fit(place, "least_squares", "squares.npz", mixture=True)
    left_out = ["mean, left out in turn", "least_squares, left out in turn"]
    methods = [*SEPARATORS, "mean", "least_squares", *left_out]
    assert list(table.iloc[:, 0][: len(methods)]) == methods
    assert list(table.columns[1:]) == [*SOURCES, "mean", "note"]
    fusion = load_fusion(place / "squares.npz")
    assert fusion.weights_.separators == SEPARATORS
    assert fusion.separators_["centre_channel"]["name"] == "centre_channel"
    means = table.set_index("SDR, dB")["mean"]
    assert means["least_squares"] >= means[:4].max() - 0.5
    best = means[list(SEPARATORS)].idxmax()
    assert means["gain over the mean"] == pytest.approx(means[left_out[1]] - means[left_out[0]])
    assert means[f"gain over the best separator, {best}"] == pytest.approx(means[left_out[1]] - means[best])
    notes = table.set_index("SDR, dB")["note"]
    assert notes["gain over the mean"] == "2 songs are too few for an interval"
    # the statistics lie beside the stems: no audio is read again
    assert len(list((place / "store/.gram").rglob("gram-*.npz"))) >= 2


def test_fusing_a_data_set_gives_musevals_tree_and_goes_on_where_it_stopped(place, tmp_path):
    folders = fuse_paths(place / "mean.npz", [place / "band"], tmp_path / "out", place / "store", workers=1)
    assert len(folders) == 3
    test = next(folder for folder in folders if folder.parent.name == "test")
    assert sorted(path.name for path in test.iterdir()) == sorted(f"{source}.wav" for source in SOURCES)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.wav")}
    shutil.rmtree(test)
    fuse_paths(place / "mean.npz", [place / "band"], tmp_path / "out", place / "store", workers=1)
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.wav")}
    changed = {path.parent for path in after if after[path] != stamps[path]}
    assert changed == {test}
    assert set(after) == set(stamps)


def test_stems_that_are_damaged_are_named_and_missing_ones_made_again(place, tmp_path, caplog):
    def fuse(**options):
        caplog.clear()
        fuse_paths(place / "mean.npz", [place / "band" / "test"], tmp_path, place / "store", workers=1, **options)
        return [message for message in caplog.messages if "since it was fused" in message]

    assert fuse() == []
    (folder,) = (path for path in tmp_path.rglob("*") if (path / "bass.wav").is_file())
    before = {path.name: path.read_bytes() for path in folder.glob("*.wav")}
    (folder / "bass.wav").unlink()
    assert fuse() == []
    assert (folder / "bass.wav").read_bytes() == before["bass.wav"]
    flipped = bytearray(before["drums.wav"])
    flipped[len(flipped) // 2] ^= 1
    (folder / "drums.wav").write_bytes(flipped)
    for _ in range(2):
        (said,) = fuse()
        assert "drums.wav: damaged or changed since it was fused, and left as it is; --replace" in said
        assert (folder / "drums.wav").read_bytes() == bytes(flipped), "someone may have edited it"
    assert fuse(replace=True) == []
    assert {path.name: path.read_bytes() for path in folder.glob("*.wav")} == before


def test_a_song_without_a_store_is_separated_by_what_the_file_names(place, tmp_path):
    track = open_data(place / "band").tracks("test")[0]
    song = tmp_path / "A song.wav"
    shutil.copy(place / "band/test" / track.name / "mixture.wav", song)
    (folder,) = fuse_paths(place / "mean.npz", [song], tmp_path / "out", save_weights=True, workers=1)
    assert folder == tmp_path / "out/A song"
    assert [path.name for path in tmp_path.joinpath("out").iterdir() if path.name.startswith(".stems")] == []
    weights = MixingWeights.load(folder / "weights.npz")
    fusion = load_fusion(place / "mean.npz")
    assert np.array_equal(weights.matrix, fusion.weights_.matrix)
    store = StemStore(tmp_path / "store")
    for name in SEPARATORS:
        separator = load_separator(name)
        store.put(track, separator, separator.separate(track.mixture.read(), track.rate))
    attached = store.attach(track, {name: store.find(name) for name in SEPARATORS})
    ours, _ = soundfile.read(folder / "bass.wav", dtype="float32")
    np.testing.assert_allclose(ours.T, fusion.fuse(attached)["bass"].read(0, track.length), atol=1e-6)


def test_errors_are_clear_messages(place, tmp_path):
    with pytest.raises(StemfuseError, match="no tracks in nowhere"):
        fit_fusion("mean", {}, place / "band", place / "store", SEPARATORS, tmp_path / "x.npz", train=["nowhere"])
    with pytest.raises(StemfuseError, match="no separator named 'unknown'"):
        fit_fusion("mean", {}, place / "band", place / "store", ["unknown"], tmp_path / "x.npz")
    with pytest.raises(StemfuseError, match="no separators given, expected at least one"):
        fit_fusion("mean", {}, place / "band", place / "store", [], tmp_path / "x.npz")
    with pytest.raises(StemfuseError, match="two tracks would be written"):
        fuse_paths(place / "mean.npz", [place / "band", place / "band"], tmp_path / "out", place / "store")
    fit(place, "combine", "median.json", how="median_wave")
    with pytest.raises(StemfuseError, match="no weights to save"):
        fuse_paths(place / "median.json", [place / "band"], tmp_path / "out", place / "store", save_weights=True)
    bare = MixingWeights.load(place / "mean.npz")
    bare.save(tmp_path / "bare.npz")
    assert len(fuse_paths(tmp_path / "bare.npz", [place / "band"], tmp_path / "bare", place / "store", workers=1)) == 3


def test_stems_of_an_adopted_separator_are_needed(place, tmp_path):
    fusion = load_fusion(place / "mean.npz")
    fusion.separators_ = {name: {"name": name, "adopted": {}} for name in SEPARATORS}
    fusion.save(tmp_path / "adopted.npz")
    with pytest.raises(StemfuseError, match="cannot be made here; give its stems with --stems"):
        fuse_paths(tmp_path / "adopted.npz", [place / "band"], tmp_path / "out", workers=1)


@pytest.mark.slow
def test_fit_fuse_and_export_through_the_command_line(place, tmp_path):
    options = ["--data", place / "band", "--store", place / "store", "--workers", 1]
    both = ["--separators", f"{SEPARATORS[0]},front={SEPARATORS[1]}"]
    blend = tmp_path / "search.npz"
    result = command("fit", "search", *options, *both, "--option", "trials=12", "--out", blend)
    assert result.returncode == 0, result.stderr
    assert "search" in result.stdout
    assert load_fusion(blend).weights_.separators == (SEPARATORS[0], "front")
    given = ["--store", place / "store", "--workers", 1]
    result = command("fuse", blend, place / "band", *given, "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 3
    result = command("export", blend, "--as", "msst", "--out", tmp_path / "ensemble.sh")
    assert result.returncode == 0, result.stderr
    assert "ensemble.py" in (tmp_path / "ensemble.sh").read_text()
    for arguments, code, words in (
        (["export", blend, "--as", "dragon", "--out", tmp_path / "x"], 2, "expected one of"),
        (["export", blend, "--as", "demucs", "--out", tmp_path / "x"], 2, "models is missing"),
        (["export", blend, "--as", "kuielab", "--out", tmp_path / "x"], 1, "one separator"),
        (["fit", "dragon", *options, *both, "--out", tmp_path / "x"], 2, "dragon"),
        (["fuse", tmp_path / "none.npz", place / "band", "--out", tmp_path / "y"], 2, "no such file"),
    ):
        result = command(*arguments)
        assert result.returncode == code, (arguments, result.stderr)
        assert words in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_a_run_of_the_ladder_keeps_bounds_searches_and_warnings(place, tmp_path):
    """Every rung in one run, and what the report shows of it."""
    pytest.importorskip("torch")
    data = tmp_path / "leaky"
    shutil.copytree(place / "band", data)
    trained_on = next((data / "train").iterdir())
    shutil.copytree(trained_on, data / "test" / "the same song")
    finished = run(
        {
            "out": str(tmp_path / "run"),
            "store": str(tmp_path / "store"),
            "data": [{"path": str(data), "real": False}],
            "separators": list(SEPARATORS),
            "fusions": [
                "mean",
                "residual",
                "least_squares",
                {"name": "search", "options": {"trials": 12}},
                {"name": "conv1x1", "options": {"solver": "exact"}},
                {"name": "gram_mixer", "options": {"epochs": 2}},
            ],
            "bounds": {"bands_hz": [1000.0]},
            "players": {"tracks": 1, "duration_s": 1.0},
            "workers": 1,
        }
    )
    record = finished.record()
    assert any("test tracks are among the tracks" in warning for warning in record.warnings)
    assert set(record.fusions["search"].studies) == set(SOURCES)
    page = Run.open(finished.path).report_path.read_text("utf-8")
    for words in (
        "What could be reached",
        "oracle track, bands",
        "What each separator is worth",
        "history of the search",
    ):
        assert words in page, words
    for words in ("weights over time of gram_mixer", "training of gram_mixer", "mixing matrix of conv1x1"):
        assert words in page, words
    assert "Warning:" in page
    assert (finished.path / "fusions/search.journal").is_file()
    assert "gain of searching" in page


SEARCH = {"name": "search", "options": {"trials": 30}}
DRAWING = ["least_squares", SEARCH, {"name": "gram_mixer", "options": {"epochs": 1}}]


def fit_with_seed(place, out, seed, fusions):
    """A run that has only separated and fitted."""
    plan = plan_run(
        parse_config(
            {
                "out": str(out),
                "store": str(place / "store"),
                "data": [str(place / "band")],
                "separators": list(SEPARATORS),
                "fusions": fusions,
                "workers": 1,
                "seed": seed,
            }
        )
    )
    started = Run(out)
    for stage in (separate, fit_stage):
        stage(plan, started, silent)
    return started


@pytest.mark.slow
def test_the_seed_of_a_recipe_reaches_all_that_draws_and_nothing_else(place, tmp_path):
    pytest.importorskip("torch")
    runs = [fit_with_seed(place, tmp_path / name, seed, DRAWING) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    zero, again, one = (run.record().fusions for run in runs)
    store = StemStore(place / "store")
    keys = {name: store.find(name) for name in SEPARATORS}
    track = store.attach(open_data(place / "band").tracks("test")[0], keys)
    for label in zero:
        arrays = [run.fusion(label).fuse(track).audio for run in runs]
        drawn = label != "least_squares"
        assert np.array_equal(arrays[0], arrays[1]), label
        assert np.array_equal(arrays[0], arrays[2]) != drawn, label
        assert zero[label].digest == again[label].digest
        assert (zero[label].digest != one[label].digest) == drawn
    assert one["search"].options == {"trials": 30, "seed": 1}
    assert one["least_squares"].options == {}
    assert runs[2].fusion("gram_mixer").arguments()["seed"] == 1, "it is in what is saved"
    before = runs[0].fusion("search").constant_weights.matrix
    # another seed in the same folder does not go on with the trials of the first
    other = fit_with_seed(place, tmp_path / "a", 1, [SEARCH])
    assert np.array_equal(other.fusion("search").constant_weights.matrix, runs[2].fusion("search").weights_.matrix)
    given = fit_with_seed(place, tmp_path / "d", 1, [{"name": "search", "options": {"trials": 30, "seed": 0}}])
    assert np.array_equal(given.fusion("search").constant_weights.matrix, before), "its own seed is kept"


RECIPES = sorted(path for path in ROOT.glob("docs/recipes/*.yaml") if "train-" not in path.name)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes_are_valid(recipe):
    config = load_config(recipe)
    for part in config.fusions:
        make_fusion(part.name, **part.options)


def test_there_are_recipes():
    assert len(RECIPES) >= 3


@pytest.mark.slow
def test_json_is_for_programs(place, tmp_path):
    data = ["--data", place / "band", "--store", place / "store", "--separators", ",".join(SEPARATORS)]
    narrow = {**os.environ, "COLUMNS": "20"}
    result = process("fit", "least_squares", *data, "--workers", 1, "--out", tmp_path / "a.npz", "--json", env=narrow)
    assert result.returncode == 0, result.stderr
    found = {row["SDR, dB"]: row for row in json.loads(result.stdout)}
    weights = found["least_squares"]["weights"]
    assert set(weights) == set(SOURCES)
    assert set(weights["vocals"]) == {*SEPARATORS, "sum"}
    rows = list(found)
    assert len(rows) == 8
    assert rows[-1] == "gain over the mean"


@pytest.mark.slow
@pytest.mark.parametrize("inner", ["least_squares", "mean", "uhlich2017"])
def test_all_files_of_a_bandwise_fusion_are_kept_and_looked_at(place, tmp_path, caplog, inner):
    def refit(out, **options):
        given = (place / "band", place / "store", SEPARATORS, tmp_path / out)
        fit_fusion("bandwise", {"edges_hz": [1000.0], "fusion": inner} | options, *given, folds=0, workers=1)

    def fuse(out, **options):
        (folder,) = fuse_paths(tmp_path / "blend.json", [song], tmp_path / out, place / "store", workers=1, **options)
        return {file.name: file.read_bytes() for file in folder.glob("*.wav")}

    song = place / "band" / "test" / open_data(place / "band").tracks("test")[0].name
    refit("blend.json")
    first, weights = fuse("out"), (tmp_path / "blend.bands.npz").read_bytes()
    # the description stays, the weights are other
    blend = MixingWeights.load(tmp_path / "blend.bands.npz")
    kept = json.loads((tmp_path / "blend.json").read_text())
    arrays = dict(np.load(tmp_path / "blend.bands.npz"))
    np.savez(tmp_path / "blend.bands.npz", **(arrays | {"matrix": 0.5 * blend.matrix}))
    assert json.loads((tmp_path / "blend.json").read_text()) == kept
    with pytest.raises(StemfuseError, match="by another fusion, are there already"):
        fuse("out")
    assert fuse("out", replace=True) == fuse("fresh") != first
    refit("blend.json")
    assert "blend.json was there already: it is kept as blend.1.json" in caplog.text
    assert (tmp_path / "blend.bands.npz").read_bytes() == weights
    np.testing.assert_array_equal(MixingWeights.load(tmp_path / "blend.1.bands.npz").matrix, 0.5 * blend.matrix)
    assert fuse("out", replace=True) == first


@pytest.mark.parametrize("sources", [("vocals",), ("drums", "bass"), ("bass", "other", "vocals")])
def test_replaced_stems_leave_nothing_of_the_other_fusion(tmp_path, sources):
    song, out = tmp_path / "song.wav", tmp_path / "out"
    soundfile.write(song, np.random.default_rng(0).normal(0, 0.1, (22_050, 2)), 44_100, subtype="FLOAT")
    for name, of in (("all", SOURCES), ("some", sources)):
        MixingWeights.same_source({source: {"centre_channel": 0.5} for source in of}).save(tmp_path / f"{name}.npz")
    fuse_paths(tmp_path / "all.npz", [song], out, tmp_path / "store", workers=1, save_weights=True)
    (out / "song" / "notes.txt").write_text("mine")
    soundfile.write(out / "song" / "mine.wav", np.zeros(100), 44_100)
    fuse_paths(tmp_path / "some.npz", [song], out, tmp_path / "store", workers=1, replace=True)
    written = {f"{source}.wav" for source in sources}
    assert {file.name for file in (out / "song").iterdir()} == {*written, "notes.txt", "mine.wav"}
    assert {name.partition("/")[2] for name in json.loads((out / ".checksums.json").read_text())["files"]} == written


@pytest.mark.parametrize("package", ["numpy", "scipy", "stemfuse"])
def test_songs_are_fused_again_by_other_versions(place, tmp_path, monkeypatch, package):
    def fuse():
        (folder,) = fuse_paths(place / "mean.npz", [place / "band" / "test"], tmp_path, place / "store", workers=1)
        return {file: file.stat().st_mtime_ns for file in folder.glob("*.wav")}

    first = fuse()
    assert fuse() == first
    versions = {"stemfuse": "1", "numpy": "1", "scipy": "1", package: "2"}
    monkeypatch.setattr("stemfuse.experiments.stages.fuse.fit_versions", lambda fusion: versions)
    assert fuse().keys() == first.keys()
    assert fuse() != first
