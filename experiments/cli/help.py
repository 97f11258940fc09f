"""The command line's help: commands in groups, those that a newcomer needs first, and brackets that stay brackets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from typer.core import TyperCommand
from typer.models import CommandInfo

OTHERS = "Names, files of weights, other programs"
PANELS = {
    "Start here": ("demo", "compare", "fuse"),
    "Experiments": ("run", "fit", "score", "train"),
    "See and hear": ("report", "serve", "table", "show", "plot", "inspect"),
    "Songs and stems": ("separate", "adopt", "synth", "combine"),
    OTHERS: ("list", "export"),
}
"""Commands by the panel that they stand in, in order."""


class EscapedHelp(TyperCommand):
    """A command in whose help [brackets] are text: rich would take them for markup, and swallow them."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write help, panel by panel."""
        parts: tuple[Any, ...] = (self, *self.params)
        for part in parts:
            # some kinds of parameters have no help
            if text := getattr(part, "help", None):
                part.help = escape(text)
        self.epilog = escape(self.epilog or "")
        super().format_help(ctx, formatter)


def grouped(commands: Sequence[CommandInfo]) -> list[CommandInfo]:
    """Commands in the order of `PANELS`, each with its panel; one that has none there comes last."""
    order = [name for names in PANELS.values() for name in names]
    panels = {name: panel for panel, names in PANELS.items() for name in names}
    for command in commands:
        command.cls = EscapedHelp
        command.rich_help_panel = panels.get(_name(command), OTHERS)
    return sorted(commands, key=lambda command: order.index(_name(command)) if _name(command) in order else len(order))


def _name(command: CommandInfo) -> str:
    return command.name or getattr(command.callback, "__name__", "").replace("_", "-")
