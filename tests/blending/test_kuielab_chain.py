"""KUIELab's whole chain as a separator: four networks and the Mixer that was fitted on their stems."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from makers.commands import command
from makers.weights import make_tfc_tdf
from stemfuse.blending import Fixed, FusionError, MixingWeights, apply_weights, export_kuielab_mdx
from stemfuse.separators import SOURCES, ArraySignal, SeparatorError, Stems, Track, WriteError, load_separator
from stemfuse.separators.labels import input_labels, output_labels
from stemfuse.separators.weights.tensors import save_state

NETS = {"bass": "low", "drums": "kit", "other": "rest", "vocals": "voice"}
"""Labels of four networks by the source of each."""


@pytest.fixture
def chain(tmp_path):
    """Files of four small networks by label, a song with their stems, and how each has described itself."""
    models, described, stems = {}, {}, {}
    audio = np.random.default_rng(4).normal(0, 0.1, (4, 2, 20_000)).astype(np.float32)
    for seed, (source, label) in enumerate(NETS.items()):
        torch.manual_seed(seed)
        models[label] = str(tmp_path / f"{label}.safetensors")
        notes = {"source": source, "n_fft": 256, "hop": 64, "frames": 16, "trained_on": [f"songs of {source}"]}
        save_state(make_tfc_tdf(), Path(models[label]), **notes)
        network = load_separator("tfc_tdf_v2", weights=models[label], source=source)
        described[label] = network.describe()
        stems[label] = network.separate(audio.sum(0), 44_100)
    return models, described, Track("song", ArraySignal(audio.sum(0)), references=Stems(audio), stems=stems)


def any_mixer(track):
    inputs, outputs = input_labels(track), output_labels()
    return MixingWeights(np.random.default_rng(5).normal(0, 1, (1, 8, len(inputs))).astype(np.float32), inputs, outputs)


def test_the_chain_is_the_fusion_of_its_networks_stems(chain, tmp_path):
    models, described, track = chain
    weights = any_mixer(track)
    export_kuielab_mdx(weights, tmp_path / "chain", models, described=described)
    separator = load_separator("kuielab_mdx", weights=tmp_path / "chain")
    made, fused = separator.separate(track.mixture.read(), 44_100), apply_weights(weights, track)
    for source in SOURCES:
        assert np.allclose(made[source].read(), fused[source].read(), atol=1e-5), source
        assert np.abs(made[source].read()).max() > 0.1
    assert separator.trained_on == tuple(f"songs of {source}" for source in NETS)
    alone = MixingWeights(weights.matrix[:, :, 2:], weights.inputs[2:], weights.outputs)
    export_kuielab_mdx(alone, tmp_path / "alone", models, ["my songs"])
    assert "my songs" in load_separator("kuielab_mdx", weights=tmp_path / "alone").trained_on
    with pytest.raises(WriteError, match="cannot be written"):
        export_kuielab_mdx(alone, tmp_path / "alone", models)


def test_the_chain_is_the_saved_fusion_as_a_separator(chain, tmp_path):
    models, described, track = chain
    fusion = Fixed(any_mixer(track)).fit([track])
    fusion.blend.save(tmp_path / "mixer.npz")
    export_kuielab_mdx(fusion.weights_, tmp_path / "chain", models, described=described)
    # where files of one's own lie is said: descriptions know their content alone
    named = {
        label: {"name": "tfc_tdf_v2", "options": {"weights": models[label], "source": source}}
        for source, label in NETS.items()
    }
    whole = load_separator(str(tmp_path / "mixer.npz"), separators=named)
    given = track.mixture.read()
    chained = load_separator("kuielab_mdx", weights=tmp_path / "chain").separate(given, 44_100)
    np.testing.assert_allclose(whole.separate(given, 44_100).audio, chained.audio, atol=1e-5)


def test_the_chain_refuses_inputs_that_do_not_fit(chain, tmp_path):
    *_, track = chain
    weights, place = any_mixer(track), tmp_path / "chain"
    one = MixingWeights.same_source({source: {"a": 1.0} for source in SOURCES})
    three = replace(track, stems={label: track.stems[label] for label in ("low", "kit", "rest")})
    twice = replace(track, stems={**track.stems, "other bass": track.stems["low"]})
    speech = ("speech.left", "speech.right")
    for given, message in (
        (one, r"got bass, drums, other, vocals by a; KUIELab's chain has four networks, one each for bass"),
        (any_mixer(three), "got bass by low; drums by kit; other by rest; KUIELab's chain has four networks"),
        (any_mixer(twice), "bass by other bass; KUIELab's chain has four networks"),
        (MixingWeights(weights.matrix[:, :2], weights.inputs, speech), "for speech.left, speech.right; KUIELab's"),
    ):
        with pytest.raises(FusionError, match=message) as caught:
            export_kuielab_mdx(given, place, {})
        assert "\n" not in str(caught.value)
    assert not place.exists()


def test_the_chain_refuses_networks_that_the_fusion_was_not_fitted_with(chain, tmp_path):
    models, described, track = chain
    weights, place = any_mixer(track), tmp_path / "chain"
    low = described["low"]

    def refused(message, models=models, error=FusionError, **changed):
        with pytest.raises(error, match=message) as caught:
            export_kuielab_mdx(weights, place, models, described=described | {"low": low | changed})
        assert "\n" not in str(caught.value)

    refused("no file is named for voice, the network of vocals", {k: v for k, v in models.items() if k != "voice"})
    refused(
        r"kit: .*rest.safetensors has sha256 \w{8}, the fusion was fitted with kit", models | {"kit": models["rest"]}
    )
    refused("missing", models | {"kit": str(tmp_path / "none.onnx")}, SeparatorError)
    refused(r"low.safetensors has sha256 \w{8}, the fusion was fitted with a.onnx \(0123", weights={"a.onnx": "0123"})
    refused("the stems of low are by demucs_v2; KUIELab's chain runs networks of tfc_tdf_v2", name="demucs_v2")
    refused("separated with frames=32, its file is for 16: separate again", options={"frames": 32})
    with pytest.raises(FusionError, match=r"kit: .*rest.safetensors was trained for other, its stems are of drums"):
        export_kuielab_mdx(weights, place, models | {"kit": models["rest"]})
    assert not place.exists()


def test_the_chain_is_exported_by_the_command_and_an_old_folder_is_kept(chain, tmp_path):
    models, described, track = chain
    fusion = Fixed(any_mixer(track)).fit([track])
    fusion.separators_ = described
    fusion.save(tmp_path / "mixer.npz")
    place = tmp_path / "chain"
    named = ["--option", "models=" + ",".join(f"{label}={file}" for label, file in models.items())]
    export = ["export", tmp_path / "mixer.npz", "--as", "kuielab_mdx", "--out", place]
    refused = command(*export)
    assert refused.returncode == 2
    assert "say which file each network is: --option models=low=FILE" in refused.stderr
    for _ in range(2):
        done = command(*export, *named)
        assert (done.returncode, done.stdout.strip()) == (0, str(place)), done.stderr
    names = sorted(["mixer.safetensors", *(f"{source}.safetensors" for source in SOURCES)])
    assert sorted(file.name for file in place.iterdir()) == names
    assert not (tmp_path / "chain.1").exists(), "nothing has changed"
    (place / "notes.txt").write_text("mine")
    assert "kept as chain.1" in command(*export, *named, "--replace").stderr
    assert sorted(file.name for file in place.iterdir()) == names
    assert (tmp_path / "chain.1/notes.txt").read_text() == "mine"
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]
