"""Score tables, the common mask, museval's JSON and the aggregates, against museval itself and by hand."""

import json
import logging
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stemfuse.analysis.aggregates import aggregate, by_source, source_order, track_scores
from stemfuse.analysis.errors import ScoreError
from stemfuse.analysis.museval_json import read_museval_json, write_museval_json
from stemfuse.analysis.scores import (
    COLUMNS,
    METRICS,
    SONG_SDR,
    WHOLE_SONG,
    check_scores,
    common_mask,
    read_scores,
    scores_table,
    write_scores,
)

SOURCES = ("drums", "bass", "other", "vocals")
WINDOW = 2205
NAN = float("nan")


@pytest.fixture(scope="module")
def museval(tmp_path_factory):
    """museval, imported beside programs named as those that its import looks for; none of them is ever run."""
    if "museval" not in sys.modules:
        folder = tmp_path_factory.mktemp("programs")
        for name in ("ffmpeg", "ffprobe"):
            (folder / name).write_text("#!/bin/sh\nexit 1\n")
            (folder / name).chmod(0o755)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", str(folder), prepend=os.pathsep)
            return pytest.importorskip("museval")
    return sys.modules["museval"]


def song(seed, frames=6, sources=4, channels=1):
    """References and estimates (source, time, channel): noise, with noise of an own level added per source."""
    rng = np.random.default_rng(seed)
    references = rng.normal(0, 0.1, (sources, frames * WINDOW, channels))
    levels = rng.uniform(0.1, 1, (sources, 1, 1))
    return references, references + levels * rng.normal(0, 0.1, references.shape)


def table_of(track, fusion, sdr, sources=("bass",)):
    return scores_table(track, fusion, sources, {"SDR": sdr})


def joined(*tables):
    return check_scores(pd.concat(tables, ignore_index=True))


@pytest.fixture(scope="module")
def museval_tree(museval, tmp_path_factory):
    """Two methods on three tracks, scored and written by museval, with dropped and infinite frames."""
    folder = tmp_path_factory.mktemp("museval")
    for method in range(2):
        for number in range(3):
            references, estimates = song(10 * number, frames=5 + number, sources=2)
            estimates = references + (1 + method) * (estimates - references)
            estimates[0, WINDOW * number : WINDOW * (number + 1)] *= method  # silent in one frame: NaN
            estimates[1, :WINDOW] = references[1, :WINDOW]  # perfect in one frame: infinite
            scores = dict(zip(METRICS, museval.evaluate(references, estimates, WINDOW, WINDOW), strict=True))
            store = museval.TrackStore(f"Song No. {number}", win=0.05, hop=0.05)
            for place, source in enumerate(("bass", "vocals")):
                store.add_target(source, {metric: values[place].tolist() for metric, values in scores.items()})
            path = folder / f"method{method}" / "test" / f"Song No. {number}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            store.save(path)
    return folder


