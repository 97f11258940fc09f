"""Figures of the report: files for papers, and drawings in the page's own colours."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemfuse.analysis.figures.scores import FUSION_COLOUR, SEPARATOR_COLOUR
from stemfuse.analysis.figures.style import GRID, INK, MUTED, PAPER
from stemfuse.separators.names import shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE_COLOURS = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    PAPER: "var(--paper)",
    SEPARATOR_COLOUR: "var(--separator)",
    FUSION_COLOUR: "var(--fusion)",
}
"""What the figures' colours become inside the page, which is light or dark."""

PNG_DPI = 150


class Figures:
    """Saves figures as PNG and SVG and hands them to the page as inline SVG in the page's own colours."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, figure: Figure, title: str) -> dict[str, Any]:
        """Save as ``<name>.png`` and ``<name>.svg``; nothing in the files depends on time or chance."""
        from markupsafe import Markup, escape
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.text import Text

        self.folder.mkdir(parents=True, exist_ok=True)
        for text in figure.findobj(Text):
            if not text.get_text().isprintable():
                text.set_text(shown(text.get_text(), keep="\n"))
        picture = io.StringIO()
        with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # in the PNG only; SVG keeps text
            # laid out once and drawn once for each file; savefig draws twice for each
            if engine := figure.get_layout_engine():
                engine.execute(figure)
                figure.set_layout_engine("none")
            FigureCanvasSVG(figure).print_svg(picture, metadata={"Date": None})  # type: ignore[no-untyped-call]
            figure.set_dpi(PNG_DPI)
            FigureCanvasAgg(figure).print_png(self.folder / f"{name}.png")  # type: ignore[no-untyped-call]
        (self.folder / f"{name}.svg").write_text(picture.getvalue(), encoding="utf-8")
        svg = re.sub("<metadata>.*?</metadata>", "", picture.getvalue(), flags=re.DOTALL)
        svg = svg[svg.index("<svg") :].replace("<svg ", f'<svg role="img" aria-label="{escape(shown(title))}" ', 1)
        svg = re.sub(r'( id="|xlink:href="#|url\(#)', rf"\g<1>{name}-", svg)
        for colour, on_page in PAGE_COLOURS.items():
            svg = svg.replace(colour, on_page)
        return {"title": title, "name": name, "svg": Markup(svg)}
