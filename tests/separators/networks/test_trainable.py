"""Every network that can be trained: sizes of the papers, losses that fall, trainings that resume, files that load."""

import csv

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from stemfuse.experiments.band import synthesize
from stemfuse.experiments.cli import app
from stemfuse.experiments.data import open_data
from stemfuse.experiments.errors import ConfigError
from stemfuse.experiments.recipes import packaged_trainings, parse_part, read_training
from stemfuse.experiments.stages.train import TrainConfig, train_separator, trainable_of
from stemfuse.experiments.stages.training_study import train_study, training_cells
from stemfuse.separators import SOURCES, TrainingError, load_separator
from stemfuse.separators.networks.d3net_separator import TrainableD3Net
from stemfuse.separators.networks.demucs_v2_separator import TrainableDemucsDanna, TrainableDemucsV2
from stemfuse.separators.networks.ismir2020 import MagnitudeUNet, UNetShape, ismir2020_state, magnitudes
from stemfuse.separators.networks.ismir2020_separator import TrainableIsmir2020
from stemfuse.separators.networks.resunet_separator import TrainableResUNet143Subband
from stemfuse.separators.networks.spectrogram import transformed
from stemfuse.separators.networks.tfc_tdf_separator import N_FFT, TrainableTFCTDF
from stemfuse.separators.networks.training import list_trainable, trainable_class
from stemfuse.separators.networks.training.chunks import FixedChunks
from stemfuse.separators.networks.training.combination_loss import combination_loss, weighted_sdr_loss
from stemfuse.separators.networks.unet_danna import TwoAxisRecurrence, UNetDannaShape, unet_danna_state
from stemfuse.separators.networks.unet_danna_separator import TrainableUNetDanna
from stemfuse.separators.networks.wiener import wiener_filter
from stemfuse.separators.networks.xumx_separator import TrainableXUMX
from stemfuse.separators.training.loop import _Training
from stemfuse.separators.weights.tensors import load_strictly, read_state

pytestmark = pytest.mark.slow

RATE = 44_100


@pytest.mark.parametrize(
    ("trainable", "size"),
    [
        (TrainableD3Net(), 2_967_407),
        (TrainableD3Net(source="other"), 2_967_407),
        (TrainableD3Net(source="drums"), 2_873_284),
        (TrainableD3Net(source="bass"), 2_419_822),
        (TrainableDemucsDanna(), 191_928_152),
        (TrainableDemucsV2(), 265_679_496),
        (TrainableDemucsV2(channels=48), 149_462_504),
        (TrainableIsmir2020(block="tdf"), 359_492),
        (TrainableIsmir2020(block="tdc"), 217_684),
        (TrainableIsmir2020(block="tfc"), 639_316),
        (TrainableIsmir2020(block="tfc_tdf"), 987_476),
        (TrainableIsmir2020(block="tdc_rnn"), 1_532_228),
        (TrainableIsmir2020(block="tdc", blocks=17), 535_924),
        (TrainableIsmir2020(blocks=17, bias=True, time_levels=(0, 2, 4, 6)), 1_930_840),
        (TrainableIsmir2020(blocks=9, n_fft=4096, bias=True, time_levels=(0, 1, 2, 3)), 2_232_132),
        (TrainableResUNet143Subband(), 102_572_466),
        *((TrainableTFCTDF(source=source), 7_423_236) for source in N_FFT),
        (TrainableTFCTDF(source="drums", levels=4), 5_480_196),
        (TrainableUNetDanna(), 15_676_652),
        (TrainableXUMX(), 35_573_392),
    ],
    ids=lambda value: value.separator if hasattr(value, "separator") else str(value),
)
def test_sizes_are_the_papers(trainable, size):
    assert trainable.size() == size


