"""The report page: whole, self-contained, correct in its numbers, safe against hostile names, and it plays."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from stemfuse.analysis.scores import scores_table, write_scores
from stemfuse.blending import MixingWeights
from stemfuse.experiments.cli import app
from stemfuse.experiments.errors import RunError
from stemfuse.experiments.live import live_progress
from stemfuse.experiments.report import safe_name, score_tables, write_comparison, write_players, write_report
from stemfuse.experiments.run import Run
from stemfuse.separators import SOURCES, Stems, Track

SEPARATORS = ("repet_sim", "harmonic_percussive", "centre_channel")
BLEND = {"drums": (0.2, 0.6, 0.2), "bass": (0.3, 0.4, 0.3), "other": (0.5, 0.25, 0.25), "vocals": (0.5, 0.0, 0.5)}
EQUAL = dict.fromkeys(SOURCES, (1 / 3, 1 / 3, 1 / 3))
HOSTILE = '<img src=x onerror=alert(1)><script>alert(1)</script> "O\'Brien" & 100 % #1 ../../x 音楽'


def make_scores(tracks, methods, frames=12, seed=0):
    """SDR of a method = its offset + the song's; the last frame is silent, and the first method drops one more."""
    chance = np.random.default_rng(seed)
    tables = []
    for track in tracks:
        song = chance.normal(0, 1.5, (4, 1)) + chance.normal(0, 1, (4, frames))
        for place, (method, offset) in enumerate(methods.items()):
            sdr = song + np.reshape(offset, (-1, 1)) + chance.normal(0, 0.3, (4, frames))
            sdr[:, -1] = np.nan
            if place == 0:
                sdr[:, 3] = np.nan
            metrics = {"SDR": sdr, "ISR": sdr + 4, "SIR": sdr + 6, "SAR": sdr + 1}
            tables.append(scores_table(track, method, SOURCES, metrics, {"song_SDR": np.nanmean(sdr, axis=1) + 0.2}))
    return pd.concat(tables, ignore_index=True)


def make_song(name, seconds=2.0, seed=0):
    """Four sources that sound different, and three poor separators."""
    chance, rate = np.random.default_rng(seed), 44_100
    time = np.arange(round(seconds * rate)) / rate
    beat = np.exp(-12 * (time % 0.5))
    voices = [
        beat * chance.normal(0, 0.25, len(time)),
        0.25 * np.sin(2 * np.pi * (55 + 10 * (time % 2 > 1)) * time),
        0.12 * sum(np.sin(2 * np.pi * tone * time) for tone in (220, 277, 330)),
        0.3 * np.sin(2 * np.pi * 440 * time + 3 * np.sin(2 * np.pi * 5 * time)) * (time % 4 > 1),
    ]
    sources = np.stack([np.stack([0.7 * voice, 0.5 * voice]) for voice in voices]).astype(np.float32)
    mixture = sources.sum(0)
    track = Track.from_arrays(name, mixture, sources)
    stems = {
        label: Stems((0.9 - 0.1 * place) * sources + 0.05 * (place + 1) * mixture)
        for place, label in enumerate(SEPARATORS)
    }
    fused = {
        label: Stems(
            np.stack(
                [
                    sum(w * stems[s][source].read() for w, s in zip(blend[source], SEPARATORS, strict=True))
                    for source in SOURCES
                ]
            )
        )
        for label, blend in (("mean", EQUAL), ("fixed", BLEND))
    }
    return track, stems | fused


