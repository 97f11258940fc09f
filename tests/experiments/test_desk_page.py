"""The desk in a browser: what is heard and shown is what Python computes, and all of it works by keyboard."""

import base64
import shutil
from functools import partial

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from makers.desks import HOSTILE, RATE, desk_run, desk_song, serve
from stemfuse.analysis import GramStatistics
from stemfuse.blending import MixingWeights, apply_weights, decompose
from stemfuse.experiments.cli import app
from stemfuse.experiments.desk import RunSongs, write_excerpt

pytestmark = [pytest.mark.browser, pytest.mark.slow]
PATIENCE_S = 60
HASTE = 1200
"""Samples after a start or a change by which gains have arrived: a few fades of 5 ms."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
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
        f"user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    chrome.set_script_timeout(PATIENCE_S)
    yield chrome
    chrome.quit()


def resize(browser, width, height=1000):
    """A window of any width: the browser's own is never narrower than 500 pixels."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def until(browser, script):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, PATIENCE_S, 0.05).until(lambda page: page.execute_script(f"return {script}"), script)


def js(browser, script, *arguments):
    return browser.execute_script(f"return {script}", *arguments)


def settled(browser):
    """Wait until what was changed is drawn."""
    until(browser, "!desk.pending")


def press(browser, *keys):
    browser.switch_to.active_element.send_keys(*keys)
    settled(browser)


def click(browser, selector):
    browser.execute_script("document.querySelector(arguments[0]).click()", selector)
    settled(browser)


def figures(browser, what="passage"):
    """SDR as the page shows it, with all digits: per source, and their mean."""
    found = js(browser, f"[...document.querySelectorAll('thead .{what}')].map((each) => Number(each.dataset.value))")
    # NaN comes as nothing
    values = np.array(found, float)
    return values[1:], values[0]


def current(browser):
    """The weights on the desk, (segment, output, input)."""
    return np.array(js(browser, "desk.board.segments.map((each) => [...each])"))


def weights_of(song, matrix, like=None):
    given = {} if like is None else {"starts_s": like.starts_s, "duration_s": like.duration_s}
    return MixingWeights(matrix.reshape(len(matrix), len(song.outputs), -1), song.inputs, song.outputs, **given)


def start_from(browser, label):
    browser.execute_script(
        "const at = desk.board.blends.findIndex((blend) => blend.label === arguments[0]); desk.board.startFrom(at)",
        label,
    )
    settled(browser)


def rendered(browser, start, length):
    """What is heard from a sample on, (channel, time), with the gain for equal loudness taken out."""
    text = browser.execute_async_script(
        """
        const [start, length, done] = arguments;
        (async () => {
          const [first, last] = desk.player.window;
          const audio = await desk.player.render(await desk.song.samples(first, last), first, start, length);
          const flat = new Float32Array(audio.length * length);
          audio.forEach((samples, channel) => flat.set(samples, channel * length));
          const bytes = new Uint8Array(flat.buffer);
          let text = "";
          for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
          done(btoa(text));
        })().catch((error) => done(`failed: ${error.stack}`));
        """,
        start,
        length,
    )
    assert not text.startswith("failed"), text
    gain = 10 ** (js(browser, "desk.gainDb") / 20)
    return np.frombuffer(base64.b64decode(text), "<f4").reshape(-1, length) / gain


@pytest.fixture(scope="module")
def song():
    return desk_song()


@pytest.fixture(scope="module")
def excerpt(song, tmp_path_factory):
    """The page of an excerpt, on disk: seconds 1 to 5 of 6."""
    return write_excerpt(tmp_path_factory.mktemp("excerpt"), song, 4.0, 1.0)


@pytest.fixture
def page(browser, excerpt):
    """The excerpt's page, opened from disk."""
    resize(browser, 1280)
    browser.get(excerpt.as_uri())
    until(browser, "window.desk && desk.loaded && !desk.pending")
    yield browser
    assert browser.get_log("browser") == []


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    return desk_run(tmp_path_factory.mktemp("desk"))


@pytest.fixture(scope="module")
def port(run_folder):
    return serve(run_folder)


