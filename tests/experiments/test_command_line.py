"""The command line as people expect it: version, help in groups, completion, quiet and verbose, progress, listings."""

import json
import os
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

import stemfuse
from makers.commands import command, process
from stemfuse.experiments.cli import app
from stemfuse.experiments.cli.console import progress_lines
from stemfuse.experiments.cli.help import OTHERS, PANELS

COMMANDS = [name for names in PANELS.values() for name in names]


def test_the_version():
    assert command("--version").stdout == f"stemfuse {stemfuse.__version__}\n"


def test_help_begins_with_the_three_commands_of_a_newcomer(monkeypatch):
    monkeypatch.setenv("TERMINAL_WIDTH", "100")
    shown = command("--help").stdout
    places = [shown.index(f"stemfuse {name}") for name in ("demo", "compare", "fuse")]
    assert places == sorted(places)
    assert places[-1] < shown.index("Options")
    panels = [shown.index(f"─ {panel} ─") for panel in PANELS]
    assert panels == sorted(panels)
    assert "..." not in shown.replace("[ARGS]...", "").replace("COMMAND [ARGS]...", "")


def test_every_command_has_a_place_of_its_own_in_the_help():
    names = [info.name or info.callback.__name__ for info in app.registered_commands]
    assert set(COMMANDS) <= set(names)
    for name in set(names) - set(COMMANDS):
        panel = next(info.rich_help_panel for info in app.registered_commands if (info.name or "") == name)
        assert panel == OTHERS


@pytest.mark.parametrize("name", [*COMMANDS, "weights list", "weights get", "store list", "store verify"])
def test_help_keeps_its_brackets_and_has_an_example(name, monkeypatch):
    monkeypatch.setenv("TERMINAL_WIDTH", "300")
    done = command(*name.split(), "--help")
    assert done.returncode == 0
    assert f"stemfuse {name}" in done.stdout.replace("Usage: stemfuse", "", 1)
    assert "Example" in done.stdout
    if name == "fit":
        assert "KEY=VALUE" in done.stdout
        assert "[one per core]" in done.stdout
        assert "vocals,accompaniment=drums+bass+other [all]" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["compar"], "compare"),
        (["plot", "a.npz", "--ot", "b.png"], "--out"),
        (["list", "fusion"], "fusions"),
        (
            ["fit", "least_square", "--data", "d", "--store", "s", "--separators", "a", "--out", "o.npz"],
            "least_squares",
        ),
        (["inspect", "xumx_smal"], "xumx_small"),
        (["plot", "tfc_tdf_smal", "--out", "a.png"], "tfc_tdf_small"),
        (["plot", "a.npz", "--style", "papr", "--out", "a.png"], "paper"),
        (["run", "mdx_mixr"], "mdx_mixer"),
        (["run", "mdx_mixer", "worker=2"], "workers"),
        (["weights", "lst"], "list"),
    ],
)
def test_a_name_that_is_almost_right_is_answered_with_the_right_one(arguments, meant, tmp_path):
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    said = re.search(r"[Dd]id you mean:? '?([\w-]+)|Possible options: ([\w, -]+)", done.stderr)
    assert said, done.stderr
    assert meant in said.group(0)
    assert "Traceback" not in done.stderr
    assert "╭" not in done.stderr, "messages are lines, not boxes"


def test_listings_are_json_where_a_program_reads_them(tmp_path):
    for what in ("fusions", "datasets", "presets", "recipes", "weights"):
        assert json.loads(command("list", what, "--json").stdout), what
    assert command("list", "recipes").stdout.startswith("danna_sep")


