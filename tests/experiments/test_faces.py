"""Faces: what notebooks and terminals show of runs, weights, data sets, tracks, stems and tables; names stay text."""

import io
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from stemfuse import MixingWeights, Run, Stems, Track, open_data
from stemfuse.blending import FusionError
from stemfuse.experiments.printed import PrintedTable
from stemfuse.separators import AudioError, TrackError

ODD = "<img src=x onerror=alert(1)>"
SAFE = "&lt;img src=x onerror=alert(1)&gt;"


@pytest.fixture
def track():
    noise = np.random.default_rng(0).normal(0, 0.1, (4, 2, 22_050)).astype(np.float32)
    return Track.from_arrays(ODD, noise.sum(0), noise, {"mdx": noise}, notes=("a <b>note</b>",))


def test_weights_show_source_by_separator():
    weights = MixingWeights.same_source({"bass": {"mdx": 0.25, ODD: 0.75}})
    assert "\n" not in repr(weights)
    assert repr(weights).startswith(f"<MixingWeights: bass from mdx, {ODD}; 4 inputs x 2 outputs, 1 segment")
    assert "0.250" in str(weights)
    page = weights._repr_html_()
    assert "+0.250" in page
    assert SAFE in page
    assert "<img" not in page


def test_weights_give_rows_without_zeros_and_the_pivot():
    weights = MixingWeights.same_source({"bass": {"a": 0.25}, "drums": {"a": 0.5, "b": 0.5}})
    assert (weights.to_frame("nonzero")["weight"] != 0).all()
    pivot = weights.to_frame("pivot")
    assert pivot.loc["drums", ["a", "b"]].tolist() == [0.5, 0.5]
    assert np.isnan(pivot.loc["bass", "b"])
    with pytest.raises(FusionError, match="did you mean 'pivot'"):
        weights.to_frame("pivt")


def test_weights_draw_themselves_and_say_what_they_can_draw():
    weights = MixingWeights.same_source({"bass": {"a": 0.25, "b": 0.75}})
    assert weights.plot().axes[0].texts[0].get_text() == "0.25"
    assert weights.plot()._repr_png_().startswith(b"\x89PNG")
    assert len(weights.plot("parts").axes) > 3
    with pytest.raises(FusionError, match="of weights of 1 segment can be drawn: matrix, parts"):
        weights.plot("time")


def test_a_track_and_its_stems_show_what_is_known(track):
    assert repr(track) == (
        f"<Track {ODD!r}: subset test; length 0.5 s; format 2 channels at 44100 Hz; "
        "references drums, bass, other, vocals; stems by mdx>"
    )
    page = track._repr_html_()
    assert SAFE in page
    assert "&lt;b&gt;note" in page
    assert "<img" not in page
    assert "drums, bass" in track.references._repr_html_()


def test_stems_are_played_as_they_are(track):
    pytest.importorskip("IPython")
    player = track.references.play("bass", start_s=0.1, seconds=0.2)
    heard, rate = soundfile.read(io.BytesIO(player.data), dtype="float32")
    np.testing.assert_allclose(heard.T, track.references["bass"].read(4410, 13_230), atol=2**-15)
    assert (rate, player.mimetype) == (44_100, "audio/flac")
    loud = Stems(np.full((1, 1, 4410), 2.0), ["x"]).play()
    assert soundfile.read(io.BytesIO(loud.data))[0].max() == pytest.approx(1, abs=1e-4)
    with pytest.raises(AudioError, match=r"got 0\.0 s to play"):
        track.references.play(start_s=3)
    with pytest.raises(TrackError, match="expected one of drums"):
        track.references.play("piano")


def test_without_ipython_the_error_says_what_to_install():
    script = (
        "import sys; sys.modules['IPython'] = None\nimport numpy\nfrom stemfuse import Stems\n"
        "Stems(numpy.zeros((1, 1, 9)), ['x']).play()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "a player: the package IPython is missing: pip install 'stemfuse[notebook]'" in done.stderr


def test_a_data_set_names_its_songs(tmp_path):
    for name in (*"abcdefg", "<b>"):
        folder = tmp_path / "train" / name
        folder.mkdir(parents=True)
        for source in ("mixture", "vocals"):
            soundfile.write(folder / f"{source}.wav", np.zeros((100, 2)), 44_100)
    data = open_data(tmp_path)
    assert repr(data) == f"<DataSet {str(tmp_path)!r}: 7 train, 1 valid; layout folders, validation from every seventh>"
    assert "&lt;b&gt;" in data._repr_html_()


def test_tables_are_tables_and_their_cells_text():
    table = PrintedTable("scores", ["method", "bass"], [[ODD, "4.26"]], ["test/<b>"])
    assert SAFE in table._repr_html_()
    assert "<img" not in table._repr_html_()
    assert str(table).splitlines()[:2] == ["scores", f"method{' ' * (len(ODD) - 6)}  bass"]


def test_a_run_that_has_not_ended_and_a_damaged_one_show_that(tmp_path):
    assert "not yet" in Run(tmp_path)._repr_html_()
    (tmp_path / "record.json").write_text("{")
    page = Run(tmp_path)._repr_html_()
    assert "problem" in page
    assert str(tmp_path) in page
