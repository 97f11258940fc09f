"""Pages of the API, made from the packages' public lists: a page for each package, an entry for each name."""

from __future__ import annotations

import inspect
import pkgutil
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from sphinx.pycode import ModuleAnalyzer

PACKAGES = {
    "stemfuse.separators": "Tracks, stems, separators, the stem store",
    "stemfuse.separators.audio": "Audio: signals and files",
    "stemfuse.separators.store": "The stem store from within",
    "stemfuse.separators.classical": "Separators without weights",
    "stemfuse.separators.networks": "Networks with published weights",
    "stemfuse.separators.networks.training": "Training separators",
    "stemfuse.separators.training": "The training loop",
    "stemfuse.separators.weights": "Files of weights",
    "stemfuse.analysis": "Scores, Gram statistics, significance",
    "stemfuse.analysis.bss_eval": "BSS Eval",
    "stemfuse.analysis.figures": "Figures",
    "stemfuse.blending": "Fusions without gradients, weights, exports",
    "stemfuse.mixers": "Fusions that are trained",
    "stemfuse.experiments": "Data sets, recipes, runs",
    "stemfuse.experiments.data": "Data sets and tracks on disk",
    "stemfuse.experiments.stages": "Stages of a run",
    "stemfuse.experiments.recipes": "Recipes: reading and checking",
    "stemfuse.experiments.report": "The report",
    "stemfuse.experiments.desk": "The mixing desk",
    "stemfuse.experiments.band": "The synthetic band",
    "stemfuse.experiments.benchmark": "The benchmark",
}
"""Packages with a public list of their own, in the order of the navigation."""

FRONT = "stemfuse"
"""The front door; most of its names have their entry in a package."""


@cache
def pages() -> dict[str, str]:
    """The full name that every public name is documented under, by the name alone."""
    found: dict[str, str] = {}
    for package in sorted(PACKAGES, key=lambda name: name.count(".")):
        for name in import_module(package).__all__:
            found.setdefault(name, f"{package}.{name}")
    return {name: f"{FRONT}.{name}" for name in import_module(FRONT).__all__} | found


def write(folder: Path) -> None:
    """Write the pages of all packages."""
    folder.mkdir(exist_ok=True)
    put(folder / "index.rst", index())
    for package, title in PACKAGES.items():
        put(folder / f"{package}.rst", package_page(package, title))


def put(path: Path, text: str) -> None:
    """Write a page that has changed; Sphinx reads again what is newer."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def index() -> str:
    """The front door's names, each with a link, and the list of packages."""
    names = {name: pages()[name] for name in import_module(FRONT).__all__}
    only_here = [name for name, full in names.items() if full == f"{FRONT}.{name}"]
    return "\n".join(
        [
            *heading("API"),
            "``import stemfuse`` hands out what most scripts need; each name is imported when it is first used:",
            "",
            *summary(list(names.values())),
            "Everything else is in a package:",
            "",
            *(f"* :doc:`{package} <{package}>`: {title}" for package, title in PACKAGES.items()),
            "",
            ".. toctree::",
            "   :hidden:",
            "",
            *(f"   {package.removeprefix('stemfuse.')} <{package}>" for package in PACKAGES),
            "",
            f".. currentmodule:: {FRONT}",
            *(line for name in only_here for line in entry(name, getattr(import_module(FRONT), name))),
            "",
        ]
    )


def package_page(package: str, title: str) -> str:
    """What a package says of itself, then its names; those that have their entry elsewhere are linked."""
    names = import_module(package).__all__
    own = [name for name in names if pages()[name] == f"{package}.{name}"]
    things = {name: getattr(import_module(package), name) for name in names}
    values = {name: thing for name, thing in things.items() if not (inspect.isclass(thing) or inspect.isroutine(thing))}
    callables = [name for name in own if name not in values]
    elsewhere = {name: pages()[name] for name in names if name not in own}
    # a function may have its module's name
    is_shadowed = package in pages().values()
    lines = [*heading(package), f"*{title}.*", "", f".. automodule:: {package}", *["   :no-index:"] * is_shadowed, ""]
    lines += [f".. currentmodule:: {package}", ""]
    lines += summary(callables)
    if elsewhere:
        lines += ["It also hands out these:", ""]
        lines += [f"* :py:obj:`{elsewhere[name]}`" for name in elsewhere if name in values] + [""]
        lines += summary([full for name, full in elsewhere.items() if name not in values])
    for name in callables:
        lines += entry(name, things[name])
    if own_values := {name: value for name, value in values.items() if name in own}:
        lines += ["Constants and types", "-------------------", ""]
        lines += [line for name, value in own_values.items() for line in constant(package, name, value)]
    return "\n".join(lines)


def entry(name: str, thing: Any) -> list[str]:
    """A heading for the table of contents, and the docstring below it, of a class with those of its methods."""
    if not inspect.isclass(thing):
        return ["", name, "-" * len(name), "", f".. autofunction:: {name}", ""]
    kind = "autoexception" if issubclass(thing, BaseException) else "autoclass"
    return ["", name, "-" * len(name), "", f".. {kind}:: {name}", "   :members:", ""]


def constant(package: str, name: str, value: Any) -> list[str]:
    """A constant or the name of a type, with its value and with what its module says of it."""
    shown = " ".join(str(value).replace("numpy.ndarray[tuple[typing.Any, ...], numpy.dtype", "NDArray[").split())
    text = [f"   {line}" for line in constants_of(package).get(name, [])]
    return [f".. py:data:: {name}", *[f"   :value: {shown}"] * (len(shown) < 200), "", *text, ""]


@cache
def constants_of(package: str) -> dict[str, list[str]]:
    """What the modules of a package write below their constants; autodoc looks for it in the package itself alone."""
    found: dict[str, list[str]] = {}
    for module in pkgutil.walk_packages(import_module(package).__path__, f"{package}."):
        for (owner, name), text in ModuleAnalyzer.for_module(module.name).find_attr_docs().items():
            if not owner:
                found.setdefault(name, text)
    return found


def heading(text: str) -> list[str]:
    """A title and the line below it."""
    return [text, "=" * len(text), ""]


def summary(names: list[str]) -> list[str]:
    """A table of names and the first lines of their docstrings."""
    return [".. autosummary::", "   :nosignatures:", "", *(f"   {name}" for name in names), ""] if names else []
