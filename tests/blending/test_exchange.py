"""Blends in other programs' files: each is read back the way its program does."""

import hashlib
import json
import os
import pickle
import shlex
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
import yaml
from demucs.apply import apply_model
from demucs.demucs import Demucs as TimeDemucs
from demucs.repo import BagOnlyRepo, LocalRepo
from demucs.states import get_state, save_with_checksum

from makers.commands import command
from makers.places import DATA, GOLDEN
from stemfuse.blending import Fixed, FusionError, MixingWeights, apply_weights, redistribute
from stemfuse.blending.exchange import (
    EXPORTS,
    export_audio_separator_presets,
    export_demucs_bag,
    export_kuielab_mixer,
    export_msst_commands,
    import_kuielab_mixer,
)
from stemfuse.separators import SOURCES, SeparatorError, Stems, Track, WriteError

CHECKPOINT = DATA / "kuielab_mixer.ckpt"
NUMBERS = GOLDEN / "kuielab_mixer_real.net.npz"
ORDER = ["vocals", "drums", "other", "bass"]
LENGTH = 12_000
BLEND = {
    "drums": {"a": 0.3, "b": 0.7},
    "bass": {"a": 1.25, "b": -0.25},
    "other": {"b": 1.0},
    "vocals": {"a": 1 / 3, "b": 2 / 3},
}

# what MSST's script does for avg_wave, from its description: weights times files, divided by the weights' sum
AVERAGE_OF_FILES = """
import argparse, numpy, soundfile
options = argparse.ArgumentParser()
options.add_argument("--files", nargs="+", required=True)
options.add_argument("--type")
options.add_argument("--weights", type=float, nargs="+")
options.add_argument("--output")
given = options.parse_args()
assert given.type == "avg_wave" and len(given.files) == len(given.weights)
audio = [soundfile.read(file)[0] for file in given.files]
mean = numpy.tensordot(given.weights, audio, 1) / sum(given.weights)
soundfile.write(given.output, mean, 44100, "FLOAT")
"""


def save_network(folder, signature, seed):
    """A tiny network of the package, in its own format."""
    torch.manual_seed(seed)
    network = TimeDemucs(ORDER, channels=4, depth=2, dconv_mode=0, norm_starts=9, segment=0.2)
    arguments, options = network._init_args_kwargs
    state = get_state(network, None, half=False)
    package = {"klass": TimeDemucs, "args": arguments, "kwargs": options, "state": state}
    save_with_checksum(package, folder / f"{signature}.th")


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Folder with three networks and a bag of two."""
    folder = tmp_path_factory.mktemp("networks")
    for seed, signature in enumerate(("ab12", "cd34", "ef56")):
        save_network(folder, signature, seed)
    bag = {"models": ["ab12", "ef56"], "weights": [[1, 3, 0, 1], [1, 1, 2, 0]]}
    (folder / "pair.yaml").write_text(yaml.safe_dump(bag))
    return folder


@pytest.fixture(scope="module")
def mixture():
    return np.random.default_rng(0).normal(0, 0.1, (2, LENGTH)).astype(np.float32)


def by_package(folder, name, mixture):
    """Stems of a network or a bag through the package's own repositories."""
    local = LocalRepo(folder)
    network = local.get_model(name) if local.has_model(name) else BagOnlyRepo(folder, local).get_model(name)
    audio = apply_model(network, torch.from_numpy(mixture)[None], shifts=0)[0].numpy()
    return np.stack([audio[network.sources.index(source)] for source in SOURCES])


def fused(weights, mixture, **stems):
    return apply_weights(weights, Track.from_arrays("song", mixture, stems=stems)).audio


def test_demucs_bag_gives_the_blend(networks, mixture):
    weights = MixingWeights.same_source(BLEND)
    export_demucs_bag(weights, networks / "blend.yaml", {"a": "ab12", "b": "cd34"}, networks, sources=ORDER)
    written = yaml.safe_load((networks / "blend.yaml").read_text())
    assert written["models"] == ["ab12", "cd34"]
    assert written["weights"] == [[0.3333333, 0.3, 0, 1.25], [0.6666667, 0.7, 1, -0.25]]
    stems = {"a": by_package(networks, "ab12", mixture), "b": by_package(networks, "cd34", mixture)}
    expected = fused(weights, mixture, **stems)
    np.testing.assert_allclose(by_package(networks, "blend", mixture), expected, atol=1e-5)
    assert np.abs(expected - stems["a"]).max() > 1e-3