def test_published_networks_have_their_own_windows_and_chunks():
    assert {source: TrainableTFCTDF(source=source).window for source in SOURCES} == {
        "drums": 4096,
        "bass": 16384,
        "other": 8192,
        "vocals": 6144,
    }
    assert TrainableDemucsV2().length == 447_146
    assert TrainableTFCTDF().length == 261_120
    assert TrainableIsmir2020().length == 130_048


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Songs of one and a half seconds."""
    folder = tmp_path_factory.mktemp("trainable") / "songs"
    synthesize(folder, {"train": 1, "valid": 1, "test": 1}, 1.5, seed=11)
    return folder


SHORTER = {"resunet143_subband": ["network.chunk_s=0.2"], "demucs_danna": ["network.chunk_s=0.3"]}
"""Chunks of the slowest networks."""


def small(name, tree, out, *overrides):
    """The packaged recipe's small form, on three songs and for a few steps, of which the last is kept."""
    own = [f"data={tree}", "band=null", f"out={out}", "chunks=8", "valid=[]", *SHORTER.get(name, [])]
    steps = ["recipe.epochs=2", "recipe.batch=2", "recipe.learning_rate=0.003", "execution.checkpoint_steps=1"]
    return read_training(TrainConfig, name, ["data=synth", *own, *steps, *overrides])


def loss_of(trainable, tree, weights=None):
    """Loss of the training song's chunks, with the statistics of these, as in training."""
    torch.manual_seed(0)
    objective = trainable.objective()
    if weights is not None:
        load_strictly(objective.network, trainable.state(weights), weights)
    chunks = FixedChunks(open_data(tree).tracks("train"), trainable.length, 2, trainable.standardise)
    stems = torch.as_tensor(chunks.__getitems__(range(len(chunks)))[0])
    with torch.no_grad():
        # as in validation: minus the SDR in dB
        assert torch.isfinite(objective.eval()(stems)).all()
        torch.manual_seed(1)
        return float(objective.train()(stems).mean())


class KilledError(Exception):
    """In place of a signal, which would need a process for each network."""


@pytest.mark.parametrize("name", list_trainable())
def test_networks_learn_resume_and_load(name, tree, tmp_path, monkeypatch):
    config = small(name, tree, tmp_path / "whole")
    trainable = trainable_of(name, config)
    whole = train_separator(name, config)
    assert loss_of(trainable, tree, whole) < loss_of(trainable, tree)
    with monkeypatch.context() as patch:
        step = _Training._step

        def killed(training, *given):
            if training.steps == 5:
                raise KilledError
            step(training, *given)

        patch.setattr(_Training, "_step", killed)
        with pytest.raises(KilledError):
            train_separator(name, small(name, tree, tmp_path / "killed"))
    resumed = train_separator(name, small(name, tree, tmp_path / "killed"))
    assert resumed.read_bytes() == whole.read_bytes()
    assert_loaded(name, trainable, whole)


