"""Fusions travel: descriptions load again, stems come from anywhere, and a fitted file is an entry of a recipe."""

import inspect
import json
import os
import shutil

import numpy as np
import pytest
import soundfile

from makers.commands import command
from makers.separators import REQUIRED
from stemfuse.blending import MixingWeights, fusion_class, list_fusions, load_fusion, make_fusion
from stemfuse.blending.fusion import describe_fusion, save_description
from stemfuse.experiments import open_data
from stemfuse.experiments.band import synthesize
from stemfuse.experiments.identity import fit_digest
from stemfuse.experiments.plan import plan_run
from stemfuse.experiments.recipes import parse_config
from stemfuse.experiments.stages import fit_fusion, fuse_paths
from stemfuse.experiments.stored_separators import find_separator
from stemfuse.separators import (
    SOURCES,
    MissingWeightsError,
    Stems,
    StemStore,
    StoreError,
    Track,
    TrackError,
    digest,
    list_separators,
    load_separator,
    separator_class,
)
from stemfuse.separators.optional import missing_packages
from stemfuse.separators.separator import needed_packages

SEPARATORS = ("a=centre_channel", "b=harmonic_percussive")
ARGUMENTS = {"fixed": {"blend": {"vocals": {"a": 1.0}}}, "crossover": {"edges_hz": [500.0], "bands": ["a", "b"]}}


@pytest.mark.parametrize("name", list_separators())
def test_options_of_every_separator_make_the_same_one_again(name):
    separator = load_separator(name, **REQUIRED.get(name, {}))
    stored = json.loads(json.dumps(separator.options(), default=os.fspath))
    assert load_separator(name, **stored).options() == separator.options()


def test_a_description_of_an_older_version_loads(tmp_path):
    description = {"name": "demucs_small", "version": "1", "options": {"segment_s": None, "channels": None}}
    found = find_separator("demucs_small", StemStore(tmp_path), description)
    assert (found.label, found.stored) == ("demucs_small", False)


OPTIONS = [{}, {"crossover_hz": 150.0}, {"window": 2048}, {"distance_s": 2.0}, {"selectivity": 3.0}, {"device": "cpu"}]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (name, options)
        for name in list_separators()
        for options in OPTIONS
        if options.keys() <= inspect.signature(separator_class(name)).parameters.keys()
    ],
)
def test_the_description_of_every_separator_makes_it_again(tmp_path, name, options):
    if missing := missing_packages(needed_packages(name)):
        pytest.skip(f"needs {missing[0]}")
    separator = load_separator(name, **REQUIRED.get(name, {}), **options)
    try:
        described = json.loads(json.dumps(separator.describe()))
    except MissingWeightsError:
        pytest.skip("its weights are not here")
    found = find_separator(name, StemStore(tmp_path), described | {"sums": {}})
    assert not found.stored
    assert found.load().fingerprint() == separator.fingerprint()


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("tfc_tdf_small", {"weights": {"mine.safetensors": "12345678"}}, r"mine\.safetensors \(12345678\)"),
        ("centre_channel", {"version": "0"}, "has version .* here, the fusion was fitted with 0"),
        ("demucs_small", {"version": "9", "weights": {}}, "--separators x=demucs_small"),
    ],
)
def test_a_fusion_is_not_remade_with_another_separator(tmp_path, name, change, words):
    described = load_separator(name).describe()
    with pytest.raises(StoreError, match=words):
        find_separator("x", StemStore(tmp_path), described | change)
    renamed = {f"other {file}": sha256 for file, sha256 in described["weights"].items()}
    assert not find_separator("x", StemStore(tmp_path), described | {"weights": renamed}).stored
    # the stems that it was fitted with may lie in the store, beside those of the separator that is here
    noise = np.random.default_rng(0).normal(0, 0.1, (4, 2, 22050)).astype("float32")
    track, store = Track.from_arrays("noise", noise.sum(0)), StemStore(tmp_path)
    for each in (described, described | change):
        key = f"{name}-{digest(each)[:8]}"
        store.put(track, key, Stems(noise), each)
        assert find_separator("x", store, each).key == key
    adopted = {"name": "mine", "adopted": {"vocals": "a.wav"}}
    Stems(noise).write(tmp_path / "mine/noise")
    store.adopt(tmp_path / "mine", "mine", [track])
    assert find_separator("x", store, adopted).key == store.find("mine")


