"""The trees of files in README.md and docs/architecture.md, made from the first line of every docstring.

``python docs/tree.py`` writes them between their markers; ``--check`` only says whether they are as they should be.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("separators", "analysis", "blending", "mixers", "experiments")
OTHERS = {
    "stemfuse/": "the import name: what most scripts need, and one link per folder above",
    "tests/": "one folder per package, one file per noun; slow, gpu, browser and ffmpeg tests have markers",
    "examples/": "a package that adds a separator",
    "benchmarks/": "commands that print a table and write JSON, side by side with the peer",
    "docs/": "the documentation, which `make docs` makes a site of: pages, recipes, notebooks, pictures",
}
BEGIN, END = "<!-- tree: written by docs/tree.py -->", "<!-- /tree -->"
INDENT = 4


def first_line(path: Path) -> str:
    """The first line of a module's docstring, without its full stop; of a template, what it is one of."""
    if path.suffix == ".j2":
        return f"Template of the page's {path.stem.rpartition('.')[2].upper()}"
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not docstring:
        raise SystemExit(f"{path.relative_to(ROOT)}: got no docstring, expected a first line that says what it holds")
    return docstring.partition("\n")[0].rstrip(".")


def entries(folder: Path, with_files: bool) -> Iterator[tuple[str, str]]:
    """(name, what it holds) of a folder, its files if wanted, and its folders, indented by their depth."""
    depth = len(folder.relative_to(ROOT).parts) - 1
    yield " " * INDENT * depth + f"{folder.name}/", first_line(folder / "__init__.py")
    if with_files:
        files = [path for path in folder.iterdir() if path.suffix in (".py", ".j2") and path.name != "__init__.py"]
        for path in sorted(files):
            yield " " * INDENT * (depth + 1) + path.name, first_line(path)
    for inner in sorted(folder.iterdir()):
        if (inner / "__init__.py").is_file():
            yield from entries(inner, with_files)


def tree(with_files: bool) -> str:
    """The tree as an indented block of Markdown."""
    rows = [row for package in PACKAGES for row in entries(ROOT / package, with_files)] + list(OTHERS.items())
    width = max(len(name) for name, _ in rows) + 2
    return "\n".join(f"    {name:<{width}}{what}" for name, what in rows)


def with_tree(path: Path, with_files: bool) -> str:
    """The text of a page with its tree made anew."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{path.relative_to(ROOT)}: got no place for the tree, expected {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{tree(with_files)}\n\n{END}{after}"


def main() -> None:
    """Write both trees, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a tree is out of date")
    check = parser.parse_args().check
    stale = []
    for path, with_files in ((ROOT / "README.md", False), (ROOT / "docs" / "architecture.md", True)):
        text = with_tree(path, with_files)
        if text != path.read_text(encoding="utf-8"):
            stale.append(str(path.relative_to(ROOT)))
            if not check:
                path.write_text(text, encoding="utf-8")
    if check and stale:
        sys.exit(f"{', '.join(stale)}: the tree of files is out of date; run python docs/tree.py")


if __name__ == "__main__":
    main()
