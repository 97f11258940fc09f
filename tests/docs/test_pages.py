"""The pages tell the truth: their commands exist, start-here runs, every public name has an entry."""

from __future__ import annotations

import importlib
import pkgutil
import re
import shlex
import subprocess
import sys
from itertools import takewhile
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from typer.main import get_command

import stemfuse
from stemfuse.experiments.cli import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
ROOM = re.compile(r" {3,}")
"""What follows a wide gap behind a command may be a remark."""


def commands_of(text):
    """(line, is whole) of every stemfuse command; those inside a sentence may leave out what they need."""
    text = text.replace("\\\n", " ")
    for block in re.findall(r"^```(?:bash|console)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("stemfuse "):
                yield line, True
    for line in re.findall(r"^ {4}(?:srun )?(stemfuse .*)", text, re.MULTILINE):
        yield line, True
    for line in re.findall(r"`(stemfuse [^`]+)`", text):
        yield line, False


def problem(line, is_whole):
    """What is wrong with a command, or nothing; with what stands behind a wide gap, or without it."""
    cuts = [line, *(line[: gap.start()] for gap in ROOM.finditer(line))]
    found = [problem_of(cut, is_whole) for cut in cuts]
    return None if None in found else found[0]


def problem_of(line, is_whole):
    try:
        words = shlex.split(line, comments=True)[1:]
    except ValueError as error:  # the apostrophe of a remark
        return str(error)
    is_whole = is_whole and "..." not in words
    words = [word for word in takewhile(lambda word: word not in (">", "|"), words) if word != "..."]
    command = get_command(app)
    # alternatives in a sentence: stemfuse weights list|add
    while hasattr(command, "commands") and words:
        name, *words = words
        if not all(part in command.commands for part in name.split("|")):
            return f"no command {name}" if not name.startswith("-") else None
        command = command.commands[name.split("|")[0]]
    try:
        context = command.context_class(command, info_name="stemfuse")
        given, rest, _ = command.make_parser(context).parse_args(args=words)
    except Exception as error:  # whatever click calls it
        return str(error)
    if rest:
        return f"unexpected {' '.join(rest)}"
    missing = [parameter.name for parameter in command.params if parameter.required and not given.get(parameter.name)]
    return f"missing {', '.join(missing)}" if is_whole and missing else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_exists_with_its_options(page):
    found = {line: problem(line, is_whole) for line, is_whole in commands_of(page.read_text())}
    assert {line: wrong for line, wrong in found.items() if wrong} == {}


def test_a_wrong_command_is_found():
    lines = ["    stemfuse fit mean --data x", "`stemfuse fits`", "    stemfuse show a.npz --jsn   # so"]
    text = "\n".join([*lines, "    stemfuse show a.npz     as text", ""])
    wrong = [problem(line, is_whole) for line, is_whole in commands_of(text)]
    assert "missing" in wrong[0]
    assert "jsn" in wrong[1]
    assert wrong[2:] == [None, "no command fits"]


@pytest.mark.slow
def test_start_here_runs(tmp_path):
    """Word by word, in an empty folder."""
    page = (ROOT / "docs" / "start-here.md").read_text()
    blocks = re.findall(r"^```(bash|yaml|python)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 8
    for language, block in blocks:
        if language == "yaml":
            (tmp_path / "recipe.yaml").write_text(block)
            continue
        commands = (
            [["-c", block]] if language == "python" else [["-m", *shlex.split(line)] for line in block.splitlines()]
        )
        for command in commands:
            done = subprocess.run([sys.executable, *command], cwd=tmp_path, check=False, capture_output=True, text=True)
            assert done.returncode == 0, (command, done.stderr)
    stems = {"bass.wav", "drums.wav", "other.wav", "vocals.wav"}
    for song in (tmp_path / "fused" / "test").iterdir():
        assert {stem.name for stem in song.iterdir()} >= stems
    assert {stem.name for stem in (tmp_path / "from-python").rglob("*.wav")} == stems
    assert (tmp_path / "matrix.png").stat().st_size > 5000
    assert (tmp_path / "run" / "report" / "index.html").is_file()


def test_every_public_list_is_in_the_api(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    api_pages = importlib.import_module("api_pages")
    public = {module.name for module in pkgutil.walk_packages(stemfuse.__path__, "stemfuse.") if module.ispkg}
    named = {name for package in public for name in getattr(importlib.import_module(package), "__all__", ())}
    # what these hand out has its entry elsewhere; the command line has pages of its own
    public -= {"stemfuse", "stemfuse.blending.classical", "stemfuse.blending.exchange", "stemfuse.experiments.cli"}
    for package in sorted(public):
        if getattr(importlib.import_module(package), "__all__", ()):
            assert package in api_pages.PACKAGES, f"{package} has a public list and no page"
    named -= {"app", "main"}
    assert named <= set(api_pages.pages())
    for package in public:
        module = importlib.import_module(package)
        for name in getattr(module, "__all__", ()):
            home, _, _ = api_pages.pages()[name].rpartition(".")
            assert getattr(importlib.import_module(home), name) is getattr(module, name), (
                f"two things are called {name}"
            )
    assert len(named) > 200
    assert set(stemfuse.__all__) <= set(api_pages.pages())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_addresses_are_well_formed(page):
    for address in re.findall(r"\]\((\w+:[^)]*)\)", page.read_text()):
        parts = urlsplit(address)
        assert parts.scheme == "https", address
        assert re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc), address
        assert not re.search(r"\s|[.,;]$", address), address
