"""Ideas that were to make fusions better: each on songs that are left out in turn, beside what it starts from.

Run ``python benchmarks/ideas.py IDEA... --data SONGS --store DIR --separators NAME ... [--folds N] [--out FILE]``.
SONGS is a data set, whose mixture is the sum of its sources where it has none; DIR holds the stems of all its songs,
made by ``stemfuse separate`` or taken in by ``stemfuse adopt`` or ``stemfuse compare``. Songs are left out in N groups,
one by one when N is not given. What an idea has to choose (strengths, widths, exponents) it chooses on the other songs.
Figures are SDR of whole songs, mean of a song's sources, then mean over songs; the median of seconds, then of songs;
and the difference of the first to what the idea starts from, with a 95 % interval (bootstrap over songs). FILE is read
first, and what it has is not measured again.

    bands           weights of bands, pulled to those of all frequencies
    smoothing       a GramMixer's weights, smoothed in time
    passages        transductive weights of a song's passages
    ensemble        means of several fusions
    seeds           the mean of a GramMixer's seeds
    pretraining     a GramMixer that begins with what it has learnt on others (--pretrain SONGS --pretrain-store DIR)
    consistency     weights of least error after the mixture's remainder is given back
    filter          the Wiener filter after fusion, and where its powers come from
    stacking        the filter's result as one more separator for least squares
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

from idea_filters import filters, stacking
from idea_mixers import pretraining, seeds, smoothing
from idea_weights import bands, consistency, ensemble, passages
from left_out import Idea, Table, measured, show, songs_of

from stemfuse.mixers import GramMixer


def idea_of(name: str, arguments: argparse.Namespace) -> Idea:
    """What measures an idea."""
    if name == "pretraining":
        others = songs_of(arguments.pretrain, arguments.pretrain_store, arguments.separators)
        return partial(pretraining, begun=GramMixer().fit(others))
    if name == "bands":
        return partial(bands, edges_hz=arguments.edges)
    known = (smoothing, passages, ensemble, seeds, consistency, stacking)
    return {idea.__name__: idea for idea in known}[name]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = ["bands", "smoothing", "passages", "ensemble", "seeds", "pretraining", "consistency", "filter", "stacking"]
    parser.add_argument("ideas", nargs="+", choices=every)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--separators", nargs="+", required=True)
    parser.add_argument("--folds", type=int)
    parser.add_argument("--edges", type=float, nargs="+", default=[1000.0])
    parser.add_argument("--pretrain", type=Path)
    parser.add_argument("--pretrain-store", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    tracks = songs_of(arguments.data, arguments.store, arguments.separators)
    found: dict[str, Table] = json.loads(arguments.out.read_text()) if arguments.out and arguments.out.exists() else {}
    folds = arguments.folds or len(tracks)
    for name in arguments.ideas:
        if name not in found:
            found[name] = (
                filters(tracks, folds) if name == "filter" else measured(tracks, folds, idea_of(name, arguments))
            )
            if arguments.out:
                arguments.out.write_text(json.dumps(found, indent=1))
        show(name, found[name])


if __name__ == "__main__":
    main()
