"""The documentation site: `make docs` builds it, warnings are errors, and it needs no network."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.logging import getLogger
from sphinx.writers.html5 import HTML5Translator

import stemfuse

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))
os.environ.setdefault("MPLBACKEND", "Agg")

import api_pages  # noqa: E402  (lies beside this file)

project, author, project_copyright = "stemfuse", "the authors of stemfuse", "the authors of stemfuse"
version = release = stemfuse.__version__
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]

html_theme = "furo"
html_title = "stemfuse"
# as MathML, which browsers draw: MathJax would be fetched
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False

# links to a heading of another page, as GitHub makes them
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
# executed notebooks come as they are; a slow test executes them
nb_execution_mode = "off"
# blocks without a language are commands, which a lexer of Python would colour by chance
highlight_language = "none"
copybutton_exclude = ".linenos, .gp"

autosummary_generate = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
default_role = "py:obj"


def link_public_name(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Node) -> nodes.Node | None:
    """A docstring names `Stems` without its package: link it to the page that it has."""
    name = api_pages.pages().get(node.get("reftarget", ""))
    if name is None or node.get("refdomain") != "py":
        return None
    return env.domains.python_domain.resolve_xref(env, node["refdoc"], app.builder, "obj", name, node, content)


def check_names(app: Sphinx, env: BuildEnvironment) -> None:
    """Every public name has an entry."""
    there = {name for name, *_ in env.domains.python_domain.get_objects()}
    for name in sorted(set(api_pages.pages().values()) - there):
        getLogger(__name__).warning("the public name %s has no entry in the API", name)


def draw_inline(writer: HTML5Translator, node: nodes.math) -> None:
    """Mathematics in a line."""
    writer.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def draw_block(writer: HTML5Translator, node: nodes.math_block) -> None:
    """Mathematics on a line of its own."""
    writer.body.append(tex2mathml(node.astext(), as_block=True))
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Write the pages of the API before anything is read; link and check their names."""
    api_pages.write(DOCS / "api")
    app.connect("missing-reference", link_public_name)
    app.connect("env-check-consistency", check_names)
    app.add_html_math_renderer("mathml", (draw_inline, None), (draw_block, None))