def make_run(
    folder,
    real=("Falcon 69",),
    synthetic=tuple(f"song {number}" for number in range(1, 7)),
    played=("Falcon 69",),
    seconds=2.0,
):
    """A run folder as the pipeline leaves it."""
    folder = Path(folder)
    methods = {
        "repet_sim": (1.0, 2.0, 3.0, 4.5),
        "harmonic_percussive": (4.0, 2.5, 1.0, 0.0),
        "centre_channel": (2.0, 1.0, 2.0, 4.0),
        "mean": (4.2, 2.8, 3.1, 4.9),
        "fixed": (4.6, 3.1, 3.4, 5.2),
    }
    write_scores(make_scores([*real, *synthetic], methods), folder / "scores.parquet")
    for label, blend in (("mean", EQUAL), ("fixed", BLEND)):
        weights = {source: dict(zip(SEPARATORS, blend[source], strict=True)) for source in SOURCES}
        MixingWeights.same_source(weights).save(folder / f"fusions/{label}.npz")
    data = {"band": {"path": "band", "real": False}, "clip": {"path": "clip.stem.mp4", "real": True}}
    record = {
        "versions": {"stemfuse": "0.1.0", "numpy": np.__version__, "museval": "0.4.1"},
        "commit": "a596cb7000000000000000000000000000000000",
        "started": "2025-01-01T10:00:00+00:00",
        "finished": "2025-01-01T10:02:13+00:00",
        "seconds": {"separate": 61.2, "fit": 0.1, "score": 22.4, "report": 3.0},
        "machine": {"system": "Linux", "cores": 2, "device": "cpu"},
        "separators": {
            label: {
                "key": f"{label}-3f2a91c4",
                "fingerprint": "3f2a91c4" * 8,
                "describe": {"name": label, "options": {}},
            }
            for label in SEPARATORS
        },
        "fusions": {
            "mean": {"kind": "mean", "linear": True, "file": "fusions/mean.npz"},
            "fixed": {"kind": "fixed", "linear": True, "file": "fusions/fixed.npz"},
        },
        "data": data,
        "tracks": [
            {"name": name, "data": label, "subset": "test", "duration_s": 64.0, "rate": 44100, "notes": []}
            for label, names in (("clip", real), ("band", synthetic))
            for name in names
        ],
        "seed": 0,
    }
    if record["tracks"]:
        record["tracks"][0]["notes"] = ["vocals.wav: 3 zeros added to its end, to be as long as the mixture"]
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")
    (folder / "config.yaml").write_text("out: run\nstore: store\ndata: [clip, band]\n", encoding="utf-8")
    for place, name in enumerate(played):
        track, methods_played = make_song(name, seconds, place)
        write_players(folder, track, methods_played, 1.5 if seconds <= 2 else 30)
    return folder


def test_a_run_that_goes_on_shows_its_progress_until_it_ends(tmp_path):
    run, told = Run(tmp_path), []
    with live_progress(run, lambda *state: told.append(state)) as progress:
        assert "This run is going on" in run.report_path.read_text("utf-8")
        for state in (("fit", 0, 3), ("fit", 1, 3), ("score", 2, 8)):
            progress(*state)
            found = json.loads((tmp_path / "report/progress.json").read_text())
        assert (found["stage"], found["done"], found["total"]) == ("score", 2, 8)
        assert found["begun"] <= found["now"]
    assert told == [("fit", 0, 3), ("fit", 1, 3), ("score", 2, 8)]
    assert not (tmp_path / "report/progress.json").exists()
    run.report_path.write_text("the report")
    with live_progress(run, lambda *state: None):
        assert run.report_path.read_text("utf-8") == "the report", "an older report stays until there is a new one"


