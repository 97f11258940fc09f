"""Folders of estimates and data sets as people have them: what is found, missing, doubled, or no music at all."""

from __future__ import annotations

import logging
import shutil
import unicodedata
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from makers.audio import noise32
from makers.commands import command
from stemfuse.experiments.config import ScoreConfig
from stemfuse.experiments.data import open_data
from stemfuse.experiments.errors import ConfigError
from stemfuse.experiments.stages.estimates import find_estimates, name_methods
from stemfuse.experiments.stages.score import score_folders
from stemfuse.separators import SOURCES, Stems, TrackError

RATE = 8000
NAMES = ("Étoile", "Two", "Three")
SDR = "song_SDR"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three mono songs of one second, and estimates of them by two methods."""
    folder = tmp_path_factory.mktemp("data")
    for number, name in enumerate(NAMES):
        audio = noise32(4, 1, RATE, seed=number)
        Stems(audio, rate=RATE).write(folder / "refs" / "test" / name)
        soundfile.write(folder / "refs" / "test" / name / "mixture.wav", audio.sum(0).T, RATE, subtype="FLOAT")
        for label, level in (("a", 0.01), ("b", 0.03)):
            Stems(audio + noise32(4, 1, RATE, seed=9, scale=level), rate=RATE).write(folder / label / "test" / name)
    return folder


@pytest.fixture
def folder(data: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(data, tmp_path / "copy"))


def scored(folder: Path, *estimates: str):
    options = ScoreConfig(window_s=0.5, hop_s=0.5)
    table = score_folders(folder / "refs", [folder / one for one in estimates], options, workers=1)
    return table[table["metric"] == SDR].set_index("method")


@pytest.mark.parametrize(
    "template",
    [
        "{track}/{source}.WAV",
        "separated/htdemucs/{track}/{source}.wav",
        "{track}_({source})_model.Aif",
        "test/{track}/{source}.flac",
        "train/../{track}/{source}.Ogg",
    ],
)
def test_every_layout_gives_the_same_audio(folder: Path, template: str) -> None:
    tracks = open_data(folder / "refs").tracks()
    for name in NAMES:
        for source in SOURCES:
            samples, _ = soundfile.read(folder / "a" / "test" / name / f"{source}.wav", dtype="float32")
            path = folder / "other" / template.format(track=unicodedata.normalize("NFD", name), source=source)
            path.parent.mkdir(parents=True, exist_ok=True)
            form = {".wav": "WAV", ".aif": "AIFF", ".flac": "FLAC", ".ogg": "OGG"}[path.suffix.lower()]
            soundfile.write(path, samples, RATE, format=form, subtype="VORBIS" if form == "OGG" else "PCM_24")
    found = find_estimates(tracks, {"a": folder / "a", "other": folder / "other"})
    assert sorted(track.name for track, _ in found) == sorted(NAMES)
    for track, methods in found:
        first, other = (methods[label].stems(track).audio for label in ("a", "other"))
        np.testing.assert_allclose(first, other, atol=0.1 if template.endswith("Ogg") else 1e-6)


@pytest.mark.slow
def test_what_one_method_lacks_changes_nothing_for_the_other(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = scored(folder, "a")
    shutil.rmtree(folder / "b" / "test" / "Two")
    (folder / "b" / "test" / "Three" / "other.wav").unlink()
    with caplog.at_level(logging.WARNING):
        found = scored(folder, "a", "b")
    assert found.loc["a"].equals(expected.loc["a"])
    assert found.loc["b", "tracks"] == 2
    texts = [record.getMessage() for record in caplog.records]
    assert "b: scored on 2 of 3 tracks; no estimates of 'Two'" in texts
    assert "b: track 'Three' has no other, which other tracks have" in texts


def test_what_was_passed_over_is_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in NAMES:
        shutil.copy(folder / "a" / "test" / name / "vocals.wav", folder / "a" / "test" / name / "no_drums.wav")
    shutil.copy(folder / "a" / "test" / "Two" / "vocals.wav", folder / "a" / "click.wav")
    with caplog.at_level(logging.WARNING):
        scored(folder, "a")
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert "a: ignored: 3 x no_drums, such as " in text
    assert "a: left over, not a track's stem: click.wav" in text


def test_rates_and_channels_are_compared(folder: Path) -> None:
    path = folder / "a" / "test" / "Two" / "bass.wav"
    samples, _ = soundfile.read(path)
    for changed, rate, message in (
        (samples, 2 * RATE, "got 16000 Hz"),
        (np.stack([samples, samples], 1), RATE, "got 2 channels"),
    ):
        soundfile.write(path, changed, rate)
        with pytest.raises(
            Exception, match=rf"bass.wav: {message}, expected .* as in the references of 'Two'; add --convert"
        ):
            scored(folder, "a")


def test_duplicates_are_refused(folder: Path) -> None:
    soundfile.write(folder / "a" / "test" / "Two" / "Bass.FLAC", np.zeros((RATE, 1)), RATE, format="FLAC")
    with pytest.raises(TrackError, match="got 2 files for bass, expected one"):
        scored(folder, "a")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("a", "a"), "both are called 'a_a'|both are called '.*_a'"),
        (("x/est", "x/../x/est"), "both are called 'x_est'"),
        (("one/m/est", "two/m/est"), "both are called 'm_est'"),
    ],
)
def test_methods_of_one_name_are_refused(given: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        name_methods([Path(one) for one in given])


def test_separators_of_one_label_are_refused_before_anything_is_done(folder: Path) -> None:
    for name in ("a", "b"):
        adopted = command(
            "adopt", folder / name, "--as", f"sep_{name}", "--data", folder / "refs", "--store", folder / "st"
        )
        assert adopted.returncode == 0, adopted.stderr
    out = folder / "o.npz"
    common = ("--data", folder / "refs", "--store", folder / "st", "--train", "test", "--out", out, "--workers", 1)
    keys = sorted(path.name for path in (folder / "st").glob("*sep_*"))
    for given in ("x=sep_a,x=sep_b", "sep_a,sep_a", f"sep_a,{keys[0] if keys else 'sep_a'}"):
        done = command("fit", "mean", *common, "--separators", given)
        assert done.returncode != 0
        assert "2 separators are called" in done.stderr
        assert not out.exists()
    assert command("fit", "mean", *common, "--separators", "x=sep_a,y=sep_b").returncode == 0
    done = command(
        "fuse", out, folder / "refs", "--store", folder / "st", "--separators", "x=sep_a,x=sep_b", "--out", folder / "f"
    )
    assert done.returncode != 0
    assert "2 separators are called 'x'" in done.stderr


@pytest.mark.parametrize("name", ["@eaDir", "__MACOSX", "metadata", ".DS_Store", "lost+found", "Covers"])
def test_foreign_folders_do_not_block_a_data_set(folder: Path, name: str) -> None:
    for place in (folder / "refs" / "test" / name, folder / "refs" / name):
        (place / "Two").mkdir(parents=True)
        (place / "Two" / "vocals.json").touch()
        if name.startswith(("@", "_")):
            (place / "Two" / "._vocals.wav").touch()
    assert sorted(open_data(folder / "refs").names()) == sorted(NAMES)
    assert len(open_data(folder / "refs").tracks()) == 3


def test_a_folder_without_audio_is_named_and_an_empty_one_is_a_broken_track(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "refs" / "test" / "notes").mkdir()
    (folder / "refs" / "test" / "notes" / "list.txt").touch()
    with caplog.at_level(logging.WARNING):
        assert len(open_data(folder / "refs").tracks()) == 3
    assert "notes: no audio in it, passed over" in caplog.text
    for broken in ("Four", "Five"):
        (folder / "refs" / "test" / broken).mkdir()
    soundfile.write(folder / "refs" / "test" / "Five" / "take 1.wav", np.zeros((10, 2)), RATE)
    with pytest.raises(TrackError, match="2 of 5 tracks cannot be used"):
        open_data(folder / "refs").tracks()


def test_a_song_that_cannot_be_decoded_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    soundfile.write(tmp_path / "good.wav", noise32(RATE, 2), RATE)
    (tmp_path / "broken.mp3").write_bytes(b"no music" * 100)
    with caplog.at_level(logging.WARNING):
        assert [track.name for track in open_data(tmp_path).tracks()] == ["good"]
    assert "left out: track 'broken'" in caplog.text
    (tmp_path / "good.wav").unlink()
    with pytest.raises(TrackError, match=r"broken.mp3: 800 bytes that cannot be decoded"):
        open_data(tmp_path).tracks()


def test_late_stems_are_named_where_scores_are_those_of_the_shift(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    references = {path: soundfile.read(path)[0] for path in sorted((folder / "refs").rglob("*.wav"))}
    for name, late in (("late", 300), ("noise", None)):
        for path, samples in references.items():
            if path.stem == "mixture":
                continue
            place = folder / name / path.relative_to(folder / "refs")
            place.parent.mkdir(parents=True, exist_ok=True)
            moved = np.roll(samples, late, 0) if late else noise32(*samples.shape, seed=9)
            soundfile.write(place, moved, RATE, subtype="FLOAT")
    with caplog.at_level(logging.WARNING):
        scored(folder, "late", "noise")
    (said,) = [message for message in caplog.messages if "samples late" in message]
    assert said.startswith("late: ")
    assert "vocals is +300 samples late in" in said
    assert "adopt --shift" in said


def spoil(path: Path, how: str) -> None:
    """A file that is empty, no audio, or cut off where its header says more."""
    if how == "cut":
        data, rate = soundfile.read(path)
        soundfile.write(path.with_suffix(".flac"), data, rate)
        path.unlink()
        whole = path.with_suffix(".flac").read_bytes()
        path.with_suffix(".flac").write_bytes(whole[: len(whole) // 2])
    else:
        path.write_bytes(b"" if how == "empty" else b"no music " * 50)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["empty", "text", "cut"])
@pytest.mark.parametrize("sources", [("vocals",), ("drums", "other"), SOURCES])
def test_a_file_that_cannot_be_read_is_missing(
    folder: Path, caplog: pytest.LogCaptureFixture, how: str, sources: tuple[str, ...]
) -> None:
    before = scored(folder, "a")
    for source in sources:
        spoil(folder / "b" / "test" / "Two" / f"{source}.wav", how)
    with caplog.at_level(logging.WARNING):
        table = scored(folder, "a", "b")
    for source in sources:
        assert f"b: track 'Two' has no {source} that can be read: " in caplog.text
    columns = [*SOURCES, "mean", "tracks"]
    assert table.loc["a", columns].tolist() == before.loc["a", columns].tolist()
    assert np.isfinite(table.loc["b", list(SOURCES)].astype(float)).all()
    if sources == SOURCES:
        assert table.loc["b", "tracks"] == 2
        options = ScoreConfig(window_s=0.5, hop_s=0.5)
        with pytest.raises(TrackError, match="b has none of 1 of 3 tracks: 'Two'"):
            score_folders(folder / "refs", [folder / "b"], options, workers=1, missing="error")


def test_where_nothing_can_be_read_is_an_error(folder: Path) -> None:
    for path in (folder / "b").rglob("*.wav"):
        path.write_bytes(b"")
    with pytest.raises(TrackError, match="b: none of its files can be used"):
        scored(folder, "a", "b")


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "codec"), [(".mp3", "libmp3lame"), (".m4a", "aac"), (".ogg", "libvorbis")])
def test_lossy_estimates_are_scored(folder: Path, suffix: str, codec: str) -> None:
    for path in (folder / "b").rglob("*.wav"):
        samples, _ = soundfile.read(path, dtype="float32", always_2d=True)
        if suffix == ".ogg":
            soundfile.write(path.with_suffix(suffix), samples, RATE)
        else:
            with av.open(str(path.with_suffix(suffix)), "w") as container:
                stream = container.add_stream(codec, rate=RATE, layout="mono")
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), "fltp", "mono")
                frame.rate = RATE
                container.mux([*stream.encode(frame), *stream.encode(None)])
        path.unlink()
    table = scored(folder, "a", "b")
    assert np.isfinite(table[list(SOURCES)].astype(float)).all(axis=None)
    assert table.loc["a", "tracks"] == table.loc["b", "tracks"] == 3
