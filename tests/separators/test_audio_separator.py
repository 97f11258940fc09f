"""The package audio-separator, with small MDX networks that are made here: its own models are not downloaded."""

import hashlib
import json
import logging
import os
import warnings

import numpy as np
import pytest

from makers.audio import noise32
from makers.commands import command
from makers.graphs import write_graph, write_recipe
from stemfuse.separators import MissingWeightsError, SeparatorError, StemStore, check_separator, load_separator

pytest.importorskip("audio_separator", reason="needs the package audio-separator")

RATE = 44_100
EMPTY = ("vr", "mdx", "mdx_vip", "demucs", "mdx23c", "mdx23c_vip", "roformer")
MODEL = "tiny.onnx"


@pytest.fixture(autouse=True)
def nothing_from_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("STEMFUSE_WEIGHTS", str(tmp_path / "own"))
    monkeypatch.delenv("AUDIO_SEPARATOR_MODEL_DIR", raising=False)
    # nobody answers there
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


def write_models(folder, gain=0.25, primary="Vocals", **lists):
    """A folder as the package fills it, with an MDX network that gives a part of its input."""
    folder.mkdir(parents=True, exist_ok=True)
    write_graph(folder / MODEL, [1, 4, 1024, 256], gains=(gain,))
    known = {f"{name}_download_list".replace("_vip_download", "_download_vip"): {} for name in EMPTY}
    known["mdx_download_list"] = {"MDX-Net Model: Tiny": MODEL}
    (folder / "download_checks.json").write_text(json.dumps(known | lists))
    sizes = {"compensate": 1.0, "mdx_dim_f_set": 1024, "mdx_dim_t_set": 8, "mdx_n_fft_scale_set": 2048}
    key = hashlib.md5((folder / MODEL).read_bytes()).hexdigest()
    (folder / "mdx_model_data.json").write_text(json.dumps({key: sizes | {"primary_stem": primary}}))
    (folder / "vr_model_data.json").write_text("{}")
    return folder


def make(folder, model=MODEL, **options):
    return load_separator("audio_separator", model=model, folder=folder, **options)


def tones(peak, length=50_000):
    """Two channels well above the three bins that the package leaves out."""
    time = np.arange(length) / RATE
    audio = np.stack([np.sin(2 * np.pi * 1_000 * time), 0.5 * np.sin(2 * np.pi * 3_000 * time)])
    return (peak / np.abs(audio).max() * audio).astype(np.float32)


@pytest.mark.parametrize("peak", [0.01, 0.5, 1.0, 3.0])
def test_stems_have_the_mixtures_level_whatever_its_peak(tmp_path, peak):
    mixture = tones(peak)
    stems = make(write_models(tmp_path)).separate(mixture, RATE)
    assert stems.sources == ("vocals", "accompaniment")
    inner = slice(2_000, -2_000)
    np.testing.assert_allclose(stems["vocals"].read()[:, inner], 0.25 * mixture[:, inner], atol=1e-3 * peak)
    # finer than 16 bits
    np.testing.assert_allclose(stems.audio.sum(0), mixture, atol=1e-6 * peak)


def test_loud_stems_are_not_scaled_by_their_own_peaks(tmp_path):
    mixture = tones(1.0)
    stems = make(write_models(tmp_path, gain=3.0)).separate(mixture, RATE)
    assert np.abs(stems["vocals"].read()).max() == pytest.approx(3.0, rel=0.05)


def test_stems_are_named_and_left_out(tmp_path):
    folder = write_models(tmp_path, primary="Drums")
    assert make(folder).sources == ("drums", "no drums")
    only = make(folder, stems={"Drums": "drums"})
    assert only.sources == ("drums",)
    assert only.separate(tones(0.5), RATE).sources == ("drums",)
    with pytest.raises(SeparatorError, match=r"got stem 'Drumz' \(did you mean 'Drums'\?\), tiny.onnx gives Drums"):
        make(folder, stems={"Drumz": "drums"}).separate(tones(0.5), RATE)
    with pytest.raises(SeparatorError, match="expected different sources"):
        make(folder, stems={"Drums": "drums", "No Drums": "drums"})


def test_the_long_name_is_the_same_model(tmp_path):
    folder = write_models(tmp_path)
    assert make(folder, "MDX-Net Model: Tiny").fingerprint() == make(folder).fingerprint()