def around(name, trainable):
    """Zeros that a separator puts before and after a song of some length, and the options for which it is one chunk."""
    if name == "ismir2020":
        trim = -(-5000 // trainable.hop) * trainable.hop
        return trim, trim, trainable.length - 2 * trim, {}
    if name == "tfc_tdf_v2":
        trim = trainable.window // 2
        return trim, trim, trainable.length - 2 * trim, {}
    if name == "demucs_v2":
        network = trainable.objective().network
        more = network.valid_length(20_000) - 20_000
        return more // 2, more - more // 2, 20_000, {"standardise": False}
    if name == "demucs_danna":
        return RATE // 2, 1024, 20_000, {}
    if name == "resunet143_subband":
        return 0, 0, 22_052, {"segment_s": 22_052 / RATE}
    return 0, 1024 if name == "unet_danna" else 0, 20_000, {}


def assert_loaded(name, trainable, weights):
    """The separator's stems are what the trained network makes of the same samples."""
    before, after, length, options = around(name, trainable)
    song = np.random.default_rng(3).normal(0, 0.1, (2, length)).astype(np.float32)
    separator = load_separator(name, weights=weights, **trainable.options(), **options)
    stems = separator.separate(song, RATE)
    assert stems.sources == trainable.sources
    objective = trainable.objective()
    load_strictly(objective.network, trainable.state(weights), weights)
    given = torch.nn.functional.pad(torch.from_numpy(song), (before, after))[None]
    with torch.no_grad():
        made = objective.eval().separate(given)[0].numpy()
    start = (made.shape[-1] - length) // 2 if name == "demucs_v2" else before
    expected = made[..., start : start + length]
    # Danna-Sep's Demucs may end before the song does
    got = stems.audio[..., : expected.shape[-1]]
    scale = np.abs(expected).max()
    assert scale > 1e-4
    assert np.abs(got - expected).max() < 1e-4 * scale
    assert separator.trained_on == ("songs/train",)


@pytest.mark.parametrize("name", packaged_trainings())
def test_packaged_recipes_are_whole(name):
    separator = next(found for found in reversed(list_trainable()) if name.startswith(found))
    text = (read_training.__globals__["TRAININGS"] / f"{name}.yaml").read_text()
    assert f"stemfuse train {separator} {name} data=MUSDB18-HQ" in text
    assert f"stemfuse train {separator} {name} data=synth" in text
    for overrides in ([], ["data=synth"]):
        config = read_training(TrainConfig, name, overrides)
        cells = [cell.config for cell in training_cells(config)] if config.is_study else [config]
        assert all(trainable_of(separator, cell).size() > 0 for cell in cells)
        assert (config.band is None) == (not overrides)


def test_every_network_has_a_recipe_and_stands_in_the_help():
    said = CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "200"}).output
    for name in list_trainable():
        assert name in packaged_trainings()
        assert name in said
        published = trainable_of(name, read_training(TrainConfig, name))
        if name != "ismir2020":  # whose recipe is the large one
            assert published.size() == trainable_class(name)().size()


def test_a_magnitude_network_keeps_the_mixtures_phase():
    torch.manual_seed(0)
    network = MagnitudeUNet(UNetShape(block="tfc_tdf", blocks=3, bins=32, time_levels=(0,), parts=2)).eval()
    packed = torch.randn(2, 4, 33, 8)
    with torch.no_grad():
        given, made = (
            torch.view_as_complex(p.unflatten(1, (2, 2)).movedim(2, -1).contiguous()) for p in (packed, network(packed))
        )
    ratio = made / given
    assert ratio.imag.abs().max() < 1e-5
    assert ratio.real.min() >= 0
    assert ratio.real.max() > 0
    assert torch.allclose(magnitudes(packed), given.abs())
    _, shape, _ = ismir2020_state(network.state_dict(), "weights")
    assert (shape.parts, shape.block) == (2, "tfc_tdf")


def test_spectrograms_are_compared_as_the_network_sees_them():
    stems = torch.randn(1, 4, 2, 31 * 512) * 0.1
    sizes = {"n_fft": 1024, "hop": 512, "frames": 32, "blocks": 3, "channels": 4, "layers": 1}
    for spectrum in ("complex", "magnitude"):
        objective = TrainableIsmir2020(**sizes, spectrum=spectrum).objective()
        assert isinstance(objective.network, MagnitudeUNet) == (spectrum == "magnitude")
        for parameter in objective.network.last_conv.parameters():
            parameter.data.zero_()
        # of silence, the error is what is wanted
        true = transformed(stems[:, 3], 1024, 512)
        expected = (torch.view_as_real(true) if spectrum == "complex" else true.abs()).square().mean()
        assert float(objective.losses(stems.sum(1), stems[:, 3:]).detach()) == pytest.approx(float(expected), rel=1e-4)


@pytest.fixture
def masks():
    torch.manual_seed(0)
    stems = torch.randn(1, 4, 2, 4096)
    return torch.rand(1, 4, 2, 129, 65), stems.sum(1), stems