class Page(HTMLParser):
    """Reads a page, insists on proper nesting, and keeps what the tests ask for."""

    VOID = frozenset({"meta", "link", "input", "br", "img", "hr"})

    def __init__(self, path):
        super().__init__()
        self.path, self.open, self.ids, self.links = Path(path), [], [], []
        self.scripts, self.text, self.tags = [], "", []
        self.feed(self.path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append((tag, given))
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given[name] for name in ("src", "href", "xlink:href") if name in given]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif "style" not in self.open:
            self.text += f" {data.strip()}" if data.strip() else ""

    def files(self):
        """Every file that the page names, relative to it."""
        return [unquote(link) for link in self.links if not link.startswith(("#", "data:"))]

    def check(self):
        """What every page has to be, whatever is in the run."""
        html = self.path.read_text(encoding="utf-8")
        assert len(self.ids) == len(set(self.ids)), "two elements have one id"
        anchors = [link[1:] for link in self.links if link.startswith("#")]
        assert set(anchors) <= set(self.ids), "a link leads nowhere"
        for file in self.files():
            assert (self.path.parent / file).is_file(), f"{file} is not there"
        outside = [link for link in self.links if "://" in link or link.startswith("//")]
        assert not outside, f"the page asks the network for {outside}"
        assert "@import" not in html
        assert "url(http" not in html
        assert len(self.scripts) == 1
        named = [given for tag, given in self.tags if tag in ("button", "input", "svg") and "aria-label" not in given]
        assert all(
            "data-shows" in given or given.get("id") == "theme" or given.get("type") in ("checkbox", "search")
            for given in named
        )
        assert not [name for _, given in self.tags for name in given if name.startswith("on")], "a tag has a script"
        return self


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = make_run(tmp_path_factory.mktemp("run"))
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(run):
    return Page(run / "report/index.html").check()


def test_page_holds_every_part(run, page):
    headings = " ".join(page.text.split())
    for part in (
        "Scores",
        "Mixing matrices",
        "Listen",
        "Notes",
        "Reproduce",
        "real music",
        "synthetic",
        "whole-song SDR",
    ):
        assert part in headings, f"{part} is missing"
    assert "vocals.wav: 3 zeros added to its end" in headings
    assert "stemfuse run RUN/config.yaml" in headings
    assert "repet_sim-3f2a91c4" in headings
    audio = [given["src"] for tag, given in page.tags if tag == "audio"]
    assert len(audio) == 1 + 4 * 6, "mixture, and four sources of the reference, three separators and two fusions"
    names = {path.name for path in (run / "figures").iterdir()}
    assert {"scores-clip.svg", "scores-band.png", "gains-1-band.svg"} <= names
    assert "gains-1-clip.svg" not in names, "one track has no interval"


def test_real_music_comes_first_and_apart(run):
    (first, one), (second, other) = score_tables(run)
    assert first == "clip (real music): SDR in dB, 1 track, 10 of 12 frames"
    assert second == "band (synthetic): SDR in dB, 6 tracks, 60 of 72 frames"
    assert not np.allclose(one["drums"], other["drums"])


def test_scores_are_the_medians_on_common_frames_with_their_gains(run, page):
    scores = pd.read_parquet(run / "scores.parquet")
    sdr = scores[(scores["metric"] == "SDR") & scores["track"].str.startswith("song") & ~scores["frame"].isin([3, 11])]
    by_track = sdr.groupby(["fusion", "source", "track"])["value"].median()
    grid = by_track.groupby(["fusion", "source"]).median().unstack()[list(SOURCES)]
    means, best = grid.mean(axis=1), grid.loc[list(SEPARATORS)].max()
    _, table = score_tables(run)[1]
    assert list(table["method"]) == [*SEPARATORS, "mean", "fixed"]
    table = table.set_index("method")
    for method in table.index:
        assert table.loc[method, list(SOURCES)].to_list() == pytest.approx(grid.loc[method].to_list())
        assert table.loc[method, "mean"] == pytest.approx(means[method])
        assert table.loc[method, "over best separator"] == pytest.approx(means[method] - means[list(SEPARATORS)].max())
        assert table.loc[method, "over best of each source"] == pytest.approx(means[method] - best.mean())
    assert table["dropped"].to_list() == [12, 6, 6, 6, 6]
    for value in (grid.loc["fixed", "bass"], means["mean"]):
        assert f"{value:.2f}" in page.text
    assert f"{grid.loc['fixed', 'vocals'] - best['vocals']:+.2f}" in page.text


def test_comparison_is_there_for_enough_tracks_only(page):
    assert "Gain over the best separator, repet_sim" in page.text
    assert "Gain over the best of each source" in page.text
    assert page.text.count("No intervals: they need at least 5 tracks") == 1
    assert page.text.count("With 6 tracks p cannot fall below 0.031") == 1
    assert "for the best of 2 fusions it takes 7 tracks to prove anything" in page.text


