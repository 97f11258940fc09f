"""Names are data: shown escaped wherever they are shown, refused by one rule where they would name files."""

import contextlib
import io
import json
import logging
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.table import Table

from makers.commands import command
from stemfuse.analysis.figures.style import new_figure, shorten
from stemfuse.blending import FusionError, MixingWeights, load_fusion, make_fusion
from stemfuse.experiments.band import synthesize
from stemfuse.experiments.cli.console import EscapedLines, NamesConsole, json_text
from stemfuse.experiments.data import open_data
from stemfuse.experiments.data.tracks import open_song
from stemfuse.experiments.errors import ConfigError
from stemfuse.experiments.recipes import parse_config
from stemfuse.experiments.record import FusionRecord, RunRecord
from stemfuse.experiments.report.figures import Figures
from stemfuse.experiments.report.fusions import fusion_view
from stemfuse.experiments.run import Run
from stemfuse.experiments.stages.separate import adopt_folder
from stemfuse.mixers import GramMixer
from stemfuse.separators import AudioError, StemfuseError, Stems, TrackError
from stemfuse.separators.names import name_fault, shown
from stemfuse.separators.training.checkpoints import read_checkpoint, write_checkpoint

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


HOSTILE_SOURCES = [
    "/tmp/victim/precious",
    "../../../victim",
    "..",
    "",
    "a\x1b[2J",
    "a\nb",
    "a\u202eb",
    "mixture",
    "a.b",
]


def hostile_weights(path, source):
    """Mixing weights as a file may hold them: none of these names can be made into weights here."""
    inputs = np.array(["centre_channel.drums.left"])
    np.savez(path, matrix=np.ones((1, 1, 1), "f4"), inputs=inputs, outputs=np.array([f"{source}.left"]), starts_s=[0.0])
    return path


@pytest.mark.parametrize("source", HOSTILE_SOURCES)
def test_weights_name_only_sources_that_can_be_files(tmp_path, source):
    path = hostile_weights(tmp_path / "evil.npz", source)
    for read in (load_fusion, MixingWeights.load, lambda file: make_fusion("fixed", blend=str(file)).fit([])):
        with pytest.raises(FusionError, match="output ") as found:
            read(path)
        assert str(found.value).isprintable()
    for labels in (("a.drums.left", f"{source}.left"), (f"a.{source}.left", "drums.left")):
        # an input is the mixture's, and its separator's label may have dots
        if labels[0] != f"a.{source}.left" or source != "a.b":
            with pytest.raises(FusionError, match="put '"):
                MixingWeights(np.ones((1, 1)), labels[:1], labels[1:])
    with pytest.raises(AudioError, match="source '") if source not in ("mixture", "a.b") else contextlib.nullcontext():
        Stems(np.zeros((1, 2, 100)), (source,)).write(tmp_path / "out" / "song")
    assert {file.name for file in tmp_path.iterdir()} <= {"evil.npz", "out"}


@pytest.mark.parametrize("source", ["/tmp/victim/precious", "../../../victim", "", "a\x1b[2J"])
def test_mixers_name_only_sources_that_can_be_files(tmp_path, source):
    mixer = GramMixer(hidden=4)
    inputs, outputs = ("a.drums.left", "mixture.left"), ("drums.left",)
    mixer.learnt(mixer.build(inputs, outputs), inputs, outputs, 44_100).save(tmp_path / "mixer.safetensors")
    load_fusion(tmp_path / "mixer.safetensors")
    groups, description = read_checkpoint(tmp_path / "mixer.safetensors")
    for changed in ({"outputs": [f"{source}.left"]}, {"inputs": [f"a.{source}.left", "mixture.left"]}, {"outputs": 5}):
        write_checkpoint(tmp_path / "mixer.safetensors", groups, description | changed)
        with pytest.raises(FusionError) as found:
            load_fusion(tmp_path / "mixer.safetensors")
        assert str(found.value).isprintable()


@pytest.mark.parametrize("source", ["{place}/victim/precious", "../../../victim/precious", "a\x1b[2J"])
def test_fusing_writes_nothing_outside_its_folder(tmp_path, source):
    synthesize(tmp_path / "band", 1, 1.0, 3, subset="test")
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "precious.wav").write_text("mine")
    hostile_weights(tmp_path / "evil.npz", source.format(place=tmp_path))
    recipe = "out: run\nstore: store\ndata: [band]\nseparators: [centre_channel]\nbounds: null\nworkers: 1\n"
    (tmp_path / "r.yaml").write_text(recipe + "estimates: true\nfusions: [{name: fixed, options: {blend: evil.npz}}]\n")
    for arguments in (("fuse", "evil.npz", "band", "--store", "store", "--out", "out"), ("run", "r.yaml")):
        done = command(*arguments, cwd=tmp_path)
        assert done.returncode in (1, 2)
        assert "output '" in done.stderr
        assert "\x1b" not in done.stderr
    assert (tmp_path / "victim" / "precious.wav").read_text() == "mine"
    assert not list((tmp_path / "out").rglob("*.wav"))


@pytest.mark.parametrize("song", ["lead guitar", "a" * 200, "曲" * 60, 'x"><script>', "\\1 \\g<0>"])
def test_figures_of_a_fusion_have_plain_names_whatever_the_song(tmp_path, monkeypatch, song):
    def traces(*_):
        figure = new_figure(2, 2)
        figure.subplots().plot(np.arange(3))
        yield "training", song, figure

    monkeypatch.setattr("stemfuse.experiments.report.fusions._traces", traces)
    record = RunRecord(fusions={"mixer": FusionRecord(kind="search", linear=False)})
    (tmp_path / "record.json").write_text(record.to_json())
    (view,) = fusion_view(Run(tmp_path), "mixer", Figures(tmp_path / "figures"), 1.0)["traces"]
    names = [path.name for path in (tmp_path / "figures").iterdir()]
    assert len(names) == 2
    assert all(re.fullmatch(r"training-[\w-]+\.(png|svg)", name, re.ASCII) for name in names)
    drawing = ElementTree.fromstring(view["svg"])
    assert all(re.fullmatch(r"[\w.-]+", node.get("id"), re.ASCII) for node in drawing.iter() if node.get("id"))