@pytest.mark.parametrize("kind", ["magnitude", "complex"])
@pytest.mark.parametrize("wiener", [False, True])
def test_every_term_of_the_loss_can_be_switched(masks, kind, wiener):
    given, mixture, stems = masks
    terms = {"kind": kind, "wiener": wiener}
    spectrum, true = transformed(mixture, 256, 64), transformed(stems, 256, 64)
    estimated = given * spectrum[:, None]
    if wiener:
        double = (given * spectrum.abs()[:, None]).double()
        estimated = wiener_filter(double, spectrum.to(torch.complex128)).to(spectrum.dtype)
    differences = estimated - true if kind == "complex" else estimated.abs() - true.abs()
    expected = differences.abs().square().mean()
    alone = combination_loss(given, mixture, stems, 256, 64, combinations=False, time_weight=0, **terms)
    assert float(alone) == pytest.approx(float(expected), rel=1e-4)
    rows = torch.istft(estimated.flatten(0, 2), 256, 64, window=torch.hann_window(256), length=4096)
    in_time = weighted_sdr_loss(rows.reshape(stems.shape), stems, mixture[:, None])
    timed = combination_loss(given, mixture, stems, 256, 64, combinations=False, time_weight=3, **terms)
    assert float(timed - alone) == pytest.approx(3 * float(in_time), rel=1e-3)
    sums = combination_loss(given, mixture, stems, 256, 64, time_weight=0, **terms)
    assert float(sums) != pytest.approx(float(alone), rel=0.01)


def test_published_losses_are_the_defaults(masks):
    given, mixture, stems = masks
    for kind, wiener in (("magnitude", False), ("complex", True)):
        default = combination_loss(given, mixture, stems, 256, 64, kind)
        named = combination_loss(given, mixture, stems, 256, 64, kind, wiener, combinations=True, time_weight=10)
        assert torch.equal(default, named)
    assert TrainableXUMX().objective().terms["wiener"] is None
    assert TrainableUNetDanna(n_fft=1024, growth=1).objective().terms["wiener"] is False


def test_lstms_look_along_both_axes():
    torch.manual_seed(0)
    layer = TwoAxisRecurrence(3, 4, 5)
    features = torch.randn(1, 3, 6, 7, requires_grad=True)
    output = layer(features)
    assert output.shape == (1, 5, 6, 7)
    output[0, :, 2, 3].sum().backward()
    reached = features.grad.abs().sum(dim=(0, 1)) > 0
    assert reached.all(), "every bin and every frame is seen from every place"
    network = TrainableUNetDanna(n_fft=512, growth=2, layers=(1, 1), attention=4, bottom=6, heads=1, bottleneck="lstm")
    state = network.objective().network.state_dict()
    _, shape = unet_danna_state(state, "weights")
    assert shape == UNetDannaShape(growth=2, layers=(1, 1), attention=4, bottom=6, bottleneck="lstm")