def test_networks_of_a_bag_share_its_weight(networks, mixture):
    weights = MixingWeights.same_source(BLEND)
    path = networks / "nested.yaml"
    export_demucs_bag(weights, path, {"a": "pair", "b": "ab12", "c": "unused"}, networks, segment=0.2, sources=ORDER)
    written = yaml.safe_load(path.read_text())
    assert written["models"] == ["ab12", "ef56"]
    assert written["segment"] == 0.2
    # vocals: a third of the bag, in which both networks count the same, and two thirds of the first network
    np.testing.assert_allclose([row[0] for row in written["weights"]], [1 / 6 + 2 / 3, 1 / 6], atol=1e-6)
    stems = {"a": by_package(networks, "pair", mixture), "b": by_package(networks, "ab12", mixture)}
    np.testing.assert_allclose(by_package(networks, "nested", mixture), fused(weights, mixture, **stems), atol=1e-5)


def test_networks_without_weight_are_left_out_of_a_bag(tmp_path):
    only = MixingWeights.same_source({source: {"a": float(source == "bass"), "b": 1.0} for source in SOURCES})
    # of the published bag mdx two networks give the bass
    export_demucs_bag(only, tmp_path / "x.yaml", {"a": "mdx", "b": "mdx_extra"}, nearest=True)
    written = yaml.safe_load((tmp_path / "x.yaml").read_text())
    assert written["models"][:2] == ["0d19c1c6", "7ecf8ec1"]
    assert len(written["models"]) == 6
    assert written["weights"][0] == [0, 0.25, 0, 0]
    assert written["weights"][2] == [0.25, 0.125, 0.25, 0.25]
    assert written["segment"] == 44


def test_demucs_bag_names_what_is_missing(tmp_path, networks):
    weights = MixingWeights.same_source(BLEND)
    both = {"a": "mdx", "b": "955717e8"}
    with pytest.raises(FusionError, match=r"no model is named for b; the blend is of a, b, got models for a"):
        export_demucs_bag(weights, tmp_path / "x.yaml", {"a": "mdx"})
    with pytest.raises(FusionError, match=r"different lengths \(mdx 44.0, 955717e8 its own s\).*give segment"):
        export_demucs_bag(weights, tmp_path / "x.yaml", both)
    with pytest.raises(SeparatorError, match="'htdemuc' is unknown"):
        export_demucs_bag(weights, tmp_path / "x.yaml", both | {"b": "htdemuc"})
    with pytest.raises(FusionError, match=r"got a blend of drums for networks that give drums, bass"):
        export_demucs_bag(MixingWeights.same_source({"drums": {"a": 1.0}}), tmp_path / "x.yaml", both)
    with pytest.raises(FusionError, match=r"ending \.yaml"):
        export_demucs_bag(weights, tmp_path / "x.yml", both)
    five = {"models": ["ab12"], "weights": [[1, 1, 1, 1, 1]]}
    (tmp_path / "five.yaml").write_text(yaml.safe_dump(five))
    with pytest.raises(FusionError, match="bag five has weights for 5 sources, the blend is of 4"):
        export_demucs_bag(weights, tmp_path / "x.yaml", both | {"a": str(tmp_path / "five.yaml")}, segment=1)
    assert [path.name for path in tmp_path.iterdir()] == ["five.yaml"]


def test_msst_commands_give_the_blend(tmp_path):
    generator = np.random.default_rng(1)
    stems = {name: generator.normal(0, 0.1, (4, 2, 500)).astype(np.float32) for name in ("a", "b")}
    for name, audio in stems.items():
        (tmp_path / f"it's {name}").mkdir()
        for source, stem in zip(SOURCES, audio, strict=True):
            soundfile.write(tmp_path / f"it's {name}" / f"{source}.wav", stem.T, 44_100, "FLOAT")
    (tmp_path / "ensemble.py").write_text(AVERAGE_OF_FILES)
    weights = MixingWeights.same_source(BLEND | {"other": {"a": 1 - 3e-5, "b": 3e-5}})
    export_msst_commands(
        weights,
        tmp_path / "blend.sh",
        files="it's {separator}/{source}.wav",
        output="-{source}.wav",
        program=(sys.executable, "ensemble.py"),
    )
    subprocess.run(["sh", "blend.sh"], cwd=tmp_path, check=True)
    expected = fused(weights, stems["a"].sum(0), **stems)
    for source, audio in zip(SOURCES, expected, strict=True):
        np.testing.assert_allclose(soundfile.read(tmp_path / f"-{source}.wav")[0].T, audio, atol=1e-6)


