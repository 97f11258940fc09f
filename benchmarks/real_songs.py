"""Separators on real songs: SDR of the whole song for each source, and of the plain mean of all separators.

Run ``python benchmarks/real_songs.py SONGS [--separators NAME ...] [--parts FOLDER --passages 100 180 --seconds 30]
[--out real_songs.json]``. SONGS holds a folder per song with one file per source; not every song has every source.
FOLDER holds the parts of one more song, which are grouped as `small_networks` does. The mixture is the sum of the
sources. Stems of sources that a song has not got are not scored. A separator without a name in the registry is written
as ``NAME=FILE``: NAME with the weights in FILE.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from small_networks import grouped, stereo

from stemfuse.separators import RATE, SOURCES, load_separator

SIX = ("xumx_small", "tfc_tdf_small", "demucs_small", "centre_channel", "harmonic_percussive", "repet_sim")

Table = dict[str, dict[str, dict[str, float]]]
"""SDR in dB: separator, song, source."""


def songs_in(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each song of a folder: its name and its sources, (channel, time)."""
    for song in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = {path.stem: path for path in song.iterdir() if path.stem in SOURCES}
        yield song.name, {source: stereo(files[source]) for source in SOURCES if source in files}


def passages_of(folder: Path, starts_s: list[float], seconds: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """Passages of a song that lies there in parts; sources that rest there are left out."""
    sources = grouped(folder)
    for start_s in starts_s:
        part = slice(round(start_s * RATE), round((start_s + seconds) * RATE))
        heard = {source: samples[:, part] for source, samples in sources.items()}
        loudest = max(float(np.square(samples).sum()) for samples in heard.values())
        kept = {source: samples for source, samples in heard.items() if np.square(samples).sum() > 1e-4 * loudest}
        yield f"{folder.name} from {start_s:g} s", kept


def sdr_db(reference: Any, estimate: Any) -> float:
    """SDR of a whole song, the challenge's of 2021."""
    return float(10 * np.log10(np.square(reference).sum() / np.square(reference - estimate).sum()))


def measured(songs: Iterator[tuple[str, dict[str, Any]]], separators: list[str]) -> Table:
    """All scores, and those of the mean of all separators."""
    table: Table = {}
    for song, references in songs:
        mixture, total = sum(references.values()), dict.fromkeys(references, 0.0)
        for label in separators:
            name, _, weights = label.partition("=")
            stems = load_separator(name, **({"weights": weights} if weights else {})).separate(mixture, RATE)
            for source, reference in references.items():
                estimate = stems[source].read()
                total[source] = total[source] + estimate / len(separators)
                table.setdefault(label, {}).setdefault(song, {})[source] = sdr_db(reference, estimate)
            print(label, song, {source: round(db, 2) for source, db in table[label][song].items()}, flush=True)
        table.setdefault("mean of all", {})[song] = {
            source: sdr_db(references[source], total[source]) for source in total
        }
    return table


def show(table: Table) -> None:
    """Markdown: the mean over songs for each source, then the mean over all scores of a song, then of songs."""
    print("| separator | " + " | ".join(SOURCES) + " | mean of songs |\n|" + "---|" * (len(SOURCES) + 2))
    for label, songs in table.items():
        by_source = [[scores[source] for scores in songs.values() if source in scores] for source in SOURCES]
        cells = [f"{np.mean(scores):.2f}" if scores else "" for scores in by_source]
        mean = np.mean([np.mean(list(scores.values())) for scores in songs.values()])
        print(f"| `{label}` | " + " | ".join(cells) + f" | {mean:.2f} |")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("songs", type=Path)
    parser.add_argument("--separators", nargs="+", default=list(SIX))
    parser.add_argument("--parts", type=Path)
    parser.add_argument("--passages", type=float, nargs="+", default=[100.0, 180.0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    tables = {"songs": measured(songs_in(arguments.songs), arguments.separators)}
    if arguments.parts:
        passages = passages_of(arguments.parts, arguments.passages, arguments.seconds)
        tables[arguments.parts.name] = measured(passages, arguments.separators)
    for title, table in tables.items():
        print(f"\n{title}\n")
        show(table)
    if arguments.out:
        arguments.out.write_text(json.dumps(tables, indent=1))


if __name__ == "__main__":
    main()
