"""Any option may be added to a finished run: what it needs is made, the rest is kept."""

import pytest

from stemfuse.experiments import run
from stemfuse.experiments.band import synthesize


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("added")
    synthesize(folder / "band", {"train": 1, "test": 2}, 1.0, seed=8)
    return {
        "out": str(folder / "run"),
        "store": str(folder / "store"),
        "data": [{"path": str(folder / "band"), "tracks": 1}],
        "separators": ["centre_channel", "harmonic_percussive"],
        "fusions": ["mean"],
        "bounds": None,
        "players": {"tracks": 0},
        "workers": 1,
    }


ADDED = (
    {"estimates": True},
    {"score": {"metrics": ["SI_SDR"]}},
    {"fusions": ["mean", "least_squares", {"name": "combine", "label": "median"}]},
    {"bounds": {"segment_frames": 1}},
    {"players": {"tracks": 1, "duration_s": 0.5}},
    {"score": {"hop_s": 0.5}},
    {"separators": ["centre_channel"]},
    {"seed": 3},
)


@pytest.mark.long
def test_options_are_added_one_after_the_other(recipe):
    run(recipe)
    for added in ADDED:
        recipe |= added
        finished = run(recipe)
        labels = {"centre_channel", *recipe["separators"], *finished.record().fusions}
        assert set(finished.scores()["fusion"].unique()) == labels, added
    assert len(list((finished.path / "estimates").rglob("*.wav"))) >= 3 * 4


@pytest.mark.parametrize("added", ADDED[:2])
@pytest.mark.slow
def test_an_option_is_added_to_a_finished_run(recipe, tmp_path, added):
    given = recipe | {"out": str(tmp_path / "run"), "separators": ["centre_channel"]}
    before = run(given).scores()
    after = run(given | added).scores()
    assert len(after) >= len(before)
    assert (tmp_path / "run/estimates/mean").is_dir() == ("estimates" in added)