@pytest.fixture
def served(browser, port):
    """The desk of a run, from its server, with the song "two"."""
    resize(browser, 1280)
    browser.get(f"http://127.0.0.1:{port}/desk/?song=1")
    until(browser, "window.desk && desk.loaded && !desk.pending")
    yield browser
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("label", ["a", "equal", "full", "varying"])
def test_sdr_in_the_page_is_that_of_python(page, song, label):
    start_from(page, label)
    gram = GramStatistics.of(song.track)
    given = next(blend.weights for blend in song.blends if blend.label == label)
    whole, passage = gram.sdr(given), gram.sdr(given)[:, 1:5]
    assert figures(page, "whole")[0] == pytest.approx(np.median(whole, 1), abs=1e-3)
    assert figures(page)[0] == pytest.approx(np.median(passage, 1), abs=1e-3)
    assert figures(page)[1] == pytest.approx(np.median(passage, 1).mean(), abs=1e-3)
    matrix = gram.matrices(given)
    energies = gram.reference_energies.reshape(6, 4, 2).sum(2)[1:5].sum(0)
    errors = gram.errors(matrix).reshape(6, 4, 2).sum(2)[1:5].sum(0)
    page.execute_script(
        "const how = document.querySelector('#how'); how.value = 'whole'; how.dispatchEvent(new Event('change'))"
    )
    settled(page)
    assert figures(page)[0] == pytest.approx(10 * np.log10(energies / errors), abs=1e-3)


def test_a_source_that_is_taken_away_counts_as_in_python(page, song):
    start_from(page, "equal")
    cells = js(page, "desk.matrix.cells.filter((cells) => cells[0][0] === 0)")
    for cell in cells:
        page.execute_script("desk.matrix.set(arguments[0], 0)", cell)
    settled(page)
    values = GramStatistics.of(song.track).sdr(weights_of(song, current(page)))
    assert np.isnan(values).all()
    assert np.isnan(figures(page)[0]).all()
    assert js(page, "document.querySelector('thead .passage').value") == "–"


def test_slopes_and_the_best_move_are_those_of_python(page, song):
    start_from(page, "full")
    click(page, "[data-view=channels]")
    gram, weights = GramStatistics.of(song.track), song.blends[3].weights
    n = len(song.inputs)
    moments = gram.moments[1:5].sum(0)
    matrix = weights.matrix[0].astype(float)
    slope = matrix @ moments[:n, :n] - moments[n:, :n]
    errors = gram.errors(weights.matrix)[1:5].sum(0).reshape(4, 2).sum(1).repeat(2)
    expected = -20 / np.log(10) * slope / errors[:, None]
    shown = js(page, "[...document.querySelectorAll('.fader')].map((each) => Number(each.dataset.gradient))")
    assert np.abs(np.reshape(shown, (n, 8)) - expected.T).max() < 1e-6 * np.abs(expected).max()
    gains = -10 * np.log10(1 - slope**2 / np.diag(moments)[:n] / errors[:, None])
    assert js(page, "desk.readout.best.gain") == pytest.approx(gains.max(), abs=1e-6)
    row, column = np.unravel_index(gains.argmax(), gains.shape)
    assert f"{song.inputs[column]} in {song.outputs[row]}" in js(page, "document.querySelector('#advice').textContent")
    click(page, "#take-advice")
    moved = current(page)[0].reshape(8, n) - matrix
    assert moved[row, column] == pytest.approx(-slope[row, column] / moments[column, column], rel=1e-4)


@pytest.mark.parametrize("label", ["equal", "full"])
def test_the_parts_are_those_that_python_takes_apart(page, song, label):
    start_from(page, label)
    weights = next(blend.weights for blend in song.blends if blend.label == label)
    expected = decompose(weights)
    parts = js(page, "Object.fromEntries(Object.entries(desk.board.partsOf(0)).map(([part, m]) => [part, [...m]]))")
    for part, matrix in expected.matrices.items():
        assert np.reshape(parts[part], matrix.shape) == pytest.approx(matrix, abs=1e-6)
    if label == "full":
        click(page, "[data-part=cross]")
        click(page, "[data-part=residual]")
        left = expected.matrices["base"] + expected.matrices["own"]
        assert current(page).reshape(left.shape) == pytest.approx(left, abs=1e-6)
        value = GramStatistics.of(song.track).sdr(weights_of(song, current(page)))[:, 1:5]
        assert figures(page)[0] == pytest.approx(np.median(value, 1), abs=1e-3)
        click(page, "#reset")
        assert current(page).reshape(left.shape) == pytest.approx(weights.matrix[0], abs=1e-6)