def test_the_answer_comes_first_in_words(page):
    text = page.text
    real, band = text.index("Try fixed: "), text.index("Use fixed: ")
    assert text.index("Which fusion?") < real < band < text.index("Scores", band) < text.index("Mixing matrices")
    assert "better on 1 of 1 song." in text
    assert "Not proven: 1 song is too few for an interval, which takes 5; about 7 songs would tell" in text
    assert "better on 6 of 6 songs." in text
    assert "Not proven: 6 songs cannot reach p < 0.05 for the best of 2 fusions" in text
    assert "With the one that the other songs would pick, song by song, the gain is " in text
    assert "stemfuse fuse RUN/fusions/fixed.npz SONG --out fused" in text
    assert "stemfuse export RUN/fusions/fixed.npz --as msst --out ensemble.sh" in text


def test_a_fusion_that_is_worse_is_not_advised(tmp_path):
    scores = make_scores([f"song {number}" for number in range(6)], {"good": 5.0, "poor": 1.0, "mean": 3.0})
    write_scores(scores, tmp_path / "scores.parquet")
    record = {
        "separators": {"good": {}, "poor": {}},
        "fusions": {"mean": {"kind": "mean", "linear": True, "file": "fusions/mean.npz"}},
    }
    (tmp_path / "record.json").write_text(json.dumps(record), encoding="utf-8")
    page = Page(write_report(tmp_path)).check()
    assert "Use good: no fusion is better. The best one, mean, is −" in page.text
    assert "stemfuse fuse" not in page.text


def test_seconds_that_differ_most_are_named_and_linked_where_they_can_be_heard(run, page):
    scores = pd.read_parquet(run / "scores.parquet")
    own = scores[(scores["track"] == "Falcon 69") & (scores["metric"] == "SDR") & (scores["frame"] >= 0)]
    wide = own[~own["frame"].isin([3, 11])].pivot(index=["source", "frame"], columns="fusion", values="value")
    table = score_tables(run)[0][1].set_index("method")
    single = table.loc[list(SEPARATORS), "mean"].idxmax()
    source, frame = (wide["fixed"] - wide[single]).abs().idxmax()
    assert (
        f"0:{frame:02d} {source} {wide.loc[(source, frame), 'fixed'] - wide.loc[(source, frame), single]:+.2f}"
        in page.text
    )
    links = [given for tag, given in page.tags if "data-seek" in given]
    # the excerpt lasts 1.5 s, so that only its first two seconds can be heard
    assert all(float(given["data-seek"]) < 1.5 and given["href"].startswith("#listen-") for given in links)


def test_matrices_are_folded_and_whole_ones_lie_in_the_page(page):
    whole = [json.loads(given["data-matrix"]) for _, given in page.tags if "data-matrix" in given]
    assert [len(matrix["inputs"]) for matrix in whole] == [24, 24]
    fixed = whole[1]
    assert fixed["rows"][fixed["inputs"].index("harmonic_percussive.drums.left")][0] == BLEND["drums"][1]
    assert "each stem of its own source, both sides alike" in page.text
    for source, weights in BLEND.items():
        assert all(f"{weight:.2f}" in page.text for weight in weights if weight), source


def test_page_is_small_without_its_audio(run):
    assert (run / "report/index.html").stat().st_size < 200_000


