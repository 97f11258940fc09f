"""Wrong usage is found before any work, and ends with exit code 2, one line, and what was probably meant."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import stemfuse
from makers.audio import write_systems
from makers.commands import command
from stemfuse.analysis import read_scores
from stemfuse.blending import MixingWeights
from stemfuse.experiments.band import synthesize
from stemfuse.experiments.printed import read_tables
from stemfuse.separators import optional


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("usage")
    synthesize(folder / "band", {"train": 2, "test": 1}, 1.0, seed=8)
    MixingWeights.same_source({s: {"a": 0.25, "b": 0.5} for s in ("drums", "bass", "other", "vocals")}).save(
        folder / "blend.npz"
    )
    audio = folder / "band" / "test"
    stems = ["adopt", next(audio.iterdir()), "--as", "near", "--data", next(audio.iterdir()), "--store"]
    assert command(*stems, folder / "near store", "--as-is").returncode == 0
    shutil.copytree(next(audio.iterdir()), folder / "stems" / "htdemucs" / next(audio.iterdir()).name)
    (folder / "stored.yaml").write_text(
        f"out: {folder}/run\nstore: {folder}/near store\ndata: [{folder}/band]\nfusions: [mean]\n"
        "separators: [{name: neer, stored: true}]\n"
    )
    (folder / "recipe.yaml").write_text((folder / "stored.yaml").read_text().replace("neer", "near"))
    return folder


FIT = ["--data", "band", "--store", "st", "--separators", "centre_channel", "--workers", 1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "least_squares", *FIT, "--out", "x.npz", "--option", "constraint=convex"], "'simplex'"),
        (["fit", "search", *FIT, "--out", "x.npz", "--option", "trials=3.5"], "a whole number"),
        (["fit", "search", *FIT, "--out", "x.npz", "--option", "sampler=tpr"], "did you mean 'tpe'?"),
        (["fit", "search", *FIT, "--out", "x.npz", "--option", "objectives=bleedles"], "did you mean 'bleedless'?"),
        (["fit", "search", *FIT, "--out", "x.npz", "--option", "storage=sqlite:////no/x.db"], "/no is missing"),
        (["fit", "conv1x1", *FIT, "--out", "x.npz", "--option", "optimiser=adm"], "did you mean 'adam'?"),
        (["fit", "least_squars", *FIT, "--out", "x.npz"], "did you mean 'least_squares'?"),
        (["fit", "combine", *FIT, "--out", "x.json", "--option", "how=median_wav"], "did you mean 'median_wave'?"),
        (["fit", "bandwise", *FIT, "--out", "x.json", "--option", "fusion=serch"], "did you mean 'search'?"),
        (["fit", "fixed", *FIT, "--out", "x.npz", "--option", "blend=danna"], "did you mean 'danna-sep'?"),
        (["fit", "mean", *FIT, "--out", "band"], "saved as .npz"),
        (["fit", "mean", *FIT, "--out", "blend.npz/x.npz"], "is no folder"),
        (["fit", "mean", *FIT, "--out", "x.npz", "--train", "nowhere"], "no tracks in nowhere"),
        (["adopt", "nowhere", "--as", "x", "--data", "band", "--store", "st"], "nowhere: no such folder"),
        (["separate", "band", "--separator", "center_channel", "--store", "st"], "did you mean 'centre_channel'?"),
        (["separate", "band", "--separator", "repet_sim", "--option", "wndow=1", "--store", "st"], "did you mean"),
        (["list", "fusion"], "did you mean 'fusions'?"),
        (["export", "blend.npz", "--as", "mst", "--out", "y.sh"], "did you mean 'msst'?"),
        (
            ["export", "blend.npz", "--as", "msst", "--option", "nearst=true", "--out", "y.sh"],
            "did you mean 'nearest'?",
        ),
        (["export", "blend.npz", "--as", "demucs", "--out", "y.yaml"], "--option models=a=MODEL,b=MODEL"),
        (["fuse", "blend.npz", "band", "--stems", "a", "--out", "f"], "expected --stems NAME=DIR"),
        (["fuse", "blend.npz", "band", "--stems", "a=nowhere", "--out", "f"], "nowhere: no such folder"),
        (["fuse", "blend.npz", "band", "--shift", "--out", "f"], "expected --stems LABEL=DIR with it"),
        (["fuse", "blend.npz", "band", "--as-is", "--out", "f"], "expected --stems LABEL=DIR with it"),
        (["fuse", "blend.npz", "band", "--shift", "--as-is", "--out", "f"], "choose one"),
        *(
            (["fuse", "blend.npz", "band", "--subtype", subtype, "--out", "f"], f"did you mean '{meant}'?")
            for subtype, meant in (("PCM24", "PCM_24"), ("FLOAT32", "FLOAT"), ("pcm16", "PCM_16"))
        ),
        (["fuse", "blend.npz", "band", "--subtype", "GSM610", "--out", "f"], "expected one of FLOAT, DOUBLE, PCM_16"),
        *(
            (["fit", "mean", *FIT, "--separators", names, "--out", "x.npz"], f"did you mean '{meant}'?")
            for names, meant in (
                ("center_channel", "centre_channel"),
                ("a=harmonic_percusive", "harmonic_percussive"),
                ("repet_sim,demuks", "demucs"),
            )
        ),
        (["fit", "mean", *FIT, "--separators", "neer", "--store", "near store", "--out", "x.npz"], "'near'?"),
        (["run", "stored.yaml"], "no separator named 'neer' (did you mean 'near'?)"),
        *(
            (["fit", "mean", *FIT, "--out", "x.npz", option, given], f"no tracks in {missing}{words}")
            for option, given, missing, words in (
                ("--valid", "vaild", "vaild", ", the subsets are train, test; choose with --valid"),
                ("--valid", "tset", "tset", " (did you mean 'test'?)"),
                ("--train", "train,trian", "trian", " (did you mean 'train'?)"),
            )
        ),
        (["fit", "mean", *FIT, "--out", "x.npz", "--folds", 1], "--folds: got 1 group"),
        *(
            (["run", "recipe.yaml", f"fit.{name}=[{given}]"], f"(did you mean '{meant}'?)")
            for name, given, meant in (("test", "tset", "test"), ("train", "trian", "train"), ("valid", "tesd", "test"))
        ),
        *(
            (["fit", fusion, *FIT, "--out", out, "--option", option], words)
            for fusion, out, option, words in (
                ("combine", "x.json", "hop=0", "got n_fft=2048 and hop=0"),
                ("wiener", "x.json", "n_fft=3", "got n_fft=3 and hop=1024"),
                ("bandwise", "x.json", "edges_hz=[500, 100]", "got edges at 500, 100 Hz"),
                ("bandwise", "x.json", "width_hz=-1", "Hz, each -1"),
                ("conv1x1", "x.npz", "epochs=-1", "got epochs=-1, expected at least 0"),
                ("conv1x1", "x.npz", "segment=0", "got segment=0, expected a positive number"),
                ("gram_mixer", "x.safetensors", "frame_s=-1", "got frame_s=-1, expected a positive number"),
            )
        ),
        *(
            (["adopt", "stems", "--as", "x", "--data", "SONG", "--store", "st", *options], words)
            for options, words in (
                (["--sources", "vocls"], "no stems of vocls (did you mean 'vocals'?)"),
                (["--sources", "drums,basss"], "no stems of basss (did you mean 'bass'?)"),
                (["--model", "htdemics"], "no stems by model 'htdemics' (did you mean 'htdemucs'?)"),
            )
        ),
        *(
            (command, words)
            for command, words in (
                (["show", "nowhere.json"], "nowhere.json: no such file"),
                (["show", "nowhere.safetensors"], "nowhere.safetensors: no such file"),
                (["export", "nowhere.npz", "--as", "msst", "--out", "y.sh"], "nowhere.npz: no such file"),
                (["weights", "list", "xumxx"], "did you mean 'xumx'?"),
                (["weights", "get", "xumxx"], "did you mean 'xumx'?"),
                (["weights", "get", "bass.onx"], "did you mean 'bass.onnx'?"),
                (["report", "nowhere"], "nowhere: no run folder"),
                (["fuse", "blend.npz", "nowhere.wav", "--out", "f"], "nowhere.wav: no such folder or file"),
                (
                    [
                        "fuse",
                        "blend.npz",
                        "band",
                        "--separators",
                        "a=centre_channel",
                        "--stems",
                        "a=band",
                        "--out",
                        "f",
                    ],
                    "got a in",
                ),
                (["score", "--references", "band", "--estimates", "band", "--backend", "fsat"], "did you mean 'fast'?"),
                (
                    ["score", "--references", "band", "--estimates", "band", "--metrics", "SI_SDDR"],
                    "did you mean 'SI_SDR'?",
                ),
                (["score", "--references", "band", "--estimates", "band", "--missing", "skp"], "did you mean 'skip'?"),
            )
        ),
        *(
            (
                ["export", "blend.npz", "--as", program, "--out", "y", "--option", f"models={models}"],
                "without b; say what",
            )
            for program, models in (("demucs", "a=one"), ("audio-separator", "a=one.ckpt"), ("demucs", "{a: one}"))
        ),
        *(
            (["combine", "blend.npz", "blend.npz", "--how", how, "--out", out, *options], words)
            for how, out, options, words in (
                ("avg_wave", "c.wav", ["--weights", "1,2,3"], "for 2 files"),
                ("median_fft", "c.wav", ["--weights", "1,2"], "only avg_wave and avg_fft take them"),
                ("avg_wave", "c.mp3", [], "c.mp3: got .mp3, expected a name that ends in .wav or .flac"),
                ("median_fft", "c.wav", ["--option", "hop=0"], "hop=0"),
            )
        ),
        (["combine", "none.wav", "--how", "avg_wave", "--out", "c.wav"], "none.wav: no such file"),
        *(
            (["fit", fusion, *FIT, "--separators", f"{label}=centre_channel", "--out", "x.npz"], words)
            for fusion, label, words in (
                ("mean", "mean", "a separator and a fusion are called 'mean'"),
                ("least_squares", "least_squares", "a separator and a fusion are called 'least_squares'"),
                ("least_squares", "mean", "a separator and a fusion are called 'mean'"),
                ("mean", "mixture", "a separator is called 'mixture'"),
                ("mean", "best per source", "a separator is called 'best per source'"),
            )
        ),
        *(
            (["adopt", "band", "--as", label, "--data", "band", "--store", "st"], f"a separator is called '{label}'")
            for label in ("mixture", "best per source")
        ),
        *(
            (["compare", "band", f"{label}=band/train", "a=band/test"], f"my_{label}=DIR")
            for label in ("mean", "blend", "least_squares")
        ),
    ],
)
def test_it_is_said_before_any_work(place, arguments, words):
    arguments = [next((place / "band/test").iterdir()) if part == "SONG" else part for part in arguments]
    before = sorted(place.rglob("*"))
    result = command(*arguments, cwd=place)
    assert result.returncode == 2, result.stderr
    assert words in result.stderr
    assert "to do" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(
    ("package", "arguments", "extra"),
    [
        ("torch", ["fit", "conv1x1", *FIT, "--out", "x.npz"], "stemfuse[mixers]"),
        ("optuna", ["fit", "search", *FIT, "--out", "x.npz"], "stemfuse[search]"),
        ("torch", ["separate", "band", "--separator", "xumx_small", "--store", "st2"], "stemfuse[networks]"),
    ],
)
def test_a_missing_package_is_said_before_any_work(place, monkeypatch, package, arguments, extra):
    found = optional.find_spec
    monkeypatch.setattr(optional, "find_spec", lambda name: None if name == package else found(name))
    result = command(*arguments, cwd=place)
    assert result.returncode == 2
    assert f"pip install '{extra}'" in result.stderr
    assert "separate: " not in result.stderr
    assert (
        f"[not installed: pip install '{extra}']"
        in command("list", arguments[0].replace("fit", "fusions").replace("separate", "separators")).stdout
    )


WITHOUT = """import sys
sys.modules[sys.argv.pop(1)] = None
from stemfuse.experiments.cli import main
main(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "arguments", "extra"),
    [
        ("torch", ["fit", "conv1x1", *FIT, "--out", "x.npz"], "mixers"),
        ("lightning_fabric", ["fit", "mlp_mixer", *FIT, "--out", "x.safetensors"], "mixers"),
        ("optuna", ["fit", "search", *FIT, "--out", "x.npz"], "search"),
        ("torch", ["separate", "band", "--separator", "xumx_small", "--store", "st2"], "networks"),
        (
            "torch",
            ["fit", "mean", "--data", "band", "--store", "st", "--separators", "xumx_small", "--out", "x.npz"],
            "",
        ),
    ],
)
def test_a_package_that_is_missing_in_truth_is_wrong_usage(place, package, arguments, extra):
    before = sorted(place.rglob("*"))
    program = [sys.executable, "-c", WITHOUT, package, *map(str, arguments)]
    done = subprocess.run(program, cwd=place, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2, done.stderr
    assert f"pip install 'stemfuse[{extra}" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert sorted(place.rglob("*")) == before


def test_an_output_that_is_there_is_kept_beside_unless_replaced(place, tmp_path):
    out = tmp_path / "y.sh"
    for number, option in enumerate(([], [], ["--replace"])):
        out.write_text(f"mine {number}")
        result = command(
            "export", place / "blend.npz", "--as", "msst", "--out", out, "--option", "nearest=true", *option
        )
        assert result.returncode == 0, result.stderr
    assert [(tmp_path / f"y.{number}.sh").read_text() for number in (1, 2)] == ["mine 0", "mine 1"]
    assert "ensemble.py" in out.read_text()
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("models", ["a=one.ckpt,b=two.ckpt", "one.ckpt,two.ckpt", "{a: one.ckpt, b: two.ckpt}"])
def test_models_of_an_export_take_the_forms_that_people_guess(place, tmp_path, models):
    options = ["--option", f"models={models}", "--option", "nearest=true"]
    out = tmp_path / "p.json"
    result = command("export", place / "blend.npz", "--as", "audio-separator", "--out", out, *options)
    assert result.returncode == 0, result.stderr
    assert '"one.ckpt",\n' in out.read_text()


def test_show_prints_weights_by_source_and_separator(place):
    result = command("show", place / "blend.npz")
    assert result.stdout.splitlines()[1].split() == ["drums", "+0.250", "+0.500", "+0.750"]
    assert "the same weights in all channels" in result.stdout
    assert '"bass": {\n   "a": 0.25' in command("show", place / "blend.npz", "--json").stdout


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        '{"tables": 1}',
        '{"tables": [1]}',
        '{"tables": [{}]}',
        "no JSON",
        '{"tables": [{"title": "a", "columns": 3}]}',
    ]
    + [
        f'{{"tables": [{{"title": {title}, "columns": ["b"], "rows": {rows}, "songs": []}}]}}'
        for title, rows in ((1, "[]"), ('"a"', '[["1", "2"]]'), ('"a"', "[[1]]"), ('"a"', "4"))
    ],
)
def test_printed_tables_that_are_none_are_computed_again(tmp_path, content):
    (tmp_path / "tables.json").write_text(content)
    assert read_tables(tmp_path / "tables.json") == []


