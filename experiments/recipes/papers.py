"""Tables of papers: what they are about, in which order, and the figures that the papers print."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

BEST_SINGLE, BEST_PICK, BEST_OF = "best single", "best pick", "best of "
"""Methods of a row that are not a label: the best separator, the best one of each source, the best cell of a study."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PaperRow(_Part):
    """One method of a table."""

    method: str = Field(description="a label of the run, or one of best single, best pick, best of <study>")
    name: str = Field(description="what the paper calls it")
    figures: dict[str, float] = Field({}, description="by source, and mean, what the paper prints, in dB")


class PaperTable(_Part):
    """One table: rows of methods, or the cells of a study, summed up by what they have in common."""

    title: str
    rows: tuple[PaperRow, ...] = ()
    study: str = Field("", description="label of a study; its cells are the table")
    by: tuple[str, ...] = Field((), description="options, or separators, that make a row each; the rest is averaged")
    where: dict[str, Any] = Field({}, description="only cells whose options have these values")


class Paper(_Part):
    """What a paper's tables look like.

    Examples
    --------
    >>> table = {"title": "1", "study": "conv1x1", "by": ["separators"]}
    >>> paper = Paper(title="A", sources=("vocals",), tables=(table,))
    >>> paper.tables[0].by
    ('separators',)
    """

    title: str
    sources: tuple[str, ...] = Field(description="in the paper's order")
    tables: tuple[PaperTable, ...]
