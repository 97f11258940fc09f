"""Programs as separators: what they write is checked, and nothing of them stays behind."""

import json
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from makers.audio import noise32, write_track
from makers.commands import command
from makers.kills import Victim
from stemfuse.experiments.identity import run_identity
from stemfuse.experiments.plan import plan_run
from stemfuse.experiments.recipes import parse_config
from stemfuse.separators import SeparatorError, StemStore, check_separator, digest, load_separator, trust
from stemfuse.separators.audio.whole_files import PREFIX

TOOL = """
import os, subprocess, sys, time

mode, song, folder = sys.argv[1:4]
if mode in ("hang", "stubborn"):
    if mode == "stubborn":
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "600"])
    with open(sys.argv[4], "w") as file:
        file.write(f"{os.getpid()} {child.pid}\\n")
    time.sleep(600)

import numpy as np, soundfile

audio, rate = soundfile.read(song, dtype="float32")
if mode == "fail":
    print("loading")
    sys.exit("\\x1b[31mno such model")
if mode == "killed":
    os.abort()
if mode == "background":
    child = subprocess.Popen(["sleep", "600"])
    with open(sys.argv[4], "w") as file:
        file.write(f"{child.pid}\\n")
stems = {"Vocals": 0.25 * audio, "Instrumental": 0.75 * audio}
if mode == "short":
    stems["Vocals"] = audio[:-1]
if mode == "mono":
    stems["Vocals"] = audio[:, 0]
if mode == "nan":
    stems["Vocals"] = np.where(np.arange(len(audio))[:, None] == len(audio) - 1, np.nan, audio)
if mode == "missing":
    del stems["Vocals"]
if mode == "nothing":
    stems = {}
if mode == "chatty":
    sys.stdout.write("nonsense\\n" * 1_000_000)
for name, samples in stems.items():
    soundfile.write(f"{folder}/song_({name})_tool.wav", samples, 48000 if mode == "rate" else rate, subtype="FLOAT")
if mode == "text":
    with open(f"{folder}/song_(Vocals)_tool.wav", "w") as file:
        file.write("no audio")
"""
STEMS = ["vocals", "accompaniment"]


@pytest.fixture
def tool(tmp_path):
    path = tmp_path / "tool.py"
    path.write_text(TOOL)
    return path


def options(tool, mode="good", *more, **others):
    arguments = [sys.executable, "{tool}", mode, "{mixture}", "{folder}", *map(str, more)]
    return {"arguments": arguments, "stems": STEMS, "files": {"tool": str(tool)}} | others


def make(tool, mode="good", *more, **others):
    return trust(load_separator("command", **options(tool, mode, *more, **others)))


def has_ended(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in "ZX"


def wait_until(reached, what, seconds=60):
    until = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < until, what
        time.sleep(0.02)


def left_in(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(PREFIX)]


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    yield folder
    assert left_in(folder) == []


@pytest.mark.slow
def test_a_program_keeps_all_rules(tool):
    check_separator(make(tool), seconds=0.05)


def test_stems_are_those_that_the_program_wrote(tool):
    mixture = noise32(2, 5_000)
    stems = make(tool).separate(mixture, 44_100)
    assert stems.sources == ("vocals", "accompaniment")
    np.testing.assert_array_equal(stems.audio, np.stack([0.25 * mixture, 0.75 * mixture]))


def test_outputs_are_named_and_stems_are_summed(tool):
    mixture = noise32(2, 500)
    named = options(tool, outputs={"bass": "song_(Instrumental)_tool.wav"}) | {"stems": None}
    assert trust(load_separator("command", **named)).separate(mixture, 44_100).sources == ("bass",)
    whole = make(tool, stems={"all": ["vocals", "accompaniment"]}).separate(mixture, 44_100)
    np.testing.assert_allclose(whole["all"].read(), mixture, atol=1e-7)


def test_no_shell_reads_the_arguments(tool, tmp_path):
    mixture = noise32(2, 100)
    make(tool, "good", "; touch evil", "$(touch evil)", "`touch evil`", "> evil").separate(mixture, 44_100)
    assert not list(Path.cwd().glob("evil"))
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("fail", r"ended with exit code 1: \\x1b\[31mno such model"),
        ("killed", "ended with exit code 134"),
        ("short", r"wrote song_\(Vocals\)_tool.wav with 499 samples, expected 500 as in the mixture"),
        ("mono", r"wrote song_\(Vocals\)_tool.wav with 1 channels, expected 2 as in the mixture"),
        ("rate", r"wrote song_\(Vocals\)_tool.wav with 48000 Hz, expected 44100 as in the mixture"),
        ("nan", r"wrote song_\(Vocals\)_tool.wav.*(finite|NaN)"),
        ("missing", r"wrote only song_\(Instrumental\)_tool.wav, expected one stem each of vocals"),
        ("nothing", "wrote no file, expected one stem each of vocals, accompaniment"),
        ("text", r"wrote song_\(Vocals\)_tool.wav"),
    ],
)
def test_what_a_program_does_wrong_is_said_in_one_line(tool, mode, words):
    with pytest.raises(SeparatorError, match=f"^command: python[^ ]* {words}") as caught:
        make(tool, mode).separate(noise32(2, 500), 44_100)
    assert "\n" not in str(caught.value)