class TestTable:
    def test_schema(self):
        table = scores_table("a", "mean", SOURCES, {m: np.ones((4, 3)) for m in METRICS}, song={SONG_SDR: np.arange(4)})
        assert list(table.columns) == list(COLUMNS) == ["track", "fusion", "source", "frame", "metric", "value"]
        assert len(table) == 4 * 3 * 4 + 4
        assert table["frame"].dtype == np.int32
        assert table["value"].dtype == np.float64
        whole = table[table["metric"] == SONG_SDR]
        assert (whole["frame"] == WHOLE_SONG).all()
        assert whole["value"].to_list() == [0, 1, 2, 3]
        assert dict(zip(whole["source"], whole["value"], strict=True)) == dict(zip(SOURCES, range(4), strict=True))

    def test_values_stay_with_source_and_frame(self):
        values = np.arange(12.0).reshape(4, 3)
        table = scores_table("a", "b", SOURCES, {"SDR": values, "SAR": -values})
        back = table[table["metric"] == "SAR"].pivot(index="source", columns="frame", values="value")
        assert np.array_equal(back.loc[list(SOURCES)], -values)

    @pytest.mark.parametrize(
        ("values", "song"),
        [
            ({"SDR": np.ones((3, 5))}, None),
            ({"SDR": np.ones(4)}, None),
            ({"SDR": np.ones((4, 5)), "SIR": np.ones((4, 6))}, None),
            ({"SDR": np.ones((4, 5))}, {SONG_SDR: np.ones(3)}),
        ],
    )
    def test_wrong_shapes(self, values, song):
        with pytest.raises(ScoreError, match="expected \\(4,"):
            scores_table("a", "b", SOURCES, values, song)

    @pytest.mark.parametrize("sources", [[], ["bass"]])
    def test_no_frames(self, sources):
        table = scores_table("a", "b", sources, {"SDR": np.ones((len(sources), 0))})
        assert table.empty
        assert table.dtypes.equals(table_of("a", "b", [[1.0]]).dtypes)

    def test_types_stay_when_joined_filtered_and_categorical(self):
        one, two = table_of("a", "x", [[1.0, 2.0]]), table_of("b", "y", [[3.0]])
        both = pd.concat([one, two])
        assert both.dtypes.equals(one.dtypes)
        assert both[both["fusion"] == "y"]["track"].unique().tolist() == ["b"]
        categorical = both.astype({"track": "category", "fusion": "category", "frame": "int64"})
        assert check_scores(categorical).dtypes.equals(one.dtypes)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda table: table.drop(columns="metric"), "expected \\['track'"),
            (lambda table: table.assign(run=1), "columns"),
            (lambda table: table.assign(source=None), "'source' has missing"),
            (lambda table: table.assign(value="loud"), "numbers"),
            (lambda table: table.assign(frame=-2), "frame -2"),
            (lambda table: pd.concat([table, table]), "occurs twice"),
        ],
    )
    def test_what_is_no_score_table(self, change, message):
        with pytest.raises(ScoreError, match=message):
            check_scores(change(table_of("a", "b", [[1.0]])))

    def test_parquet_keeps_everything(self, tmp_path):
        values = np.random.default_rng(0).normal(size=(4, 7))
        values[1, 2], values[2, 3] = NAN, np.inf
        table = scores_table("日本語 'quoted' / \"x\"", "mean", SOURCES, {"SDR": values}, {SONG_SDR: np.ones(4)})
        path = tmp_path / "deep" / "scores.parquet"
        write_scores(table, path)
        pd.testing.assert_frame_equal(read_scores(path), table)
        assert [file.name for file in path.parent.iterdir()] == ["scores.parquet"]

    def test_parquet_of_other_kinds(self, tmp_path):
        path = tmp_path / "scores.parquet"
        with pytest.raises(ScoreError, match="no readable score table"):
            read_scores(path)
        path.write_text("track,fusion\n")
        with pytest.raises(ScoreError, match="no readable score table"):
            read_scores(path)
        pd.DataFrame({"x": [1]}).to_parquet(path)
        with pytest.raises(ScoreError, match="expected"):
            read_scores(path)

    def test_unwritable_folder(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(ScoreError, match="cannot be written"):
            write_scores(table_of("a", "b", [[1.0]]), tmp_path / "file" / "scores.parquet")


class TestCommonMask:
    @pytest.mark.slow
    def test_museval_drops_all_sources_where_one_estimate_is_zero(self, museval):
        """A gate in one estimate silences two of six frames; the other method is scored on all six."""
        references, estimates = song(0)
        gated = estimates.copy()
        gated[3, 2 * WINDOW : 4 * WINDOW] = 0
        tables = []
        for name, audio in (("plain", estimates), ("gated", gated)):
            values = dict(zip(METRICS, museval.evaluate(references, audio, WINDOW, WINDOW), strict=True))
            tables.append(scores_table("song", name, SOURCES, values))
        scores = joined(*tables)
        own = scores.assign(bad=scores["value"].isna()).groupby(["fusion", "source", "metric"])["bad"].sum()
        assert (own["plain"] == 0).all()
        assert (own["gated"] == 2).all()

        masked, dropped = common_mask(scores)
        assert set(masked.loc[masked["value"].isna(), "frame"]) == {2, 3}
        counts = dropped.set_index("fusion")[["frames", "own", "common", "kept"]].drop_duplicates()
        assert counts.loc["plain"].to_list() == [6, 0, 2, 4]
        assert counts.loc["gated"].to_list() == [6, 2, 0, 4]
        kept = masked["value"].notna()
        assert (masked["value"][kept] == scores["value"][kept]).all()
        # only the mask makes the untouched sources equal
        before, after = (by_source(aggregate(table, over_frames="mean"))["drums"] for table in (scores, masked))
        assert abs(before["plain"] - before["gated"]) > 1e-3
        assert after["plain"] == pytest.approx(after["gated"], abs=1e-9)

    def test_a_separator_without_a_source_takes_nothing_from_the_others(self):
        full = scores_table("a", "full", ["bass", "vocals"], {"SDR": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]})
        vocals = scores_table("a", "voice", ["vocals"], {"SDR": [[7.0, NAN, 8.0]]})
        masked, dropped = common_mask(joined(full, vocals))
        full = masked[masked["fusion"] == "full"].pivot(index="source", columns="frame", values="value")
        assert full.loc["bass"].to_list() == [1, 2, 3]
        assert np.array_equal(full.loc["vocals"], [4, NAN, 6], equal_nan=True)
        assert set(zip(dropped["fusion"], dropped["source"], strict=True)) == {
            ("full", "bass"),
            ("full", "vocals"),
            ("voice", "vocals"),
        }

    def test_infinite_values_count_as_dropped_in_their_metric_alone(self):
        one = scores_table("a", "one", ["bass"], {"SDR": [[1.0, 2.0]], "SIR": [[np.inf, 9.0]]})
        two = scores_table("a", "two", ["bass"], {"SDR": [[3.0, 4.0]], "SIR": [[7.0, 8.0]]})
        masked, _ = common_mask(joined(one, two))
        assert masked[masked["metric"] == "SDR"]["value"].notna().all()
        sir = masked[masked["metric"] == "SIR"].pivot(index="fusion", columns="frame", values="value")
        assert np.array_equal(sir.loc[["one", "two"]], [[NAN, 9], [NAN, 8]], equal_nan=True)

    def test_a_missing_track_is_left_out_for_all_and_named(self, caplog):
        scores = joined(
            scores_table("a", "one", ["bass"], {"SDR": [[1.0]]}, {SONG_SDR: [1.5]}),
            scores_table("b", "one", ["bass"], {"SDR": [[2.0, 2.5]]}, {SONG_SDR: [2.5]}),
            scores_table("a", "two", ["bass"], {"SDR": [[3.0]]}, {SONG_SDR: [3.5]}),
        )
        with caplog.at_level(logging.WARNING):
            masked, dropped = common_mask(scores)
        assert "two has no scores of 'b'" in caplog.text
        assert masked.loc[masked["track"] == "b", "value"].isna().all()
        assert masked.loc[masked["track"] == "a", "value"].notna().all()
        missing = dropped[(dropped["track"] == "b") & (dropped["fusion"] == "two") & (dropped["metric"] == "SDR")]
        assert missing[["frames", "own", "common", "kept"]].to_numpy().tolist() == [[2, 2, 0, 0]]
        assert (dropped["frames"] == dropped[["own", "common", "kept"]].sum(axis=1)).all()

    def test_a_shorter_table_loses_its_missing_frames(self):
        masked, dropped = common_mask(joined(table_of("a", "x", [[1.0, 2.0]]), table_of("a", "y", [[1.0]])))
        assert masked["value"].isna().to_list() == [False, True, False]
        assert dropped.set_index("fusion")["own"].to_dict() == {"x": 0, "y": 1}

    def test_masking_twice_changes_nothing(self):
        rng = np.random.default_rng(1)
        tables = [table_of("a", name, np.where(rng.random((1, 50)) < 0.2, NAN, 1.0)) for name in "xyz"]
        once, _ = common_mask(joined(*tables))
        twice, dropped = common_mask(once)
        pd.testing.assert_frame_equal(once, twice)
        assert (dropped["common"] == 0).all()


