"""The lock of a run's folder: held by one process, never by a dead one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stemfuse.experiments import RunError
from stemfuse.experiments import lock as locks
from stemfuse.experiments.lock import LOCK, run_lock

HOLDING = """
import sys, time
from stemfuse.experiments.lock import run_lock
with run_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDING, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_folder_in_use_is_refused_in_one_line_that_says_who_holds_it(tmp_path, holder):
    with pytest.raises(RunError, match=f"in use by process {holder.pid} on .* since ") as refused, run_lock(tmp_path):
        pass
    assert "\n" not in str(refused.value)
    assert holder.poll() is None


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / LOCK).is_file()
    with run_lock(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert not (tmp_path / LOCK).exists()


@pytest.mark.parametrize("content", [b"", b"garbage", b"[]", b'{"pid": "x"}', b"\xff" * 9000, b"[" * 99_999])
def test_any_file_that_nobody_holds_is_taken_over(tmp_path, content):
    (tmp_path / LOCK).write_bytes(content)
    with run_lock(tmp_path):
        pass


def test_without_locks_of_the_file_system_the_named_process_decides(tmp_path, monkeypatch):
    class NoLocks:
        LOCK_EX = LOCK_NB = 0

        @staticmethod
        def flock(descriptor, operation):
            raise OSError(95, "Operation not supported")

    monkeypatch.setattr(locks, "fcntl", NoLocks)
    with run_lock(tmp_path):
        mine = json.loads((tmp_path / LOCK).read_text())
        with pytest.raises(RunError, match="in use"), run_lock(tmp_path):
            pass
    for other, free in (({"pid": 2**40}, True), ({"began": "1"}, True), ({"host": "elsewhere"}, False)):
        (tmp_path / LOCK).write_text(json.dumps(mine | other))
        try:
            with run_lock(tmp_path):
                taken = True
        except RunError:
            taken = False
        assert taken == free, other


def test_a_link_is_not_followed(tmp_path):
    victim = tmp_path / "victim.txt"
    victim.write_text("precious")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / LOCK).symlink_to(victim)
    with pytest.raises(RunError), run_lock(folder):
        pass
    assert victim.read_text() == "precious"


@pytest.mark.slow
def test_a_run_takes_the_lock(tmp_path):
    from stemfuse.experiments.pipeline import run
    from stemfuse.experiments.recipes import parse_config

    band = tmp_path / "band"
    subprocess.run(
        [sys.executable, "-m", "stemfuse", "synth", str(band), "--tracks", "1", "--seconds", "2", "--subset", "test"],
        check=True,
        capture_output=True,
    )
    recipe = {
        "out": str(tmp_path / "run"),
        "store": str(tmp_path / "store"),
        "data": [str(band)],
        "separators": ["centre_channel"],
        "fusions": ["mean"],
        "workers": 1,
    }
    with run_lock(tmp_path / "run"), pytest.raises(RunError, match=f"in use by process {os.getpid()}"):
        run(parse_config(recipe))
    assert not list(Path(tmp_path, "run").iterdir())