def test_runs_are_compared_on_the_songs_that_both_have(tmp_path):
    first = make_run(tmp_path / "first", played=())
    second = make_run(tmp_path / "second", synthetic=tuple(f"song {number}" for number in range(2, 9)), played=())
    scores = pd.read_parquet(second / "scores.parquet")
    both = pd.read_parquet(first / "scores.parquet")
    shared = both[both["track"].isin([f"song {number}" for number in range(2, 7)])]
    gained = shared.assign(value=shared["value"] + 0.5 * (shared["fusion"] == "fixed"))
    others = scores[~scores["track"].isin(set(shared["track"]))]
    write_scores(pd.concat([gained, others], ignore_index=True), second / "scores.parquet")
    (second / "config.yaml").write_text(
        "out: run\nstore: store\ndata: [clip, band]\nseparators: [repet_sim]\nseed: 5\n"
    )
    page = Page(write_comparison([first, second], tmp_path / "both.html")).check()
    assert "5 songs in common" in page.text
    assert "The best fusion of second, fixed, has +0.50 dB over that of first, fixed" in page.text
    assert "better on 5 of 5 songs" in page.text
    assert "1 song in common" in page.text, "the real clip"
    shown = CliRunner().invoke(app, ["report", str(first), str(second), "--out", str(tmp_path / "both.html")])
    assert shown.stdout.split() == [str(tmp_path / "both.html")], "one that was written before is written again"
    assert CliRunner().invoke(app, ["report", str(first), "--out", str(tmp_path / "x.html")]).exit_code != 0
    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(RunError, match="is there, and is no comparison"):
        write_comparison([first, second], tmp_path / "mine.html")
    with pytest.raises(RunError, match="expected two or more"):
        write_comparison([first], tmp_path / "one.html")
    alone = make_run(tmp_path / "alone", real=("another",), synthetic=("else",), played=())
    assert "have no scored song in common" in Page(write_comparison([first, alone], tmp_path / "no.html")).check().text


@pytest.mark.slow
def test_the_same_folder_gives_the_same_page_anywhere(run, tmp_path):
    moved = tmp_path / "elsewhere, with spaces & signs"
    shutil.copytree(run, moved)
    shutil.rmtree(moved / "figures")
    (moved / "report/index.html").unlink()
    assert write_report(moved).read_bytes() == (run / "report/index.html").read_bytes()
    for figure in (run / "figures").glob("*.svg"):
        assert (moved / "figures" / figure.name).read_bytes() == figure.read_bytes(), figure.name


@pytest.mark.filterwarnings("error:Glyph")
def test_hostile_names_are_only_text(tmp_path):
    method, fusion = f"{HOSTILE} one", f"{HOSTILE} two"
    write_scores(make_scores([HOSTILE], {method: 1.0, fusion: 2.0}), tmp_path / "scores.parquet")
    MixingWeights.same_source({source: {method: 1.0} for source in SOURCES}).save(tmp_path / "fusions/x.npz")
    record = {
        "separators": {method: {"key": HOSTILE, "fingerprint": HOSTILE, "describe": {"name": HOSTILE}}},
        "fusions": {fusion: {"kind": HOSTILE, "linear": True, "file": "fusions/x.npz"}},
        "data": {HOSTILE: {"path": HOSTILE, "real": True}},
        "tracks": [{"name": HOSTILE, "data": HOSTILE, "notes": [HOSTILE]}],
        "commit": HOSTILE,
        "machine": {HOSTILE: HOSTILE},
    }
    (tmp_path / "record.json").write_text(json.dumps(record), encoding="utf-8")
    (tmp_path / "config.yaml").write_text(HOSTILE, encoding="utf-8")
    track, methods = make_song(HOSTILE, 0.5)
    write_players(tmp_path, track, {method: methods["repet_sim"], fusion: methods["mean"]})
    page = Page(write_report(tmp_path)).check()
    assert page.text.count("<script>alert(1)</script>") > 10
    written = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")]
    assert all(path.isascii() and not set(path) & set("<>:\"|?*'#% ") for path in written), written


