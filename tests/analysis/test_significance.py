"""Planted differences are found, with the right size, sign and certainty; where there is none, none is found."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from stemfuse.analysis.aggregates import aggregate, by_source
from stemfuse.analysis.errors import ScoreError
from stemfuse.analysis.picks import LEFT_OUT_PICK, best_single, with_best_per_source, with_left_out_pick
from stemfuse.analysis.scores import check_scores, common_mask, scores_table
from stemfuse.analysis.significance import compare, fewest_tracks_to_prove
from stemfuse.separators.labels import BEST_PER_SOURCE

SOURCES = ("drums", "bass", "other", "vocals")
NAN = float("nan")
COLUMNS = [
    "fusion",
    "baseline",
    "source",
    "metric",
    "tracks",
    "value",
    "baseline_value",
    "difference",
    "low",
    "high",
    "p",
    "p_holm",
    "proven",
    "win_rate",
    "effect_size",
    "note",
]


def scores_of(methods, sources=("bass",), metric="SDR"):
    """A table from track scores: one array (track, source) per method, each value standing in three frames."""
    spread = np.array([-1.0, 0.0, 1.0])
    return check_scores(
        pd.concat(
            scores_table(f"track {number}", name, sources, {metric: row[:, None] + spread})
            for name, values in methods.items()
            for number, row in enumerate(np.reshape(values, (-1, len(sources))))
        )
    )


def row_of(table, source="bass", fusion=None):
    rows = table[(table["source"] == source) & ((table["fusion"] == fusion) if fusion else True)]
    assert len(rows) == 1
    return rows.iloc[0]


class TestPlantedDifferences:
    def test_columns_rows_and_counts(self):
        rng = np.random.default_rng(0)
        table = compare(scores_of({n: rng.normal(5, 2, (8, 4)) for n in ("one", "two", "three")}, SOURCES), "two")
        assert list(table.columns) == COLUMNS
        assert table["fusion"].unique().tolist() == ["one", "three"]
        assert table["source"].head(5).to_list() == [*SOURCES, "mean"]
        assert (table["tracks"] == 8).all()
        assert (table["note"] == "").all()
        assert not table[COLUMNS[4:-1]].isna().any(axis=None)

    @pytest.mark.parametrize("tracks", ["median", "mean"])
    def test_constant_gain_is_certain(self, tracks):
        base = np.random.default_rng(1).normal(5, 2, (20, 4))
        gains = np.array([0.3, -0.2, 0.1, 0.6])
        table = compare(scores_of({"base": base, "fused": base + gains}, SOURCES), "base", over_tracks=tracks)
        assert table["difference"].to_numpy() == pytest.approx([*gains, 0.2])
        assert table["low"].to_numpy() == pytest.approx([*gains, 0.2])
        assert table["high"].to_numpy() == pytest.approx([*gains, 0.2])
        assert table["win_rate"].to_list() == [1, 0, 1, 1, 1]
        assert table["effect_size"].to_list() == [1, -1, 1, 1, 1]
        assert table["p"].to_numpy() == pytest.approx(np.full(5, stats.wilcoxon(np.ones(20)).pvalue))

    @pytest.mark.parametrize("tracks", ["median", "mean"])
    def test_values_are_the_aggregates(self, tracks):
        rng = np.random.default_rng(2)
        scores = scores_of({n: rng.normal(5, 2, (11, 4)) for n in ("base", "x", "y")}, SOURCES)
        table = compare(scores, "base", over_tracks=tracks, resamples=10)
        grid = by_source(aggregate(scores, over_tracks=tracks))
        pd.testing.assert_frame_equal(by_source(table), grid.loc[["x", "y"]])
        pd.testing.assert_frame_equal(by_source(table, value="difference"), grid.loc[["x", "y"]] - grid.loc["base"])
        assert by_source(table, value="baseline_value").loc["y"].to_numpy() == pytest.approx(
            grid.loc["base"].to_numpy()
        )

    def test_median_of_medians_is_not_the_median_difference(self):
        scores = scores_of({"base": [1.0, 2.0, 9.0], "fused": [3.0, 2.5, 0.0]})
        row = row_of(compare(scores, "base"))
        assert row["difference"] == 2.5 - 2.0  # the median of the differences would be 0.5 too late: 2, 0.5, -9
        assert row["win_rate"] == pytest.approx(2 / 3)

    def test_whole_song_values(self):
        tables = [
            scores_table(f"t{number}", name, ["bass"], {"SDR": [[0.0]]}, {"song_SDR": [number + gain]})
            for number in range(6)
            for name, gain in (("base", 0), ("fused", 0.5))
        ]
        row = row_of(compare(pd.concat(tables), "base", metric="song_SDR", over_frames="song", over_tracks="mean"))
        assert (row["value"], row["difference"], row["metric"]) == (3.0, 0.5, "song_SDR")


class TestSignedRanks:
    def test_equals_scipy(self):
        rng = np.random.default_rng(3)
        base = rng.normal(5, 2, 30)
        fused = base + rng.normal(0.3, 0.8, 30)
        row = row_of(compare(scores_of({"base": base, "fused": fused}), "base"))
        assert row["p"] == pytest.approx(stats.wilcoxon(fused, base).pvalue, rel=1e-9)
        assert row["win_rate"] == np.mean(fused > base)
        plus = stats.wilcoxon(fused, base, alternative="greater").statistic  # sum of the positive ranks
        assert row["effect_size"] == pytest.approx(2 * plus / (30 * 31 / 2) - 1)

    def test_textbook_values(self):
        """Eight wins and two losses of ranks 1 and 2: W- = 3, and 5 of the 1024 sign patterns are as low."""
        gains = np.array([-0.1, -0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
        row = row_of(compare(scores_of({"base": np.zeros(10), "fused": gains}), "base"))
        assert row["p"] == pytest.approx(2 * 5 / 1024)
        assert row["win_rate"] == 0.8
        assert row["effect_size"] == pytest.approx((52 - 3) / 55)

    def test_ties_count_half_and_leave_the_test(self):
        base = np.arange(8.0)
        fused = base + np.array([0, 0, 1e-9, 0.1, 0.2, 0.3, 0.4, -0.05])  # 1e-9 dB is rounding
        row = row_of(compare(scores_of({"base": base, "fused": fused}), "base"))
        assert row["win_rate"] == (4 + 1.5) / 8
        assert row["effect_size"] == pytest.approx((2 + 3 + 4 + 5 - 1) / 15)
        assert row["p"] == pytest.approx(2 * 2 / 2**5)

    def test_identical_methods(self):
        values = np.random.default_rng(4).normal(5, 2, (9, 4))
        table = compare(scores_of({"base": values, "copy": values}, SOURCES), "base")
        assert (table[["difference", "low", "high", "effect_size"]] == 0).all(axis=None)
        assert (table["win_rate"] == 0.5).all()
        assert (table["p"] == 1).all()

    def test_holm_over_methods_of_a_source(self):
        """Holm: the smallest of m p-values times m, the next times m - 1, never falling."""
        rng = np.random.default_rng(5)
        base = rng.normal(5, 2, (12, 2))
        shifts = {"a": 0.1, "b": 1.0, "c": 0.4}
        methods = {name: base + rng.normal(shift, 0.5, (12, 2)) for name, shift in shifts.items()}
        table = compare(scores_of({"base": base, **methods}, ("bass", "vocals")), "base", resamples=10)
        for source in ("bass", "vocals", "mean"):
            rows = table[table["source"] == source].sort_values("p")
            expected = np.minimum(np.maximum.accumulate(rows["p"].to_numpy() * [3, 2, 1]), 1)
            assert rows["p_holm"].to_numpy() == pytest.approx(expected)


class TestInterval:
    def test_equals_scipys_paired_t_interval_of_the_mean(self):
        rng = np.random.default_rng(6)
        base = rng.normal(5, 2, 25)
        fused = base + rng.normal(0.3, 0.8, 25)
        row = row_of(compare(scores_of({"base": base, "fused": fused}), "base", over_tracks="mean", level=0.9))
        scipys = stats.ttest_rel(fused, base).confidence_interval(0.9)
        assert [row["low"], row["high"]] == pytest.approx(list(scipys), abs=0.01)

    def test_equals_a_plain_loop_over_resamples(self):
        """The counting shortcut is the median of the drawn tracks, also when a track of a source is missing."""
        rng = np.random.default_rng(8)
        base, fused = rng.normal(5, 2, (2, 7, 2))
        fused[2, 0] = NAN
        row = compare(scores_of({"base": base, "fused": fused}, ("bass", "vocals")), "base", resamples=200, seed=9)
        draws = np.random.default_rng(9).multinomial(7, np.full(7, 1 / 7), 200)
        bass, mean = [], []
        for draw in draws:
            drawn = np.repeat(np.arange(7), draw)
            known = drawn[drawn != 2]
            bass.append(np.median(fused[known, 0]) - np.median(base[known, 0]))
            mean.append((bass[-1] + np.median(fused[drawn, 1]) - np.median(base[drawn, 1])) / 2)
        for source, differences in (("bass", bass), ("mean", mean)):
            found = row_of(row, source)
            margin = stats.t.ppf(0.975, 5) * np.std(differences) * np.sqrt(6 / 5)
            assert [found["low"], found["high"]] == pytest.approx(
                [found["difference"] - margin, found["difference"] + margin]
            )
        assert row_of(row, "bass")["note"] == "only 6 of 7 tracks have a value in both"
        assert row_of(row, "bass")["tracks"] == row_of(row, "mean")["tracks"] == 6
        assert row_of(row, "vocals")["tracks"] == 7

    @pytest.mark.parametrize("count", [5, 8])
    @pytest.mark.parametrize("tracks", ["median", "mean"])
    def test_few_songs_do_not_look_surer_than_they_are(self, tracks, count):
        """Of five and of eight songs the 95 % interval holds the true gain in about 95 % of the studies, not in 80."""
        rng = np.random.default_rng(12)
        base = rng.normal(5, 2, (count, 120))  # every source is a study
        fused = base + rng.normal(0.4, 0.6, base.shape)
        sources = [f"s{number}" for number in range(120)]
        table = compare(scores_of({"base": base, "fused": fused}, sources), "base", over_tracks=tracks, resamples=500)
        rows = table[table["source"] != "mean"]
        assert ((rows["low"] <= 0.4) & (rows["high"] >= 0.4)).mean() > 0.88

    @pytest.mark.parametrize("tracks", ["median", "mean"])
    def test_coverage(self, tracks):
        """On simulated studies of 40 tracks the 90 % interval holds the true gain in about 90 % of them."""
        rng = np.random.default_rng(10)
        held = 0
        studies = 120
        for _ in range(studies // 40):  # forty sources are forty studies
            base = rng.normal(5, 2, (40, 40))
            fused = base + rng.normal(0.4, 0.6, base.shape)
            sources = [f"s{number}" for number in range(40)]
            table = compare(
                scores_of({"base": base, "fused": fused}, sources), "base", over_tracks=tracks, level=0.9, resamples=500
            )
            rows = table[table["source"] != "mean"]
            held += int(((rows["low"] <= 0.4) & (rows["high"] >= 0.4)).sum())
        assert 0.82 <= held / studies <= 0.99

    def test_the_seed_decides_and_other_methods_do_not(self):
        rng = np.random.default_rng(11)
        methods = {name: rng.normal(5, 2, 15) for name in ("base", "x", "y")}
        scores = scores_of(methods)
        row = row_of(compare(scores, "base", over_tracks="mean"), fusion="y")
        alone = row_of(compare(scores[scores["fusion"] != "x"], "base", over_tracks="mean"), fusion="y")
        other = row_of(compare(scores, "base", over_tracks="mean", seed=1), fusion="y")
        assert (row["low"], row["high"]) == (alone["low"], alone["high"])
        assert (row["low"], row["high"]) != (other["low"], other["high"])

    @pytest.mark.parametrize("count", [1, 2, 4])
    def test_few_tracks_have_no_interval_and_a_note(self, count):
        base = np.arange(count, dtype=float)
        row = row_of(compare(scores_of({"base": base, "fused": base + 1}), "base"))
        assert np.isnan([row["low"], row["high"]]).all()
        assert f"{count} tracks are too few for an interval" in row["note"]
        assert (row["difference"], row["p"], row["tracks"]) == (1, 2.0 ** (1 - count), count)

    def test_five_songs_cannot_prove_a_gain_and_more_methods_take_more_songs(self):
        for songs, methods, proven in ((5, 1, False), (6, 1, True), (6, 2, False), (7, 2, True), (7, 4, False)):
            base = np.arange(float(songs))
            fused = {f"fused {number}": base + 1 for number in range(methods)}
            table = compare(scores_of({"base": base, **fused}), "base")
            assert (table["low"] == 1).all()
            assert (table["proven"] == proven).all()
            assert proven == (songs >= fewest_tracks_to_prove(methods))
            assert (table["note"] == "").all(), "what limits all rows is not said in each"


class TestUnequalMethods:
    def test_tracks_missing_in_one_method_are_left_out_and_noted(self):
        scores = scores_of({"base": np.arange(10.0), "fused": np.arange(10.0) + 1})
        incomplete = scores[(scores["fusion"] != "fused") | ~scores["track"].isin(["track 8", "track 9"])]
        row = row_of(compare(incomplete, "base"))
        assert (row["tracks"], row["difference"], row["baseline_value"]) == (8, 1, 3.5)
        assert row["note"] == "only 8 of 10 tracks have a value in both"

    def test_the_mean_is_over_the_sources_that_all_have(self):
        rng = np.random.default_rng(12)
        full = scores_of({"base": rng.normal(size=(8, 2))}, ("bass", "vocals"))
        voice = scores_of({"voice": rng.normal(size=(8, 1))}, ("vocals",))
        table = compare(pd.concat([full, voice]), "base")
        assert row_of(table, "vocals")["note"] == ""
        assert row_of(table, "bass")["note"] == "no track has this source in both"
        assert row_of(table, "mean")["difference"] == row_of(table, "vocals")["difference"]

    def test_different_frames_are_noted_until_the_mask_is_applied(self):
        scores = scores_of({"base": np.arange(8.0), "fused": np.arange(8.0) + 1})
        first = (scores["track"] == "track 3") & (scores["fusion"] == "fused") & (scores["frame"] == 0)
        last = (scores["track"] == "track 3") & (scores["fusion"] == "base") & (scores["frame"] == 2)
        scores.loc[first | last, "value"] = NAN  # as many frames each, but not the same
        table = compare(scores, "base", resamples=10)
        assert table["note"].to_list() == ["scored on different frames: apply common_mask"] * 2
        masked = compare(common_mask(scores)[0], "base", resamples=10)
        assert masked["note"].to_list() == ["", ""]
        assert masked["difference"].to_list() == [1, 1]

    def test_nothing_in_common(self):
        one, two = scores_of({"one": np.arange(3.0)}), scores_of({"two": np.arange(3.0)})
        row = row_of(compare(pd.concat([one, two.assign(track=two["track"] + "b")]), "one"))
        assert (row["tracks"], row["note"]) == (0, "no track has this source in both")
        assert np.isnan(row[["value", "difference", "low", "high", "p", "p_holm", "win_rate"]].astype(float)).all()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"baseline": "best"}, "have the metric: base, fused"),
            ({"baseline": "base", "metric": "SIR"}, "have the metric: none"),
            ({"baseline": "base", "over_tracks": "pooled"}, "paired by track"),
            ({"baseline": "base", "over_frames": "song"}, "whole-song"),
            ({"baseline": "base", "level": 95}, "level=95"),
            ({"baseline": "base", "resamples": 0}, "resamples=0"),
        ],
    )
    def test_what_cannot_be_compared(self, arguments, message):
        with pytest.raises(ScoreError, match=message):
            compare(scores_of({"base": np.arange(3.0), "fused": np.arange(3.0)}), **arguments)

    def test_one_method_alone(self):
        with pytest.raises(ScoreError, match="at least one more"):
            compare(scores_of({"base": np.arange(3.0)}), "base")


class TestLeftOutPick:
    def test_picking_among_equals_gains_nothing_where_the_best_of_all_seems_to(self):
        """Six fusions without any gain: the best of them looks better, what the other songs pick does not."""
        best, picked = [], []
        for seed in range(12):
            rng = np.random.default_rng(seed)
            base = rng.normal(5, 2, 9)
            methods = {f"f{number}": base + rng.normal(0, 0.5, 9) for number in range(6)}
            scores = with_left_out_pick(scores_of({"base": base, **methods}), list(methods), over_tracks="mean")
            table = compare(scores, "base", over_tracks="mean", resamples=2).query("source == 'mean'")
            gains = table.set_index("fusion")["difference"]
            best.append(gains[list(methods)].max())
            picked.append(gains[LEFT_OUT_PICK])
        assert np.mean(best) > 0.15
        assert abs(np.mean(picked)) < 0.1

    def test_a_song_is_scored_by_what_is_best_on_the_others_and_a_lone_song_by_nothing(self):
        scores = scores_of({"a": [1.0, 2.0, 3.0], "b": [9.0, 1.0, 2.0], "voice": [NAN, NAN, NAN]})
        picked = with_left_out_pick(scores, ["a", "b", "voice"]).query("fusion == @LEFT_OUT_PICK")
        assert picked.groupby("track")["value"].median().to_list() == [1.0, 1.0, 2.0]
        alone = scores_of({"a": [1.0], "b": [2.0]})
        assert len(with_left_out_pick(alone, ["a", "b"])) == len(alone)


class TestBestSingle:
    scores = scores_of(
        {
            "a": [[1.0, 5.0, 3.0, 7.0]] * 4,
            "b": [[2.0, 4.0, 3.0, 8.0]] * 4,
            "fused": [[2.5, 5.5, 3.5, 8.5]] * 4,
        },
        SOURCES,
    )

    def test_best_per_source_and_overall(self):
        best = best_single(self.scores, ["a", "b"])
        assert best["source"].to_list() == [*SOURCES, "mean"]
        assert best["fusion"].to_list() == ["b", "a", "a", "b", "b"]  # other is a tie: the first named
        assert best["value"].to_list() == [2, 5, 3, 8, 4.25]
        assert best_single(self.scores, ["b", "a"])["fusion"].to_list() == ["b", "a", "b", "b", "b"]

    def test_voice_model_is_best_of_its_source_alone(self):
        voice = scores_of({"voice": np.full(4, 99.0)}, ("vocals",))
        best = best_single(pd.concat([self.scores, voice]), ["a", "voice"]).set_index("source")["fusion"]
        assert best.to_dict() == {"drums": "a", "bass": "a", "other": "a", "vocals": "voice", "mean": "voice"}

    def test_sources_without_values_are_left_out(self):
        scores = self.scores.assign(value=self.scores["value"].where(self.scores["source"] != "bass"))
        assert best_single(scores, ["a"])["source"].to_list() == ["drums", "other", "vocals", "mean"]

    def test_best_per_source_as_a_baseline(self):
        table = compare(with_best_per_source(self.scores, ["a", "b"]), BEST_PER_SOURCE)
        assert table["fusion"].unique().tolist() == ["a", "b", "fused"]
        assert by_source(table, value="baseline_value").loc["fused"].to_list() == [2, 5, 3, 8, 4.5]
        assert by_source(table, value="difference").loc["fused"].to_list() == [0.5] * 5
        assert by_source(table, value="difference").loc["b"].to_list() == [0, -1, 0, 0, -0.25]

    @pytest.mark.parametrize("singles", [["c"], ["a", "c"], []])
    def test_unknown_singles(self, singles):
        with pytest.raises(ScoreError, match="names among those with SDR: a, b, fused"):
            best_single(self.scores, singles)


def test_import_is_light():
    code = (
        "import sys, pandas, stemfuse.separators; before = set(sys.modules); import stemfuse.analysis.significance; "
        "heavy = {'scipy.stats', 'museval', 'matplotlib', 'torch'} & (set(sys.modules) - before); "
        "sys.exit(', '.join(heavy) or None)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
