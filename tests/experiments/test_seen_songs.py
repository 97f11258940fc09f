"""What is said of scores on songs that a fusion has seen, and what it gains on those that it has not."""

import json
import shutil
from itertools import pairwise

import pytest
import soundfile

from makers.audio import write_systems
from makers.commands import command
from makers.places import SHARED
from stemfuse.blending import fusion_class, load_fusion
from stemfuse.blending.errors import LeakWarning
from stemfuse.experiments import open_data
from stemfuse.experiments.cli import _show_warning
from stemfuse.experiments.stages import fit_fusion
from stemfuse.separators import StemStore

pytestmark = pytest.mark.slow

SISEC = SHARED / "real" / "sisec18"
LEFT_OUT = ", left out in turn"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Three songs to fit on and one to validate on, as trees of some subsets, and a store with stems by two systems."""
    root = tmp_path_factory.mktemp("seen")
    write_systems(root, 4, {"a": 0.02, "b": 0.03})
    songs = sorted((root / "songs").iterdir())
    for tree, subsets in (("both", ["train"] * 3 + ["valid"]), ("valid", ["valid"] * 4), ("live", ["live"] * 4)):
        for song, subset in zip(songs, subsets, strict=True):
            shutil.copytree(song, root / tree / subset / song.name)
    for system in "ab":
        StemStore(root / "store").adopt(root / system, system, open_data(root / "songs", "sum"))
    return root


def fitted(place, name, out, tree="both", options=None, **more):
    """Rows of the table of a fit by method: note, and mean over sources."""
    options = options or {}
    file = place / out
    table = fit_fusion(
        name, options, place / tree, place / "store", ["a", "b"], file, mixture="sum", workers=1, overwrite=True, **more
    )
    return table.set_index("SDR, dB")[["note", "mean"]]


@pytest.mark.parametrize(
    ("name", "options", "chosen"),
    [
        ("least_squares", {"ridge": "auto"}, "its ridge"),
        ("least_squares", {}, ""),
        ("search", {"trials": 5}, "its trials"),
        ("residual", {"base": {"kind": "search", "arguments": {"trials": 5}}}, "its trials"),
        ("residual", {}, ""),
        ("conv1x1", {"solver": "exact"}, ""),
        ("conv1x1", {"epochs": 1, "segment": 22050, "shift": 22050}, "its epoch"),
        ("gram_mixer", {"epochs": 1}, "its epoch"),
        ("mlp_mixer", {"epochs": 1, "segment": 4096, "shift": 4096, "fold": 16, "layers": 1}, "its epoch"),
    ],
)
def test_what_validation_songs_chose_is_said_and_songs_are_left_out(place, name, options, chosen, caplog):
    out = f"x{fusion_class(name).suffix}"
    table = fitted(place, name, out, options=options)
    note = f"these songs chose {chosen}: on others it gains less" if chosen else ""
    assert table["note"][name] == note
    assert "what it gains on new songs is not known" not in "".join(caplog.messages)
    # the song that chose is one of those that are left out
    assert (name + LEFT_OUT in table.index) == bool(chosen)
    if chosen:
        assert table["note"][name + LEFT_OUT] == "of 4 songs"
    baseline = table["mean"]["mean" + LEFT_OUT * bool(chosen)]
    gain = table["mean"][name + LEFT_OUT * bool(chosen)] - baseline
    assert table["mean"]["gain over the mean"] == pytest.approx(gain)


@pytest.mark.parametrize(("songs", "folds", "rows"), [(4, None, True), (4, 0, False), (8, None, False), (8, 2, True)])
def test_what_is_trained_is_trained_again_where_songs_are_few_or_where_it_is_asked(
    place, tmp_path, songs, folds, rows, caplog
):
    write_systems(tmp_path, songs, {"a": 0.02, "b": 0.03})
    for system in "ab":
        StemStore(tmp_path / "store").adopt(tmp_path / system, system, open_data(tmp_path / "songs", "sum"))
    shutil.copytree(tmp_path / "songs", tmp_path / "live" / "live")
    stages = []
    table = fitted(
        tmp_path,
        "gram_mixer",
        "x.safetensors",
        "live",
        {"epochs": 1},
        train=["live"],
        folds=folds,
        progress=lambda stage, done, total: stages.append((stage, done, total)),
    )
    assert ("gram_mixer" + LEFT_OUT in table.index) == rows
    assert ("trains five times more" in "".join(caplog.messages)) == (songs == 8 and folds is None)
    groups = folds or songs
    expected = [("gram_mixer with songs left out", done, groups) for done in range(1, groups + 1)] if rows else []
    assert [stage for stage in stages if stage[0].endswith("left out")] == expected


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fixed", {"blend": "{}"}),
        ("mixture_consistency", {"base": {"kind": "fixed", "arguments": {"blend": "{}"}}}),
        ("residual", {"base": {"kind": "fixed", "arguments": {"blend": "{}"}}}),
    ],
)
def test_a_file_that_was_fitted_on_these_songs_says_so(place, name, options, caplog):
    fitted(place, "least_squares", "ls.npz", "live", train=["live"])
    file = str(place / "ls.npz")
    options = {"blend": file} if "blend" in options else {"base": {"kind": "fixed", "arguments": {"blend": file}}}
    table = fitted(place, name, "again.npz", "live", options)
    assert "on others it gains less" in table["note"][name]
    assert not [row for row in table.index if "gain" in row or LEFT_OUT in row]
    assert set(load_fusion(place / "again.npz").songs_) == set(load_fusion(place / "ls.npz").songs_)
    if name == "residual":
        assert "its file was fitted on 4 of these 4 songs" in "".join(caplog.messages)


@pytest.mark.parametrize(
    ("options", "tree"),
    [({}, "both"), ({"edges_hz": [1000.0]}, "both"), ({"options": {"ridge": 0.01}, "edges_hz": [300.0]}, "live")],
)
def test_a_bandwise_fusion_has_its_row_its_gain_and_its_weights(place, options, tree, caplog):
    table = fitted(place, "bandwise", "bands.json", tree, options, train=["train" if tree == "both" else "live"])
    assert table["mean"]["bandwise"] > table["mean"]["a"] - 0.5
    bands = load_fusion(place / "bands.json").band_weights
    edges = options.get("edges_hz", [250.0, 1000.0, 4000.0])
    assert list(bands) == [f"{low:g}-{high:g}" for low, high in pairwise([0, *edges, 22050])]
    assert all(weights.separators == ("a", "b") for weights in bands.values())
    if tree == "both":
        gain = table["mean"]["bandwise"] - table["mean"]["mean"]
        assert table["mean"]["gain over the mean"] == pytest.approx(gain)
    else:
        assert table["note"]["bandwise"] == "fitted on these very songs: on others it gains less"
        assert table["note"]["bandwise" + LEFT_OUT] == "of 4 songs"
        gain = table["mean"]["bandwise" + LEFT_OUT] - table["mean"]["mean" + LEFT_OUT]
        assert table["mean"]["gain over the mean"] == pytest.approx(gain)
    shown = command("show", place / "bands.json")
    assert [line for line in shown.stdout.splitlines() if line.endswith(" Hz")] == [f"{band} Hz" for band in bands]
    described = json.loads(command("show", place / "bands.json", "--json").stdout)["bands_hz"]
    assert set(described) == set(bands)
    assert set(described[f"0-{edges[0]:g}"]["weights"]["speech"]) == {"a", "b", "sum"}


@pytest.mark.parametrize(
    ("tree", "train", "valid"),
    [("live", "live", "live"), ("valid", "train", "valid"), ("both", "train", "train"), ("valid", "valid", "valid")],
)
def test_songs_that_are_fitted_on_are_not_validated_on(place, tree, train, valid, caplog):
    table = fitted(place, "least_squares", "x.npz", tree, {"ridge": "auto"}, train=[train], valid=[valid])
    assert table["note"]["least_squares"] == "fitted on these very songs: on others it gains less"
    assert "least_squares" + LEFT_OUT in table.index
    assert ("nothing is validated there" in "".join(caplog.messages)) == (train == valid)


def test_a_song_under_another_name_is_not_validated_on(place, tmp_path):
    shutil.copytree(place / "both" / "train", tmp_path / "data" / "train")
    shutil.copytree(place / "both" / "train" / "song 1", tmp_path / "data" / "valid" / "another name")
    options = ["--store", place / "store", "--separators", "a,b", "--mixture", "sum", "--workers", 1]
    result = command("fit", "least_squares", "--data", tmp_path / "data", *options, "--out", tmp_path / "x.npz")
    assert result.returncode == 0, result.stderr
    assert "another name: fitted on too, so not validated on" in " ".join(result.stderr.split())
    assert "LeakWarning" not in result.stderr
    assert "least_squares" + LEFT_OUT in result.stdout


@pytest.mark.parametrize(
    ("category", "is_own"), [(LeakWarning, True), (DeprecationWarning, False), (UserWarning, False)]
)
def test_our_own_warnings_have_no_line_of_source(category, is_own, caplog):
    _show_warning(category("words"), category, "somewhere.py", 7)
    assert (caplog.messages == ["words"]) == is_own
    assert ("somewhere.py:7" in caplog.messages[0]) == (not is_own)


@pytest.mark.parametrize(
    ("name", "options", "out"),
    [("gram_mixer", {"epochs": 1}, "g.safetensors"), ("bandwise", {}, "b.json"), ("least_squares", {}, "l.npz")],
)
def test_which_reference_is_silent_is_named_for_every_kind_of_fusion(tmp_path, name, options, out):
    write_systems(tmp_path, 2, {"a": 0.02, "b": 0.03})
    (tmp_path / "data" / "valid").mkdir(parents=True)
    shutil.move(tmp_path / "songs" / "song 0", tmp_path / "data" / "train" / "song 0")
    shutil.move(tmp_path / "songs" / "song 1", tmp_path / "data" / "valid" / "song 1")
    file = tmp_path / "data" / "valid" / "song 1" / "speech.wav"
    audio, rate = soundfile.read(file)
    soundfile.write(file, 0 * audio, rate, subtype="FLOAT")
    data = open_data(tmp_path / "data", "sum")
    for system in "ab":
        StemStore(tmp_path / "store").adopt(tmp_path / system, system, data, "as-is")
    given = tmp_path / "data", tmp_path / "store", ["a", "b"], tmp_path / out
    table = fit_fusion(name, options, *given, mixture="sum", workers=1).set_index("SDR, dB")
    for method in ("a", name):
        assert "the reference of speech is silent in all songs" in table["note"][method], method


def test_what_learns_nothing_leaves_no_song_out(place, caplog):
    table = fitted(place, "mean", "mean.npz", "live", folds=2)
    assert "a mean fusion learns nothing" in "".join(caplog.messages)
    assert not [row for row in table.index if LEFT_OUT in row]


@pytest.mark.skipif(not SISEC.is_dir(), reason=f"needs {SISEC}")
@pytest.mark.parametrize(
    "systems",
    [
        ["TAU1", "TAK2", "UHL3"],
        *(pytest.param(some, marks=pytest.mark.long) for some in (["JY3", "MDL1", "TAU1", "UHL3"], ["TAK2", "JY3"])),
    ],
)
def test_a_search_on_few_real_songs_is_not_below_the_mean_on_songs_that_it_has_not_seen(tmp_path, systems):
    """It takes all songs: chosen by one of them, its weights were worse than equal ones on the others."""
    references = SISEC / "references"
    for system in systems:
        StemStore(tmp_path / "store").adopt(SISEC / "estimates" / system, system, open_data(references, "sum"))
    given = references, tmp_path / "store", systems, tmp_path / "x.npz"
    table = fit_fusion("search", {"trials": 60}, *given, mixture="sum", workers=1).set_index("SDR, dB")
    assert table["note"]["search" + LEFT_OUT] == "of 7 songs"
    gain = table["mean"]["search" + LEFT_OUT] - table["mean"]["mean" + LEFT_OUT]
    # where separators are about equally good, equal weights are kept
    assert gain == pytest.approx(0, abs=1e-9) if systems == ["TAU1", "TAK2", "UHL3"] else gain > 0.02