def test_identity_is_the_content_of_files_parameters_and_options(tmp_path):
    first = make(write_models(tmp_path / "a"))
    assert make(write_models(tmp_path / "b")).fingerprint() == first.fingerprint()
    assert first.weights_sha256() == {MODEL: hashlib.sha256((tmp_path / "a" / MODEL).read_bytes()).hexdigest()}
    found = {first.fingerprint(), make(write_models(tmp_path / "c", gain=0.5)).fingerprint()}
    found.add(make(write_models(tmp_path / "d", primary="Drums")).fingerprint())
    found.add(make(tmp_path / "a", parameters={"overlap": 0.5}).fingerprint())
    assert len(found) == 4
    assert first.describe()["package"].startswith("audio-separator 0.")


def test_identity_loads_no_model(tmp_path):
    import subprocess
    import sys

    folder = write_models(tmp_path)
    code = (
        "import sys; from stemfuse.separators import load_separator; "
        f"load_separator('audio_separator', model={MODEL!r}, folder={str(folder)!r}).fingerprint(); "
        "assert not {'torch', 'onnxruntime', 'audio_separator.separator'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_it_keeps_the_rules(tmp_path):
    check_separator(make(write_models(tmp_path)), seconds=0.3)


def test_it_is_quiet_and_leaves_warnings_and_files_as_they_are(tmp_path, capfd, caplog):
    folder = write_models(tmp_path)
    before = sorted(path.name for path in folder.rglob("*"))
    filters = list(warnings.filters)
    with caplog.at_level(logging.INFO):
        make(folder).separate(tones(0.5), RATE)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert warnings.filters == filters
    assert sorted(path.name for path in folder.rglob("*")) == before
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


@pytest.mark.parametrize("missing", ["download_checks.json", "mdx_model_data.json", MODEL])
def test_the_network_is_not_touched(tmp_path, missing):
    folder = write_models(tmp_path)
    (folder / missing).unlink()
    with pytest.raises(MissingWeightsError, match=f"{missing} is missing.*download=true") as caught:
        make(folder).fingerprint()
    assert "\n" not in str(caught.value)
    with pytest.raises(SeparatorError, match=r"cannot be fetched from https://.*Max retries"):
        make(folder, download=True).fingerprint()
    assert not list(folder.glob(".writing-*"))


def test_unknown_models_parameters_and_files(tmp_path):
    folder = write_models(tmp_path)
    with pytest.raises(SeparatorError, match=r"model 'tinny.onnx' is unknown \(did you mean 'tiny.onnx'\?\)"):
        make(folder, "tinny.onnx").fingerprint()
    with pytest.raises(SeparatorError, match=r"'overlapp' is unknown \(did you mean 'overlap'\?\), mdx_params are"):
        make(folder, parameters={"overlapp": 1}).separate(tones(0.5), RATE)
    (folder / MODEL).write_bytes(b"nothing")
    with pytest.raises(SeparatorError, match="no parameters are known for this file"):
        make(folder).fingerprint()


def test_models_that_would_run_code_are_refused(tmp_path):
    folder = write_models(
        tmp_path, demucs_download_list={"Demucs v4: tiny": {"tiny.th": "https://a/tiny.th", "tiny.yaml": "x"}}
    )
    with pytest.raises(SeparatorError, match=r"use the separator demucs .*model=tiny"):
        make(folder, "tiny.yaml").fingerprint()


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


def test_checkpoints_run_nothing(tmp_path, monkeypatch):
    import pickle

    import torch

    monkeypatch.chdir(tmp_path)
    lists = {"mdx23c_download_list": {"MDX23C Model: Evil": {"evil.ckpt": "evil.yaml"}}}
    folder = write_models(tmp_path / "models", **lists)
    torch.save({"state": Evil()}, folder / "evil.ckpt", pickle_module=pickle)
    (folder / "evil.yaml").write_text(EVIL_SETTINGS)
    separator = make(folder, "evil.ckpt")
    assert separator.sources == ("other", "vocals")
    with pytest.raises(SeparatorError, match=r"(?i)weights.only"):
        separator.separate(tones(0.5), RATE)
    assert not (tmp_path / "evil").exists()


EVIL_SETTINGS = """
audio: {chunk_size: 8192, dim_f: 32, dim_t: 8, hop_length: 256, n_fft: 512, num_channels: 2, sample_rate: 44100}
model: {act: gelu, bottleneck_factor: 4, growth: 4, norm: InstanceNorm, num_blocks_per_scale: 1, num_channels: 4,
  num_scales: 1, num_subbands: 1, scale: !!python/tuple [2, 2]}
training: {instruments: [Vocals, Other], target_instrument: null}
inference: {batch_size: 1, dim_t: 8, num_overlap: 2}
"""


MDX23C = """
audio: {chunk_size: 8192, dim_f: 128, dim_t: 32, hop_length: 256, n_fft: 512, num_channels: 2, sample_rate: 44100}
model: {act: gelu, bottleneck_factor: 4, growth: 4, norm: InstanceNorm, num_blocks_per_scale: 1, num_channels: 4,
  num_scales: 2, num_subbands: 1, scale: !!python/tuple [2, 2]}
training: {instruments: [Vocals, Other, Drums], target_instrument: null}
inference: {batch_size: 1, dim_t: 32, num_overlap: 2}
"""
ROFORMER = """
audio: {chunk_size: 8192, dim_f: 65, dim_t: 256, hop_length: 32, n_fft: 128, num_channels: 2, sample_rate: 44100}
model: {dim: 8, depth: 1, stereo: true, num_stems: 1, time_transformer_depth: 1, freq_transformer_depth: 1, dim_head: 8,
  heads: 1, freqs_per_bands: !!python/tuple [20, 20, 25], stft_n_fft: 128, stft_hop_length: 32, stft_win_length: 128,
  stft_normalized: false, mask_estimator_depth: 1, flash_attn: false}
training: {instruments: [vocals, other], target_instrument: vocals}
inference: {batch_size: 1, dim_t: 256, num_overlap: 2}
"""


def settings(text):
    import yaml

    return yaml.safe_load(text.replace("!!python/tuple", ""))


def write_network(folder, family):
    """A small random network of the package's own classes in a folder as the package fills it; its file's name."""
    import torch

    torch.manual_seed(0)
    if family == "MDX23C":
        from audio_separator.separator.uvr_lib_v5.tfc_tdf_v3 import TFC_TDF_net
        from ml_collections import ConfigDict

        network, name = TFC_TDF_net(ConfigDict(settings(MDX23C)), device="cpu"), "tiny.ckpt"
        write_models(folder, mdx23c_download_list={"MDX23C Model: Tiny": {name: "tiny.yaml"}})
        (folder / "tiny.yaml").write_text(MDX23C)
    elif family == "Roformer":
        from audio_separator.separator.uvr_lib_v5.roformer.bs_roformer import BSRoformer

        sizes = settings(ROFORMER)["model"]
        network = BSRoformer(**sizes | {"freqs_per_bands": tuple(sizes["freqs_per_bands"])})
        name = "roformer.ckpt"
        write_models(folder, roformer_download_list={"Roformer Model: Tiny": {name: "roformer.yaml"}})
        (folder / "roformer.yaml").write_text(ROFORMER)
    else:
        from audio_separator.separator.uvr_lib_v5.vr_network import nets_new

        network, name = nets_new.CascadedNet(1344, 56817, nout=4, nout_lstm=8), "tiny.pth"
        write_models(folder, vr_download_list={"VR Arch Single Model v5: Tiny": name})
    torch.save(network.state_dict(), folder / name)
    if family == "VR":
        key = hashlib.md5((folder / name).read_bytes()[-10_240_000:]).hexdigest()
        known = {"vr_model_param": "4band_v3", "primary_stem": "Vocals", "nout": 4, "nout_lstm": 8}
        (folder / "vr_model_data.json").write_text(json.dumps({key: known}))
    return name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "sources"),
    [
        ("MDX23C", ("drums", "other", "vocals")),
        ("Roformer", ("other", "vocals")),
        ("VR", ("vocals", "accompaniment")),
    ],
)
def test_the_other_families_keep_levels_too(tmp_path, family, sources):
    model = write_network(tmp_path, family)
    mixture = noise32(2, 70_000)
    separator = make(tmp_path, model)
    stems = separator.separate(mixture, RATE)
    assert stems.sources == sources == separator.sources
    for gain in (0.01, 20.0):
        scaled = separator.separate(np.float32(gain) * mixture, RATE)
        peak = gain * np.abs(stems.audio).max()
        np.testing.assert_allclose(scaled.audio, gain * stems.audio, atol=1e-4 * peak)
    if family == "Roformer":
        np.testing.assert_allclose(stems.audio.sum(0), mixture, atol=1e-5)


@pytest.mark.slow
def test_a_checkpoint_of_another_network_is_said_in_a_line(tmp_path):
    model = write_network(tmp_path, "MDX23C")
    (tmp_path / "tiny.yaml").write_text(MDX23C.replace("growth: 4", "growth: 8"))
    with pytest.raises(SeparatorError, match=r"loading tiny.ckpt failed: .*size mismatch") as caught:
        make(tmp_path, model).separate(noise32(2, 7_000), RATE)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_run_by_the_package(tmp_path):
    folder = write_models(tmp_path / "models")
    options = {"model": MODEL, "folder": str(folder)}
    recipe = write_recipe(tmp_path, {"name": "audio_separator", "label": "tiny", "options": options})
    done = command("run", recipe)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "store").rglob("vocals.wav"))) == 1
    assert StemStore(tmp_path / "store").verify() == []
