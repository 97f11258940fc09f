"""Ctrl-C and SIGTERM, from the first instant: exit codes, no noise, no process left, and the run goes on."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

COMMAND = [sys.executable, "-m", "stemfuse"]
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
RECIPE = """
out: run
store: store
data: [band]
separators: [harmonic_percussive, centre_channel]
fit: {train: [train], valid: []}
fusions: [mean, {name: search, options: {trials: 30}}]
workers: 2
players: {tracks: 1, duration_s: 1}
"""
KEYS = ["track", "fusion", "source", "frame", "metric"]


def started(arguments, folder):
    return subprocess.Popen(
        [*COMMAND, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


def catches(process, number):
    """Whether the process has a handler for the signal."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return False
    caught = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")]
    return bool(caught) and bool(int(caught[0], 16) >> (number - 1) & 1)


def ended(process, number):
    """Send the signal; the exit code and what was printed, once nothing of the session is left."""
    process.send_signal(number)
    printed = process.communicate(timeout=60)[0].decode()
    for _ in range(200):
        if not members(process.pid):
            return process.returncode, printed
        time.sleep(0.05)
    raise AssertionError(f"still running: {members(process.pid)}")


def members(session):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def check(code, printed, number):
    assert code == CODES[number], printed
    assert "Traceback" not in printed
    assert "leaked" not in printed


def scores(folder):
    return pd.read_parquet(folder / "scores.parquet").sort_values(KEYS).reset_index(drop=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signals")
    subprocess.run([*COMMAND, "synth", "band", "--tracks", "3", "--seconds", "2"], cwd=folder, check=True)
    (folder / "r.yaml").write_text(RECIPE)
    return folder


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks at /proc")
@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("later_s", [0, 0.2, 0.5])
def test_a_signal_while_the_command_line_is_imported(tmp_path, number, later_s):
    process = started(["list", "fusions"], tmp_path)
    while process.poll() is None and not catches(process, signal.SIGTERM):
        time.sleep(0.001)
    time.sleep(later_s)
    code, printed = ended(process, number)
    if code != 0:  # it may have come to its end before
        check(code, printed, number)


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [1, pytest.param(50, marks=pytest.mark.long)])
def test_a_run_is_stopped_at_any_point_and_goes_on(folder, rounds):
    if rounds > 1:
        subprocess.run([*COMMAND, "run", "r.yaml", "out=undisturbed"], cwd=folder, check=True, capture_output=True)
    generator, stopped = random.Random(0), 0
    for turn in range(rounds):
        out = f"out=run{turn}"
        for number in CODES:
            process = started(["run", "r.yaml", out], folder)
            until = time.monotonic() + generator.uniform(0.5, 12)
            while process.poll() is None and not (folder / f"run{turn}" / "record.json").exists():
                time.sleep(0.01)
            while process.poll() is None and time.monotonic() < until:
                time.sleep(0.01)
            code, printed = ended(process, number)
            if code != 0:
                check(code, printed, number)
                assert "the same command goes on from here" in printed
                stopped += 1
        done = subprocess.run([*COMMAND, "run", "r.yaml", out], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        if rounds > 1:
            pd.testing.assert_frame_equal(
                scores(folder / f"run{turn}"), scores(folder / "undisturbed"), check_exact=True
            )
    assert stopped


def test_what_is_ignored_stays_ignored(tmp_path):
    """As nohup and shells in the background want it."""
    process = subprocess.Popen(
        [*COMMAND, "list", "fusions"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    for _ in range(5):
        time.sleep(0.1)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGINT)
    assert process.communicate(timeout=60)[0]
    assert process.returncode == 0


@pytest.mark.slow
def test_the_report_goes_on_where_it_was(folder, monkeypatch):
    from stemfuse.experiments.config import load_config
    from stemfuse.experiments.pipeline import run

    class StopError(Exception):
        pass

    monkeypatch.chdir(folder)
    songs = ["--tracks", "2", "--seconds", "1", "--subset", "test"]
    subprocess.run([*COMMAND, "synth", "songs", *songs], check=True, capture_output=True)
    changes = ["out=report", "data=[songs]", "fusions=[mean]", "workers=1", "players.tracks=2"]
    config = load_config(folder / "r.yaml", changes)

    def stop(name, done, total):
        if (name, done) == ("report", 1):
            raise StopError

    with pytest.raises(StopError):
        run(config, stop)
    players = folder / "report/report/audio/players.json"
    first = {path: path.stat().st_mtime_ns for path in players.parent.rglob("*.wav")}
    assert first
    run(config)
    assert all(path.stat().st_mtime_ns == before for path, before in first.items())
    assert len(list(players.parent.rglob("*.wav"))) > len(first)
