"""Training packs: the same samples and weights as without, found again, and made again when anything has changed."""

import numpy as np
import pytest

from makers.audio import write_track
from makers.planted import switching_song
from stemfuse.blending import FusionError
from stemfuse.mixers import Conv1x1Mixer, MLPMixer, Segments, TrackBlocks, TrainingPack
from stemfuse.separators import StemStore
from stemfuse.separators.training import Execution

SMALL = {"segment": 512, "shift": 256}


@pytest.fixture(scope="module")
def songs():
    return [switching_song(seed, 2.0)[0] for seed in range(3)]


def files_of(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def test_segments_of_a_pack_are_those_of_the_tracks(songs, tmp_path):
    blocks = TrackBlocks(songs, centred=True)
    packs = {kind: TrainingPack.of(blocks, tmp_path, kind) for kind in ("float32", "float16")}
    for tails in (False, True):
        plain = Segments(blocks, 1000, 700, tails)
        for kind, pack in packs.items():
            packed = Segments(pack, 1000, 700, tails)
            assert len(packed) == len(plain)
            for index in (0, len(plain) // 2, len(plain) - 1):
                for got, expected in zip(packed[index], plain[index], strict=True):
                    np.testing.assert_allclose(got, expected, atol=0 if kind == "float32" else 5e-3)
    assert packs["float32"].error_db == -np.inf
    samples = np.concatenate([np.concatenate(part, 1) for part in blocks.blocks()])
    rounding = np.square(samples - samples.astype(np.float16)).sum() / np.square(samples).sum()
    assert packs["float16"].error_db == pytest.approx(10 * np.log10(rounding), abs=0.01)
    assert packs["float16"].path.stat().st_size * 2 == packs["float32"].path.stat().st_size


@pytest.mark.parametrize(
    "make",
    [
        lambda: Conv1x1Mixer(**SMALL, epochs=2),
        lambda: MLPMixer(**SMALL, fold=32, layers=1, epochs=1),
        lambda: MLPMixer.published(**SMALL, fold=32, epochs=1),
    ],
    ids=["conv1x1", "mlp", "published"],
)
def test_weights_are_the_same_bit_for_bit(songs, tmp_path, make):
    weights = []
    for packs in (None, tmp_path):
        mixer = make()
        mixer.execution = Execution("cpu", packs=packs)
        weights.append(mixer.fit(songs[:2], songs[2:]).weights(songs[2]).matrix)
    np.testing.assert_array_equal(*weights)
    # one of each song, so that trainings that leave some out share the others
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.pack")}
    assert len(stamps) == 3
    mixer.fit(songs[2:])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.pack")} == stamps


def test_a_pack_is_found_again_and_damage_is_seen(songs, tmp_path, caplog):
    blocks = TrackBlocks(songs[:1])
    pack = TrainingPack.of(blocks, tmp_path)
    stamp = pack.path.stat().st_mtime_ns
    assert TrainingPack.of(TrackBlocks(songs[:1]), tmp_path).path.stat().st_mtime_ns == stamp
    expected = pack.read(0, 100, 200)
    content = bytearray(pack.path.read_bytes())
    content[5000] ^= 1
    pack.path.write_bytes(content)
    mended = TrainingPack.of(blocks, tmp_path)
    assert "damaged, its samples have changed" in caplog.text
    for got, true in zip(mended.read(0, 100, 200), expected, strict=True):
        np.testing.assert_array_equal(got, true)
    pack.path.with_suffix(".json").write_text("{}")
    assert TrainingPack.of(blocks, tmp_path).lengths == pack.lengths
    assert len(files_of(tmp_path)) == 2


def test_other_audio_is_another_pack(tmp_path):
    from stemfuse.experiments import open_data

    audio = write_track(tmp_path / "songs/train/song", parts=("mixture", "drums", "bass", "other", "vocals"))
    track = open_data(tmp_path / "songs").tracks("train")[0]
    store = StemStore(tmp_path / "store")
    store.put(track, "a-00000000", track.references, {"name": "a"})
    paths = set()
    for other in (None, audio * 0.5, audio * 0.25):
        if other is not None:
            write_track(tmp_path / "songs/train/song", other, parts=("vocals",))
        found = store.attach(open_data(tmp_path / "songs").tracks("train")[0], {"a": "a-00000000"})
        paths.add(TrainingPack.of(TrackBlocks([found]), tmp_path / "packs").path)
    assert len(paths) == 3
    with pytest.raises(FusionError, match="got a pack of 'int8', expected float32 or float16"):
        TrainingPack.of(TrackBlocks([found]), tmp_path / "packs", "int8")