@pytest.mark.parametrize("name", list_fusions())
def test_the_description_of_every_fusion_loads_again(name, tmp_path):
    made = make_fusion(name, **ARGUMENTS.get(name, {}))
    save_description(tmp_path / "x.json", made)
    described = json.loads((tmp_path / "x.json").read_text())
    again = make_fusion(described["kind"], **described["arguments"])
    assert describe_fusion(again) == describe_fusion(made)
    assert isinstance(again, fusion_class(name))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A blend of two separators, a song that the store knows under another name, and its stems in two forms."""
    folder = tmp_path_factory.mktemp("travelling")
    synthesize(folder / "band", {"train": 2, "test": 1}, 1.0, seed=8)
    blend = folder / "blend.npz"
    fit_fusion("least_squares", {}, folder / "band", folder / "store", SEPARATORS, blend, ["train", "test"], workers=1)
    track = open_data(folder / "band").tracks("test")[0]
    shutil.copy(folder / "band/test" / track.name / "mixture.wav", folder / "new song.wav")
    store = StemStore(folder / "store")
    shutil.copytree(store.path(track, store.find("centre_channel")), folder / "flat")
    shutil.copytree(store.path(track, store.find("harmonic_percussive")), folder / "tree/new song")
    (folder / "flat/stems.json").unlink()
    weights = load_fusion(blend).weights_
    stems = {label: store.find(name) for label, name in (part.split("=") for part in SEPARATORS)}
    expected = make_fusion("fixed", blend=weights).fit([]).fuse(store.attach(track, stems))
    return folder, {source: expected[source].read(0, track.length) for source in SOURCES}


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["--stems", "a=flat", "--stems", "b=tree"],
        ["--store", "store"],
        ["--store", "store", "--stems", "b=tree"],
        ["--stems", "b=flat/../tree"],
    ],
)
def test_stems_of_a_new_song_come_from_anywhere(place, tmp_path, options):
    folder, expected = place
    result = command("fuse", "blend.npz", "new song.wav", *options, "--out", tmp_path, "--workers", 1, cwd=folder)
    assert result.returncode == 0, result.stderr
    # only the last form leaves something to separate
    assert ("separate: 1 to do" in result.stderr) == ("a=flat" not in options and "--store" not in options)
    for source, audio in expected.items():
        ours, _ = soundfile.read(tmp_path / "new song" / f"{source}.wav", dtype="float32")
        np.testing.assert_allclose(ours.T, audio, atol=1e-6)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".writing")]


@pytest.mark.parametrize("late", [300, -120, 2048])
def test_stems_that_lie_late_are_fused_in_their_place(place, tmp_path, late):
    folder, expected = place
    (tmp_path / "late").mkdir()
    for source in SOURCES:
        audio, rate = soundfile.read(folder / "flat" / f"{source}.wav", dtype="float32")
        empty = np.zeros_like(audio[: abs(late)])
        moved = np.concatenate([empty, audio[:-late]] if late > 0 else [audio[-late:], empty])
        soundfile.write(tmp_path / "late" / f"{source}.wav", moved, rate, subtype="FLOAT")
    fuse = ["fuse", "blend.npz", "new song.wav", "--stems", f"a={tmp_path / 'late'}", "--stems", "b=tree"]
    fuse += ["--out", tmp_path / "out", "--workers", 1]
    refused = command(*fuse, cwd=folder)
    assert (refused.returncode, "add --shift to move them" in refused.stderr) == (1, True), refused.stderr
    assert command(*fuse, "--shift", cwd=folder).returncode == 0
    for source, audio in expected.items():
        ours, _ = soundfile.read(tmp_path / "out" / "new song" / f"{source}.wav", dtype="float32")
        np.testing.assert_allclose(ours.T[:, 3000:-3000], audio[:, 3000:-3000], atol=1e-6)


def test_stems_of_another_song_or_separator_are_refused(place, tmp_path):
    folder, _ = place
    other = next((folder / "band/train").iterdir()) / "mixture.wav"
    for song, stems, words in (
        (other, "a=flat", ""),
        ("new song.wav", "c=flat", "use these labels"),
        ("band", "a=flat", ""),
    ):
        arguments = ["fuse", "blend.npz", song, "--stems", stems, "--out", tmp_path, "--workers", 1]
        result = command(*arguments, cwd=folder)
        assert result.returncode in (1, 2), (song, stems)
        assert words in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sources", "fusion"),
    [
        (("speech", "music"), "least_squares"),
        (("kazoo", "vocals"), "least_squares"),
        (("kazoo", "choir"), "average"),
        (("lead guitar", "drums", "vocals"), "mean"),
    ],
)
def test_stems_of_any_sources_are_fused(tmp_path, sources, fusion):
    rng = np.random.default_rng(3)
    for number in range(2):
        parts = rng.normal(0, 0.1, (len(sources), 2, 44100)).astype("float32")
        audio = {"songs": parts}
        for label in "ab":
            noise = rng.normal(0, 0.02, parts.shape)
            audio[label] = (parts + noise - noise.mean(0)).astype("float32")
        for folder, stems in audio.items():
            Stems(stems, sources).write(tmp_path / folder / f"song {number}")
        soundfile.write(tmp_path / f"songs/song {number}/mixture.wav", parts.sum(0).T, 44100, "FLOAT")
    shutil.copy(tmp_path / "songs/song 1/mixture.wav", tmp_path / "song 1.wav")
    for label in "ab":
        StemStore(tmp_path / "store").adopt(tmp_path / label, label, open_data(tmp_path / "songs"), sources=sources)
    file = f"f{fusion_class(fusion).suffix}"
    data, store = tmp_path / "songs", tmp_path / "store"
    fit_fusion(fusion, {}, data, store, ["a", "b"], tmp_path / file, workers=1)
    stems = ["--stems", "a=a", "--stems", "b=b", "--workers", 1]
    result = command("fuse", file, "song 1.wav", *stems, "--out", "out", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert sorted(path.stem for path in (tmp_path / "out/song 1").iterdir()) == sorted(sources)
    assert "fused without" not in result.stderr
    (tmp_path / f"b/song 1/{sources[0]}.wav").rename(tmp_path / "b/song 1/harmonica.wav")
    result = command("fuse", file, "song 1.wav", *stems, "--out", "less", cwd=tmp_path)
    assert sources[0] in result.stderr


def test_a_fitted_file_is_an_entry_of_a_recipe(place, tmp_path):
    folder, _ = place
    file = tmp_path / "ls.npz"
    shutil.copy(folder / "blend.npz", file)
    track = StemStore(folder / "store").attach(
        open_data(folder / "band").tracks("test")[0],
        {label: StemStore(folder / "store").find(name) for label, name in (part.split("=") for part in SEPARATORS)},
    )
    fixed = make_fusion("fixed", blend=str(file)).fit([track])
    assert np.array_equal(fixed.weights_.matrix, load_fusion(file).weights_.matrix)
    fixed.save(tmp_path / "again.npz")
    recipe = parse_config(
        {
            "out": str(tmp_path / "run"),
            "store": str(folder / "store"),
            "data": [str(folder / "band")],
            "separators": [{"name": name, "label": label} for label, name in (part.split("=") for part in SEPARATORS)],
            "fusions": [{"name": "fixed", "label": "ls", "options": {"blend": str(file)}}],
        }
    )
    plan = plan_run(recipe)
    before = fit_digest(plan, plan.fusions[0])
    MixingWeights.same_source({"bass": {"a": 1.0}}).save(file)
    assert fit_digest(plan, plan.fusions[0]) != before
    file.unlink()
    with pytest.raises(ValueError, match="no such file"):
        plan_run(recipe)
    assert np.array_equal(load_fusion(tmp_path / "again.npz").weights_.matrix, fixed.weights_.matrix)


def test_weights_of_separators_that_the_tracks_do_not_have_are_refused(place):
    folder, _ = place
    stems = np.ones((4, 2, 100), "float32")
    track = Track.from_arrays("song", stems.sum(0), stems=dict.fromkeys("ax", stems))
    with pytest.raises(ValueError, match="b is missing: give separators the labels that the file has"):
        make_fusion("fixed", blend=str(folder / "blend.npz")).fit([track])


def test_a_temporary_store_is_gone_after_an_error(place, tmp_path):
    folder, _ = place
    with pytest.raises(ValueError, match="tracks"):
        fuse_paths(folder / "blend.npz", [folder / "band"], tmp_path, stems={"a": folder / "flat"}, workers=1)
    assert not list(tmp_path.iterdir())


def test_arrays_in_place_of_signals_say_what_to_call():
    audio = np.ones((4, 2, 100), "float32")
    with pytest.raises(TrackError, match=r"Track\.from_arrays\(name, mixture, references, stems\) takes arrays"):
        Track("song", audio.sum(0), audio)
    with pytest.raises(TrackError, match="from_arrays"):
        Track("song", audio.sum(0))
    with pytest.raises(TrackError, match="Stems"):
        Track.from_arrays("song", audio.sum(0)).with_stems({"a": audio})
