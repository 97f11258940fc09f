"""Hostile command lines and files end in one line; whatever meets the last net of the command line fails here."""

import contextlib
import io
import json
import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from rich.console import Console

from stemfuse.blending import MixingWeights
from stemfuse.experiments import RunError, cli
from stemfuse.experiments.band import synthesize
from stemfuse.experiments.cli import crashes
from stemfuse.experiments.workers import run_all, silent
from stemfuse.separators import StemfuseError

pytestmark = pytest.mark.filterwarnings("ignore")

VALUES = [
    "",
    " ",
    "{",
    "x={",
    "=",
    "=1",
    "a=[",
    "a=!!python/object:x.y",
    "a=" + "[" * 2000,
    "9" * 5000,
    "-1",
    "0",
    "1e300",
    "nan",
    "inf",
    "99999999999999999999",
    "\x1b[2J\x07",
    "\u202etxt.exe",
    "line\nline",
    "\udcff\udcfe",
    "a" * 300,
    "a" * 5000,
    "../../evil",
    "..",
    ".",
    "/",
    ".gram",
    "/dev/null",
    "/dev/zero",
    "/proc/self/x",
    "a,b,,c",
    "label=",
    "mean",
    "centre_channel",
    "*",
    "[bold]x[/bold]",
    "--",
]

COMMANDS = {
    "list": ["@"],
    "weights list": ["@"],
    "weights get": ["@"],
    "weights add": ["@", "--as", "@"],
    "separate": ["@", "--separator", "@", "--store", "@", "--option", "@", "--workers", "@"],
    "adopt": ["@", "--as", "@", "--data", "@", "--store", "@", "--sources", "@", "--model", "@"],
    "synth": ["@", "--tracks", "@", "--seconds", "@", "--seed", "@", "--subset", "@"],
    "fit": ["@", "--data", "@", "--store", "@", "--separators", "@", "--out", "@", "--folds", "@", "--option", "@"],
    "fuse": ["@", "@", "--out", "@", "--store", "@", "--separators", "@", "--subtype", "@"],
    "combine": ["@", "@", "--how", "@", "--out", "@", "--weights", "@", "--option", "@"],
    "export": ["@", "--as", "@", "--out", "@", "--option", "@"],
    "score": ["--references", "@", "--estimates", "@", "--window", "@", "--metrics", "@", "--backend", "@"],
    "run": ["@", "@", "@"],
    "report": ["@"],
    "show": ["@"],
    "compare": ["@", "@", "@", "--out", "@"],
    "store verify": ["@"],
    "store move": ["@"],
    "train": ["@", "@", "@"],
}
"""What commands take; each ``@`` becomes a value, most of them usable ones and some hostile."""

DAILY = ("list", "adopt", "fit", "run", "combine")
"""Those that are tried every day; the others with the slow tests."""

USABLE = {
    "--separator": "centre_channel",
    "--store": "store",
    "--option": "a=1",
    "--workers": "1",
    "--as": "msst",
    "--data": "band",
    "--sources": "drums",
    "--model": "mdx",
    "--tracks": "1",
    "--seconds": "1",
    "--seed": "1",
    "--subset": "test",
    "--separators": "centre_channel",
    "--out": "out",
    "--folds": "0",
    "--how": "avg_wave",
    "--weights": "1,2",
    "--references": "band",
    "--estimates": "band",
    "--window": "1",
    "--metrics": "SI_SDR",
    "--backend": "fast",
    "--subtype": "FLOAT",
}


def crash_files(folder):
    return sorted(Path(folder).glob(f"{crashes.PREFIX}*"))


