"""Flipped bits in every kind of file of a store and a run: found, healed or refused, and never another number."""

import random
import re
from collections import Counter

import numpy as np
import pytest

from makers.outcomes import recipe, results, write_songs
from stemfuse.analysis import GramStatistics
from stemfuse.experiments import Run, RunError, parse_config, run
from stemfuse.experiments.checksums import Checksums
from stemfuse.experiments.parts import find_parts
from stemfuse.experiments.plan import plan_run
from stemfuse.separators import StemStore, TrainingError
from stemfuse.separators.training import read_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

FLIPS = 100
ON_RECORD = {
    "scores": "scores.parquet",
    "bounds": "bounds.csv",
    "blend": "fusions/mean.npz",
    "network": "fusions/gram_mixer.safetensors",
    "its description": "fusions/gram_mixer.json",
    "its history": "fusions/gram_mixer-history.csv",
    "weights of a song": "fusions/gram_mixer-song-*.npz",
    "search journal": "fusions/search.journal",
    "recipe": "config.yaml",
    "page": "report/index.html",
    "players": "report/audio/players.json",
    "excerpts": "report/audio/*/*/*.flac",
    "museval JSON": "museval/*/test/*.json",
    "figures": "figures/*.png",
    "drawings": "figures/*.svg",
    "estimates": "estimates/*/test/*/*.wav",
}
"""Files of a run of which it has checksums."""

OTHERS = {
    "record": "run/record.json",
    "checksums": "run/checksums.json",
    "parts": "run/.parts/*.parquet",
    "record of estimates": "run/.parts/*.json",
    "checkpoint": "run/.parts/training-*/training.safetensors",
    "stems": "store/*/*/*/*/*.wav",
    "record of stems": "store/*/*/*/*/stems.json",
    "statistics": "store/.gram/*/*/*.npz",
    "digests": "store/.contents/*.json",
}
KINDS = {kind: f"run/{pattern}" for kind, pattern in ON_RECORD.items()} | OTHERS


def config(place):
    given = recipe(place) | {"out": str(place / "run"), "store": str(place / "store"), "workers": 1}
    given["fusions"] = [
        "mean",
        {"name": "search", "options": {"trials": 12, "objectives": ["SDR", "ISR"]}},
        {"name": "gram_mixer", "options": {"epochs": 3}},
    ]
    return parse_config(given)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    place = tmp_path_factory.mktemp("flips")
    write_songs(place / "songs")
    run(config(place))
    return place


def flip(path, draw):
    """Change one bit of a file, in place; what it held before."""
    before = path.read_bytes()
    content, at = bytearray(before), draw.randrange(len(before))
    content[at] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    return before


def seen(place, kind, path, truth):
    """Whether a flip in a file is found where the file is used, or changes nothing that is used."""
    folder, plan = place / "run", truth["plan"]
    tracks = {track.name: track for track in plan.needed()}
    if kind == "record":
        try:
            return Run.open(folder).record() is None
        except RunError as error:
            return re.search("run the recipe again|delete it and run again", str(error)) is not None
    if kind == "checksums":
        found = {name: entry[0] for name, entry in Checksums(folder).read().items()}
        return bool(Checksums(folder).changed()) or found in ({}, truth["checksums"])
    if kind == "record of estimates":
        files = next(name for name in truth["estimates"] if name == path.name)
        checked = Checksums(truth["estimates"][files][0], path)
        found = {name: entry[0] for name, entry in checked.read().items()}
        return bool(checked.changed()) or found in ({}, truth["estimates"][files][1])
    if kind == "parts":
        return find_parts(path.parent, [path.name.partition("-")[0]]) == {}
    if kind == "checkpoint":
        try:
            return bool(read_checkpoint(path)) and False
        except TrainingError:
            return True
    track = tracks.get(path.parent.name)
    if kind in ("stems", "record of stems"):
        return plan.store.missing([track], path.parents[2].name) == [track]
    if kind == "statistics":
        moments = [GramStatistics.from_store(plan.store, track, keys).moments for keys in truth["subsets"]]
        return all(np.array_equal(one, other) for one, other in zip(moments, truth["moments"][track], strict=True))
    if kind == "digests":
        found = [plan.store.content(track, plan.keys) for track in plan.needed()]
        return found == truth["contents"] and not any(
            plan.store.missing(tracks.values(), key) for key in plan.keys.values()
        )
    return path.relative_to(folder).as_posix() in Checksums(folder).changed()


