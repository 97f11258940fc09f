"""What can be known to be wrong is refused before anything is separated or decoded, as wrong usage."""

import warnings

import numpy as np
import pytest
import soundfile

from makers.audio import write_systems
from stemfuse.blending import FusionError, MixingWeights, bounds, load_fusion
from stemfuse.experiments import ConfigError, parse_config
from stemfuse.experiments.outputs import check_output, check_store
from stemfuse.experiments.plan import plan_run
from stemfuse.experiments.report.fusions import bound_tables
from stemfuse.experiments.run import BOUNDS, Run
from stemfuse.experiments.stages import adopt_folder
from stemfuse.experiments.stages.fuse import fuse_paths
from stemfuse.experiments.stages.single_fit import fit_fusion
from stemfuse.separators import SOURCES, Track, TrackError


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two songs of speech and music; ``b`` and ``c`` have speech alone."""
    root = tmp_path_factory.mktemp("known")
    write_systems(root, 2, {"a": 0.02, "b": 0.03, "c": 0.04})
    for system in "bc":
        for file in (root / system).rglob("music.wav"):
            file.unlink()
    for system in "abc":
        adopt_folder(
            root / system, system, root / "songs", root / "store", "as-is", mixture="sum", show=lambda line: None
        )
    return root


def plan(place, fusion, systems="ab"):
    return plan_run(
        parse_config(
            {
                "out": str(place / "run"),
                "store": str(place / "store"),
                "data": [{"path": str(place / "songs"), "mixture": "sum"}],
                "separators": [{"name": system, "stored": True} for system in systems],
                "fusions": [fusion],
                "workers": 1,
            }
        )
    )


@pytest.mark.parametrize(
    ("fusion", "systems", "words"),
    [
        ({"name": "uhlich2017", "label": "one"}, "ab", "fusion one: music: got no stem of it by b"),
        ({"name": "residual", "options": {"base": "uhlich2017"}}, "ab", "fusion residual: music: got no stem of it"),
        ("residual", "bc", "fusion residual: got a blend of speech; a residual needs the estimates of all"),
        ({"name": "fixed", "options": {"blend": "kuielab-mdx"}}, "abc", "fusion fixed: preset kuielab-mdx: got 3 sep"),
    ],
)
def test_a_run_refuses_fusions_that_its_separators_cannot_make(place, fusion, systems, words):
    with pytest.raises(ConfigError, match=words) as refused:
        plan(place, fusion, systems)
    assert refused.value.is_usage
    assert not (place / "run").exists()


@pytest.mark.parametrize("fusion", ["uhlich2017", "residual"])
def test_what_can_be_fitted_is_not_refused(place, fusion):
    assert plan(place, fusion, "bc" if fusion == "uhlich2017" else "ab").fusions


def test_weights_of_other_separators_are_refused_by_run_and_fit(place, tmp_path):
    weights = {source: {"x": 0.5, "y": 0.5} for source in ("speech", "music")}
    file = tmp_path / "other.npz"
    MixingWeights.same_source(weights, channels=2).save(file)
    words = "its weights are for x, y, got a, b; x is missing"
    with pytest.raises(ConfigError, match=f"fusion fixed: .*{words}"):
        plan(place, {"name": "fixed", "options": {"blend": str(file)}})
    with pytest.raises(FusionError, match=words) as refused:
        fit_fusion(
            "fixed", {"blend": str(file)}, place / "songs", place / "store", "ab", tmp_path / "new.npz", mixture="sum"
        )
    assert refused.value.is_usage


def test_a_part_of_a_sum_that_no_track_has_is_wrong_usage(place, tmp_path):
    with pytest.raises(TrackError, match=r"no track has musik .*did you mean 'music'") as refused:
        fit_fusion(
            "mean",
            {},
            place / "songs",
            place / "store",
            "ab",
            tmp_path / "new.npz",
            mixture="sum",
            sources={"speech": ("speech",), "rest": ("musik",)},
        )
    assert refused.value.is_usage


def test_a_database_without_a_driver_is_found_before_anything_is_read(place, tmp_path):
    pytest.importorskip("optuna")
    for storage, words in (("nosuch://u@h/x", "nosuch"), ("postgresql+nodriver://u@h/x", "nodriver")):
        with pytest.raises(FusionError, match=words) as refused:
            fit_fusion("search", {"storage": storage}, place / "nowhere", place / "store", "ab", tmp_path / "o.npz")
        assert refused.value.is_usage


def test_a_folder_that_takes_no_files_is_found_before(tmp_path, monkeypatch):
    def refuse(**places):
        raise OSError(2, "No such file or directory")

    monkeypatch.setattr("stemfuse.experiments.outputs.tempfile.TemporaryFile", refuse)
    with pytest.raises(ConfigError, match="takes no files"):
        check_output(tmp_path / "o.npz")


def test_a_file_is_no_store(place, tmp_path):
    (tmp_path / "store").write_text("")
    with pytest.raises(ConfigError, match="got a file, expected the folder of a stem store"):
        check_store(tmp_path / "store")
    with pytest.raises(ConfigError, match="got a file, expected the folder of a stem store"):
        adopt_folder(place / "a", "a", place / "songs", tmp_path / "store", mixture="sum")


def test_a_folder_is_no_fusion(tmp_path):
    with pytest.raises(FusionError, match="got a folder, expected a file that stemfuse fit saved") as refused:
        load_fusion(tmp_path)
    assert refused.value.is_usage


def test_bounds_of_other_columns_name_what_is_missing(tmp_path):
    run = Run(tmp_path)
    (tmp_path / BOUNDS).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / BOUNDS).write_text("a,b\n1,2\n")
    run.checksums.keep([tmp_path / BOUNDS])
    with pytest.raises(Exception, match=r"got the columns a, b, expected data too"):
        bound_tables(run)


def test_bounds_of_perfect_stems_with_pauses_say_nothing():
    references = np.random.default_rng(0).normal(0, 0.1, (4, 2, 5 * 44_100))
    references[..., 44_100:88_200] = 0
    # of some frames perfect, of others not: the perfect ones are infinitely far from the median
    near = references.copy()
    near[..., 3 * 44_100 :] *= 0.9
    track = Track.from_arrays("song", references.sum(0), references, {"a": references, "b": near})
    alike = Track.from_arrays("song", references.sum(0), references, {"a": near, "b": near})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = bounds([track])
        bounds([alike])
    assert set(table["source"]) == {*SOURCES, "mean"}


def test_songs_of_one_name_are_fused_to_trees_that_can_be_read_back(tmp_path):
    for number, name in enumerate(("D1", "D2")):
        for song in ("one", "two")[: number + 1]:
            parts = np.random.default_rng(number).normal(0, 0.1, (4, 22_050, 2))
            for source, samples in zip((*SOURCES, "mixture"), (*parts, parts.sum(0)), strict=True):
                file = tmp_path / name / "test" / song / f"{source}.wav"
                file.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(file, samples, 44_100, subtype="FLOAT")
    weights = {source: {"a": 1.0} for source in SOURCES}
    MixingWeights.same_source(weights, channels=2).save(tmp_path / "a.npz")
    for name in ("D1", "D2"):
        adopt_folder(tmp_path / name, "a", tmp_path / name, tmp_path / "store", show=lambda line: None)
    sets = [tmp_path / "D1", tmp_path / "D2"]
    folders = fuse_paths(tmp_path / "a.npz", sets, tmp_path / "out", tmp_path / "store", ["a"], workers=1)
    assert [str(folder.relative_to(tmp_path / "out")) for folder in folders] == [
        "D1/test/one",
        "D2/test/one",
        "D2/test/two",
    ]
    for name in ("D1", "D2"):
        entries = adopt_folder(
            tmp_path / "out" / name, "again", tmp_path / name, tmp_path / "store", show=lambda line: None
        )
        assert len(entries) == len(list((tmp_path / name / "test").iterdir()))