def call(arguments):
    """Exit code and all that a command prints."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            cli.main(arguments)
            code = 0
        except SystemExit as end:
            code = end.code or 0
    return code, said.getvalue()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with one song and files that are nearly right, where crash files would lie, too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEMFUSE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    synthesize(tmp_path / "band", 1, 1.0, 3, subset="test")
    soundfile.write("a.wav", np.zeros((4000, 2)), 44_100)
    torch.save({"state_dict": {"a": torch.zeros(3)}}, "a.pt")
    blend = MixingWeights.same_source({source: {"a": 0.5} for source in ("drums", "bass", "other", "vocals")})
    blend.save("a.npz")
    Path("a.json").write_text('{"kind": "mean", "arguments": {}}')
    Path("a.yaml").write_text("out: run\nstore: store\ndata: [nothing]\nseparators: [centre_channel]\n")
    Path("a.zip").write_bytes(Path("a.pt").read_bytes())
    Path("a.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0" + b"{" * 16)
    Path("a.onnx").write_bytes(b"\x08\x07\x12\x00")
    return tmp_path


def damaged(draw, path):
    """Another file of the same kind, with bits flipped or the end cut off."""
    content = bytearray(path.read_bytes())
    for _ in range(draw.randint(1, 8)):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    if draw.random() < 0.3:
        del content[draw.randrange(len(content)) :]
    other = path.with_name(f"b{path.suffix}")
    other.write_bytes(content)
    return str(other)


def arguments_of(draw, command, place):
    files = sorted(path for path in place.glob("a.*"))
    made = []
    for part in COMMANDS[command]:
        usable = USABLE.get(made[-1]) if made and made[-1].startswith("--") else None
        if part != "@":
            made.append(part)
        elif draw.random() < 0.3:
            made.append(draw.choice(VALUES))
        elif usable is not None:
            made.append(usable)
        else:
            path = draw.choice(files)
            made.append(damaged(draw, path) if draw.random() < 0.5 else path.name)
    return [*command.split(), *made]


def check_round(draw, command, place):
    arguments = arguments_of(draw, command, place)
    code, said = call(arguments)
    met = [path.read_text() for path in crash_files(place)]
    assert not met, (arguments, met[0])
    assert code in (0, 1, 2), arguments
    assert "Traceback" not in said, arguments


@pytest.mark.parametrize(
    "command", [name if name in DAILY else pytest.param(name, marks=pytest.mark.slow) for name in COMMANDS]
)
def test_nothing_meets_the_last_net(place, command):
    draw = random.Random(f"8 {command}")
    for _ in range(12):
        check_round(draw, command, place)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20))
def test_nothing_meets_the_last_net_in_a_long_run(place, seed):
    draw = random.Random(seed)
    for _ in range(200):
        check_round(draw, draw.choice(list(COMMANDS)), place)


RECIPES = [
    {"seed": 10**30},
    {"seed": -1},
    {"workers": 10**9},
    {"separators": [{"name": "harmonic_percussive", "options": {"window": {"a": 1}}}]},
    {"separators": [{"name": "centre_channel", "options": {"a" * 5000: 1}}]},
    {"separators": []},
    {"separators": 5},
    {"separators": [[]]},
    {"data": [{"path": "band", "label": "\u202e"}]},
    {"data": [{"path": "a\u0000b"}]},
    {"data": [{"path": "~nobody/x"}]},
    {"fusions": [{"name": "mean", "label": "x\ny"}, "mean"]},
    {"fusions": [{"name": "search", "options": {"trials": 10**20}}]},
    {"fusions": [{"name": "fixed", "options": {"blend": "nowhere.npz"}}]},
    {"score": {"window_s": 1e300}},
    {"score": {"hop_s": float("nan")}},
    {"bounds": {"bands_hz": [float("inf"), -1]}},
    {"players": {"tracks": 10**30}},
    {"out": "/dev/null/x"},
    {"store": "a.wav"},
    {"out": "/proc/nothing"},
]


@pytest.mark.parametrize("change", RECIPES, ids=lambda change: next(iter(change)))
def test_recipes_that_cannot_be_run_end_in_one_line(place, change):
    recipe = {"out": "run", "store": "store", "data": ["band"], "separators": ["centre_channel"], "bounds": None}
    Path("r.yaml").write_text(json.dumps({**recipe, "workers": 1, "players": {"tracks": 0}, **change}))
    code, said = call(["run", "r.yaml"])
    assert [path.read_text() for path in crash_files(place)] == []
    assert code in (1, 2), said
    assert "Traceback" not in said


def test_the_last_net_says_where_the_traceback_lies(place, monkeypatch):
    def fail(path, overrides):
        raise LookupError("nobody\nforesaw \x1b[2J this")

    monkeypatch.setattr("stemfuse.experiments.recipes.load_config", fail)
    said = io.StringIO()
    monkeypatch.setattr(cli, "messages", Console(file=said, soft_wrap=True, highlight=False))
    code, _ = call(["run", "r.yaml"])
    (path,) = crash_files(place)
    assert code == 1
    assert said.getvalue().count("\n") == 1
    assert "\x1b" not in said.getvalue()
    assert str(path) in said.getvalue()
    assert "Traceback" in path.read_text()


def _fail_of(song):
    if song in FAILURES:
        raise FAILURES[song]
    Path(f"{song}.done").touch()


FAILURES = {
    "key": KeyError("drums"),
    "assertion": AssertionError(),
    "type": TypeError("no\nnumber \x1b[2J"),
    "memory": MemoryError(),
    "disk": OSError(28, "No space left on device"),
    "mendable": StemfuseError("too short"),
}


@pytest.mark.parametrize(
    ("failing", "workers"),
    [("key", 1), ("assertion", 1), ("type", 1)],
)
def test_an_unforeseen_error_of_a_task_meets_the_last_net_and_names_its_song(place, monkeypatch, failing, workers):
    songs = ["first", "mendable", failing, "last"]
    with pytest.raises(type(FAILURES[failing])) as found:
        run_all(_fail_of, songs, workers, "score", silent, str)
    assert found.value.__notes__[-1] == f"score: {failing}"
    assert {path.stem for path in place.glob("*.done")} == {"first", "last"}
    said = crashes.crash_message(found.value)
    assert type(FAILURES[failing]).__name__ in said
    assert f"score: {failing}" in said
    (path,) = crash_files(place)
    assert f"score: {failing}" in path.read_text()
    assert "_fail_of" in path.read_text()


def test_foreseen_errors_of_tasks_are_named_together_with_their_reasons(place):
    with pytest.raises(RunError) as found:
        run_all(_fail_of, ["mendable", "memory", "disk", "fine"], 1, "score", silent, str)
    assert str(found.value) == (
        "score: 3 of 4 failed: mendable: too short; memory: not enough memory; close other programs, or take fewer "
        "workers or shorter chunks; disk: [Errno 28] No space left on device"
    )


def test_a_fault_in_a_stage_leaves_a_crash_file(place, monkeypatch):
    monkeypatch.setattr("stemfuse.separators.StemStore.attach", lambda *_: {}["drums"])
    recipe = {"out": "run", "store": "store", "data": ["band"], "separators": ["centre_channel"], "bounds": None}
    Path("r.yaml").write_text(json.dumps({**recipe, "workers": 1, "players": {"tracks": 0}}))
    code, said = call(["run", "r.yaml"])
    assert code == 1, said
    assert len(crash_files(place)) == 1
