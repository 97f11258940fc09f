"""A fusion is a separator: named by its file, cached like one, fitted on and fused again, never its own."""

import json
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from makers.audio import noise32
from makers.commands import command
from stemfuse import load_separator
from stemfuse.blending import FusionError, LeakWarning, MixingWeights, load_fusion
from stemfuse.blending.fused_separator import SavedFusion, check_acyclic
from stemfuse.experiments import open_data, run
from stemfuse.experiments.band import synthesize
from stemfuse.experiments.errors import ConfigError
from stemfuse.experiments.missing_stems import find_absent
from stemfuse.experiments.needs import PlannedTrack
from stemfuse.experiments.stages import fit_fusion, fuse_paths
from stemfuse.experiments.stages.separate import make_missing, separate_paths
from stemfuse.experiments.stored_separators import find_separator
from stemfuse.separators import SOURCES, SeparatorError, Stems, StemStore, check_separator

BASE = ("a=centre_channel", "b=harmonic_percussive")
KINDS = {
    "ls.npz": ("least_squares", {}),
    "median.json": ("combine", {"how": "median_fft"}),
    "wiener.json": ("wiener", {}),
    "mlp.safetensors": (
        "mlp_mixer",
        {"epochs": 1, "segment": 4096, "shift": 4096, "fold": 64, "layers": 1, "batch": 2},
    ),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Three songs, and a constant, two weightless and a time-varying fusion of the same two separators."""
    folder = tmp_path_factory.mktemp("fused")
    synthesize(folder / "band", {"train": 2, "test": 1}, 2.0, seed=3)
    for file, (kind, options) in KINDS.items():
        fit(folder, kind, options, BASE, folder / file)
    return folder


def fit(place, kind, options, separators, out, store="store", **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeakWarning)
        return fit_fusion(kind, options, place / "band", place / store, separators, out, workers=1, folds=0, **more)


def fused(file, place, out, store="store"):
    (folder,) = fuse_paths(file, [song(place)], out, place / store, workers=1)
    return {source: soundfile.read(folder / f"{source}.wav", dtype="float32")[0].T for source in names(folder)}


def song(place):
    return next((place / "band/test").iterdir())


def names(folder):
    return [path.stem for path in sorted(folder.glob("*.wav"))]


@pytest.mark.parametrize("file", KINDS)
def test_a_fusion_as_a_separator_gives_what_the_fusion_gives_bit_for_bit(place, tmp_path, file):
    expected = fused(place / file, place, tmp_path / "out")
    (entry,) = separate_paths([song(place)], str(place / file), {}, place / "store", workers=1)
    got = {source: soundfile.read(f"{entry['path']}/{source}.wav", dtype="float32")[0].T for source in SOURCES}
    assert sorted(got) == sorted(expected)
    for source, audio in expected.items():
        np.testing.assert_array_equal(got[source], audio)
    # on its own it makes the stems of its separators: what is left are blocks of other sizes
    alone = load_separator(str(place / file)).separate(open_data(song(place)).tracks()[0])
    for source, audio in expected.items():
        np.testing.assert_allclose(alone[source].read(), audio, atol=2e-6)


def test_stems_that_are_there_are_never_made_again_and_shared_ones_made_once(place, tmp_path):
    store = tmp_path / "store"
    result = command("separate", song(place), "--separator", place / "ls.npz", "--store", store, "--workers", 1)
    assert result.returncode == 0, result.stderr
    assert "separate: 2 to do" in result.stderr
    assert "fuse stems: 1 to do" in result.stderr
    stamps = {path: path.stat().st_mtime_ns for path in store.rglob("*.wav")}
    assert len(StemStore(store).keys()) == 3
    again = command("separate", song(place), "--separator", place / "ls.npz", "--store", store, "--workers", 1)
    assert again.returncode == 0
    assert "to do" not in again.stderr.replace("verify", "").replace("1 to do", "", again.stderr.count("verify"))
    # another fusion of the same separators needs nothing but itself
    other = command("separate", song(place), "--separator", place / "median.json", "--store", store, "--workers", 1)
    assert "separate: 2 to do" not in other.stderr
    # without the stems that it was fused of, it is there
    for name in ("centre_channel", "harmonic_percussive"):
        shutil.rmtree(next(store.glob(f"*/{StemStore(store).find(name)}")))
    third = command("separate", song(place), "--separator", place / "ls.npz", "--store", store, "--workers", 1)
    assert third.returncode == 0
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items() if path.exists())
    assert not list(store.glob("*/centre_channel-*"))


@pytest.mark.slow
def test_fusions_of_fusions_are_fitted_fused_separated_and_run(place, tmp_path):
    outer = tmp_path / "outer.npz"
    separators = ["a=centre_channel", place / "ls.npz", f"soft={place / 'mlp.safetensors'}", place / "median.json"]
    fit(place, "mean", {}, list(map(str, separators)), outer)
    described = load_fusion(outer).separators_
    assert list(described) == ["a", "ls", "soft", "median"]
    assert described["ls"]["options"]["file"] == str(place / "ls.npz")
    assert described["ls"]["weights"].keys() == {"ls.npz"}
    expected = fused(outer, place, tmp_path / "one")
    # the mean of what each gives, and what a store without anything gives
    parts = [fused(place / file, place, tmp_path / file) for file in ("ls.npz", "mlp.safetensors", "median.json")]
    centre = separated(place, "centre_channel")
    for source in SOURCES:
        mean = np.mean([centre[source], *(part[source] for part in parts)], axis=0)
        np.testing.assert_allclose(expected[source], mean, atol=1e-6)
    empty = fused(outer, place, tmp_path / "two", store=tmp_path / "empty")
    np.testing.assert_array_equal(empty["bass"], expected["bass"])
    recipe = {
        "out": tmp_path / "run",
        "store": place / "store",
        "data": [{"path": place / "band", "real": False}],
        "separators": ["harmonic_percussive", str(outer), {"name": str(place / "ls.npz"), "label": "squares"}],
        "fusions": ["mean", {"name": "fixed", "options": {"blend": {"vocals": {"outer": 0.5, "squares": 0.5}}}}],
        "players": {"tracks": 0},
        "bounds": None,
        "workers": 1,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeakWarning)
        first = run(recipe)
        stamp = first.scores_path.stat().st_mtime_ns
        assert run(recipe).scores_path.stat().st_mtime_ns == stamp
    record = first.record()
    assert list(record.separators) == ["harmonic_percussive", "outer", "squares"]
    assert record.separators["outer"].key.startswith("fusion-")
    assert set(first.scores()["fusion"]) >= {"outer", "squares", "mean", "fixed"}


def separated(place, name):
    store = StemStore(place / "store")
    stems = store.get(open_data(song(place)).tracks()[0], store.find(name))
    return {source: stems[source].read() for source in stems.sources}


def test_identity_is_content_and_separators_not_the_name_of_a_file(place, tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        shutil.copy(place / "ls.npz", tmp_path / folder / f"{folder}.npz")
    first, second = (load_separator(str(tmp_path / each / f"{each}.npz")) for each in ("one", "two"))
    assert first.fingerprint() == second.fingerprint() == load_separator("fusion", file=place / "ls.npz").fingerprint()
    assert load_separator(str(place / "wiener.json")).fingerprint() != first.fingerprint()
    for name in ("mlp.safetensors", "mlp.json"):
        assert len(load_separator(str(place / name)).weights_sha256()) == 2
    # the description is enough to make it again, and a changed file is not taken for it
    described = json.loads(json.dumps(first.describe()))
    assert find_separator("x", StemStore(tmp_path / "s"), described).key == StemStore.key(first)
    halved = load_fusion(place / "ls.npz")
    halved.weights_ = replace(halved.weights_, matrix=halved.weights_.matrix / 2)
    halved.save(tmp_path / "one/one.npz")
    with pytest.raises(Exception, match=r"has weights one\.npz .* here, the fusion was fitted with one\.npz"):
        find_separator("x", StemStore(tmp_path / "s"), described)


def test_weights_from_elsewhere_name_their_separators(place, tmp_path):
    weights = MixingWeights.same_source({"vocals": {"mine": 0.25, "other": 0.75}})
    weights.save(tmp_path / "bare.npz")
    with pytest.raises(SeparatorError, match="'mine' is unknown"):
        load_separator(str(tmp_path / "bare.npz")).fingerprint()
    named = {"mine": "centre_channel", "other": {"name": "repet_sim", "options": {"neighbours": 20}}}
    separator = SavedFusion(tmp_path / "bare.npz", named)
    mixture = noise32(2, 30_000)
    parts = [load_separator("centre_channel"), load_separator("repet_sim", neighbours=20)]
    vocals = [part.separate(mixture, 44_100)["vocals"].read() for part in parts]
    stems = separator.separate(mixture, 44_100)
    assert stems.sources == separator.sources == ("vocals",)
    np.testing.assert_allclose(stems["vocals"].read(), 0.25 * vocals[0] + 0.75 * vocals[1], atol=1e-6)
    with pytest.raises(FusionError, match=r"got separator 'yours', it fuses mine, other"):
        SavedFusion(tmp_path / "bare.npz", {"yours": "repet_sim"}).parts()
    # stems of that name in the store will do, of whatever tool
    store = StemStore(tmp_path / "store")
    track = open_data(song(place)).tracks()[0]
    audio = noise32(1, 2, track.length, seed=5)
    Stems(audio, ["vocals"]).write(tmp_path / "stems" / track.name)
    store.adopt(tmp_path / "stems", "mine", [track], "as-is")
    option = "separators={mine: mine, other: {name: repet_sim, options: {neighbours: 20}}}"
    arguments = ["--separator", tmp_path / "bare.npz", "--option", option, "--store", store.root, "--workers", 1]
    result = command("separate", song(place), *arguments, "--json")
    assert result.returncode == 0, result.stderr
    got = soundfile.read(f"{json.loads(result.stdout)[0]['path']}/vocals.wav", dtype="float32")[0].T
    repet = StemStore(store.root).get(track, StemStore.key(parts[1]))["vocals"].read()
    np.testing.assert_allclose(got, 0.25 * audio[0] + 0.75 * repet, atol=1e-6)


def test_stems_that_are_replaced_are_fused_again(place, tmp_path):
    store, track = StemStore(tmp_path / "store"), open_data(song(place)).tracks()[0]

    def adopt(seed, **options):
        Stems(noise32(4, 2, track.length, seed=seed)).write(tmp_path / f"{seed}" / track.name)
        store.adopt(tmp_path / f"{seed}", "mine", [track], "as-is", **options)

    adopt(1)
    MixingWeights.same_source({"vocals": {"mine": 0.5}}).save(tmp_path / "half.npz")
    half = find_separator(str(tmp_path / "half.npz"), store)
    assert (half.label, [part.stored for part in half.parts]) == ("half", [True])
    assert make_missing([track], [half], store, 1) == [half]
    assert make_missing([track], [half], store, 1) == []
    adopt(2, replace=True)
    assert not half.is_current(track, store)
    assert make_missing([track], [half], store, 1) == [half]
    expected = 0.5 * noise32(4, 2, track.length, seed=2)[3]
    np.testing.assert_allclose(store.get(track, half.key)["vocals"].read(), expected, atol=1e-6)
    # songs that no stems are of are known before anything is made
    other = open_data(place / "band").tracks("train")[0]
    planned = [PlannedTrack(each, "band") for each in (track, other)]
    assert [entry.track for entry in find_absent(planned, [half], store)["half"]] == [other]
    with pytest.raises(Exception, match="no usable stems by mine"):
        make_missing([other], [half], store, 1)


def test_a_fusion_is_never_its_own_separator(place, tmp_path):
    inner, outer = tmp_path / "inner.npz", tmp_path / "outer.npz"
    shutil.copy(place / "ls.npz", inner)
    fit(place, "mean", {}, ["a=centre_channel", str(inner)], outer)
    with pytest.raises(ConfigError, match=r"inner\.npz: is a file of the separator 'outer'"):
        fit(place, "mean", {}, ["a=centre_channel", str(outer)], inner, overwrite=True)
    arguments = ["--data", place / "band", "--store", place / "store", "--separators", f"a=repet_sim,{inner}"]
    result = command("fit", "mean", *arguments, "--out", inner, "--replace")
    assert result.returncode == 2
    assert "cannot be its own separator" in result.stderr
    # whoever puts such files together by hand
    shutil.copy(outer, inner)
    for refused in (
        ["separate", song(place), "--separator", inner, "--store", tmp_path / "store"],
        ["fuse", outer, song(place), "--out", tmp_path / "out"],
    ):
        result = command(*refused)
        assert result.returncode == 2, result.stderr
        assert "a fusion cannot be its own separator" in result.stderr
        assert result.stderr.strip().count("\n") == 0
    with pytest.raises(FusionError, match=r"\(inner\.npz > inner\.npz\)"):
        check_acyclic(inner)
    # a run must not write over the fusion that it uses
    recipe = {
        "out": tmp_path,
        "store": tmp_path / "store",
        "data": str(place / "band"),
        "separators": [str(tmp_path / "fusions/mean.npz"), "repet_sim"],
        "fusions": [{"name": "mean"}],
    }
    (tmp_path / "fusions").mkdir()
    shutil.copy(place / "ls.npz", tmp_path / "fusions/mean.npz")
    with pytest.raises(ConfigError, match="mean"):
        run({**recipe, "separators": [{"name": str(tmp_path / "fusions/mean.npz"), "label": "old"}, "repet_sim"]})


def test_a_fusion_within_is_found_beside_the_outer_one(place, tmp_path):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    shutil.copy(place / "ls.npz", tmp_path / "here")
    fit(place, "mean", {}, ["a=centre_channel", str(tmp_path / "here/ls.npz")], tmp_path / "here/outer.npz")
    expected = fused(tmp_path / "here/outer.npz", place, tmp_path / "one")
    for file in ("ls.npz", "outer.npz"):
        (tmp_path / "here" / file).rename(tmp_path / "there" / file)
    got = fused(tmp_path / "there/outer.npz", place, tmp_path / "two", store=tmp_path / "empty")
    np.testing.assert_array_equal(got["vocals"], expected["vocals"])
    (tmp_path / "there/ls.npz").unlink()
    with pytest.raises(Exception, match=r"no stems by ls, .*no such file"):
        fused(tmp_path / "there/outer.npz", place, tmp_path / "three", store=tmp_path / "empty too")


def test_it_declares_what_it_was_fitted_on(place):
    separator = load_separator(str(place / "ls.npz"))
    assert len(separator.trained_on) == 2
    assert all(name.startswith("song:") for name in separator.trained_on)
    with pytest.warns(LeakWarning, match="separator ls declares that it was trained on 2 of 2 tracks"):
        fit_fusion(
            "least_squares",
            {},
            place / "band",
            place / "store",
            ["a=centre_channel", str(place / "ls.npz")],
            place / "again.npz",
            workers=1,
            folds=0,
        )


@pytest.mark.parametrize("file", ["ls.npz", "median.json"])
def test_it_keeps_the_rules_of_separators(place, file):
    check_separator(load_separator(str(place / file)), seconds=0.2)


def test_songs_of_other_forms_are_converted_as_the_fusion_does(place, tmp_path):
    path = tmp_path / "mono.wav"
    soundfile.write(path, noise32(48_000, seed=1), 48_000, subtype="FLOAT")
    for file in ("ls.npz", "mlp.safetensors"):
        (out,) = fuse_paths(
            place / file, [path], tmp_path / "out", tmp_path / "store", workers=1, convert=True, replace=True
        )
        arguments = [[path], str(place / file), {}, tmp_path / "store", True, 1]
        (entry,) = separate_paths(*arguments)
        for source in names(out):
            expected = soundfile.read(out / f"{source}.wav", dtype="float32")[0]
            np.testing.assert_array_equal(soundfile.read(f"{entry['path']}/{source}.wav", dtype="float32")[0], expected)
