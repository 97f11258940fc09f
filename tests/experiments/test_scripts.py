"""Scripts of users: runs with several processes need no guard in the script that starts them."""

import subprocess
import sys

import pytest

from stemfuse.experiments.band import synthesize

RUN = """run({"out": "run", "store": "store", "data": ["band"], "separators": ["centre_channel", "harmonic_percussive"],
     "fusions": ["mean"], "bounds": None, "players": {"tracks": 0}, "workers": 2})
"""
SCRIPTS = {
    "bare": f"from stemfuse.experiments import run\n{RUN}",
    "guarded": f'from stemfuse.experiments import run\nif __name__ == "__main__":\n    {RUN}',
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs_once(tmp_path, name):
    synthesize(tmp_path / "band", {"test": 2}, 1.0, seed=8)
    (tmp_path / "script.py").write_text(f"print('begun')\n{SCRIPTS[name]}")
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    # a guarded script is imported by every process, as Python does it
    assert (done.stdout.count("begun") == 1) == (name == "bare")
    assert (tmp_path / "run/scores.parquet").is_file()


CALL = "print(sorted(result for _, result in run_tasks(math.sqrt, [1, 4, 9], 2)))"
HEAD = "import math\nfrom stemfuse.experiments.workers import run_tasks\nprint('begun', flush=True)\n"
GUARD = 'if __name__ == "__main__":\n    '
UNGUARDED = {
    "bare": HEAD + CALL,
    "a guard in a comment": HEAD + f"# {GUARD}\n{CALL}",
    "a guard in a docstring": f'"""Use\n\n{GUARD.replace(chr(34), chr(39))}run()\n"""\n{HEAD}{CALL}',
    "a guard around something else": HEAD + f"{GUARD}print('other')\n{CALL}",
    "the other way round": HEAD + f'if __name__ != "__main__":\n    raise SystemExit\nelse:\n    {CALL}',
    "in a function": HEAD + f"def main():\n    {CALL}\nmain()",
}
GUARDED = {
    "a guard": HEAD + GUARD + CALL,
    "a guard of other spelling": HEAD + f"if '__main__' == __name__ and True:\n    {CALL}",
    "a guard around a function": HEAD + f"def main():\n    {CALL}\n{GUARD}main()",
    "a guard with functions of the script": HEAD
    + f"def root(x):\n    return math.sqrt(x)\n{GUARD}{CALL.replace('math.sqrt', 'root')}",
}


def ran(arguments, folder, script=None):
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, input=script, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert "[1.0, 2.0, 3.0]" in done.stdout
    return done.stdout.count("begun")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "way"),
    [(name, way) for name in UNGUARDED for way in ("file", "-m")]
    # what a worker would import does not depend on the script here
    + [("bare", way) for way in ("-m package", "-", "-c")],
)
def test_a_script_without_a_guard_runs_once_in_any_way(tmp_path, name, way):
    script = UNGUARDED[name]
    (tmp_path / "package").mkdir()
    for path in ("script.py", "package/__main__.py"):
        (tmp_path / path).write_text(script)
    given = {
        "file": ["script.py"],
        "-m": ["-m", "script"],
        "-m package": ["-m", "package"],
        "-": ["-"],
        "-c": ["-c", script],
    }
    assert ran(given[way], tmp_path, script) == 1


@pytest.mark.slow
@pytest.mark.parametrize("way", [["script.py"], ["-m", "script"]])
@pytest.mark.parametrize("name", GUARDED)
def test_a_script_with_a_guard_is_imported_by_every_worker(tmp_path, name, way):
    (tmp_path / "script.py").write_text(GUARDED[name])
    assert ran(way, tmp_path) > 1


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["import nothing_of_this_name", "raise SystemExit(1)", "1 / 0"])
def test_workers_that_cannot_start_are_not_taken_for_lack_of_memory(tmp_path, fault):
    head = f"if __name__ != '__main__':\n    {fault}\n"
    (tmp_path / "script.py").write_text(head + GUARDED["a guard"])
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "a worker could not start" in last
    assert "workers=1" in last
    assert "memory" not in last