def test_a_program_that_is_not_there(tool):
    with pytest.raises(SeparatorError, match=r"^command: nobody_has_this ended with exit code 127: .*No such file"):
        make(tool, arguments=["nobody_has_this", "{mixture}", "{folder}"]).separate(noise32(2, 500), 44_100)


def test_a_program_may_print_as_much_as_it_likes(tool):
    assert make(tool, "chatty").separate(noise32(2, 500), 44_100).length == 500


@pytest.mark.parametrize("mode", ["hang", "stubborn"])
def test_a_program_that_hangs_is_ended_with_all_that_it_started(tool, tmp_path, mode):
    pids = tmp_path / "pids"
    with pytest.raises(SeparatorError, match=r"took more than 3 s and was ended; set timeout_s to more"):
        make(tool, mode, pids, timeout_s=3).separate(noise32(2, 500), 44_100)
    # the timeout is far longer than the start takes
    for pid in pids.read_text().split():
        wait_until(lambda pid=pid: has_ended(pid), f"{pid} lives on")


def test_what_a_program_leaves_in_the_background_ends_with_it(tool, tmp_path):
    pids = tmp_path / "pids"
    make(tool, "background", pids).separate(noise32(2, 500), 44_100)
    wait_until(lambda: has_ended(pids.read_text().strip()), "lives on")


def test_identity_is_arguments_versions_and_the_content_of_files(tool, tmp_path):
    first = load_separator("command", **options(tool))
    moved = tmp_path / "elsewhere" / "renamed.py"
    moved.parent.mkdir()
    moved.write_bytes(tool.read_bytes())
    assert load_separator("command", **options(moved, timeout_s=5)).fingerprint() == first.fingerprint()
    others = [options(tool, version="2"), options(tool, "fail"), options(tool, rate=48_000)]
    found = {load_separator("command", **other).fingerprint() for other in others} | {first.fingerprint()}
    moved.write_text(TOOL + "\n# another one\n")
    found.add(load_separator("command", **options(moved)).fingerprint())
    assert len(found) == 5
    assert first.fingerprint() == digest(first.describe())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arguments": "tool {mixture} {folder}"}, "expected a list"),
        ({"arguments": []}, "expected a list"),
        ({"arguments": ["tool", "{mixture}"]}, "without {folder}"),
        ({"arguments": ["tool", "{mixture}", "{foldr}"]}, "did you mean 'folder'"),
        ({"stems": None}, "either stems"),
        ({"outputs": {"vocals": "a.wav"}}, "either stems"),
        ({"stems": None, "outputs": {"vocals": "../a.wav"}}, "a file below {folder}"),
        ({"stems": None, "outputs": {"a.b": "a.wav"}}, "has a dot"),
        ({"files": {}}, "neither a version nor files"),
        ({"timeout_s": 0}, "more than 0"),
    ],
)
def test_misuse_is_said_before_anything_runs(tool, changes, words):
    with pytest.raises(Exception, match=words) as caught:
        load_separator("command", **(options(tool, arguments=["tool", "{mixture}", "{folder}"]) | changes))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tool):
    with pytest.raises(SeparatorError, match=r"nowhere\.py is missing, which files names"):
        load_separator("command", **options(tool, files={"tool": "nowhere.py"})).fingerprint()