def test_silent_scores_few_methods_and_missing_parts_still_give_a_page(tmp_path):
    scores = make_scores(["song"], {"mean": 0.0})
    write_scores(scores.assign(value=np.nan), tmp_path / "scores.parquet")
    record = {
        "fusions": {"mean": {"kind": "mean", "linear": True, "file": "fusions/gone.npz"}, "median": {"linear": False}}
    }
    (tmp_path / "record.json").write_text(json.dumps(record), encoding="utf-8")
    page = Page(write_report(tmp_path)).check()
    assert "No answer: no separator has scores of the same sources in all songs." in page.text
    assert "mean: no mixing matrix to show" in page.text
    assert "median: no mixing matrix, the fusion is not linear" in page.text
    assert "No players were written." in page.text
    alone = scores[scores["source"] == "vocals"].assign(source="accompaniment")
    write_scores(alone, tmp_path / "scores.parquet")
    assert "accompaniment" in Page(write_report(tmp_path)).check().text
    (tmp_path / "scores.parquet").unlink()
    (tmp_path / "record.json").write_text("{}", encoding="utf-8")
    assert "This run has no scores" in Page(write_report(tmp_path)).check().text
    assert score_tables(tmp_path) == []


def test_lost_audio_is_left_out_with_a_note(tmp_path):
    (tmp_path / "record.json").write_text("{}", encoding="utf-8")
    track, methods = make_song("song", 0.2)
    entry = write_players(tmp_path, track, {"mean": methods["mean"]})
    (tmp_path / "report" / entry["files"][-1]["path"]).unlink()
    page = Page(write_report(tmp_path)).check()
    assert "song: 1 audio files of its players are missing" in page.text
    assert sum(tag == "audio" for tag, _ in page.tags) == 8
    shutil.rmtree(tmp_path / "report/audio" / safe_name("song"))
    assert not any(tag == "audio" for tag, _ in Page(write_report(tmp_path)).check().tags)


def test_folders_that_are_no_run_or_cannot_be_written_are_errors(tmp_path):
    with pytest.raises(RunError, match="no run folder"):
        write_report(tmp_path)
    write_scores(make_scores(["song"], {"mean": 0.0}, frames=5), tmp_path / "scores.parquet")
    (tmp_path / "record.json").write_text("{}", encoding="utf-8")
    (tmp_path / "figures").write_text("a file where a folder should be")
    with pytest.raises(RunError, match="figures: cannot be written"):
        write_report(tmp_path)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("Debian's chromium and chromium-driver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "mute-audio",
        "force-prefers-reduced-motion",
        "autoplay-policy=no-user-gesture-required",
        "window-size=1280,1000",
        f"user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


@pytest.fixture
def shown(browser, run):
    browser.set_window_size(1280, 1000)
    browser.get((run / "report/index.html").as_uri())
    return browser


def wait(browser, script):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 15, 0.05).until(lambda page: page.execute_script(f"return {script}"), script)


PLAYING = "[...document.querySelectorAll('audio')].filter((audio) => !audio.paused && audio.currentTime > 0)"
SOUNDING = f"{PLAYING}.map((audio) => [decodeURI(audio.src).split('/').slice(-2).join('/'), audio.currentTime])"


@pytest.mark.browser
@pytest.mark.slow
def test_page_loads_without_errors_or_network_and_fits_narrow_windows(shown):
    assert shown.get_log("browser") == []
    asked = "performance.getEntriesByType('resource').map((entry) => entry.name)"
    assert all(name.startswith("file:") for name in shown.execute_script(f"return {asked}"))
    for width in (1280, 500):
        shown.set_window_size(width, 900)
        over = shown.execute_script("return document.documentElement.scrollWidth - innerWidth")
        assert over <= 0, f"the page is {over} pixels wider than a window of {width}"