def truth_of(place):
    """What a place with a finished run says while nothing is damaged."""
    folder, plan = place / "run", plan_run(config(place))
    keys = plan.keys
    subsets = [keys]
    estimates = {}
    for path in (folder / ".parts").glob("*.json"):
        for where in (folder / "estimates").glob("*/*/*"):
            checked = Checksums(where, path)
            if checked.read() and not checked.changed():
                estimates[path.name] = (where, {name: entry[0] for name, entry in checked.read().items()})
    return {
        "plan": plan,
        "checksums": {name: entry[0] for name, entry in Checksums(folder).read().items()},
        "estimates": estimates,
        "subsets": subsets,
        "moments": {
            track: [GramStatistics.from_store(plan.store, track, chosen).moments for chosen in subsets]
            for track in plan.needed()
        },
        "contents": [plan.store.content(track, keys) for track in plan.needed()],
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_flip_is_seen(finished, kind):
    """A hundred of each kind; what is damaged is put back each time."""
    truth, draw = truth_of(finished), random.Random(kind)
    paths = sorted(finished.glob(KINDS[kind]))
    if kind == "record of estimates":
        paths = [path for path in paths if path.name in truth["estimates"]]
    silent = 0
    for _ in range(FLIPS):
        path = draw.choice(paths)
        before = flip(path, draw)
        silent += not seen(finished, kind, path, truth)
        path.write_bytes(before)
    assert silent == 0


def ended(place):
    """What a run finds that goes on from what lies there."""
    run(config(place))
    return results(place)


@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=pytest.mark.long)])
def test_runs_heal_flips_in_all_kinds_at_once(finished, rounds):
    """Finished runs and runs that were stopped in their last stage, by turns."""
    healed, draw = Counter(), random.Random(rounds)
    expected = ended(finished)
    for turn in range(rounds):
        if turn % 2:
            record = run(config(finished)).record()
            record.finished = None
            (finished / "run").joinpath("record.json").write_text(record.to_json())
        for kind, pattern in KINDS.items():
            if kind != "record":
                flip(draw.choice(sorted(finished.glob(pattern))), draw)
                healed[kind] += 1
        found = ended(finished)
        for what, value in expected.items():
            assert found[what] == value, (what, turn)
        assert StemStore(finished / "store").verify() == []
        assert Checksums(finished / "run").changed(reread=True) == []
    print(dict(healed))


@pytest.mark.parametrize(
    "change", [('"seed": 0', '"seed": 1'), pytest.param(('"finished": "2', '"finished": "1'), marks=pytest.mark.long)]
)
def test_a_damaged_record_is_said_and_all_that_it_is_about_is_made_again(finished, change, caplog):
    expected = ended(finished)
    path = finished / "run" / "record.json"
    changed = path.read_text().replace(*change)
    assert changed != path.read_text()
    path.write_text(changed)
    with pytest.raises(RunError, match=r"its content has changed since it was written\); run the recipe again"):
        Run.open(path.parent).record()
    assert ended(finished) == expected
    assert "record.json: damaged or changed" in caplog.text


@pytest.mark.long
def test_a_part_or_a_fusion_that_is_damaged_beside_a_damaged_record_is_made_again(finished):
    expected = ended(finished)
    folder = finished / "run"
    for damaged in (next(folder.glob(".parts/*.parquet")), next(folder.glob("fusions/*.npz"))):
        record = (folder / "record.json").read_text()
        (folder / "record.json").write_text(record.replace('"finished": "', '"finished": null, "x": "'))
        damaged.write_bytes(damaged.read_bytes()[:200])
        assert ended(finished) == expected