class TestMusevalJson:
    def test_medians_equal_musevals_bit_for_bit(self, museval, museval_tree):
        scores = read_museval_json(museval_tree)
        assert set(scores["track"]) == {"Song No. 0", "Song No. 1", "Song No. 2"}
        assert scores["value"].isna().any()
        for frames in ("median", "mean"):
            for tracks in ("median", "mean"):
                store = museval.MethodStore(frames_agg=frames, tracks_agg=tracks)
                for method in ("method0", "method1"):
                    store.add_eval_dir(museval_tree / method)
                expected = store.agg_frames_tracks_scores().round(5)
                found = aggregate(scores, frames, tracks).set_index(["fusion", "source", "metric"])["value"].round(5)
                assert len(expected) == 2 * 2 * 4
                assert (found[expected.index].to_numpy() == expected.to_numpy()).all()
                by_track = store.agg_frames_scores()
                ours = track_scores(scores, frames).set_index(["fusion", "track", "source", "metric"])["value"]
                assert np.array_equal(ours[by_track.index].round(5), by_track.round(5), equal_nan=True)

    def test_files_are_those_that_museval_writes(self, museval, museval_tree, tmp_path):
        scores = read_museval_json(museval_tree)
        paths = write_museval_json(scores, tmp_path, window_s=0.05, hop_s=0.05)
        assert len(paths) == 6
        for path in paths:
            ours, theirs = (json.loads(p.read_text()) for p in (path, museval_tree / path.relative_to(tmp_path)))
            # as text, since NaN is not equal to itself
            assert json.dumps(ours, sort_keys=True) == json.dumps(theirs, sort_keys=True)
            store = museval.TrackStore(path.stem)
            store.scores = ours
            store.validate()
        pd.testing.assert_frame_equal(read_museval_json(tmp_path), scores)

    def test_unrounded_values_are_rounded_as_museval_rounds(self, museval, tmp_path):
        halves = [0.000005, 0.000015, 1.0000051, -0.0000151, 2.675555, -np.inf, np.inf, NAN, 123.4567891234]
        (path,) = write_museval_json(table_of("a", "b", [halves]), tmp_path)
        quantised = [float(museval.TrackStore("a")._q(value)) for value in halves]
        frames = json.loads(path.read_text())["targets"][0]["frames"]
        assert np.array_equal([frame["metrics"]["SDR"] for frame in frames], quantised, equal_nan=True)
        assert all(np.isnan(frame["metrics"]["SIR"]) for frame in frames)

    def test_missing_frames_keep_their_place(self, tmp_path):
        table = table_of("a", "b", [[1.0, 2.0, 3.0]])
        (path,) = write_museval_json(table[table["frame"] != 1], tmp_path)
        back = read_museval_json(path)
        assert np.array_equal(back[back["metric"] == "SDR"]["value"], [1, NAN, 3], equal_nan=True)

    def test_sisec_2018_submission(self, tmp_path):
        """Their form: no version, keys in another order, accompaniment as a target, a note beside the folder."""
        rest = {"ISR": 11.20159, "SDR": 5.75232, "SAR": 7.31922}
        frames = [{"duration": 1.0, "metrics": {"SIR": sir, **rest}, "time": t} for t, sir in enumerate((NAN, 14.51))]
        targets = [{"frames": frames, "name": name} for name in ("vocals", "accompaniment")]
        path = tmp_path / "2DFT" / "test" / "Triviul feat. The Fiend - Widow.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"targets": targets}))
        (tmp_path / "2DFT" / "description.md").write_text("# 2DFT")
        table = read_museval_json(tmp_path)
        assert table["fusion"].unique().tolist() == ["2DFT"]
        assert table["track"].unique().tolist() == ["Triviul feat. The Fiend - Widow"]
        assert table["source"].unique().tolist() == ["vocals", "accompaniment"]
        sir = table[(table["source"] == "vocals") & (table["metric"] == "SIR")]["value"]
        assert np.array_equal(sir, [NAN, 14.51], equal_nan=True)
        for place in (path, path.parent.parent):
            pd.testing.assert_frame_equal(read_museval_json(place), table)
        grid = by_source(aggregate(table))
        assert grid.columns.tolist() == ["vocals", "accompaniment", "mean"]
        assert grid.loc["2DFT", "mean"] == grid.loc["2DFT", "vocals"]

    @pytest.mark.parametrize("text", ["", "[]", '{"targets": [{"name": "bass", "frames": [{"time": 0}]}]}', "\xff"])
    def test_other_json(self, tmp_path, text):
        path = tmp_path / "method" / "test" / "a.json"
        path.parent.mkdir(parents=True)
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(ScoreError, match=r"a\.json: not in museval's schema"):
            read_museval_json(tmp_path)

    @pytest.mark.parametrize("place", [".", "nowhere"])
    def test_no_scores(self, tmp_path, place):
        with pytest.raises(ScoreError, match="no museval scores"):
            read_museval_json(tmp_path / place)

    @pytest.mark.parametrize("name", ["a/b", "..", ""])
    def test_names_that_fit_no_file(self, tmp_path, name):
        with pytest.raises(ScoreError, match="cannot name a file"):
            write_museval_json(table_of(name, "b", [[1.0]]), tmp_path / "out")
        assert list(Path(tmp_path).rglob("*.json")) == []


