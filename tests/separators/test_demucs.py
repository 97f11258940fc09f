"""The Demucs adapter, on small random networks of the package's classes, saved in the package's own format."""

import json
import os
import pickle
import random
import subprocess
import sys
import zipfile
from collections import OrderedDict
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from demucs.api import Separator as PackageSeparator
from demucs.demucs import Demucs as TimeDemucs
from demucs.hdemucs import HDemucs
from demucs.htdemucs import HTDemucs
from demucs.states import get_state, save_with_checksum
from safetensors.torch import save_file

from stemfuse.separators import MissingWeightsError, SeparatorError, demucs_files, load_separator
from stemfuse.separators.demucs import TRAINED_ON, Demucs

ORDER = ["vocals", "drums", "other", "bass"]
LENGTH = 30_011
MAKE = {
    "demucs": lambda sources=ORDER, **more: TimeDemucs(
        sources, channels=4, depth=2, dconv_mode=0, norm_starts=9, segment=0.3, **more
    ),
    "hdemucs": lambda sources=ORDER, **more: HDemucs(sources, channels=8, segment=0.5, **more),
    "htdemucs": lambda sources=ORDER, **more: HTDemucs(
        sources, channels=8, growth=1, dconv_comp=4, bottom_channels=16, t_layers=1, segment=Fraction(2, 5), **more
    ),
}
DAILY = ["demucs", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("hdemucs", "htdemucs"))]