def test_msst_commands_name_each_stem_with_weight_once(tmp_path):
    export_msst_commands(MixingWeights.same_source(BLEND), tmp_path / "blend.sh", "{separator}_{source}.wav")
    commands = [shlex.split(line) for line in (tmp_path / "blend.sh").read_text().splitlines()[3:]]
    assert [command[command.index("--files") + 1 : command.index("--type")] for command in commands] == [
        ["a_drums.wav", "b_drums.wav"],
        ["a_bass.wav", "b_bass.wav"],
        ["b_other.wav"],
        ["a_vocals.wav", "b_vocals.wav"],
    ]
    assert commands[1][-5:] == ["--weights", "1.2500000", "-0.2500000", "--output", "bass.wav"]
    for wrong in (
        {"files": "{source}.wav"},
        {"files": "{separator}.wav"},
        {"output": "all.wav"},
        {"output": "a/{source}.wav"},
    ):
        with pytest.raises(FusionError, match="name the same file twice"):
            export_msst_commands(MixingWeights.same_source(BLEND), tmp_path / "x.sh", **wrong)


def test_audio_separator_presets_pass_its_checks_and_give_the_blend(tmp_path):
    path = tmp_path / "presets.json"
    weights = MixingWeights.same_source(BLEND)
    models = {"a": "htdemucs_ft.yaml", "b": "model_b.ckpt"}
    with pytest.raises(FusionError, match=r"a single model gives other by model_b\.ckpt.*sources="):
        export_audio_separator_presets(weights, path, models)
    export_audio_separator_presets(weights, path, models, name="mine", sources=("vocals", "bass"))
    content = json.loads(path.read_text())
    assert content["version"] == 1
    assert list(content["presets"]) == ["mine_vocals", "mine_bass"]
    stems = {"htdemucs_ft.yaml": np.full((4, 2, 9), 3.0), "model_b.ckpt": np.full((4, 2, 9), 5.0)}
    expected = fused(weights, np.zeros((2, 9)), a=stems["htdemucs_ft.yaml"], b=stems["model_b.ckpt"])
    for source in ("vocals", "bass"):
        preset = content["presets"][f"mine_{source}"]
        assert set(preset) == {"name", "description", "models", "algorithm", "weights", "contributor"}
        assert preset["algorithm"] == "avg_wave"
        index = SOURCES.index(source)
        blended = sum(
            weight * stems[model][index] for model, weight in zip(preset["models"], preset["weights"], strict=True)
        )
        np.testing.assert_allclose(blended / sum(preset["weights"]), expected[index], rtol=1e-6)
    with pytest.raises(FusionError, match="preset of 'piano'"):
        export_audio_separator_presets(weights, path, models, sources=("piano",))


@pytest.mark.parametrize("program", ["demucs", "msst", "audio-separator"])
def test_blends_that_are_more_are_refused_unless_the_nearest_is_asked_for(tmp_path, program):
    shares = {source: {"a": 0.4, "b": 0.6} for source in SOURCES}
    more = redistribute(MixingWeights.same_source(shares), 0.1)
    path = tmp_path / "blend.yaml"
    needs = {} if program == "msst" else {"models": {"a": "955717e8", "b": "f7e0c4bc"}}
    with pytest.raises(FusionError, match=r"weights on the mixture \(up to 0\.1\)"):
        EXPORTS[program](more, path, **needs)
    assert not path.exists()
    EXPORTS[program](more, path, nearest=True, **needs)
    assert path.read_text().count("0.4") >= 4


OTHER_SETS = {
    "a pair": ("vocals", "accompaniment"),
    "speech": ("speech", "music", "effects"),
    "six": ("drums", "bass", "other", "vocals", "guitar", "piano"),
}


@pytest.fixture(scope="module", params=OTHER_SETS)
def other_set(request, tmp_path_factory):
    """A fusion of other sources than the papers' four, as fit saves it."""
    sources = OTHER_SETS[request.param]
    shares = np.linspace(0.2, 0.6, len(sources))
    blend = {source: {"a": share, "b": 1 - share} for source, share in zip(sources, shares.tolist(), strict=True)}
    path = tmp_path_factory.mktemp("sets") / "blend.npz"
    Fixed(blend).fit([make_track(sources)]).save(path)
    return path, blend


