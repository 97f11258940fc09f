"""The page on adding a separator, and the example package: installed, checked and used."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import soundfile
import yaml

from makers.audio import noise32
from makers.places import ROOT
from stemfuse.experiments.recipes import parse_config
from stemfuse.separators import load_separator
from stemfuse.separators.adapters.network_description import NetworkDescription

PAGE = (ROOT / "docs" / "adding-a-separator.md").read_text()
EXAMPLE = ROOT / "examples" / "mid-side"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_shows_the_example_as_it_is():
    (code,) = blocks("python")
    assert code == (EXAMPLE / "mid_side.py").read_text()
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    shown = re.search(r"    (\[project\.entry.*)\n    (.*)\n", PAGE)
    assert "\n".join(shown.groups()) in (EXAMPLE / "pyproject.toml").read_text()


def test_recipes_and_descriptions_of_the_page_are_read():
    recipes = [yaml.safe_load(block) for block in blocks("yaml")]
    described = [given for given in recipes if "separators" not in given]
    assert [NetworkDescription.model_validate(given).sources for given in described] == [("vocals", "accompaniment")]
    made = {}
    for given in recipes:
        if "separators" in given:
            (part,) = parse_config(given | {"out": "run", "store": "store", "data": ["songs"]}).separators
            made[part.name] = (part.trust, load_separator(part.name, **part.options))
    assert made.keys() == {"audio_separator", "command"}
    assert made["command"][0]
    assert made["command"][1].sources == ("vocals", "accompaniment")


@pytest.mark.slow
def test_the_example_is_installed_and_used(tmp_path):
    shutil.copytree(EXAMPLE, tmp_path / "source")
    target = tmp_path / "installed"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*install, "--target", target, tmp_path / "source"], check=True, cwd=tmp_path, capture_output=True)
    assert (target / "mid_side.py").is_file()
    paths = os.pathsep.join([str(target), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": paths}

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, *map(str, arguments)], env=environment, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path / "source" / "test_mid_side.py")
    listed = json.loads(run("-m", "stemfuse", "list", "separators", "--json"))
    assert "share=1.0" in listed["mid_side"]["summary"]
    song = tmp_path / "song.wav"
    soundfile.write(song, noise32(4_410, 2), 44_100, subtype="FLOAT")
    given = ["--separator", "mid_side", "--option", "share=0.5", "--store", "stems", "--json"]
    (entry,) = json.loads(run("-m", "stemfuse", "separate", song, *given))
    audio, _ = soundfile.read(song, dtype="float32")
    vocals, _ = soundfile.read(f"{tmp_path / entry['path']}/vocals.wav", dtype="float32")
    assert abs(vocals[:, 0] - 0.5 * audio.mean(axis=1)).max() < 1e-6