@pytest.fixture(autouse=True)
def nothing_from_this_machine(monkeypatch, tmp_path):
    for name in ("XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "caches" / name))
    monkeypatch.setenv("STEMFUSE_WEIGHTS", str(tmp_path / "own"))


@pytest.fixture(scope="module")
def mixture():
    """Noise that swells, with an offset, its channels half alike: 0.7 s."""
    noise = np.random.default_rng(0).standard_normal((3, LENGTH))
    swell = np.linspace(0, 0.3, LENGTH)
    return (0.02 + swell * (noise[:2] + noise[2])).astype(np.float32)


def make(kind="demucs", seed=0, **more):
    torch.manual_seed(seed)
    return MAKE[kind](**more)


def package_of(network, **more):
    arguments, options = network._init_args_kwargs
    return {
        "klass": type(network),
        "args": arguments,
        "kwargs": options,
        "state": get_state(network, None, half=True),
        "training_args": {"epochs": 360},
        **more,
    }


def save(folder, signature, package):
    """Save in the package's own way; returns the file, whose name the package has completed by the checksum."""
    folder.mkdir(parents=True, exist_ok=True)
    save_with_checksum(package if isinstance(package, dict) else package_of(package), folder / f"{signature}.th")
    (path,) = folder.glob(f"{signature}-*.th")
    return path


def save_safetensors(path, network, **metadata):
    """Save as the authors' export for Hugging Face does."""
    arguments, options = network._init_args_kwargs
    described = {
        "klass": f"{type(network).__module__}.{type(network).__qualname__}",
        "args": json.dumps(arguments),
        "kwargs": json.dumps(
            options,
            default=lambda part: {"_type": "fraction", "numerator": part.numerator, "denominator": part.denominator},
        ),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(get_state(network, None, half=True), path, metadata=described | metadata)


def rename_in_pickle(source, target, *renamings):
    """Copy a package file, with other global names in its pickle, under a name without checksum."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            for before, after in renamings if name.endswith("data.pkl") else ():
                assert before in content
                content = content.replace(before, after)
            new.writestr(name, content)


def by_package(folder, model, mixture, **options):
    """Stems by name as the package's own interface gives them, standardisation included."""
    settings = {"device": "cpu", "shifts": 0, "overlap": 0.25, **options}
    _, stems = PackageSeparator(model, repo=folder, **settings).separate_tensor(torch.from_numpy(mixture.copy()))
    return {name: stem.numpy() for name, stem in stems.items()}


@pytest.mark.parametrize("kind", MAKE)
def test_stems_are_the_packages_own_matched_by_name(tmp_path, mixture, kind):
    save(tmp_path, "ab12", make(kind))
    expected = by_package(tmp_path, "ab12", mixture)
    stems = load_separator("demucs", model="ab12", repo=tmp_path).separate(mixture, 44_100)
    assert stems.sources == ("drums", "bass", "other", "vocals")
    assert stems.length == LENGTH
    for source in stems.sources:
        np.testing.assert_array_equal(stems[source].read(), expected[source])
    assert len({expected[source].tobytes() for source in expected}) == 4


@pytest.mark.slow
def test_bag_is_the_weighted_sum_of_its_networks_for_each_source(tmp_path, mixture):
    save(tmp_path, "ab12", make("demucs"))
    save(tmp_path, "cd34", make("hdemucs"))
    weights = [[1.0, 3.0, 0.0, 0.5], [2.0, 1.0, 1.0, 0.5]]
    (tmp_path / "pair.yaml").write_text(yaml.safe_dump({"models": ["ab12", "cd34"], "weights": weights}))
    first, second = (Demucs(model=name, repo=tmp_path).separate(mixture, 44_100) for name in ("ab12", "cd34"))
    stems = Demucs(model="pair", repo=tmp_path).separate(mixture, 44_100)
    for source, one, two in zip(ORDER, *weights, strict=True):
        expected = (one * first[source].read() + two * second[source].read()) / (one + two)
        np.testing.assert_allclose(stems[source].read(), expected, atol=1e-6)
        np.testing.assert_allclose(stems[source].read(), by_package(tmp_path, "pair", mixture)[source], atol=1e-7)


def test_bag_file_anywhere_finds_networks_beside_it_and_in_repo(tmp_path, mixture):
    save(tmp_path / "a", "ab12", make("demucs"))
    save(tmp_path / "b", "cd34", make("demucs", seed=1))
    (tmp_path / "a" / "pair.yaml").write_text("models: [ab12, cd34]\nsegment: 0.2\n")
    bag = Demucs(model=tmp_path / "a" / "pair.yaml", repo=tmp_path / "b")
    assert [name[:4] for name in bag.weights_sha256()] == ["ab12", "cd34"]
    (tmp_path / "c").mkdir()
    for path in (*tmp_path.glob("[ab]/*.th"), tmp_path / "a" / "pair.yaml"):
        (tmp_path / "c" / path.name).write_bytes(path.read_bytes())
    together = Demucs(model="pair", repo=tmp_path / "c")
    assert together.fingerprint() == bag.fingerprint()
    np.testing.assert_array_equal(
        bag.separate(mixture, 44_100)["bass"].read(), by_package(tmp_path / "c", "pair", mixture)["bass"]
    )


def test_packaged_bag_needs_only_the_files_of_its_networks(tmp_path, mixture):
    for seed, signature in enumerate(("0d19c1c6", "7ecf8ec1", "c511e2ab", "7d865c68")):
        save(tmp_path, signature, make(seed=seed, sources=["drums", "bass", "other", "vocals"]))
    stems = Demucs(model="mdx", repo=tmp_path).separate(mixture, 44_100)
    (tmp_path / "mdx.yaml").write_bytes((demucs_files.shipped_folder() / "mdx.yaml").read_bytes())
    for source, expected in by_package(tmp_path, "mdx", mixture).items():
        np.testing.assert_array_equal(stems[source].read(), expected)


def test_other_networks_under_published_names_are_refused(tmp_path, mixture):
    save(tmp_path, "955717e8", make())
    with pytest.raises(SeparatorError, match=r"955717e8-\w{8}\.th give .*vocals.* expected .*as published"):
        Demucs(repo=tmp_path).separate(mixture, 44_100)


@pytest.mark.parametrize("kind", ["demucs", "htdemucs"])
@pytest.mark.slow
def test_shifts_are_seeded_and_leave_pythons_generator_alone(tmp_path, mixture, kind):
    save(tmp_path, "ab12", make(kind))
    random.seed(5)
    state = random.getstate()
    stems = [
        Demucs(model="ab12", repo=tmp_path, shifts=2, seed=seed).separate(mixture, 44_100).audio for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(stems[0], stems[1])
    assert np.abs(stems[0] - stems[2]).max() > 1e-6
    still = Demucs(model="ab12", repo=tmp_path)
    np.testing.assert_array_equal(still.separate(mixture, 44_100).audio, still.separate(mixture, 44_100).audio)
    assert random.getstate() == state
    random.seed(0)
    expected = by_package(tmp_path, "ab12", mixture, shifts=2)
    np.testing.assert_array_equal(stems[0][3], expected["vocals"])


def test_jobs_change_nothing(tmp_path, mixture):
    save(tmp_path, "ab12", make())
    one, two = (Demucs(model="ab12", repo=tmp_path, jobs=jobs) for jobs in (0, 2))
    np.testing.assert_array_equal(one.separate(mixture, 44_100).audio, two.separate(mixture, 44_100).audio)
    assert one.fingerprint() == two.fingerprint()


@pytest.mark.parametrize("kind", DAILY)
def test_any_input_gives_finite_stems_of_its_length(tmp_path, mixture, kind):
    save(tmp_path, "ab12", make(kind))
    separator = Demucs(model="ab12", repo=tmp_path)
    loud = 30 * mixture
    # one sample more than the pieces' stride leaves a last piece of one sample
    last = {"demucs": 9_923, "hdemucs": 16_538, "htdemucs": 13_231}[kind]
    inputs = [loud[:, :1], loud[:, :2], mixture[:, :1000], loud[:, :last], np.zeros((2, 1001)), np.full((2, 999), 0.5)]
    opposed = mixture[:, :1500] * np.array([[1], [0]])
    for audio in (*inputs, opposed - opposed[::-1]):
        stems = separator.separate(audio, 44_100).audio
        assert stems.shape == (4, *audio.shape)
        assert np.isfinite(stems).all()
    assert not separator.separate(np.zeros((2, 1001)), 44_100).audio.max() > 1e-6


def test_caller_keeps_its_samples(tmp_path, mixture):
    save(tmp_path, "ab12", make())
    kept = mixture.copy()
    kept.setflags(write=False)
    Demucs(model="ab12", repo=tmp_path).separate(kept, 44_100)
    np.testing.assert_array_equal(kept, mixture)


def test_other_sources_are_added_where_the_user_says(tmp_path, mixture):
    six = ["drums", "bass", "other", "vocals", "guitar", "piano"]
    save(tmp_path, "ab12", make(sources=six))
    with pytest.raises(SeparatorError, match=r"gives guitar, .* --option extra=other"):
        Demucs(model="ab12", repo=tmp_path).separate(mixture, 44_100)
    expected = by_package(tmp_path, "ab12", mixture)
    stems = Demucs(model="ab12", repo=tmp_path, extra="other").separate(mixture, 44_100)
    total = expected["other"] + expected["guitar"] + expected["piano"]
    np.testing.assert_allclose(stems["other"].read(), total, atol=1e-7)
    np.testing.assert_array_equal(stems["bass"].read(), expected["bass"])
    with pytest.raises(SeparatorError, match="guitar"):
        _ = Demucs(model="htdemucs_6s").sources
    assert Demucs(model="htdemucs_6s", extra="other").sources == ("drums", "bass", "other", "vocals")


def test_a_model_of_fewer_sources_gives_fewer(tmp_path, mixture):
    save(tmp_path, "ab12", make(sources=["vocals", "drums"], samplerate=22_050))
    separator = Demucs(model="ab12", repo=tmp_path)
    assert (separator.sources, separator.rate) == (("drums", "vocals"), 22_050)
    stems = separator.separate(mixture, 22_050)
    assert (stems.sources, stems.rate) == (("drums", "vocals"), 22_050)
    np.testing.assert_array_equal(stems["drums"].read(), by_package(tmp_path, "ab12", mixture)["drums"])


def test_segment_and_overlap_are_passed_on_and_limited_by_the_transformer(tmp_path, mixture):
    save(tmp_path, "ab12", make("htdemucs"))
    options = {"segment": 0.3, "overlap": 0.4}
    shorter = Demucs(model="ab12", repo=tmp_path, **options).separate(mixture, 44_100)
    np.testing.assert_array_equal(shorter["bass"].read(), by_package(tmp_path, "ab12", mixture, **options)["bass"])
    with pytest.raises(SeparatorError, match=r"got segment=7, ab12 takes at most 0\.4 seconds"):
        Demucs(model="ab12", repo=tmp_path, segment=7).separate(mixture, 44_100)


@pytest.mark.parametrize("kind", DAILY)
def test_safetensors_give_the_same_stems(tmp_path, mixture, kind):
    save(tmp_path / "th", "ab12", make(kind))
    save_safetensors(tmp_path / "hf" / "ab12.safetensors", make(kind))
    one, two = (Demucs(model="ab12", repo=tmp_path / folder) for folder in ("th", "hf"))
    np.testing.assert_array_equal(one.separate(mixture, 44_100).audio, two.separate(mixture, 44_100).audio)


def test_names_that_published_files_use_are_understood(tmp_path, mixture):
    scores = {"nsdr": np.float64(7.68), "epoch": np.int64(360), "loss": np.float32(0.1)}
    path = save(tmp_path / "new", "ab12", package_of(make("hdemucs"), metrics=scores))
    (tmp_path / "old").mkdir()
    rename_in_pickle(
        path,
        tmp_path / "old" / "ab12.th",
        (b"demucs.hdemucs\nHDemucs", b"demucs.wdemucs\nWDemucs"),
        (b"numpy._core.multiarray", b"numpy.core.multiarray"),
    )
    new, old = (Demucs(model="ab12", repo=tmp_path / folder).separate(mixture, 44_100) for folder in ("new", "old"))
    np.testing.assert_array_equal(new.audio, old.audio)


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


def test_code_in_a_file_is_refused_and_not_run(tmp_path, mixture):
    trace = tmp_path / "trace"
    save(tmp_path, "ab12", package_of(make(), training_args=Attack(trace)))
    (tmp_path / "bare.th").write_bytes(pickle.dumps({"klass": Attack(trace)}, protocol=2))
    command = json.dumps([f"touch '{trace}'"])
    save_safetensors(tmp_path / "cd34.safetensors", make(), klass="os.system", args=command, kwargs="{}")
    nested = json.dumps({"_dict": [["x", {"_class": "antigravity.geohash"}]]})
    save_safetensors(tmp_path / "ef56.safetensors", make(), structure=nested)
    names = {"ab12": r"system", "bare": "system", "cd34": r"os\.system", "ef56": r"antigravity\.geohash"}
    for signature, name in names.items():
        separator = Demucs(model=signature, repo=tmp_path)
        with pytest.raises(SeparatorError, match=rf"asks for \S*{name}, .* not loaded"):
            separator.separate(mixture, 44_100)
    assert not trace.exists()
    assert "antigravity" not in sys.modules
    assert os.system(f"touch '{trace}'") == 0
    assert trace.exists()


def test_what_is_no_package_is_named(tmp_path, mixture):
    save(tmp_path, "raw", dict(make().state_dict()))
    save(tmp_path, "other", OrderedDict(klass=Fraction, args=(1, 2), kwargs={}, state={}))
    (tmp_path / "text.th").write_text("not found\n")
    (tmp_path / "text2.safetensors").write_text("not found\n")
    whole = save(tmp_path, "whole", make())
    (tmp_path / "half.th").write_bytes(whole.read_bytes()[:-5000])
    wrong = package_of(make())
    wrong["kwargs"] = {**wrong["kwargs"], "channels": 8}
    save(tmp_path, "wrong", wrong)
    # the package would leave Python here, for it takes this for a quantised file and has no diffq
    save(tmp_path, "sly", package_of(make(), state={"__quantized": True}))
    for signature in ("raw", "other", "text", "text2", "half", "wrong", "sly"):
        with pytest.raises(
            SeparatorError, match=rf"{signature}[-\w]*\.(th|safetensors): no (package|network) of (the )?demucs"
        ):
            Demucs(model=signature, repo=tmp_path).separate(mixture, 44_100)


@pytest.mark.skipif(find_spec("diffq") is not None, reason="quantised weights work where diffq is installed")
def test_quantised_weights_name_the_package_they_need(tmp_path, mixture):
    path = save(tmp_path / "th", "ab12", package_of(make(), metrics=Fraction(1, 2)))
    rename_in_pickle(path, tmp_path / "cd34.th", (b"fractions\nFraction", b"diffq.diffq\nDiffQuantizer"))
    structure = json.dumps({"_dict": [["klass", {"_class": "diffq.diffq.DiffQuantizer"}]]})
    save_safetensors(tmp_path / "ef56.safetensors", make(), structure=structure)
    for signature in ("cd34", "ef56"):
        with pytest.raises(SeparatorError, match="pip install diffq"):
            Demucs(model=signature, repo=tmp_path).separate(mixture, 44_100)


def test_quantised_weights_load_where_diffq_is_installed(tmp_path, mixture):
    diffq = pytest.importorskip("diffq")
    network = make(sources=ORDER)
    quantiser = diffq.DiffQuantizer(network, min_size=0.0001, group_size=4)
    state = quantiser.get_quantized_state() | {"__quantized": True}
    save(tmp_path, "ab12", package_of(make(), state=state))
    stems = Demucs(model="ab12", repo=tmp_path).separate(mixture, 44_100)
    np.testing.assert_array_equal(stems["bass"].read(), by_package(tmp_path, "ab12", mixture)["bass"])


def test_changed_file_is_found_by_its_name(tmp_path, mixture):
    path = save(tmp_path, "ab12", make())
    before = Demucs(model="ab12", repo=tmp_path)
    assert set(before.weights_sha256()) == {path.name}
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    for act in (Demucs.fingerprint, lambda separator: separator.separate(mixture, 44_100)):
        with pytest.raises(
            SeparatorError, match=rf"{path.name}: its sha256 begins with .* expected {path.stem[5:]} as in its name"
        ):
            act(Demucs(model="ab12", repo=tmp_path))


def test_two_files_of_one_signature_are_refused(tmp_path):
    first, second = save(tmp_path, "ab12", make()), tmp_path / "ab12.safetensors"
    save_safetensors(second, make())
    with pytest.raises(SeparatorError, match=rf"{first.name}, {second.name} have the same signature"):
        Demucs(model="ab12", repo=tmp_path).fingerprint()


def test_missing_weights_are_named_in_one_line_with_their_place(tmp_path, mixture):
    separator = load_separator("demucs", model="mdx")
    assert separator.sources == ("drums", "bass", "other", "vocals")
    assert separator.rate == 44_100
    save(tmp_path / "own" / "demucs", "c511e2ab", make())
    for act in (separator.fingerprint, lambda: separator.separate(mixture, 44_100)):
        with pytest.raises(MissingWeightsError) as raised:
            act()
        message = str(raised.value)
        assert "\n" not in message
        assert all(name in message for name in ("0d19c1c6-0f06f20e.th", "7ecf8ec1-70f50cc9.th", "7d865c68-3d5dd56b.th"))
        assert "c511e2ab" not in message
        assert f"into {tmp_path / 'own' / 'demucs'} " in message
        assert "https://dl.fbaipublicfiles.com/demucs/mdx_final/" in message
    (tmp_path / "bag.yaml").write_text("models: [ab12]")
    with pytest.raises(MissingWeightsError, match=rf"put ab12-<checksum>\.th into {tmp_path}$"):
        Demucs(model="bag", repo=tmp_path, download=True).fingerprint()
    save(tmp_path, "ab12", make())
    assert len(Demucs(model="bag", repo=tmp_path).fingerprint()) == 64


def test_weights_that_arrive_later_are_found(tmp_path, mixture):
    (tmp_path / "bag.yaml").write_text("models: [ab12]")
    separator = Demucs(model="bag", repo=tmp_path)
    with pytest.raises(MissingWeightsError):
        separator.separate(mixture, 44_100)
    save(tmp_path, "ab12", make())
    assert separator.separate(mixture, 44_100).length == LENGTH


@pytest.mark.parametrize(
    "place",
    [
        "own/demucs/ab12.safetensors",
        "caches/TORCH_HOME/hub/checkpoints/ab12.safetensors",
        "caches/HF_HUB_CACHE/models--adefossez--Demucs-mdx/snapshots/144e6df5/ab12.safetensors",
    ],
)
def test_caches_are_searched(tmp_path, place):
    save_safetensors(tmp_path / place, make())
    assert list(Demucs(model="ab12").weights_sha256()) == ["ab12.safetensors"]


def test_unknown_model_lists_the_known_ones(tmp_path):
    with pytest.raises(SeparatorError, match=r"'htdemuc' is unknown: .*htdemucs, htdemucs_6s.*htdemuc\.yaml in "):
        Demucs(model="htdemuc", repo=tmp_path / "absent").fingerprint()


def test_fingerprint_follows_options_and_weights_but_not_the_machine(tmp_path):
    save(tmp_path / "a", "ab12", make())
    save(tmp_path / "b", "ab12", make(seed=1))
    (tmp_path / "a" / "one.yaml").write_text("models: [ab12]\nsegment: 10\n")
    base = Demucs(model="ab12", repo=tmp_path / "a")
    for same in ({"device": "cuda"}, {"jobs": 3}, {"download": True}):
        assert Demucs(model="ab12", repo=tmp_path / "a", **same).fingerprint() == base.fingerprint()
    changes = [{"shifts": 1}, {"overlap": 0.1}, {"segment": 0.2}, {"seed": 1}, {"extra": "other"}, {"model": "one"}]
    others = [Demucs(**{"model": "ab12", "repo": tmp_path / "a", **change}) for change in changes]
    others.append(Demucs(model="ab12", repo=tmp_path / "b"))
    assert len({separator.fingerprint() for separator in (base, *others)}) == len(changes) + 2
    described = base.describe()
    assert described["package"] == "demucs 4.1.0"
    assert described["weights"] == base.weights_sha256()
    assert str(tmp_path) not in json.dumps(described)


def test_fingerprint_and_sources_load_no_network(tmp_path):
    save(tmp_path, "955717e8", make())
    code = (
        "import sys; from stemfuse.separators import load_separator; s = load_separator('demucs', repo=sys.argv[1]);"
        "print(s.fingerprint(), s.sources, s.trained_on, sorted({'torch', 'demucs'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert found.stdout.strip().endswith("[]")
    assert Demucs(repo=tmp_path).fingerprint() in found.stdout


def test_other_processes_get_the_options_and_not_the_networks(tmp_path, mixture):
    save(tmp_path, "ab12", make())
    separator = Demucs(model="ab12", repo=tmp_path)
    stems = separator.separate(mixture, 44_100)
    sent = pickle.dumps(separator)
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).separate(mixture, 44_100).audio, stems.audio)


def test_published_networks_say_what_they_were_trained_on(tmp_path):
    assert set(TRAINED_ON) == set(demucs_files.published_files())
    assert "musdb18hq/test" in Demucs(model="mdx_extra").trained_on
    assert "musdb18hq/test" not in Demucs(model="htdemucs_ft").trained_on
    assert Demucs(model="0d19c1c6").trained_on == ("musdb18hq/train",)
    save(tmp_path, "ab12", make())
    assert Demucs(model="ab12", repo=tmp_path).trained_on is None


@pytest.mark.parametrize(
    ("bag", "fault"),
    [
        ("models: []", "models"),
        ("models: [123]", "models.0"),
        ("segment: 44", "models"),
        ("models: [a]\nsegment: 0", "segment"),
        ("models: [a, b]\nweights: [[1, 1]]", "2 lists"),
        ("models: [a, b]\nweights: [[1, 1], [1]]", "one length"),
        ("models: [a, b]\nweights: [[1, 1], [1, -1]]", "sum to zero"),
        ("models: [a]\nweights: [[.nan]]", "weights.0.0"),
        ("- a\n- b", "expected keys"),
        ("models: [a", "expected keys"),
        ("\xff", "expected keys"),
    ],
)
def test_faulty_bag_is_named(tmp_path, bag, fault):
    path = tmp_path / "bag.yaml"
    path.write_bytes(bag.encode("latin-1"))
    with pytest.raises(SeparatorError, match=rf"bag\.yaml: no bag of models .*{fault}"):
        Demucs(model=path).fingerprint()
    with pytest.raises(SeparatorError, match=r"absent\.yaml: no bag of models"):
        Demucs(model=tmp_path / "absent.yaml").fingerprint()


def test_networks_that_do_not_fit_are_refused(tmp_path, mixture):
    save(tmp_path, "ab12", make())
    save(tmp_path, "cd34", make(sources=["vocals", "drums"]))
    save(tmp_path, "ef56", make(audio_channels=1))
    (tmp_path / "unlike.yaml").write_text("models: [ab12, cd34]")
    (tmp_path / "weights.yaml").write_text("models: [ab12]\nweights: [[1, 1]]")
    for model, message in (("unlike", "differ in sources"), ("weights", "2 weights"), ("ef56", "takes 1 channel")):
        with pytest.raises(SeparatorError, match=message):
            Demucs(model=model, repo=tmp_path).separate(mixture, 44_100)


@pytest.mark.parametrize(
    "options",
    [
        {"shifts": "two"},
        {"seed": 0.5},
        {"overlap": "none"},
        {"segment": "ten"},
        {"segment": float("inf")},
        {"shifts": -1},
        {"jobs": -1},
        {"overlap": 1.0},
        {"overlap": float("nan")},
        {"segment": 0},
        {"extra": "all"},
    ],
)
def test_impossible_options_are_refused(options):
    (name,) = options
    with pytest.raises(SeparatorError, match=f"{name}'?[=:]"):
        Demucs(**options)


def test_options_that_a_command_line_gives_as_text_are_numbers():
    separator = Demucs(shifts="2", segment="10")
    assert (separator.shifts, separator.segment) == (2, 10.0)


@pytest.mark.parametrize("device", ["abacus", "cuda:77"])
def test_device_that_is_not_there_is_named(tmp_path, mixture, device):
    save(tmp_path, "ab12", make())
    with pytest.raises(SeparatorError, match=rf"device '{device}' cannot be used"):
        Demucs(model="ab12", repo=tmp_path, device=device).separate(mixture, 44_100)


def test_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "demucs", None)
    separator = load_separator("demucs")
    with pytest.raises(SeparatorError, match=r"pip install 'stemfuse\[demucs\]'"):
        separator.fingerprint()


def test_download_is_verified_and_only_when_asked_for(tmp_path, monkeypatch, mixture):
    published = save(tmp_path / "server" / "nets", "ab12", make())
    remote = tmp_path / "remote"
    remote.mkdir()
    (remote / "files.txt").write_text(f"# comment\nroot: nets/\n{published.name}\ncd34-01234567.th\nef56-01234567.th\n")
    (remote / "bag.yaml").write_text("models: [ab12]")
    monkeypatch.setattr(demucs_files, "shipped_folder", lambda: remote)
    monkeypatch.setattr(demucs_files, "ROOT_URL", f"{(tmp_path / 'server').as_uri()}/")
    (tmp_path / "server" / "nets" / "cd34-01234567.th").write_bytes(b"another file")
    with pytest.raises(MissingWeightsError, match=rf"put {published.name} into .*--option download=true"):
        Demucs(model="bag").separate(mixture, 44_100)
    assert not (tmp_path / "own").exists()
    assert Demucs(model="bag", download=True).separate(mixture, 44_100).length == LENGTH
    folder = Path(tmp_path / "own" / "demucs")
    for signature in ("cd34", "ef56"):
        with pytest.raises(MissingWeightsError, match=rf"{signature}-01234567\.th could not be downloaded"):
            Demucs(model=signature, download=True).fingerprint()
    assert [path.name for path in folder.iterdir()] == [published.name]