def make_track(sources):
    audio = np.random.default_rng(4).normal(0, 0.1, (len(sources), 2, 2000)).astype("float32")
    return Track.from_arrays("song", audio.sum(0), audio, {"a": audio, "b": audio}, sources=sources)


def test_other_sources_are_exported_as_commands_of_msst(tmp_path, other_set):
    path, blend = other_set
    done = command("export", path, "--as", "msst", "--out", tmp_path / "blend.sh")
    assert done.returncode == 0, done.stderr
    lines = [shlex.split(line) for line in (tmp_path / "blend.sh").read_text().splitlines() if "ensemble.py" in line]
    found = {line[-1]: [float(number) for number in line[line.index("--weights") + 1 : -2]] for line in lines}
    assert found == {f"{source}.wav": pytest.approx(list(shares.values())) for source, shares in blend.items()}


def test_other_sources_are_exported_as_presets_of_audio_separator(tmp_path, other_set):
    path, blend = other_set
    options = ["--option", "models=a=one.ckpt,b=two.ckpt"]
    done = command("export", path, "--as", "audio-separator", "--out", tmp_path / "blend.json", *options)
    assert done.returncode == 0, done.stderr
    presets = json.loads((tmp_path / "blend.json").read_text())["presets"]
    found = {name: preset["weights"] for name, preset in presets.items()}
    assert found == {f"stemfuse_{source}": pytest.approx(list(shares.values())) for source, shares in blend.items()}


@pytest.mark.parametrize(
    ("program", "options", "out", "words"),
    [
        ("demucs", ["--option", "models=a=955717e8,b=f7e0c4bc"], "blend.yaml", "exactly the sources"),
        ("kuielab", [], "blend.ckpt", "drums"),
    ],
)
def test_programs_of_four_sources_refuse_others_in_one_line(tmp_path, other_set, program, options, out, words):
    path, _ = other_set
    done = command("export", path, "--as", program, "--out", tmp_path / out, *options)
    assert done.returncode == 1
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_unwritable_place_is_named(tmp_path):
    for export in (export_msst_commands, export_kuielab_mixer):
        with pytest.raises(WriteError, match="cannot be written"):
            export(MixingWeights.same_source({s: {"a": 1.0} for s in SOURCES}), tmp_path)


@pytest.mark.skipif(not NUMBERS.exists(), reason="needs the published mixer and its golden numbers")
def test_published_mixer_gives_its_golden_numbers():
    golden = np.load(NUMBERS)
    assert hashlib.sha256(CHECKPOINT.read_bytes()).hexdigest() == str(golden["weights_file_sha256"])
    noise = np.random.RandomState(int(golden["input_seed"])).standard_normal(golden["input_shape"])
    rows = noise.astype(np.float32) * np.float32(golden["input_scale"])
    order = ("bass", "drums", "other", "vocals")
    track = Track.from_arrays("noise", rows[4]).with_stems({"tfc_tdf": Stems(rows[:4], order)})
    output = apply_weights(import_kuielab_mixer(CHECKPOINT, "tfc_tdf"), track)
    assert output.sources == SOURCES
    limit = float(golden["tol_rel_max"] * golden["max_abs"])
    for source, expected in zip(order, golden["output"].reshape(4, 2, -1), strict=True):
        np.testing.assert_allclose(output[source].read(), expected, rtol=0, atol=limit)


@pytest.mark.skipif(not CHECKPOINT.exists(), reason="needs the published mixer")
def test_published_mixer_survives_the_way_out_and_back(tmp_path):
    weights = import_kuielab_mixer(CHECKPOINT, "tfc_tdf")
    export_kuielab_mixer(weights, tmp_path / "mixer.ckpt")
    again = import_kuielab_mixer(tmp_path / "mixer.ckpt", "tfc_tdf")
    assert (again.inputs, again.outputs) == (weights.inputs, weights.outputs)
    np.testing.assert_array_equal(again.matrix, weights.matrix)
    state, published = (
        torch.load(path, map_location="cpu", weights_only=True) for path in (tmp_path / "mixer.ckpt", CHECKPOINT)
    )
    assert list(state) == list(published)
    assert torch.equal(state["linear.weight"], published["linear.weight"])