def test_a_store_is_listed(tmp_path):
    song = tmp_path / "data" / "test" / "song <b>"
    mdx = tmp_path / "mdx" / "test" / "song <b>"
    noise = np.random.default_rng(0).normal(0, 0.1, (44_100, 2))
    for folder, gain in ((song, 1.0), (mdx, 0.9)):
        folder.mkdir(parents=True)
        soundfile.write(folder / "vocals.wav", gain * noise, 44_100)
        soundfile.write(folder / "other.wav", gain * noise[::-1], 44_100)
    soundfile.write(song / "mixture.wav", noise + noise[::-1], 44_100)
    done = command("adopt", "mdx", "--as", "mdx", "--data", "data", "--store", "stems", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (entry,) = json.loads(command("store", "list", "stems", "--json", cwd=tmp_path).stdout)
    assert (entry["separator"], entry["subset"]) == (entry["path"].split("/")[-3], "test")
    assert entry["separator"].startswith("mdx-")
    assert entry["track"].startswith("song <b>")
    assert command("store", "list", "nowhere", cwd=tmp_path).returncode == 1
    quiet = command("store", "list", "stems", "--quiet", cwd=tmp_path)
    assert (quiet.stderr, "mdx" in quiet.stdout) == ("", True)


def test_listing_loads_no_heavy_package():
    script = (
        "import sys; from stemfuse.experiments.cli import main\n"
        "try:\n    main(['list', 'fusions'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'pandas', 'matplotlib', 'optuna', 'scipy.signal', 'librosa'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_shell_completes_commands_options_and_names(tmp_path):
    environment = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    script = process("--show-completion", "bash", env=environment)
    assert "complete -o default -F _stemfuse_completion stemfuse" in script.stdout, script.stderr

    def completed(*words):
        line = {"COMP_WORDS": " ".join(("stemfuse", *words)), "COMP_CWORD": str(len(words))}
        asked = environment | line | {"_STEMFUSE_COMPLETE": "complete_bash"}
        return process(env=asked).stdout.split()

    assert completed("comp") == ["compare"]
    assert "--style" in completed("plot", "--st")
    assert completed("fit", "least") == ["least_squares"]


def test_lines_of_progress_come_while_one_task_takes_long():
    lines = []
    with progress_lines(lines.append, every_s=0.15) as progress:
        progress("separate", 0, 2)
        time.sleep(0.2)
        progress("separate", 1, 2)
        time.sleep(0.2)
        progress("separate", 2, 2)
        time.sleep(0.2)
    assert lines[0] == "separate: 2 to do"
    assert lines[1] == "separate: 0 of 2, 0 s so far"
    assert re.fullmatch(r"separate: 1 of 2, 0 s so far, about 0 s left", lines[2])
    assert re.fullmatch(r"separate: all 2 done in \d s", lines[-1])


def test_what_is_done_already_is_no_measure_of_the_time_left():
    lines = []
    with progress_lines(lines.append, every_s=0.1) as progress:
        progress("fit", 8, 10)
        time.sleep(0.15)
    assert lines == ["fit: 2 to do, 8 of 10 are done", "fit: 8 of 10, 0 s so far"]


def test_a_stage_that_ended_early_is_not_told_of_again_and_one_that_begins_anew_has_a_clock_of_its_own():
    lines = []
    with progress_lines(lines.append, every_s=0.2) as progress:
        progress("fit", 0, 3)
        progress("gram_mixer", 43, 100)
        time.sleep(0.5)
        progress("fit", 1, 3)
        told = len(lines)
        time.sleep(0.5)
        for done in (2, 3):
            progress("fit", done, 3)
        progress("fit", 0, 8)
        time.sleep(0.3)
    assert any(line.startswith("gram_mixer: 43 of 100") for line in lines[:told])
    assert any(line.startswith("fit: 1 of 3") for line in lines[told:])
    assert not any(line.startswith("gram_mixer") for line in lines[told:])
    assert "fit: 8 to do" in lines
    assert any(line.startswith("fit: 0 of 8, 0 s so far") for line in lines)


def test_quiet_and_verbose_exclude_each_other_and_may_stand_anywhere(tmp_path):
    both = command("list", "datasets", "--quiet", "--verbose")
    assert (both.returncode, "choose one" in both.stderr) == (2, True)
    made = command("synth", "band", "--tracks", "1", "--seconds", "1", "--quiet", cwd=tmp_path)
    assert made.stderr == ""
    assert command("synth", "band2", "--tracks", "1", "--seconds", "1", cwd=tmp_path).stderr == "synth: all 1 done\n"
