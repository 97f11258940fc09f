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

from stemfuse.analysis.scores import scores_table, write_scores
from stemfuse.blending import MixingWeights
from stemfuse.experiments.errors import RunError
from stemfuse.experiments.report import safe_name, score_tables, write_players, write_report
from stemfuse.separators import SOURCES, Stems, Track

SEPARATORS = ("repet_sim", "harmonic_percussive", "centre_channel")
BLEND = {"drums": (0.2, 0.6, 0.2), "bass": (0.3, 0.4, 0.3), "other": (0.5, 0.25, 0.25), "vocals": (0.5, 0.0, 0.5)}
EQUAL = dict.fromkeys(SOURCES, (1 / 3, 1 / 3, 1 / 3))
HOSTILE = '<script>alert(1)</script> "O\'Brien" & 100 % #1 ../../x 音楽'


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
    folder, real=("Falcon 69",), synthetic=("song 1", "song 2", "song 3", "song 4"), played=("Falcon 69",), seconds=2.0
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
            "data-shows" in given or given.get("id") == "theme" or given.get("type") == "checkbox" for given in named
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
    assert {"weights-mean.svg", "weights-mean.png", "scores-clip.svg", "scores-band.png", "gains-1-band.svg"} <= names
    assert "gains-1-clip.svg" not in names, "one track has no interval"


def test_real_music_comes_first_and_apart(run):
    (first, one), (second, other) = score_tables(run)
    assert first == "clip (real music): SDR in dB, 1 track, 10 of 12 frames"
    assert second == "band (synthetic): SDR in dB, 4 tracks, 40 of 48 frames"
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
    assert table["dropped"].to_list() == [8, 4, 4, 4, 4]
    for value in (grid.loc["fixed", "bass"], means["mean"]):
        assert f"{value:.2f}" in page.text
    assert f"{grid.loc['fixed', 'vocals'] - best['vocals']:+.2f}" in page.text


def test_comparison_is_there_for_enough_tracks_only(page):
    assert "Gain over the best single separator, repet_sim" in page.text
    assert "Gain over the best pick per source" in page.text
    assert page.text.count("No intervals: they need at least 3 tracks") == 1
    assert "p cannot fall below 0.125 with 4 tracks" in page.text


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
    assert "No method has a score of every source." in page.text
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
    assert wait(shown, f"{SOUNDING}[0]")[0].endswith("mixture.wav")
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
    assert name == "mean/bass.wav"
    assert 0.7 <= position < 1.5
    for key, expected in (
        ("7", "fixed/bass.wav"),
        (Keys.ARROW_RIGHT, "fixed/other.wav"),
        ("2", "_reference/other.wav"),
    ):
        shown.switch_to.active_element.send_keys(key)
        wait(shown, f"{PLAYING}.length === 1 && {SOUNDING}[0][0] === {expected!r}")
        pressed = shown.execute_script("return document.querySelectorAll('.cell[aria-pressed=true]').length")
        assert pressed == 1
    assert shown.get_log("browser") == []
