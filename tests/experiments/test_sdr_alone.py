"""Runs and folders that are scored by SDR alone: the values of the full scores, from statistics where there are any."""

import numpy as np
import pandas as pd
import pytest

from makers.commands import command
from stemfuse.experiments import parse_config, run
from stemfuse.experiments.band import synthesize
from stemfuse.separators import Stems

FUSIONS = [
    "mean",
    {"name": "least_squares", "options": {"stems": "all", "mixture": True}},
    {"name": "combine", "options": {"how": "median_wave"}},
    {"name": "residual"},
]
KEYS = ["track", "fusion", "source", "frame", "metric"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same run with all metrics, and by SDR alone; the songs end within a frame."""
    root = tmp_path_factory.mktemp("alone")
    synthesize(root / "band", {"train": 1, "test": 2}, 2.4, 3)
    given = {
        "store": str(root / "store"),
        "data": [str(root / "band")],
        "separators": ["harmonic_percussive", "centre_channel"],
        "fusions": FUSIONS,
        "players": {"tracks": 0},
        "workers": 1,
    }
    full = run(parse_config(given | {"out": str(root / "full")}))
    return root, full, run(parse_config(given | {"out": str(root / "alone"), "score": {"metrics": ["SDR"]}}))


def test_values_are_those_of_the_full_scores(runs):
    _, full, alone = runs
    expected, found = (own.scores().set_index(KEYS)["value"].sort_index() for own in (full, alone))
    expected = expected[expected.index.get_level_values("metric").isin(["SDR", "song_SDR"])]
    assert set(found.index.get_level_values("fusion")) == {"harmonic_percussive", "centre_channel", "mean"} | {
        "least_squares",
        "combine",
        "residual",
    }
    pd.testing.assert_index_equal(found.index, expected.index)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_constant_weights_are_scored_without_reading_the_songs(runs, monkeypatch):
    """Only what is after the last whole frame is read, under a second."""
    from stemfuse.experiments.stages.methods import FusionMethod, SeparatorMethod

    root, _, alone = runs
    read = []
    genuine = Stems.read

    def counted(self, start=0, stop=None):
        read.append((self.length if stop is None else stop) - start)
        return genuine(self, start, stop)

    def opened(self, track):
        raise AssertionError("audio was asked for")

    monkeypatch.setattr(Stems, "read", counted)
    monkeypatch.setattr(SeparatorMethod, "stems", opened)
    monkeypatch.setattr(FusionMethod, "stems", opened)
    config = parse_config(
        alone.config.model_dump(mode="json")
        | {"out": str(root / "again"), "fusions": ["mean", FUSIONS[1]], "bounds": {"bands_hz": None}}
    )
    again = run(config)
    assert max(read, default=0) < 44_100
    one, other = (own.scores().query("fusion == 'least_squares'")["value"].to_numpy() for own in (again, alone))
    np.testing.assert_array_equal(one, other)


def test_report_and_tables_are_made_of_sdr_alone(runs):
    _, _, alone = runs
    assert (alone.path / "report" / "index.html").is_file()
    done = command("table", alone.path)
    assert done.returncode == 0
    assert "least_squares" in done.stdout
    assert "ISR" not in done.stdout


def test_folders_are_scored_by_sdr_alone(runs, tmp_path):
    root, full, _ = runs
    entry = next((root / "store").rglob("harmonic_percussive-*"))
    given = ["score", "--references", root / "band", "--estimates", entry, "--metrics", "SDR", "--out", tmp_path / "s"]
    assert command(*given, "--missing", "skip").returncode == 0
    table = pd.read_parquet(tmp_path / "s" / "scores.parquet")
    assert set(table["metric"]) == {"SDR", "song_SDR"}
    keys = ["track", "source", "frame", "metric"]
    expected = full.scores().query("fusion == 'harmonic_percussive' and metric in ('SDR', 'song_SDR')")
    both = expected.merge(table, on=keys, suffixes=("_full", "_alone"))
    assert len(both) == len(expected)
    np.testing.assert_allclose(both["value_alone"], both["value_full"], rtol=0, atol=1e-9)
