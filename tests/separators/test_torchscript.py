"""TorchScript files as separators: run only where they are trusted, and only when they are the ones that are meant."""

import hashlib
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from makers.audio import noise32
from makers.commands import command
from makers.graphs import write_description, write_recipe
from stemfuse.separators import MissingWeightsError, SeparatorError, StemStore, check_separator, load_separator, trust

RATE = 44_100
WAVEFORM = {"chunk": 1000, "input": "1 channel time"}
ONE = [{"axes": "1 channel time", "sources": ["vocals"]}]
TWO = [{"axes": "1 channel time", "sources": [source], "name": source} for source in ("drums", "vocals")]


class Quarter(torch.nn.Module):
    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        return 0.25 * audio


class Pair(torch.nn.Module):
    def forward(self, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return 0.25 * audio, 0.5 * audio


class Named(torch.nn.Module):
    def forward(self, audio: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"vocals": 0.5 * audio, "drums": 0.25 * audio}


class Failing(torch.nn.Module):
    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        return audio.reshape(7)


class Evil(torch.nn.Module):
    """Writes a file as soon as it is loaded."""

    def __init__(self):
        super().__init__()
        self.w = torch.zeros(2)
        self.training = True

    @torch.jit.export
    def __getstate__(self):
        return (self.w, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]):
        torch.save(state[0], "created")
        self.w = state[0]
        self.training = state[1]

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        return 0.25 * audio


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(folder, network=None, outputs=ONE, **more):
    """A file and its description; the options that name both."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(network or Quarter()), folder / "net.pt")
    Path("created").unlink(missing_ok=True)
    path = write_description(folder / "net.yaml", **{"file": "net.pt", "outputs": outputs, **WAVEFORM, **more})
    return {"description": str(path), "sha256": hashlib.sha256((folder / "net.pt").read_bytes()).hexdigest()}


def make(options):
    return trust(load_separator("torchscript", **options))


def test_a_trusted_file_is_run(tmp_path):
    mixture = noise32(2, 3_457)
    stems = make(write(tmp_path, rest="accompaniment")).separate(mixture, RATE)
    assert stems.sources == ("vocals", "accompaniment")
    np.testing.assert_allclose(stems.audio, np.stack([0.25 * mixture, 0.75 * mixture]), atol=1e-6)


@pytest.mark.parametrize("network", [Pair, Named])
def test_several_outputs_are_in_order_or_named(tmp_path, network):
    mixture = noise32(2, 1_500)
    stems = make(write(tmp_path, network(), TWO)).separate(mixture, RATE)
    np.testing.assert_allclose(stems.audio, np.stack([0.25 * mixture, 0.5 * mixture]), atol=1e-6)


def test_it_keeps_the_rules(tmp_path):
    check_separator(make(write(tmp_path)), seconds=0.1)


def test_without_trust_nothing_of_the_file_is_run(tmp_path):
    options = write(tmp_path, Evil())
    separator = load_separator("torchscript", **options)
    # all that needs no samples does without it
    assert (separator.sources, separator.rate, separator.channels) == (("vocals",), RATE, 2)
    assert len(separator.fingerprint()) == 64
    for run in (separator.load, lambda: separator.separate(noise32(2, 100), RATE)):
        with pytest.raises(SeparatorError, match=r"^torchscript: runs the program in .*net\.pt: add --trust"):
            run()
    assert not Path("created").exists()
    make(options).load()
    assert Path("created").exists()


def test_another_file_is_not_run(tmp_path):
    options = write(tmp_path)
    first = load_separator("torchscript", **options).fingerprint()
    write(tmp_path, Evil())
    separator = make(options)
    for run in (separator.fingerprint, separator.load, lambda: separator.separate(noise32(2, 100), RATE)):
        with pytest.raises(SeparatorError, match=rf"has the sha256 \w+, expected {options['sha256']} as given"):
            run()
    assert not Path("created").exists()
    assert load_separator("torchscript", **write(tmp_path, Evil())).fingerprint() != first


@pytest.mark.parametrize(
    ("network", "outputs", "words"),
    [
        (Failing, ONE, r"net.pt failed on an input of shape \[1, 2, 1000\] \(.*invalid for input"),
        (Quarter, TWO, "gave no 2 outputs as described"),
        (Named, [TWO[0], TWO[1] | {"name": "voice"}], "gave Tensor, NoneType, expected tensors; correct name"),
        (Quarter, [ONE[0] | {"axes": "1 (source channel) time", "sources": ["a", "b"]}], "got an output of shape"),
    ],
)
def test_networks_that_do_not_fit_their_description(tmp_path, network, outputs, words):
    with pytest.raises(SeparatorError, match=words) as caught:
        make(write(tmp_path, network(), outputs)).separate(noise32(2, 100), RATE)
    assert "\n" not in str(caught.value)


def test_files_that_are_missing_or_no_scripts(tmp_path):
    options = write(tmp_path)
    (tmp_path / "net.pt").write_bytes(b"nothing")
    changed = options | {"sha256": hashlib.sha256(b"nothing").hexdigest()}
    with pytest.raises(SeparatorError, match="cannot be loaded"):
        make(changed).separate(noise32(2, 100), RATE)
    (tmp_path / "net.pt").unlink()
    with pytest.raises(MissingWeightsError, match=r"net\.pt is missing"):
        make(options).fingerprint()
    with pytest.raises(SeparatorError, match="expected 64 hexadecimal digits"):
        make(options | {"sha256": "0123"})
    with pytest.raises(SeparatorError, match="argument 'sha256' is missing"):
        make({"description": options["description"]})


def test_a_run_that_does_not_trust_it(tmp_path):
    options = write(tmp_path, Evil(), rest="accompaniment")
    recipe = write_recipe(tmp_path, {"name": "torchscript", "label": "net", "options": options})
    refused = command("run", recipe)
    assert refused.returncode == 2
    assert "separator net (torchscript) runs a program, or code in a file: add --trust" in refused.stderr
    assert not Path("created").exists()
    assert not list((tmp_path / "store").rglob("*.wav"))


@pytest.mark.slow
def test_a_run_that_trusts_it(tmp_path):
    options = write(tmp_path, rest="accompaniment")
    recipe = write_recipe(tmp_path, {"name": "torchscript", "label": "net", "options": options, "trust": True})
    done = command("run", recipe)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "store").rglob("vocals.wav"))) == 1
    assert StemStore(tmp_path / "store").verify() == []