class TestAggregates:
    def test_conventions_by_hand(self):
        frames = {"a": [1.0, 2.0, 9.0], "b": [4.0, NAN, 6.0, np.inf], "c": [3.0]}
        songs = {"a": 1.0, "b": 2.0, "c": 6.0}
        scores = joined(
            *(scores_table(t, "x", ["bass"], {"SDR": [v]}, {SONG_SDR: [songs[t]]}) for t, v in frames.items())
        )

        def bass(**how):
            return aggregate(scores, **how).set_index("source").loc["bass"]

        assert bass()["value"] == 3  # medians 2, 5, 3
        assert bass(over_frames="mean", over_tracks="mean")["value"] == 4  # means 4, 5, 3
        assert bass(over_frames="median", over_tracks="mean")["value"] == pytest.approx(10 / 3)
        assert bass(over_tracks="pooled")["value"] == 3.5  # 1 2 3 4 6 9
        assert bass(over_frames="mean", over_tracks="pooled")["value"] == pytest.approx(25 / 6)
        assert bass(over_frames="song", over_tracks="mean")["value"] == 3
        assert bass(over_frames="song", over_tracks="median")["value"] == 2
        for how in ({}, {"over_tracks": "pooled"}):
            assert bass(**how)[["tracks", "frames", "dropped"]].to_list() == [3, 6, 2]
        assert bass(over_frames="song")["metric"] == SONG_SDR

    def test_a_track_without_frames_is_left_out_and_counted(self):
        scores = joined(table_of("a", "x", [[NAN, NAN]]), table_of("b", "x", [[5.0, 7.0]]))
        for tracks in ("median", "mean", "pooled"):
            row = aggregate(scores, over_tracks=tracks).iloc[0]
            assert row[["value", "tracks", "frames", "dropped"]].to_list() == [6, 1, 2, 2]
        nothing = aggregate(table_of("a", "x", [[NAN, NAN]])).iloc[0]
        assert np.isnan(nothing["value"])
        assert nothing[["tracks", "frames", "dropped"]].to_list() == [0, 0, 2]

    def test_mean_over_sources(self):
        full = scores_table("a", "full", [*SOURCES, "accompaniment"], {"SDR": [[1.0], [2.0], [3.0], [6.0], [40.0]]})
        voice = scores_table("a", "voice", ["vocals"], {"SDR": [[9.0]]})
        grid = by_source(aggregate(joined(full, voice)))
        assert grid.columns.tolist() == [*SOURCES, "accompaniment", "mean"]
        # the mean is over what all methods have, vocals here; alone it is over the four, without their sum
        assert grid.loc["full", "mean"] == 6
        assert grid.loc["voice", "mean"] == 9
        assert by_source(aggregate(full)).loc["full", "mean"] == 3
        assert grid.loc["voice", "vocals"] == 9

    def test_an_accompaniment_counts_where_its_parts_are_not_there(self):
        pair = scores_table("a", "x", ["vocals", "accompaniment"], {"SDR": [[1.0], [4.0]]})
        assert by_source(aggregate(pair)).loc["x", "mean"] == 2.5
        assert by_source(aggregate(table_of("a", "x", [[1.0]], ["accompaniment"]))).loc["x", "mean"] == 1

    def test_without_a_common_source_there_is_no_mean(self):
        bass, voice = (scores_table("a", name, [name], {"SDR": [[9.0]]}) for name in ("bass", "vocals"))
        assert aggregate(joined(bass, voice))["source"].to_list() == ["bass", "vocals"]

    def test_rows_are_in_reading_order(self):
        scores = joined(
            *(
                scores_table("a", name, sorted(SOURCES), {"SIR": np.ones((4, 2)), "SDR": np.ones((4, 2))})
                for name in "zya"
            )
        )
        table = aggregate(scores)
        assert table["fusion"].unique().tolist() == ["z", "y", "a"]
        assert table["metric"].head(10).to_list() == ["SIR"] * 5 + ["SDR"] * 5
        assert table["source"].head(5).to_list() == [*SOURCES, "mean"] == source_order(table["source"])
        assert by_source(table, "SIR", "frames").loc["y"].to_list() == [2] * 5

    @pytest.mark.parametrize(
        ("how", "message"),
        [
            ({"over_frames": "max"}, "over_frames='max'"),
            ({"over_tracks": "max"}, "over_tracks='max'"),
            ({"over_frames": "song"}, "no whole-song values.*metrics are SDR"),
            ({"over_frames": "song", "over_tracks": "pooled"}, "no frames to pool"),
        ],
    )
    def test_wrong_conventions(self, how, message):
        with pytest.raises(ScoreError, match=message):
            aggregate(table_of("a", "x", [[1.0]]), **how)

    def test_empty_table(self):
        empty = table_of("a", "x", np.ones((1, 0)))
        with pytest.raises(ScoreError, match="no frame values"):
            aggregate(empty)
        with pytest.raises(ScoreError, match="metric 'SIR'"):
            by_source(aggregate(table_of("a", "x", [[1.0]])), "SIR")
