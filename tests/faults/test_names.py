"""Names are data: shown escaped wherever they are shown, refused by one rule where they would name files."""

import io
import json
import logging
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.table import Table

from stemfuse.analysis.figures.style import new_figure, shorten
from stemfuse.experiments.band import synthesize
from stemfuse.experiments.cli.console import EscapedLines, NamesConsole, json_text
from stemfuse.experiments.config import parse_config
from stemfuse.experiments.data import open_data
from stemfuse.experiments.data.tracks import open_song
from stemfuse.experiments.errors import ConfigError
from stemfuse.experiments.report.figures import Figures
from stemfuse.experiments.stages.separate import adopt_folder
from stemfuse.separators import StemfuseError, TrackError
from stemfuse.separators.names import name_fault, shown

UNUSABLE = [
    "",
    " ",
    ".",
    "..",
    "a/b",
    "../../evil",
    "a\\b",
    ".gram",
    "a\nb",
    "\x1b[2J",
    "\x9b2J",
    "a\u202eb",
    "a" * 201,
]
UNUSABLE += ["\udcff", "a\0", "\u200b", "a ", "\u2028"]
USABLE = [
    "A Song",
    "AC/DC".replace("/", "-"),
    "...Baby One More Time",
    ".38 Special",
    "Ænima – été",
    "曲",
    "🎵",
    "a'b\"c",
]


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_names_are_refused_everywhere(tmp_path, name):
    assert name_fault(name)
    for label in (
        {"separators": [{"name": "repet_sim", "label": name}]},
        {"fusions": [{"name": "mean", "label": name}]},
    ):
        recipe = {"out": "run", "store": "store", "data": ["songs"], "separators": ["repet_sim"], **label}
        if name:
            with pytest.raises(ConfigError) as found:
                parse_config(recipe)
            assert str(found.value).isprintable()
    synthesize(tmp_path / "band", 1, 1.0, 3, subset="test")
    with pytest.raises(StemfuseError) as refused:
        adopt_folder(tmp_path / "band", name, tmp_path / "band", tmp_path / "a" / "b")
    assert str(refused.value).isprintable()
    assert not (tmp_path / "a").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["band"]


@pytest.mark.parametrize("name", USABLE)
def test_usable_names_stay_as_they_are(name):
    assert name_fault(name) == ""
    assert shown(name) == name
    recipe = {"out": "run", "store": "store", "data": ["songs"], "separators": [{"name": "repet_sim", "label": name}]}
    assert parse_config(recipe).separators[0].label == name


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "a\u202eb", "\udcff\udcfe", ".hidden"])
def test_tracks_of_unusable_names_are_refused_before_they_are_read(tmp_path, name):
    (made,) = synthesize(tmp_path / "band", 1, 1.0, 3, subset="test")
    renamed = Path(made).rename(Path(made).with_name(name))
    for read in (lambda: open_data(tmp_path / "band"), lambda: open_song(renamed)):
        with pytest.raises(TrackError) as found:
            read()
        assert str(found.value).isprintable()


def test_consoles_logs_and_json_show_names_escaped():
    name, said = "evil\x1b[2J\x07\x9b\u202e", io.StringIO()
    console = NamesConsole(file=said, soft_wrap=True, highlight=False, markup=False)
    table = Table()
    table.add_column(name)
    table.add_row(name)
    console.print(name)
    console.print(table)
    console.print("a line\nand one more")
    lines = said.getvalue().split("\n")
    assert all(line.isprintable() for line in lines)
    assert lines[0] == r"evil\x1b[2J\x07\x9b\u202e"
    record = logging.LogRecord("x", logging.WARNING, "x", 1, "%s\nfine", (name,), None)
    assert EscapedLines().format(record) == r"evil\x1b[2J\x07\x9b\u202e\nfine"
    text = json_text({name: [name]})
    assert all(line.isprintable() for line in text.split("\n"))
    assert json.loads(text) == {name: [name]}


def test_drawings_show_names_escaped(tmp_path):
    name = "evil\x1b[2J\x07\u202e"
    figure = new_figure(3, 2)
    axes = figure.subplots()
    axes.plot(np.arange(3), label=name)
    axes.legend()
    axes.set_title(shorten(name))
    figure.suptitle(name)
    view = Figures(tmp_path).add("a", figure, name)
    ElementTree.fromstring(view["svg"])
    text = (tmp_path / "a.svg").read_text()
    ElementTree.fromstring(text)
    assert all(line.isprintable() for line in (text + view["svg"]).replace("\t", "").split("\n"))
    assert text.count(r"evil\x1b[2J\x07\u202e") >= 2
