"""museval and musdb are imported without an ffmpeg program, from any thread, and leave no change behind."""

import shutil
import subprocess
import sys
import threading

import pytest

from stemfuse.analysis.bss_eval.museval import _programs_found, import_musdb, import_museval

IMPORTS = """
import os, shutil, sys, threading
from stemfuse.analysis.bss_eval.museval import import_musdb, import_museval
which, path = shutil.which, os.environ["PATH"]
"""


def run_python(code: str, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", IMPORTS + code], env={"PATH": path}, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_imports_without_ffmpeg_from_many_threads(tmp_path):
    done = run_python(
        """
try:
    import stempeg
except RuntimeError as error:
    print("bare:", error)
found = []
threads = [threading.Thread(target=lambda: found.append((import_musdb(), import_museval()))) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
import musdb, museval
print(len(found), {pair == (musdb, museval) for pair in found})
print(shutil.which is which, os.environ["PATH"] == path, shutil.which("ffmpeg"))
print(museval.metrics.Framing(4, 2, 10).nwin)
""",
        str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("bare: ffmpeg or ffprobe could not be found"), "import_museval is no longer needed"
    assert lines[1:] == ["4 {True}", "True True None", "4"]


@pytest.mark.slow
def test_a_real_ffmpeg_is_left_alone(tmp_path):
    for name in ("ffmpeg", "ffprobe"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    done = run_python(
        "import_museval(); import stempeg; print(stempeg.cmds.FFMPEG_PATH, stempeg.cmds.FFPROBE_PATH)", str(tmp_path)
    )
    assert done.stdout.split() == [str(tmp_path / "ffmpeg"), str(tmp_path / "ffprobe")], done.stderr


def test_an_import_that_fails_for_another_reason_raises_and_restores(tmp_path):
    done = run_python(
        """
sys.modules["ffmpeg"] = None  # ffmpeg-python, which stempeg imports too
try:
    import_museval()
except ImportError as error:
    print(error)
print(shutil.which is which)
""",
        str(tmp_path),
    )
    assert done.stdout.splitlines() == ["import of ffmpeg halted; None in sys.modules", "True"], done.stderr


def test_imported_packages_come_back_as_they_are():
    assert import_museval() is import_museval() is sys.modules["museval"]
    assert import_musdb() is sys.modules["musdb"]


def test_only_the_two_programs_and_only_this_thread_are_answered(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    elsewhere = []
    with _programs_found():
        assert shutil.which("ffmpeg") == "ffmpeg"
        assert shutil.which("ffprobe", path=str(tmp_path)) == "ffprobe"
        assert shutil.which("flac") is None
        thread = threading.Thread(target=lambda: elsewhere.append(shutil.which("ffmpeg")))
        thread.start()
        thread.join()
    assert elsewhere == [None]
    assert shutil.which("ffmpeg") is None


def test_an_error_inside_restores(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    which = shutil.which
    with pytest.raises(KeyError), _programs_found():
        raise KeyError
    assert shutil.which is which
