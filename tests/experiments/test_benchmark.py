"""The benchmark: what it measures on planted stems, resumed, killed, compared with another release, and refused."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from makers.commands import command
from stemfuse.analysis.scores import scores_table
from stemfuse.blending import list_fusions
from stemfuse.experiments.benchmark import load_benchmark
from stemfuse.experiments.benchmark.changes import changes
from stemfuse.experiments.benchmark.claims import verdict
from stemfuse.experiments.benchmark.definition import LEAST_SQUARES
from stemfuse.experiments.benchmark.units import Gain, Units
from stemfuse.experiments.demo import SEED
from stemfuse.separators.labels import BEST_PER_SOURCE

# the fewest songs that have intervals
RATE, SONGS, SECONDS = 44_100, 5, 3
ERRORS = {"one": 0.02, "two": 0.02, "three": 0.04}
LISTED = (
    "fusions=[mean, {name: least_squares, label: own stems, options: {ridge: auto}},"
    " {name: least_squares, label: least squares, options: {stems: all, mixture: true, ridge: auto}}]"
)
SMALL = (
    LISTED,
    "workers=1",
    "only=[vocals, band]",
    f"parts.vocals.order=[{', '.join(ERRORS)}]",
    "parts.vocals.roles={}",
    "parts.vocals.recipe.fit.folds=5",
    "parts.band.order=[centre_channel]",
    "parts.band.roles={}",
    "parts.band.recipe.data.0.band={songs: {train: 1, valid: 0, test: 1}, seconds: 2, seed: 71}",
)


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """A folder as that of SiSEC: songs of noise in two sources, and vocals by three systems with independent errors."""
    root = tmp_path_factory.mktemp("real") / "sisec18"
    for number in range(SONGS):
        song = f"song {number}"
        # levels that change from frame to frame, so that frames differ
        levels = np.repeat(np.random.default_rng(50 + number).uniform(0.5, 1.5, SECONDS), RATE)[:, None]
        parts = levels * np.random.default_rng(number).normal(0, 0.1, (2, SECONDS * RATE, 2))
        files = dict(zip(("references/test/%s/vocals", "references/test/%s/accompaniment"), parts, strict=True))
        for place, (system, error) in enumerate(ERRORS.items()):
            noise = np.random.default_rng([number, 1 + place]).normal(0, error, parts[0].shape)
            files[f"estimates/{system}/test/%s/vocals"] = parts[0] + noise
        for name, samples in files.items():
            file = root / f"{name % song}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            sf.write(file, samples, RATE, subtype="FLOAT")
    return root.parent


@pytest.fixture(scope="module")
def finished(music, tmp_path_factory):
    """A small benchmark, done once."""
    out = tmp_path_factory.mktemp("benchmark")
    done = command("run", "benchmark", f"real={music}", f"out={out}", *SMALL)
    assert done.returncode == 0, done.stderr
    return out, done


def numbers_of(out):
    return json.loads((out / "benchmark.json").read_text())


def song_sdr(music, methods):
    """Whole-song SDR of the mean of some systems, the mean over songs."""
    values = []
    for number in range(SONGS):
        song = f"test/song {number}/vocals.wav"
        truth = sf.read(music / "sisec18" / "references" / song)[0]
        given = [sf.read(music / "sisec18" / "estimates" / name / song)[0] for name in methods]
        error = truth - np.mean(given, axis=0)
        values.append(10 * np.log10(np.square(truth).sum() / np.square(error).sum()))
    return float(np.mean(values))


@pytest.mark.slow
def test_its_figures_are_those_of_the_audio(finished, music):
    methods = numbers_of(finished[0])["parts"]["vocals"]["methods"]
    for label, systems in {"one": ["one"], "three": ["three"], "mean": list(ERRORS)}.items():
        assert methods[label]["values"]["song"]["mean"] == pytest.approx(song_sdr(music, systems), abs=2e-4)
    gain = methods["mean"]["over_best_single"]["song"]
    best = max(song_sdr(music, [name]) for name in ERRORS)
    assert gain["gain_db"] == pytest.approx(song_sdr(music, list(ERRORS)) - best, abs=2e-4)
    assert gain["low_db"] <= gain["gain_db"] <= gain["high_db"]


@pytest.mark.slow
def test_planted_truths_are_told_as_claims(finished):
    """Errors are independent: several systems beat one, a leak is small, each system added helps less than the last."""
    part = numbers_of(finished[0])["parts"]["vocals"]
    rows = {key: {row["comparison"]: row for row in rows} for key, rows in part["claims"].items()}
    best = part["best_single"]["median"]
    assert rows["several"][f"least squares over {best}"]["verdict"] == "holds"
    assert rows["more"]["two added to 1"]["median"]["gain_db"] == pytest.approx(3.0, abs=0.7)
    assert rows["more"]["gain from 1 to 2 over gain from there to 3"]["verdict"] == "holds"
    assert abs(rows["leak"]["seen over not seen"]["song"]["gain_db"]) < 0.05
    # one source: there is nothing to pick
    assert "pick" not in rows
    assert part["methods"]["own stems"]["parameters"] == 6
    assert part["methods"]["mean"]["parameters"] == 0
    assert part["left_out"]["wiener"].startswith("one source")


@pytest.mark.slow
def test_what_all_songs_and_separators_give_is_found_in_two_ways(finished):
    """From statistics, as from the audio that was fused and scored."""
    part = numbers_of(finished[0])["parts"]["vocals"]
    *fewer, last = part["needed"]
    assert [(row["separators"], row["songs"]) for row in part["needed"]] == [(n, k) for n in (2, 3) for k in (1, 2, 4)]
    assert last["songs"] == SONGS - 1
    for label, gains in last["gains"].items():
        for name, gain in gains.items():
            assert gain["gain_db"] == pytest.approx(
                part["methods"][label]["over_best_single"][name]["gain_db"], abs=2e-4
            )
    # the third system is worse than the others, and helps
    assert fewer[2]["gains"]["own stems"]["song"]["gain_db"] < last["gains"]["own stems"]["song"]["gain_db"]


@pytest.mark.slow
def test_the_document_has_its_parts_apart_and_no_times(finished):
    out, done = finished
    text = (out / "benchmark.md").read_text()
    assert "Real vocals: about" in done.stderr
    assert done.stderr.index("about") < done.stderr.index("adopt")
    vocals, band = text.index("## Real vocals"), text.index("## Synthetic band")
    assert vocals < text.index("| `own stems` |") < band
    # every claim is a table with its parts in the first column
    assert "### Several models together beat the best single one." in text
    assert (out / "benchmark-vocals.svg").is_file()
    times = json.loads((out / "benchmark-times.json").read_text())
    assert times["parts"]["vocals"]["mean"]["apply_s"] > 0
    assert not {"fit_s", "apply_s"} & numbers_of(out)["parts"]["vocals"]["methods"]["mean"].keys()
    assert str(out) not in text + json.dumps(numbers_of(out))


def same_files(out, other):
    for name in ("benchmark.md", "benchmark.json", "benchmark-vocals.svg", "benchmark-band.svg"):
        assert (out / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.slow
def test_killed_with_9_and_resumed_it_writes_the_same_to_the_last_digit(finished, music, tmp_path):
    arguments = [sys.executable, "-m", "stemfuse", "run", "benchmark", f"real={music}", f"out={tmp_path}", *SMALL]
    killed = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 250
    while not list((tmp_path / "vocals" / "run" / "fusions").glob("*.npz")) and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "benchmark.md").exists()
    again = command(*arguments[3:])
    assert again.returncode == 0, again.stderr
    same_files(finished[0], tmp_path)


@pytest.mark.slow
def test_a_second_run_computes_nothing_and_the_document_can_lie_elsewhere(finished, music, tmp_path):
    out, _ = finished
    before = {file: file.stat().st_mtime_ns for file in out.rglob("scores.parquet")}
    done = command("run", "benchmark", f"real={music}", f"out={out}", f"document={tmp_path}", *SMALL)
    assert done.returncode == 0, done.stderr
    assert len(before) == 2
    assert {file: file.stat().st_mtime_ns for file in before} == before
    same_files(out, tmp_path)


@pytest.mark.slow
def test_two_releases_are_compared_by_one_command(finished, tmp_path):
    now = finished[0] / "benchmark.json"
    numbers = numbers_of(finished[0])
    values = numbers["parts"]["vocals"]["methods"]["mean"]["values"]["median"]
    values["mean"] = values["mean"] + 0.5
    numbers["parts"]["band"]["methods"]["gone"] = numbers["parts"]["band"]["methods"]["mean"]
    numbers["parts"]["band"]["separators"]["centre_channel"] = "another"
    old = tmp_path / "old.json"
    old.write_text(json.dumps(numbers))
    done = command("table", now, "--against", old)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["vocals", "mean", f"{values['mean']:.2f}", f"{values['mean'] - 0.5:.2f}", "-0.50", "worse"] in lines
    assert any(line[:2] == ["band", "gone"] and line[-1] == "gone" for line in lines)
    assert "2 changed; Synthetic band: other versions or weights of centre_channel" in " ".join(done.stdout.split())
    assert "0 changed" in command("table", now, "--against", now).stdout
    assert "own stems" in command("table", now).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["real=nowhere"], "real=nowhere: no folder sisec18 in it, which the part 'Real vocals' needs"),
        (["only=[vocals]"], "vocals: needs real music; name its folder with real=FOLDER"),
        (["only=[voices]"], "only: got 'voices', expected some of vocals, songs, band"),
        (["parts.band.orders=[a]"], "key parts.band.orders is unknown"),
        (["--cells", "1/2"], "--cells is for recipes of runs"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_before_anything_is_done(arguments, message, tmp_path):
    done = command("run", "benchmark", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert done.stderr.count("stemfuse: ") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "{}", '{"schema": 0, "parts": {}}'])
def test_a_file_that_is_no_benchmark_is_refused(text, tmp_path):
    file = tmp_path / "benchmark.json"
    if text:
        file.write_text(text)
    done = command("table", file)
    assert done.returncode == 2
    assert "benchmark.json" in done.stderr


class TestDefinition:
    """The packaged definition is frozen, and has all fusions."""

    def test_every_fusion_is_in_the_list_or_has_a_reason(self):
        benchmark = load_benchmark()
        listed = {fusion.name for fusion in benchmark.fusions}
        assert not listed & benchmark.not_fusions_of_their_own.keys()
        assert listed | benchmark.not_fusions_of_their_own.keys() >= set(list_fusions())

    def test_what_parts_leave_out_is_in_the_list(self):
        benchmark = load_benchmark()
        labels = {fusion.label or fusion.name for fusion in benchmark.fusions}
        assert LEAST_SQUARES in labels
        for part in benchmark.parts.values():
            assert part.left_out.keys() <= labels
            assert {role for roles in part.roles.values() for role in roles} <= set(part.order)

    def test_the_band_is_large_enough_and_its_songs_are_nobody_elses(self):
        (entry,) = load_benchmark().parts["band"].recipe["data"]
        band = entry["band"]
        assert band["songs"]["test"] >= 30
        assert band["seconds"] >= 20
        # the packaged networks', the demo's, the tests'
        assert band["seed"] not in range(9000, 9100)
        assert band["seed"] != SEED
        assert band["seed"] >= 100

    def test_recipes_of_all_parts_are_valid(self, tmp_path):
        benchmark = load_benchmark(overrides=[f"real={tmp_path}"])
        for name in benchmark.parts:
            labels = [cell.label for cell in benchmark.recipe(name).cells()]
            assert len(labels) == len(set(labels))
            assert {"first 1", "danna-sep", "danna-sep fitted"} <= set(labels)

    def test_digest_knows_what_is_measured_and_not_where(self, tmp_path):
        same = load_benchmark(overrides=[f"out={tmp_path}", "workers=1", "only=[band]"]).digest
        other = load_benchmark(overrides=["fusions=[mean]"]).digest
        assert same == load_benchmark().digest != other


def table_of(scores):
    """A score table of SDR by method, song and source; a frame each."""
    return pd.concat(
        scores_table(song, method, list(sources), {"SDR": [[value] for value in sources.values()]})
        for (method, song), sources in scores.items()
    )


SCORES = {
    ("a", "1"): {"drums": 5.0, "vocals": 3.0},
    ("a", "2"): {"drums": 7.0},
    ("a", "3"): {"drums": 6.0, "vocals": 2.0},
    ("b", "1"): {"drums": 4.0, "vocals": 6.0},
    ("b", "2"): {"drums": 6.0},
    ("b", "3"): {"drums": 5.0, "vocals": 4.0},
    ("mix", "1"): {"drums": 6.0, "vocals": 7.0},
    ("mix", "2"): {"drums": 8.0},
    ("mix", "3"): {"drums": 7.0, "vocals": 5.0},
}


class TestUnits:
    """Scores of songs, some of which lack sources."""

    def test_songs_with_other_sources_are_averaged_song_by_song(self):
        units = Units.of(table_of(SCORES), ["a", "b"], "mean")
        values = units.values()
        assert values.loc["a"].to_dict() == {"drums": 6.0, "vocals": 2.5, "mean": pytest.approx((4 + 7 + 4) / 3)}
        assert units.best_single == "b"
        # drums by a, vocals by b, then the mean of each song's sources: 5.5, 7, 5 against 6.5, 8, 6
        gain = units.gain("mix", BEST_PER_SOURCE)
        assert (gain.gain_db, gain.songs) == (pytest.approx(1.0), 3)
        # three songs have no interval
        assert np.isnan([gain.low_db, gain.high_db]).all()
        assert units.gain("mix", "a", "vocals").songs == 2
        assert units.gain("mix", "nobody").songs == 0

    def test_songs_with_all_sources_have_the_papers_mean(self):
        scores = {key: value for key, value in SCORES.items() if key[1] != "2"}
        scores |= {(name, "4"): {"drums": 1.0, "vocals": 9.0} for name in ("a", "b", "mix")}
        units = Units.of(table_of(scores), ["a", "b"], "median")
        values = units.values()
        assert values.loc["a", "mean"] == np.mean([np.median([5, 6, 1]), np.median([3, 2, 9])])
        assert units.gain("mix", "a").gain_db == pytest.approx(values.loc["mix", "mean"] - values.loc["a", "mean"])


def test_a_claim_is_told_by_its_interval():
    assert verdict(Gain(-0.2, -0.3, -0.1, 9)) == "does not"
    assert verdict(Gain(-0.2, -0.3, -0.1, 9), expected=-1) == "holds"
    assert verdict(Gain(0.2, float("nan"), float("nan"), 2)) == "cannot be told"


def test_a_new_method_and_one_that_is_gone_are_told_from_changed_ones():
    def numbers(**means):
        methods = {label: {"values": {"median": {"mean": value}}} for label, value in means.items()}
        return {"parts": {"band": {"methods": methods}}}

    found = {
        change.method: change.kind for change in changes(numbers(a=5.0, b=5.0, c=5.0), numbers(a=5.004, b=5.1, d=1))
    }
    assert found == {"a": "the same", "b": "better", "c": "gone", "d": "new"}