def recipe(tmp_path, tool, mode="good", *more, **others):
    for index, subset in enumerate(("train", "test")):
        write_track(tmp_path / "songs" / subset / f"song {index}", noise32(4, 2, 44_100, seed=index), subtype="FLOAT")
    given = {
        "out": str(tmp_path / "run"),
        "store": str(tmp_path / "store"),
        "data": [str(tmp_path / "songs")],
        "sources": "vocals,accompaniment=drums+bass+other",
        "separators": [{"name": "command", "label": "tool", "options": options(tool, mode, *more)} | others],
        "players": {"tracks": 0},
        "bounds": None,
        "workers": 1,
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(given))
    return path


@pytest.mark.slow
def test_a_run_by_a_program(tmp_path, tool):
    path = recipe(tmp_path, tool)
    refused = command("run", path)
    assert refused.returncode == 2
    assert "separator tool (command) runs a program" in refused.stderr
    assert "--trust" in refused.stderr
    assert not list((tmp_path / "store").rglob("*.wav"))
    done = command("run", path, "--trust")
    assert done.returncode == 0, done.stderr
    # nothing is made again, so that no trust is needed
    assert command("run", path).returncode == 0
    assert "trust: true" not in (tmp_path / "run" / "config.yaml").read_text()
    store = StemStore(tmp_path / "store")
    (key,) = store.keys()
    assert key.startswith("command-")
    assert store.verify() == []


@pytest.mark.parametrize(
    ("mode", "words"), [("fail", "no such model"), ("nan", "wrote song_(Vocals)_tool.wav"), ("missing", "vocals")]
)
def test_a_run_by_a_program_that_fails_leaves_no_half_entry(tmp_path, tool, mode, words):
    done = command("run", recipe(tmp_path, tool, mode, trust=True))
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "failed" in line]
    assert words in line
    assert "Traceback" not in done.stderr
    left = [path.name for path in (tmp_path / "store").rglob("*") if path.suffix == ".wav" or path.name == "stems.json"]
    assert left == []
    assert not any(path.name.startswith(PREFIX) for path in (tmp_path / "store").rglob("*"))


@pytest.mark.parametrize(("written", "version"), [("1", "1"), ("1.10", "1.10"), ("2026-11-30", "2026-11-30")])
def test_a_version_is_the_text_that_is_written(tmp_path, tool, written, version):
    """YAML reads a number or a date there; what is stated is text."""
    soundfile.write(tmp_path / "song.wav", noise32(4_410, 2, seed=9), 44_100, subtype="FLOAT")
    arguments = json.dumps([sys.executable, str(tool), "good", "{mixture}", "{folder}"])
    given = [f"arguments={arguments}", f"stems={json.dumps(STEMS)}", f"version={written}"]
    named = [part for option in given for part in ("--option", option)]
    store = tmp_path / "store"
    done = command("separate", tmp_path / "song.wav", "--separator", "command", *named, "--store", store, "--trust")
    assert done.returncode == 0, done.stderr
    (entry,) = store.rglob("stems.json")
    assert json.loads(entry.read_text())["separator"]["options"]["version"] == version


def test_a_version_in_a_recipe_is_a_whole_number_or_in_quotes(tmp_path, tool):
    """1.10 and 1.1 are one number in YAML: no stems of one program are taken for the other's."""
    assert load_separator("command", **options(tool, version=1)).version == "1"
    refused = command("run", recipe(tmp_path, tool, options=options(tool, version=1.1)))
    assert refused.returncode == 2
    assert "argument 'version': got 1.1, expected text: put it in quotes" in refused.stderr