@pytest.mark.parametrize("label", ["full", "overlapping"])
def test_what_is_heard_is_what_python_fuses(page, song, label):
    """From the page's own FLAC: 16 bits beside float32; the first milliseconds fade in."""
    start_from(page, label)
    weights = next(blend.weights for blend in song.blends if blend.label == label)
    start, length = 2 * RATE + 345, RATE + 1
    heard = rendered(page, start, length)[:, HASTE:]
    expected = apply_weights(weights, song.track).read(start, start + length).sum(0)[:, HASTE:]
    assert np.abs(heard - expected).max() < 3e-4
    page.execute_script("desk.listenTo(desk.takes.find((take) => take.label === 'median'))")
    settled(page)
    expected = song.heard["median"].read(start, start + length).sum(0)[:, HASTE:]
    assert np.abs(rendered(page, start, length)[:, HASTE:] - expected).max() < 3e-4


def test_takes_are_equally_loud(page, song):
    """The loudness of any take in the passage is that of the reference, K-weighted."""
    from scipy.signal import sosfilt

    from stemfuse.experiments.desk.loudness import k_weighting

    def level(audio):
        return 10 * np.log10(np.square(sosfilt(k_weighting(RATE), audio)[..., RATE:]).sum(0).mean())

    click(page, "thead th:nth-of-type(1) .solo")
    page.execute_script("desk.listenTo(desk.takes.find((take) => take.label === 'b'))")
    settled(page)
    wanted = level(song.track.references["drums"].read(0, 5 * RATE))
    own = level(song.track.stems["b"]["drums"].read(0, 5 * RATE))
    assert js(page, "desk.gainDb") == pytest.approx(wanted - own, abs=0.05)
    click(page, "#match")
    assert js(page, "desk.gainDb") == 0
    assert "Heard: b, drums" in js(page, "document.querySelector('#heard').textContent")


def test_a_download_is_a_file_of_weights(page, song, tmp_path):
    start_from(page, "overlapping")
    text = page.execute_async_script(
        """
        const done = arguments[0];
        const made = URL.createObjectURL;
        URL.createObjectURL = (blob) => {
          const reader = new FileReader();
          reader.onload = () => done(reader.result.split(",")[1]);
          reader.readAsDataURL(blob);
          return made(blob);
        };
        document.querySelector("#save").requestSubmit();
        """
    )
    (tmp_path / "file.npz").write_bytes(base64.b64decode(text))
    loaded = MixingWeights.load(tmp_path / "file.npz")
    expected = song.blends[5].weights
    assert loaded.matrix == pytest.approx(expected.matrix)
    assert (loaded.inputs, loaded.outputs, loaded.duration_s) == (song.inputs, song.outputs, 1.8)
    assert "stemfuse fuse my-blend.npz" in js(page, "document.querySelector('#saved').textContent")


