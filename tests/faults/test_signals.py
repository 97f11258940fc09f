"""Ctrl-C and SIGTERM, from the first instant: exit codes, no noise, no process left, and the run goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from makers.kills import CODES, NOISE, catches, members

COMMAND = [sys.executable, "-m", "stemfuse"]
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


def started(arguments, folder):
    return subprocess.Popen(
        [*COMMAND, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


def ended(process, number):
    """Send the signal; the exit code and what was printed, once nothing of the session is left."""
    process.send_signal(number)
    printed = process.communicate(timeout=60)[0].decode()
    for _ in range(200):
        if not members(process.pid):
            return process.returncode, printed
        time.sleep(0.05)
    raise AssertionError(f"still running: {members(process.pid)}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signals")
    subprocess.run([*COMMAND, "synth", "band", "--tracks", "3", "--seconds", "2"], cwd=folder, check=True)
    (folder / "r.yaml").write_text(RECIPE)
    return folder


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks at /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("later_s", [0, 0.2, 0.5])
def test_a_signal_while_the_command_line_is_imported(tmp_path, number, later_s):
    process = started(["list", "fusions"], tmp_path)
    while process.poll() is None and not catches(process, signal.SIGTERM):
        time.sleep(0.001)
    time.sleep(later_s)
    code, printed = ended(process, number)
    if code != 0:  # it may have come to its end before
        assert code == CODES[number], printed
        assert NOISE.search(printed) is None, printed


SWALLOWING = """
import gc, io, os, signal, time, weakref
from stemfuse.experiments.cli.signals import Stopped, stopping_signals

def send():
    os.kill(os.getpid(), signal.{number})

class Thing:
    {method}

def callback_of_c():
    import soundfile

    class File(io.BytesIO):
        def readinto(self, buffer):
            send()
            return super().readinto(buffer)

    try:
        soundfile.SoundFile(File(b"RIFF" + bytes(100)))
    except soundfile.LibsndfileError:
        pass

with stopping_signals():
    {way}
    end = time.monotonic() + 8
    while time.monotonic() < end:
        time.sleep(0.01)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize(
    ("method", "way"),
    [
        ("def __del__(self): send()", "Thing()"),
        ("pass", "thing = Thing(); reference = weakref.ref(thing, lambda _: send()); del thing"),
        ("pass", "gc.callbacks.append(lambda *_: (gc.callbacks.clear(), send())); gc.collect()"),
        ("pass", "callback_of_c()"),
    ],
    ids=["destructor", "weak reference", "garbage collection", "callback of C"],
)
def test_a_signal_that_is_swallowed_is_raised_again(tmp_path, number, method, way):
    (tmp_path / "script.py").write_text(SWALLOWING.format(number=number, method=method, way=way))
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == CODES[getattr(signal, number)], done.stderr
    assert time.monotonic() - begun < 8, "ended by the last resort"
    assert "ignored" not in done.stderr


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
    from stemfuse.experiments.pipeline import run
    from stemfuse.experiments.recipes import load_config

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
    first = {path: path.stat().st_mtime_ns for path in players.parent.rglob("*.flac")}
    assert first
    run(config)
    assert all(path.stat().st_mtime_ns == before for path, before in first.items())
    assert len(list(players.parent.rglob("*.flac"))) > len(first)
