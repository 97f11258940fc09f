"""The package as others get it: every file in the wheel, light imports, a README that tells the truth."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile

import pytest

import stemfuse
from makers.places import ROOT

FOLDERS = ("separators", "analysis", "blending", "mixers", "experiments")


def sources():
    """Files of the five folders that belong into the package."""
    suffixes = {".py", ".j2", ".yaml", ".toml", ".typed"}
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in suffixes]
    return {path.relative_to(ROOT).as_posix() for path in found if "__pycache__" not in path.parts}


@pytest.mark.slow
def test_the_wheel_holds_every_file(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", tmp_path, ROOT], check=True, capture_output=True, cwd=tmp_path)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    assert {f"stemfuse/{name}" for name in sources()} <= names
    assert {"stemfuse/__init__.py", "stemfuse/py.typed"} <= names
    assert not {name.split("/")[0] for name in names} & set(FOLDERS), "no generic name lands in site-packages"


def requirements(extra):
    """What an extra installs, those that it names included, by the packages' names."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    found = set()
    for text in extras[extra]:
        name, names = re.fullmatch(r"([\w-]+)(?:\[([\w,-]+)\])?.*", text).groups()
        found |= set().union(*map(requirements, names.split(","))) if name == "stemfuse" else {name}
    return found


def test_the_extra_all_installs_every_extra_that_is_named():
    """In the README, in docs, and by the messages on missing packages."""
    texts = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / name for name in sources())]
    texts = [path.read_text() for path in texts if path.suffix in (".md", ".py")]
    named = {
        extra for text in texts for found in re.findall(r"stemfuse\[([\w,]+)\]", text) for extra in found.split(",")
    }
    assert {"all", "search", "mixers", "demucs", "networks"} <= named
    everything = requirements("all")
    for extra in named - {"test", "dev"}:
        assert requirements(extra) <= everything, extra
    assert {"torch", "demucs", "optuna", "onnxruntime", "lightning-fabric", "python-stretch"} <= everything


def test_every_package_that_is_asked_for_is_in_the_extra_that_is_named():
    """A message that says what to install has to be right: by name, or by the project that has the module."""
    projects = {
        "IPython": "ipython",
        "google_crc32c": "google-crc32c",
        "lightning_fabric": "lightning-fabric",
        "python_stretch": "python-stretch",
    }
    asked = set()
    for name in sources():
        text = (ROOT / name).read_text() if name.endswith(".py") else ""
        asked |= set(re.findall(r"""import_optional\(\s*"(\w+)[\w.]*",\s*"(\w+)\"""", text))
    asked -= {("json", "search"), ("nobody_has_this", "onnx")}
    assert len(asked) >= 3
    for module, extra in asked:
        assert projects.get(module, module) in requirements(extra), (module, extra)


def test_importing_stemfuse_is_light():
    heavy = ("torch", "matplotlib", "pandas", "scipy", "librosa", "museval", "demucs", "av")
    for module, allowed in (("stemfuse", ()), ("stemfuse.separators", ("numpy",)), ("stemfuse.blending", ("numpy",))):
        code = f"import {module}, sys; print(*(name for name in {heavy} if name in sys.modules))"
        loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
        assert set(loaded) <= set(allowed), f"import {module} loads {loaded}"


def test_every_public_name_is_there_and_documented():
    import importlib

    for folder in FOLDERS:
        module = importlib.import_module(f"stemfuse.{folder}")
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if callable(thing):
                assert thing.__doc__, f"stemfuse.{folder}.{name} has no docstring"


def test_the_trees_of_files_are_up_to_date():
    command = [sys.executable, ROOT / "docs" / "tree.py", "--check"]
    checked = subprocess.run(command, check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    readme = (ROOT / "README.md").read_text()
    shown = readme[readme.index("<!-- tree") :].splitlines()
    assert len(shown) <= 60
    assert readme.rstrip().endswith("<!-- /tree -->"), "the README ends with the tree"


def test_the_pages_for_contributors_name_files_that_exist():
    files = {path.name for top in FOLDERS for path in (ROOT / top).rglob("*.*")}
    for page in ("docs/architecture.md", "CONTRIBUTING.md"):
        text = (ROOT / page).read_text()
        named = set(re.findall(r"`([a-z_]+/[a-z_0-9/.]+)`", text))
        assert len(named) > 10
        assert not [name for name in named if not (ROOT / name).exists()], page
        # a file beside one that was named has its name alone
        assert not set(re.findall(r"`([a-z_0-9]+\.py)`", text)) - files, page


def test_both_lists_of_packages_hold_every_folder():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {
        path.parent.relative_to(ROOT).as_posix() for top in FOLDERS for path in (ROOT / top).rglob("__init__.py")
    }
    places = {f"stemfuse.{folder.replace('/', '.')}": folder for folder in folders} | {"stemfuse": "stemfuse"}
    assert set(project["packages"]) == set(places)
    assert project["package-dir"] == places


def test_stemfuse_hands_out_its_names_when_they_are_used():
    code = (
        "import stemfuse, sys; before = set(sys.modules); assert 'numpy' not in before; "
        "assert set(stemfuse.__all__) <= set(dir(stemfuse)); "
        "[getattr(stemfuse, name) for name in stemfuse.__all__]; "
        "assert stemfuse.bss_eval.__name__ == 'bss_eval'; assert stemfuse.mixers.Conv1x1Mixer"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        stemfuse.nonsense  # noqa: B018


@pytest.mark.parametrize("name", ["make demo", "make test"])
def test_the_readme_names_its_two_commands(name):
    assert name in (ROOT / "README.md").read_text()
    assert f"{name.split()[1]}:" in (ROOT / "Makefile").read_text()


def test_third_parties_join_by_entry_point(tmp_path):
    """A package that is only on the path, with the metadata that an installer writes."""
    (tmp_path / "echo_separator.py").write_text(
        "from stemfuse.separators import BaseSeparator\n"
        "class Echo(BaseSeparator):\n"
        "    name = 'echo'\n"
        "    def __init__(self, gain=0.25):\n"
        "        self.gain = gain\n"
        "    def _separate(self, mixture):\n"
        "        return [self.gain * mixture] * 4\n"
    )
    metadata = tmp_path / "echo_separator-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: echo-separator\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[stemfuse.separators]\necho = echo_separator:Echo\n")
    code = (
        "from stemfuse.separators import check_separator, list_separators, load_separator; "
        "check_separator(load_separator('echo', gain=0.3), seconds=0.1); print(*list_separators())"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert "echo" in result.stdout.split(), result.stderr