@pytest.mark.parametrize(
    ("name", "network", "words"),
    [
        ("ismir2020", {"blocks": 6}, "got blocks=6, .*expected an odd number"),
        ("ismir2020", {"frames": 20}, "expected multiples of 8 and of 16"),
        ("ismir2020", {"frames": 8}, "expected more than the 10240 that are cut off later"),
        ("unet_danna", {"attention": 9}, "expected a multiple of the heads"),
        ("unet_danna", {"bandwidth_hz": 500}, "at least 64 bins"),
        ("demucs_danna", {"chunk_s": 0.05}, "expected at least 0.2 seconds"),
        ("d3net", {"low": {"features": 4, "growth": [2, 2], "layers": [1, 1]}}, "got low=.*expected an odd number"),
        ("d3net", {"split": 250}, "got 250 bins in the low band, expected a multiple of 8"),
        ("d3net", {"n_fft": 1024}, "got used_bins=1600, frames=256, expected at most 513 bins"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(name, network, words):
    with pytest.raises(TrainingError, match=words):
        parse_part(trainable_class(name), network).size()


def test_a_warm_up_rises_step_by_step(tree, tmp_path, monkeypatch):
    rates = []
    step = _Training._step

    def seen(training, *given):
        rates.append(training.optimiser.param_groups[0]["lr"])
        step(training, *given)

    monkeypatch.setattr(_Training, "_step", seen)
    changes = ["recipe.warmup=4", "recipe.cosine=false", "recipe.learning_rate=0.004"]
    train_separator("demucs_v2", small("demucs_v2", tree, tmp_path, *changes))
    assert rates == pytest.approx([0.001, 0.002, 0.003, 0.004, 0.004, 0.004, 0.004, 0.004])


def test_a_study_trains_and_scores_every_cell_once(tree, tmp_path, capsys):
    out = tmp_path / "study"
    grid = "grid=[{network.block: [tdc]}, {network.block: [tdf], network.spectrum: [magnitude]}]"
    changes = [grid, "seeds=2", "recipe.epochs=1", "chunks=4"]
    config = small("ismir2020", tree, out, *changes)
    said = []
    table = train_study("ismir2020", config, say=said.append)
    labels = [f"{cell}-seed={seed}" for cell in ("block=tdc", "block=tdf-spectrum=magnitude") for seed in (0, 1)]
    assert [line.split(" (")[0] for line in said] == labels
    with (out / "study.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["cell"] for row in rows] == labels
    assert {row["seed"] for row in rows} == {"0", "1"}
    assert [row.keys for row in table.rows] == [
        ("tdc", "", f"{int(rows[0]['parameters']):,}"),
        ("tdf", "magnitude", f"{int(rows[2]['parameters']):,}"),
    ]
    for row, pair in zip(table.rows, (rows[:2], rows[2:]), strict=True):
        values = [float(cell["vocals"]) for cell in pair]
        assert row.values["vocals"] == pytest.approx(np.mean(values))
        assert row.spreads["vocals"] == pytest.approx(np.std(values, ddof=1))
        assert values[0] != values[1]
    one, other = (read_state(out / label / "vocals.safetensors") for label in labels[:2])
    assert not torch.equal(one["last_conv.0.weight"], other["last_conv.0.weight"])
    # a second call computes nothing
    before = {path: path.stat().st_mtime_ns for path in out.rglob("scores.json")}
    assert train_study("ismir2020", config) == table
    assert {path: path.stat().st_mtime_ns for path in out.rglob("scores.json")} == before
    assert len(before) == 4


def test_the_command_prints_the_table_of_a_study(tree, tmp_path):
    config = small("ismir2020", tree, tmp_path / "study", "seeds=2", "recipe.epochs=0")
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True)))
    result = CliRunner().invoke(app, ["train", "ismir2020", str(tmp_path / "study.yaml")])
    assert result.exit_code == 0, result.output
    assert "vocals" in result.output
    assert "study.csv" in result.output


def test_wrong_studies_are_refused_before_any_training(tree, tmp_path):
    for grid, words in (
        ("grid={network.block: []}", "network.block has no values"),
        ("grid={network.block: [tdc, tdc]}", "network.block has a value twice"),
        ("grid={out: [a, b]}", "out cannot be varied"),
    ):
        with pytest.raises(ConfigError, match=words):
            small("ismir2020", tree, tmp_path / "x", grid)
    wrong = small("ismir2020", tree, tmp_path / "x", "grid={network.block: [tdc, cnn]}")
    with pytest.raises(ConfigError, match="network: block: got 'cnn'"):
        train_study("ismir2020", wrong)
    for grid, words in (
        ("grid=[{network.block: [tdc]}, {network.block: [tdc, tfc]}]", "block=tdc-seed=0 stands for two trainings"),
        ("grid={recipe.seed: [3, 4]}", "got recipe.seed in the grid and seeds=2"),
        ("grid={initial: [a/b.pt, c]}", "grid: .*a/b.pt"),
    ):
        with pytest.raises(ConfigError, match=words):
            train_study("ismir2020", small("ismir2020", tree, tmp_path / "x", grid, "seeds=2"))
    with pytest.raises(ConfigError, match="test: got nothing, expected subsets of"):
        train_study("ismir2020", small("ismir2020", tree, tmp_path / "x", "seeds=2", "test=[nothing]"))
    with pytest.raises(ConfigError, match=r"name a YAML file, or one of the recipes .*xumx_ablation"):
        read_training(TrainConfig, "ismir2020_block")
    assert not (tmp_path / "x").exists()