def test_mixer_is_read_by_name_in_its_own_order(tmp_path):
    """Output drums.left from input vocals.right: row 2, column 7 in the checkpoint's order."""
    matrix = torch.zeros(8, 10)
    matrix[2, 7], matrix[7, 9] = 0.5, 0.25
    torch.save(
        {"state_dict": {"mixing_layer.weight": matrix, "separators.0.bias": torch.zeros(3)}}, tmp_path / "run.ckpt"
    )
    frame = import_kuielab_mixer(tmp_path / "run.ckpt", "net").to_frame()
    found = frame[frame["weight"] != 0].set_index(["output", "input"])["weight"].to_dict()
    assert found == {("drums.left", "net.vocals.right"): 0.5, ("vocals.right", "mixture.right"): 0.25}


def test_residual_rule_exports_to_the_mixer_and_back_into_a_fusion(tmp_path, mixture):
    blend = MixingWeights.same_source({source: {"a": 1.0, "idle": 0.0} for source in reversed(SOURCES)})
    weights = redistribute(blend, {"drums": (0.24, 0.15), "bass": 0.08})
    export_kuielab_mixer(weights, tmp_path / "mixer.ckpt")
    stems = np.random.default_rng(2).normal(0, 0.1, (4, 2, LENGTH)).astype(np.float32)
    track = Track.from_arrays("song", mixture, stems={"a": stems, "idle": stems})
    before = apply_weights(weights, track)
    after = Fixed(import_kuielab_mixer(tmp_path / "mixer.ckpt", "a")).fit([track]).fuse(track)
    for source in SOURCES:
        np.testing.assert_allclose(after[source].read(), before[source].read(), atol=1e-6)


def test_mixer_refuses_what_it_has_no_place_for(tmp_path):
    path = tmp_path / "mixer.ckpt"
    mono = MixingWeights.same_source({source: {"a": 1.0} for source in SOURCES}, channels=1)
    for weights, message in (
        (MixingWeights.same_source(BLEND), "blend of a, b for drums.left"),
        (MixingWeights.same_source({"bass": {"a": 1.0}}), "got a blend of a for bass.left, bass.right"),
        (mono, "for drums.mono"),
    ):
        with pytest.raises(FusionError, match=message):
            export_kuielab_mixer(weights, path)
    stereo = MixingWeights.same_source({source: {"a": 1.0} for source in SOURCES})
    piano = np.concatenate([stereo.matrix, np.ones((1, 8, 1))], axis=2)
    with pytest.raises(FusionError, match=r"got the input 'a\.piano\.left'"):
        export_kuielab_mixer(MixingWeights(piano, (*stereo.inputs, "a.piano.left"), stereo.outputs), path)
    assert not path.exists()


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


def test_what_is_no_mixer_is_named_and_nothing_in_it_run(tmp_path):
    trace = tmp_path / "trace"
    torch.save({"linear.weight": Attack(trace)}, tmp_path / "attack.ckpt")
    (tmp_path / "bare.ckpt").write_bytes(pickle.dumps(Attack(trace), protocol=2))
    (tmp_path / "text.ckpt").write_text("not found\n")
    (tmp_path / "empty.ckpt").write_bytes(b"")
    for name in ("attack", "bare", "text", "empty"):
        with pytest.raises(FusionError, match=rf"{name}\.ckpt: no checkpoint of tensors can be read"):
            import_kuielab_mixer(tmp_path / f"{name}.ckpt", "a")
    assert not trace.exists()
    with pytest.raises(FusionError, match=r"absent\.ckpt: no such file"):
        import_kuielab_mixer(tmp_path / "absent.ckpt", "a")
    contents = {
        "shape": ({"linear.weight": torch.zeros(8, 8)}, r"shape \(8, 10\), got \(8, 8\)"),
        "key": ({"weight": torch.zeros(8, 10)}, "got no such tensor"),
        "list": ([1, 2], "got no such tensor"),
        "nan": ({"linear.weight": torch.full((8, 10), torch.nan)}, "80 weights are NaN"),
    }
    for name, (content, message) in contents.items():
        torch.save(content, tmp_path / f"{name}.ckpt")
        with pytest.raises(FusionError, match=message):
            import_kuielab_mixer(tmp_path / f"{name}.ckpt", "a")


def test_checkpoints_without_torch_name_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(FusionError, match=r"pip install 'stemfuse\[torch\]'"):
        import_kuielab_mixer(tmp_path / "mixer.ckpt", "a")


def test_modules_load_nothing_heavy():
    heavy = "{'torch', 'yaml', 'demucs'}"
    code = f"import sys, stemfuse.blending.exchange.exports; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