PYTHON = re.compile(r"\b(use|pass|add|give|take|with) ([a-z_]+=('|True|False|None)|missing=)")


def test_advice_is_in_the_spelling_of_the_command_line():
    found = []
    for package in ("separators", "analysis", "blending", "mixers", "experiments"):
        for file in (Path(stemfuse.__file__).parent / package).rglob("*.py"):
            raised = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Raise)]
            texts = [part.value for node in raised for part in ast.walk(node) if isinstance(part, ast.Constant)]
            found += [f"{file}: {text}" for text in texts if isinstance(text, str) and PYTHON.search(text)]
    assert not found


@pytest.mark.slow
@pytest.mark.parametrize("number", range(3))
def test_scores_of_other_methods_or_songs_are_not_replaced(scored, number):
    refused = [
        ["--references", "songs", "--estimates", "far"],
        ["--references", "songs/song 1", "--estimates", "near/song 1"],
        ["--references", "other", "--estimates", "near"],
    ]
    before = (scored / "S/scores.parquet").read_bytes()
    result = command("score", *refused[number], "--out", "S", "--workers", 1, cwd=scored)
    assert (result.returncode, "choose another --out" in result.stderr) == (2, True), result.stderr
    assert (scored / "S/scores.parquet").read_bytes() == before


@pytest.mark.slow
def test_scores_go_on_with_more_methods(scored):
    estimates = ["--estimates", "near", "--estimates", "far"]
    shutil.copytree(scored / "S", scored / "T")
    result = command("score", "--references", "songs", *estimates, "--out", "T", "--workers", 1, cwd=scored)
    assert result.returncode == 0, result.stderr
    assert set(read_scores(scored / "T/scores.parquet")["fusion"]) == {"near", "far"}


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    root = tmp_path_factory.mktemp("scored")
    write_systems(root, 2, {"near": 0.02, "far": 0.03})
    shutil.copytree(root / "songs/song 0", root / "other/song 7")
    shutil.copytree(root / "near/song 0", root / "near/song 7")
    assert command("score", "--references", "songs", "--estimates", "near", "--out", "S", cwd=root).returncode == 0
    return root
