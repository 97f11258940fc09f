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
