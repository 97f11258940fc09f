"""The table, the card and the verdict of a comparison choose by one mean, whichever sources its separators have."""

import pandas as pd
import pytest

from stemfuse.analysis import common_mask, scores_table
from stemfuse.experiments import verdict as judging
from stemfuse.experiments.record import TrackRecord
from stemfuse.experiments.report import data_sets
from stemfuse.experiments.report.data_sets import DataSetScores
from stemfuse.experiments.report.tables import ScoreTable, comparisons

INF = float("inf")
FOUR = {"drums": 5.0, "bass": 6.0, "other": 7.0, "vocals": 8.0}
FUSED = ("sharp", "even")


def scored(methods, songs=8):
    """Scores of songs that are 0.1 dB apart, as a run has them; two methods are fusions."""
    scores = pd.concat(
        [
            scores_table(
                f"song {song}", name, list(values), {"SDR": [[value + song / 10] for value in values.values()]}
            )
            for song in range(songs)
            for name, values in methods.items()
        ],
        ignore_index=True,
    )
    masked, dropped = common_mask(scores)
    tracks = tuple(TrackRecord(name=name) for name in masked["track"].unique())
    return DataSetScores("set", None, tracks, scores, masked, dropped, tuple(methods), FUSED, {})


def judged(data, monkeypatch):
    """Verdicts on a run that has these scores, and why there are none."""
    monkeypatch.setattr(data_sets, "scored_data", lambda run: [data])
    return judging.verdicts(None), judging.without_verdict(None), judging.best_fusion(None)


# sharp is the better fusion of vocals, even that of all sources
SHARP, EVEN = dict.fromkeys(FOUR, 4.0) | {"vocals": 12.0}, {name: value + 1 for name, value in FOUR.items()}
CASES = {
    "one of vocals alone": ({"a": FOUR, "voice": {"vocals": 8.5}}, "a", 1.0),
    "complementary ones beside whole ones": (
        {"a": FOUR, "voice": {"vocals": 8.5}, "rest": {"drums": 4.0, "bass": 5.0, "other": 6.0}},
        "a",
        1.0,
    ),
    "complementary ones alone": (
        {"voice": {"vocals": 8.5}, "rest": {"drums": 4.0, "bass": 5.0, "other": 6.0}},
        "best per source",
        27.0 / 4 + 3 / 4 - 23.5 / 4,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_choice_gain_and_verdict_are_by_one_mean(case, monkeypatch):
    singles, baseline, gain = CASES[case]
    gain = sum(EVEN.values()) / 4 - 23.5 / 4 if baseline == "best per source" else gain
    data = scored({**singles, "sharp": SHARP, "even": EVEN})
    table = ScoreTable.of(data, "SDR")
    (found,), reasons, best = judged(data, monkeypatch)
    assert not reasons
    assert table.sources == found.sources == tuple(FOUR)
    assert table.winner == table.best_fusion == found.best == best == "even"
    assert found.best_single == baseline
    assert found.gain_db == pytest.approx(gain)
    over = table.gain_over_pick("even") if baseline == "best per source" else table.gain("even", "mean")
    if case != "complementary ones beside whole ones":
        assert over == pytest.approx(gain)
    assert table.grid["mean"].isna()["voice"]
    means = {row["fusion"]: row["difference"] for against in comparisons(data)[:1] for row in against.means}
    assert means["even"] == pytest.approx(gain)
    assert "enough songs? yes: the interval excludes 0, p = 0.016" in found.lines()
    assert found.lines()[-1].startswith("the best of 2 fusions, picked on these very songs; ")
    assert found.picked_db == pytest.approx(found.gain_db), "all other songs pick the same"


def test_the_verdict_names_the_best_of_each_source(monkeypatch):
    singles = CASES["complementary ones alone"][0]
    (found,), _, _ = judged(scored({**singles, "sharp": SHARP, "even": EVEN}), monkeypatch)
    first, second = found.lines()[:2]
    assert first == (
        "no separator has all of drums, bass, other, vocals; the best of each source: drums: rest; bass: rest; "
        "other: rest; vocals: voice"
    )
    assert second.startswith("best of each source, ")
    assert found.to_dict()["picks"]["vocals"] == "voice"


def test_a_source_that_no_separator_has_is_in_no_mean_and_named(monkeypatch):
    pair = {"vocals": 9.0, "accompaniment": 13.0}
    data = scored({"one": {"vocals": 5.0}, "two": {"vocals": 6.0}, "sharp": pair, "even": pair})
    (found,), _, _ = judged(data, monkeypatch)
    assert (found.sources, found.others, found.best_single) == (("vocals",), ("accompaniment",), "two")
    assert found.gain_db == pytest.approx(3)
    assert "mean over vocals; left out" in found.lines()[1]
    assert ScoreTable.of(data, "SDR").averaged_in_words == "vocals"


@pytest.mark.parametrize(
    ("songs", "doubt", "needed"),
    [
        (1, "1 song is too few for an interval, which takes 5", 7),
        (4, "4 songs are too few for an interval, which takes 5", 7),
        (6, "6 songs cannot reach p < 0.05 for the best of 2 fusions", 7),
        (7, "", None),
    ],
)
def test_few_songs_prove_nothing_however_large_the_gain(songs, doubt, needed, monkeypatch):
    (found,), _, _ = judged(scored({"a": FOUR, "sharp": SHARP, "even": EVEN}, songs), monkeypatch)
    assert (found.doubt, found.songs_needed, found.is_sure) == (doubt, needed, not doubt)
    assert found.gain_db == pytest.approx(1)


def test_stems_that_equal_the_references_are_named(monkeypatch):
    perfect = dict.fromkeys(FOUR, INF)
    data = scored({"a": FOUR, "copy": perfect, "sharp": SHARP, "even": EVEN})
    (found,), _, _ = judged(data, monkeypatch)
    assert found.perfect == ("copy",)
    assert found.lines()[-1].startswith("copy: stems equal the references")
    found, (reason,), best = judged(scored(dict.fromkeys(("a", "b", *FUSED), perfect)), monkeypatch)
    assert (found, best) == ([], "")
    assert reason.startswith("no verdict on set: a, b: stems equal the references")
    # least squares leaves rounding, and has a finite value where the separators have none
    data = scored({**dict.fromkeys(("a", "b", "even"), perfect), "sharp": dict.fromkeys(FOUR, 130.0)})
    found, (reason,), best = judged(data, monkeypatch)
    assert (found, best, list(comparisons(data))) == ([], "sharp", [])
    assert reason.startswith("no verdict on set: a, b: stems equal the references")