def test_names_are_text_and_nothing_is_asked_of_a_network(page):
    assert js(page, "document.title") == f"Mixing desk: {HOSTILE}"
    assert js(page, "document.querySelector('#song-name').textContent") == HOSTILE
    assert HOSTILE in js(page, "document.querySelector('#refused').textContent")
    assert js(page, "document.querySelectorAll('img').length") == 0
    asked = js(page, "performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert all(name.startswith(("blob:", "data:", "file:")) for name in asked), asked


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_narrow_windows_and_reads_in_both_themes(page, theme):
    page.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
    for width in (1280, 700, 400):
        resize(page, width)
        for view in ("own", "all", "channels"):
            click(page, f"[data-view={view}]")
            over = js(page, "document.documentElement.scrollWidth - innerWidth")
            assert over <= 0, f"the page is {over} pixels wider than a window of {width}"
    contrast = page.execute_script(
        """
        const levels = (text) => text.match(/[\\d.]+/g).slice(0, 3).map((part) => {
          const share = Number(part) / 255;
          return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        const light = (text) => levels(text).reduce((sum, level, at) => sum + level * [0.2126, 0.7152, 0.0722][at], 0);
        const shown = ["#heard", ".strip-name", ".passage", ".whole", ".fader .number", "#advice", ".take", ".main"];
        return shown.map((each) => {
          const element = document.querySelector(each);
          let under = element;
          while (getComputedStyle(under).backgroundColor === "rgba(0, 0, 0, 0)") under = under.parentElement;
          const [a, b] = [getComputedStyle(element).color, getComputedStyle(under).backgroundColor].map(light);
          return [each, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
        });
        """
    )
    assert all(ratio >= 4.5 for _, ratio in contrast), contrast


def test_every_control_has_a_name_and_a_role(page):
    nameless = page.execute_script(
        """
        return [...document.querySelectorAll("button, input, select, [role=slider], [role=radio]")].filter((each) => {
          const around = each.closest("label")?.textContent.trim();
          return !(each.getAttribute("aria-label") || each.textContent.trim() || around);
        }).map((each) => each.outerHTML.slice(0, 100));
        """
    )
    assert nameless == []
    states = js(page, "[...document.querySelectorAll('.fader')].map((each) => each.getAttribute('aria-valuenow'))")
    assert all(np.isfinite(float(state)) for state in states)
    assert js(page, "document.querySelectorAll('.fader[tabindex=\"0\"]').length") == 1


def test_samples_from_the_server_are_mixed_exactly(served, run_folder):
    song = RunSongs(run_folder).song(1)
    start_from(served, "least_squares")
    start, length = 7, 2 * RATE
    heard = rendered(served, start, length)[:, HASTE:]
    fused = apply_weights(song.blends[-1].weights, song.track).read(start, start + length)
    assert heard == pytest.approx(fused.sum(0)[:, HASTE:], abs=1e-4)
    click(served, "thead th:nth-of-type(2) .solo")
    assert rendered(served, start, length)[:, HASTE:] == pytest.approx(fused[1][:, HASTE:], abs=1e-4)
    click(served, "thead th:nth-of-type(2) .solo")
    click(served, "thead th:nth-of-type(4) .mute")
    assert rendered(served, start, length)[:, HASTE:] == pytest.approx(fused[:3].sum(0)[:, HASTE:], abs=1e-4)


def test_it_plays_loops_and_changes_takes_without_a_gap(served):
    served.execute_script("desk.transport.choose([1.0 * desk.song.rate, 1.6 * desk.song.rate])")
    click(served, "#play")
    until(served, "desk.player.position > 1.1 * desk.song.rate && desk.player.peak() > 0.001")
    assert js(served, "document.querySelector('#play').getAttribute('aria-label')") == "pause"
    seen = []
    for _ in range(60):
        seen.append(js(served, "desk.player.position / desk.song.rate"))
        if len(seen) > 5 and min(np.diff(seen)) < 0:
            break
    until(served, "desk.player.position < 1.3 * desk.song.rate")
    assert all(1.0 <= second <= 1.65 for second in seen), seen
    served.execute_script("desk.seek(1.2 * desk.song.rate)")
    for label in ("mixture", "reference", "a", "mean", "desk"):
        served.execute_script(
            "const takes = [...document.querySelectorAll('.take')];"
            "takes.find((take) => take.firstChild.textContent === arguments[0]).click()",
            label,
        )
        settled(served)
        until(served, "desk.player.peak() > 0.001")
        checked = (
            "[...document.querySelectorAll('.take[aria-checked=true]')].map((take) => take.firstChild.textContent)"
        )
        assert js(served, checked) == [label]
        assert js(served, "desk.player.isPlaying")
    click(served, "#play")
    until(served, "desk.player.peak() === 0")


def test_a_weight_is_moved_by_keyboard_alone_and_undone(served, run_folder):
    from selenium.webdriver.common.keys import Keys

    song = RunSongs(run_folder).song(1)
    gram = GramStatistics.of(song.track)
    served.execute_script("document.querySelector('#songs').focus()")
    for _ in range(40):
        press(served, Keys.TAB)
        if js(served, "document.activeElement.classList.contains('fader')"):
            break
    assert js(served, "document.activeElement.getAttribute('aria-label')") == "mixture in drums"
    press(served, Keys.PAGE_DOWN)
    press(served, Keys.ARROW_RIGHT)
    assert js(served, "document.activeElement.getAttribute('aria-label')") == "a in bass"
    before = figures(served)[0]
    expected = song.blends[2].weights.matrix.astype(float)
    places = [
        (0, song.outputs.index(f"bass.{side}"), song.inputs.index(f"a.bass.{side}")) for side in ("left", "right")
    ]

    def check():
        assert current(served).reshape(expected.shape) == pytest.approx(expected, abs=1e-6)
        assert figures(served)[0] == pytest.approx(np.median(gram.sdr(weights_of(song, expected)), 1), abs=1e-3)

    press(served, Keys.ARROW_UP, Keys.ARROW_UP, Keys.ARROW_UP)
    for place in places:
        expected[place] += 0.03
    check()
    press(served, Keys.SHIFT, Keys.ARROW_DOWN, Keys.NULL)
    for place in places:
        expected[place] -= 0.1
    check()
    press(served, "0.7", Keys.ENTER)
    for place in places:
        expected[place] = 0.7
    check()
    assert js(served, "document.activeElement.getAttribute('aria-valuenow')") == "0.7000"
    press(served, Keys.DELETE)
    for place in places:
        expected[place] = 0
    check()
    for _ in range(10):
        press(served, Keys.CONTROL, "z", Keys.NULL)
    assert figures(served)[0] == pytest.approx(before, abs=1e-9)
    press(served, Keys.CONTROL, "y", Keys.NULL)
    assert np.abs(figures(served)[0] - before).max() > 1e-3
    press(served, Keys.HOME)
    assert figures(served)[0] == pytest.approx(before, abs=1e-9)


def test_a_weight_is_dragged_and_heard_at_once(served):
    from selenium.webdriver.common.action_chains import ActionChains

    fader = served.find_element("css selector", "[aria-label='b in vocals']")
    served.execute_script("arguments[0].scrollIntoView({block: 'center'})", fader)
    before = float(fader.get_attribute("aria-valuenow"))
    gains = js(served, "[...desk.player.lastMix.gains[0]]")
    steps = partial(ActionChains, served, duration=0)
    steps().click_and_hold(fader).move_by_offset(20, 0).move_by_offset(20, 0).release().perform()
    settled(served)
    assert float(fader.get_attribute("aria-valuenow")) == pytest.approx(before + 0.2, abs=1e-3)
    assert js(served, "[...desk.player.lastMix.gains[0]]") != gains
    click(served, "#undo")
    assert float(fader.get_attribute("aria-valuenow")) == pytest.approx(before, abs=1e-9)
    assert js(served, "document.querySelector('#undo').disabled"), "a drag is one step"


def test_the_blind_test_counts_and_says_what_chance_would_do(served):
    from scipy.stats import binomtest

    click(served, "#abx-open")
    served.execute_script(
        "document.querySelector('#abx-a').value = 3; document.querySelector('#abx-b').value = 4;"
        "document.querySelector('#abx-rounds').value = '8'; document.querySelector('#abx-begin').click()"
    )
    drawn = []
    for number in range(8):
        x = js(served, "desk.blind.x")
        drawn.append(x)
        assert js(served, "desk.takes.indexOf(desk.take)") == {"a": 3, "b": 4}[x]
        assert js(served, "document.querySelector('#heard').textContent") == "", "what is heard gives X away"
        press(served, "a", "b", "x")
        wrong = number == 3
        press(served, "1" if (x == "a") != wrong else "2")
    p = binomtest(7, 8, alternative="greater").pvalue
    assert js(served, "document.querySelector('#abx-result').textContent") == f"7 of 8 right, p = {p:.3f}"
    served.execute_script("document.querySelector('.abx-result [data-closes]').click()")
    assert not js(served, "desk.player.isPlaying")


def test_what_was_tuned_is_saved_and_run(served, run_folder, tmp_path):
    click(served, "#take-advice")
    served.execute_script("document.querySelector('#save-name').value = 'by hand'")
    click(served, "#save .main")
    command = until(served, "document.querySelector('#saved code')?.textContent")
    path = run_folder / "desk/by-hand-"
    (saved,) = run_folder.glob("desk/by-hand*.npz")
    assert str(path) in command
    song = RunSongs(run_folder).song(1)
    matrix = current(served)
    given = [str(saved), str(run_folder.parent / "songs"), "--store", str(run_folder.parent / "store")]
    done = CliRunner().invoke(app, ["fuse", *given, "--out", str(tmp_path / "fused")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    fused, _ = soundfile.read(tmp_path / "fused/test/two/bass.wav", dtype="float32")
    expected = apply_weights(weights_of(song, matrix), song.track).audio[1]
    assert np.abs(fused.T - expected).max() < 1e-5


def test_another_song_is_opened_and_its_name_is_text(served):
    served.execute_script(
        "const songs = document.querySelector('#songs'); songs.value = '0'; songs.dispatchEvent(new Event('change'))"
    )
    until(served, f"window.desk && desk.song.name === {HOSTILE!r} && desk.loaded")
    assert js(served, "document.querySelectorAll('img').length") == 0
    assert js(served, "[...document.querySelectorAll('#songs option')].map((each) => each.textContent)") == [
        f"{HOSTILE} (songs)",
        "two (songs)",
    ]