@pytest.mark.slow
def test_no_file_can_give_trust(tmp_path, tool):
    marker = tmp_path / "marker"
    # all that it needs stands in its description, so that a fusion or a store could make it again
    code = f"open({str(marker)!r}, 'w').close()\n" + TOOL.replace("{name}", "{{name}}")
    whole = [sys.executable, "-c", code, "good", "{mixture}", "{folder}"]
    path = recipe(tmp_path, tool, trust=True, options={"arguments": whole, "stems": STEMS, "version": "1"})
    assert command("run", path).returncode == 0
    song = tmp_path / "song.wav"
    soundfile.write(song, noise32(44_100, 2, seed=9), 44_100, subtype="FLOAT")
    (blend,) = (tmp_path / "run" / "fusions").glob("mean.*z")
    marker.unlink()
    for store in ("new", "store"):
        refused = command("fuse", blend, song, "--out", tmp_path / "fused", "--store", tmp_path / store)
        assert refused.returncode == 2
        assert "--trust" in refused.stderr
    fit = ["--data", tmp_path / "songs", "--store", tmp_path / "store", "--train", "test", "--valid", ""]
    write_track(tmp_path / "songs" / "test" / "another", noise32(4, 2, 44_100, seed=8), subtype="FLOAT")
    fitted = command("fit", "mean", *fit, "--separators", "command", "--out", tmp_path / "fit.npz")
    assert (fitted.returncode, "--trust" in fitted.stderr) == (2, True)
    assert not marker.exists()
    done = command("fuse", blend, song, "--out", tmp_path / "fused", "--store", tmp_path / "new", "--trust")
    assert done.returncode == 0, done.stderr
    assert marker.exists()


def test_trust_changes_nothing_that_a_run_depends_on(tmp_path, tool):
    def identity(**more):
        given = yaml.safe_load(recipe(tmp_path, tool, **more).read_text())
        return run_identity(plan_run(parse_config(given)))

    assert identity(trust=True) == identity(trust=False) == identity()
    assert identity(label="another") != identity()


def test_trust_is_no_option(tool):
    with pytest.raises(SeparatorError, match="argument 'trust' is unknown"):
        load_separator("command", **options(tool), trust=True)
    with pytest.raises(SeparatorError, match=r"^command: runs the program python.*--trust"):
        load_separator("command", **options(tool)).separate(noise32(2, 500), 44_100)


def test_it_separates_where_it_is_trusted(tmp_path, tool):
    song = tmp_path / "a song.wav"
    soundfile.write(song, noise32(4_410, 2), 44_100, subtype="FLOAT")
    given = [
        f"--option={name}={yaml.safe_dump(value, default_flow_style=True)}" for name, value in options(tool).items()
    ]
    place = ["--store", tmp_path / "store"]
    assert command("separate", song, "--separator", "command", *given, *place).returncode == 2
    done = command("separate", song, "--separator", "command", *given, *place, "--trust")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "store").rglob("vocals.wav"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_command_that_is_stopped_leaves_no_program_behind(tmp_path, tool, number, workers, own_temporary_folder):
    pids = tmp_path / "pids"
    path = recipe(tmp_path, tool, "hang", pids, trust=True)
    victim = Victim(["run", path, f"workers={workers}"], Path.cwd(), tmp_path / "log")
    assert victim.wait_for(lambda: pids.exists() and len(pids.read_text().split()) > 1)
    assert victim.stop(number)
    for pid in pids.read_text().split():
        wait_until(lambda pid=pid: has_ended(pid), f"{pid} lives on")
    victim.check_quiet()
    assert not list((tmp_path / "store").rglob("stems.json"))
    # what a killed one left goes when the next one starts
    wait_until(lambda: all(has_ended(name.split("-")[2]) for name in left_in(own_temporary_folder)), "writes on")
    make(tool).separate(noise32(2, 100), 44_100)
    assert list(own_temporary_folder.iterdir()) == []