@pytest.mark.browser
@pytest.mark.slow
def test_metrics_are_shown_one_at_a_time_and_the_theme_changes(shown):
    visible = "[...document.querySelectorAll('.metric')].filter((table) => table.offsetParent).map((table) => table.id)"
    assert shown.execute_script(f"return {visible}") == ["table-1-1", "table-2-1"]
    shown.execute_script("document.querySelectorAll('.segmented button')[4].click()")
    assert shown.execute_script(f"return {visible}") == ["table-1-5", "table-2-1"]
    grounds = set()
    for _ in range(2):
        shown.execute_script("document.getElementById('theme').click()")
        grounds.add(shown.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2, "light and dark look alike"


@pytest.mark.browser
@pytest.mark.slow
def test_every_player_file_can_be_decoded(shown):
    lengths = shown.execute_async_script(
        "const done = arguments[0];"
        "Promise.all([...document.querySelectorAll('audio')].map((audio) => new Promise((resolve) => {"
        "  audio.onloadedmetadata = () => resolve(audio.duration);"
        "  audio.onerror = () => resolve(audio.src + ': ' + audio.error.message);"
        "  audio.preload = 'metadata'; audio.load();"
        "}))).then(done);"
    )
    assert len(lengths) == 25
    assert lengths == [pytest.approx(1.5, abs=0.01)] * 25


@pytest.mark.browser
@pytest.mark.slow
def test_switching_keeps_the_position_and_one_file_sounds(shown):
    from selenium.webdriver.common.keys import Keys

    # excerpts are short here: they are played in a loop
    shown.execute_script("document.querySelector('.play').click()")
    assert wait(shown, f"{SOUNDING}[0]")[0].endswith("mixture.flac")
    shown.execute_script("document.querySelector('.play').click()")
    assert shown.execute_script(f"return {PLAYING}.length") == 0, "it does not pause"
    slider = "document.querySelector('.wave input')"
    shown.execute_script(f"{slider}.value = 0.7; {slider}.dispatchEvent(new Event('input'))")
    shown.execute_script(
        "[...document.querySelectorAll('.cell')].find((cell) => cell.dataset.name === 'mean, bass').focus()"
    )
    shown.switch_to.active_element.send_keys("3")
    assert shown.execute_script(f"return {slider}.value") == "0.7", "choosing another while it pauses loses the place"
    shown.switch_to.active_element.send_keys("6", Keys.ARROW_RIGHT, Keys.ENTER)
    name, position = wait(shown, f"{SOUNDING}[0]")
    assert name == "mean/bass.flac"
    assert 0.7 <= position < 1.5
    for key, expected in (
        ("7", "fixed/bass.flac"),
        (Keys.ARROW_RIGHT, "fixed/other.flac"),
        ("2", "_reference/other.flac"),
    ):
        shown.switch_to.active_element.send_keys(key)
        wait(shown, f"{PLAYING}.length === 1 && {SOUNDING}[0][0] === {expected!r}")
        pressed = shown.execute_script("return document.querySelectorAll('.cell[aria-pressed=true]').length")
        assert pressed == 1
    assert shown.get_log("browser") == []


def click(browser, selector, place=0):
    browser.execute_script(f"document.querySelectorAll({selector!r})[{place}].click()")


@pytest.mark.browser
@pytest.mark.slow
def test_tables_are_sorted_filtered_and_columns_hidden(shown):
    from selenium.webdriver.common.keys import Keys

    first = "[...document.querySelectorAll('#table-2-1 tbody th')].map((head) => head.textContent)"
    before = shown.execute_script(f"return {first}")
    head = "document.querySelectorAll('#table-2-1 thead th')[5]"
    shown.execute_script(f"{head}.querySelector('button').focus()")
    shown.switch_to.active_element.send_keys(Keys.ENTER)
    assert wait(shown, f"{head}.getAttribute('aria-sort') === 'descending' && {first}[0] === 'fixed' && {first}")
    values = "[...document.querySelectorAll('#table-2-1 tbody tr')].map((row) => Number(row.cells[5].dataset.sort))"
    found = shown.execute_script(f"return {values}")
    assert found == sorted(found, reverse=True)
    assert sorted(shown.execute_script(f"return {first}")) == sorted(before)

    rows = "[...document.querySelectorAll('#tracks-2 tbody tr')].filter((row) => row.offsetParent).length"
    assert shown.execute_script(f"return {rows}") == 6
    shown.find_element("css selector", "[data-filters=tracks-2]").send_keys("SONG 4")
    assert shown.execute_script(f"return {rows}") == 1

    visible = "[...document.querySelectorAll('#tracks-2 thead th')].filter((head) => head.offsetParent).length"
    assert shown.execute_script(f"return {visible}") == 6, "methods beside the two are hidden at first"
    # the box of columns of this table comes right before the box that scrolls it, or its hint
    box = "document.querySelector('#tracks-2').closest('.scroll').parentElement.querySelectorAll('.columns')"
    ticks = f"[...{box}].at(-1).querySelectorAll('input')"
    shown.execute_script(f"[...{ticks}].find((tick) => !tick.checked).click()")
    assert shown.execute_script(f"return {visible}") == 7
    assert shown.get_log("browser") == []


@pytest.mark.browser
@pytest.mark.slow
def test_whole_matrices_are_drawn_when_they_are_asked_for(shown):
    click(shown, "details.whole summary")
    cells = "document.querySelectorAll('details.whole table.matrix')[0]?.querySelectorAll('td')"
    assert wait(shown, f"{cells} && {cells}.length") == 24 * 8
    assert shown.execute_script(f"return {cells}[0].textContent") == "0.33"
    command = shown.execute_script("return document.querySelector('.command code').textContent")
    assert command.startswith("stemfuse fuse /"), "the run's own folder"
    assert shown.execute_script("return document.querySelector('.copy').hidden") is False
    assert shown.get_log("browser") == []


@pytest.mark.browser
@pytest.mark.slow
def test_narrow_windows_say_what_is_cut_and_dark_ones_are_dark(shown):
    shown.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 400, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    try:
        over = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert wait(shown, f"innerWidth === 400 && {over} <= 0")
        cut = "[...document.querySelectorAll('.scroll')].filter((box) => box.scrollWidth > box.clientWidth + 2)"
        hinted = f"{cut}.every((box) => box.previousElementSibling.matches('.hint:not([hidden])'))"
        assert wait(shown, f"{cut}.length > 2 && {hinted}")
        small = (
            "[...document.querySelectorAll('main *')].filter((part) => part.offsetParent && part.children.length === 0 "
            "&& part.textContent.trim() && parseFloat(getComputedStyle(part).fontSize) < 10).length"
        )
        assert shown.execute_script(f"return {small}") == 0
        features = [{"name": "prefers-color-scheme", "value": "dark"}]
        shown.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        assert wait(shown, "getComputedStyle(document.body).backgroundColor") == "rgb(16, 18, 22)"
    finally:
        shown.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        shown.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.browser
@pytest.mark.slow
def test_a_track_that_is_called_as_markup_is_text(browser, tmp_path):
    name = "<img src=x onerror=alert(1)>"
    page = write_report(make_run(tmp_path, real=(name,), played=(name,)))
    browser.get(page.as_uri())
    assert browser.execute_script("return document.images.length") == 0
    heading = browser.execute_script("return document.querySelector('.player h3').textContent")
    assert heading.startswith(name)
    assert browser.get_log("browser") == []
    both = write_comparison([tmp_path, tmp_path], tmp_path / "both.html")
    browser.get(both.as_uri())
    assert browser.execute_script("return document.images.length") == 0
    assert browser.get_log("browser") == []


@pytest.mark.browser
@pytest.mark.slow
def test_a_long_excerpt_plays_from_every_place(browser, tmp_path):
    """Without a seek table Chromium gives up near the end of a FLAC file."""
    page = write_report(make_run(tmp_path, played=("Falcon 69",), seconds=20.0))
    browser.get(page.as_uri())
    places = [0.5, 19.9, 1, 18, 3, 17.3, 12.345, 15, 19, 19.7, 5, 18.8, 0]
    lost = browser.execute_async_script(
        "const [places, done] = arguments; const audio = document.querySelector('audio'); const lost = [];"
        "audio.onerror = () => done([audio.error.message]);"
        "audio.onloadedmetadata = async () => {"
        "  for (const place of places) {"
        "    await new Promise((resolve) => { audio.onseeked = resolve; audio.currentTime = place; });"
        "    if (Math.abs(audio.currentTime - place) > 0.02) lost.push(place);"
        "  }"
        "  done(lost);"
        "}; audio.preload = 'auto'; audio.load();",
        places,
    )
    assert lost == []
