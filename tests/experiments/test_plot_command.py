"""The command that draws weights: matrices, segments, mean and spread, over time, decomposed, a difference."""

import numpy as np
import pytest
import soundfile as sf
from matplotlib.image import imread

from makers.commands import command
from makers.planted import CONVEX, mixed_of_two
from stemfuse.blending import LeastSquares, MixingWeights
from stemfuse.mixers import MLPMixer
from stemfuse.separators import RATE


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Weights for all songs by two fits, and a mixer that predicts them for a song whose stems lie in folders."""
    root = tmp_path_factory.mktemp("plot")
    songs = mixed_of_two(CONVEX, seed=0, count=2)
    for name, part in (("one", songs[:1]), ("both", songs)):
        fusion = LeastSquares(stems="all", mixture=True).fit(part)
        fusion.save(root / f"{name}.npz")
    mixer = MLPMixer(segment=8192, shift=8192, fold=32, layers=1, epochs=1, base="mean").fit(songs)
    mixer.save(root / "mixer.safetensors")
    song = songs[0]
    sf.write(root / "song.wav", song.mixture.read().T, RATE, "FLOAT")
    for label, stems in song.stems.items():
        (root / label).mkdir()
        for source in stems.sources:
            sf.write(root / label / f"{source}.wav", stems[source].read().T, RATE, "FLOAT")
    return root


def drawn(place, *arguments):
    done = command("plot", *arguments, cwd=place)
    assert done.returncode == 0, done.stderr
    return done


SONG = ("--song", "song.wav", "--stems", "a=a", "--stems", "b=b")


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("both.npz",),
        ("both.npz", "--how", "parts"),
        ("one.npz", "both.npz"),
        ("mixer.safetensors", *SONG),
        ("mixer.safetensors", *SONG, "--segment", "0", "--segment", "3"),
        ("mixer.safetensors", *SONG, "--how", "time"),
    ],
    ids=["matrix", "parts", "difference", "mean and spread", "segments", "time"],
)
def test_every_kind_is_drawn(place, arguments, tmp_path):
    drawn(place, *arguments, "--out", tmp_path / "figure.png")
    image = imread(tmp_path / "figure.png")
    # not empty: more than a few colours, and nothing is cut off at the borders
    assert len(np.unique(image.reshape(-1, image.shape[-1]), axis=0)) > 50
    for border in (image[0], image[-1], image[:, 0], image[:, -1]):
        assert (border == border[0]).all()


@pytest.mark.parametrize("suffix", [".svg", ".pdf"])
def test_it_is_written_in_other_forms(place, suffix, tmp_path):
    drawn(place, "both.npz", "--out", tmp_path / f"figure{suffix}")
    assert (tmp_path / f"figure{suffix}").read_bytes()[:5] in (b"<?xml", b"%PDF-")


def test_the_difference_is_that_of_the_weights(place):
    from stemfuse.analysis.figures import plot_difference

    one, both = (MixingWeights.load(place / f"{name}.npz") for name in ("one", "both"))
    fewer = MixingWeights(one.matrix[:, ::-1, :-8], one.inputs[:-8], one.outputs[::-1])
    for first in (one, fewer):
        texts = [text.get_text() for text in plot_difference(first, both, folded=False).axes[0].texts]
        matrix = np.zeros_like(both.matrix[0])
        matrix[:, : len(first.inputs)] = first.matrix[0][[first.outputs.index(label) for label in both.outputs]]
        order = first.outputs
        expected = (both.matrix[0] - matrix)[[both.outputs.index(label) for label in order]]
        printed = [float(text.replace("−", "-")) for text in texts if text.replace("−", "").replace(".", "").isdigit()]
        np.testing.assert_allclose(printed, expected.ravel(), atol=0.0051)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("both.npz", "--out", "f.jpg"), "expected one of .png, .svg, .pdf"),
        (("both.npz", "one.npz", "both.npz", "--out", "f.png"), "expected one FILE, or two"),
        (("both.npz", "one.npz", "--segment", "0", "--out", "f.png"), "expected one FILE, or two"),
        (("mixer.safetensors", "--out", "f.png"), "name one with --song"),
        (("both.npz", "--how", "time", "--out", "f.png"), "can be drawn: matrix, parts"),
        (("both.npz", "--segment", "5", "--out", "f.png"), "expected one of 0 to 0"),
        (("both.npz", "--how", "time", "--segment", "0", "--out", "f.png"), "leave one out"),
        (("nothing.npz", "--out", "f.png"), "nothing.npz"),
    ],
)
def test_what_cannot_be_drawn_is_refused(place, arguments, words):
    done = command("plot", *arguments, cwd=place)
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (place / "f.png").exists()


def test_a_figure_that_is_there_is_kept(place, tmp_path):
    out = tmp_path / "figure.png"
    out.write_bytes(b"mine")
    drawn(place, "both.npz", "--out", out)
    assert b"mine" in {file.read_bytes() for file in tmp_path.iterdir()}


TRAINING = "epoch,step,train_loss,valid_sdr_db,seconds\n0,0,nan,1.9,0\n1,50,0.12,2.4,44\n2,100,0.1,2.1,90\n"


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """A training, a study of blocks, a table of something else, and a search."""
    from makers.figures import BLOCKS
    from stemfuse.blending import Search

    root = tmp_path_factory.mktemp("others")
    (root / "history.csv").write_text(TRAINING)
    BLOCKS.to_csv(root / "study.csv", index=False)
    (root / "prices.csv").write_text("fruit,price\napple,1\n")
    Search(trials=6, storage=str(root / "search.journal")).fit(mixed_of_two(CONVEX, seed=0, count=2))
    return root


@pytest.mark.parametrize(
    "arguments",
    [
        ("history.csv",),
        ("study.csv", "--title", "blocks"),
        ("search.journal",),
        ("search.journal", "--how", "importance", "--source", "vocals"),
        ("search.journal", "--how", "parallel"),
    ],
    ids=" ".join,
)
def test_trainings_studies_and_searches_are_drawn(others, arguments, tmp_path):
    drawn(others, *arguments, "--style", "paper", "--out", tmp_path / "figure.png")
    image = imread(tmp_path / "figure.png")
    assert image.shape[1] == 3.5 * 600
    assert len(np.unique(image[::4, ::4].reshape(-1, image.shape[-1]), axis=0)) > 20


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("both.npz", "--how", "scores"), "of both.npz, weights of 1 segment can be drawn: matrix, parts"),
        (("both.npz", "--how", "matrx"), "did you mean 'matrix'"),
        (("history.csv", "--how", "scores"), "of history.csv, a training can be drawn: training"),
        (("search.journal", "--how", "front"), "can be drawn: history, importance, parallel, contour"),
        (("search.journal", "--source", "piano"), "got --source piano, expected one of"),
        (("prices.csv",), "got the columns fruit, price, expected epoch"),
        (("nothing.csv",), "no such file"),
        (("nothing.journal",), "no such file"),
        (("no_separator",), "no such file, folder or separator"),
        ((".",), "no run folder"),
    ],
)
def test_what_a_file_has_not_is_answered_by_what_it_has(place, others, arguments, words):
    folder = place if arguments[0] == "both.npz" else others
    done = command("plot", *arguments, "--out", "f.png", cwd=folder)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert not (folder / "f.png").exists()


@pytest.mark.slow
def test_layers_of_a_separator_are_drawn(tmp_path):
    for how in ("tdf", "layers"):
        done = command("plot", "tfc_tdf_small", "--how", how, "--out", f"{how}.png", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    done = command("plot", "tfc_tdf_small", "--how", "matrix", "--out", "f.png", cwd=tmp_path)
    assert "can be drawn: tdf, layers" in done.stderr
