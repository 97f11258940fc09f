"""Commands that are killed at random points, again and again, end as undisturbed ones do: bit for bit, with no rest."""

import random
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

from makers.audio import noise32, write_track
from makers.kills import CODES, Victim
from makers.outcomes import TIMED, digests, recipe, results, rows_of, write_songs
from stemfuse.experiments import Run
from stemfuse.separators import StemStore
from stemfuse.separators.audio.whole_files import PREFIX

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks at /proc"),
]

STAGES = ["start", "separate", "fit", "search", "training", "bound", "score", "report"]
LABELS = {"read": "separate", "verify": "separate", "separate": "separate", "measure": "fit", "fit": "fit"}
LABELS |= {"search": "search", "gram_mixer": "training", "bound": "bound", "score": "score", "report": "report"}
"""Stage of what a run prints."""

CHAINS = 4
"""How many runs may be needed until every stage is hit, where no number of rounds asks for more."""

TRIES = 3
"""How often a stage is aimed at that was missed."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two songs of a second, a recipe, and what an undisturbed run of it leaves."""
    folder = tmp_path_factory.mktemp("kills")
    write_songs(folder / "songs")
    (folder / "r.yaml").write_text(yaml.safe_dump(recipe(folder)))
    return folder


def stage_of(labels):
    label = labels[-1].partition(":")[0] if labels else "start"
    return LABELS.get(label, label)


class Timing:
    """When the stages of an undisturbed command begin, and how long they take."""

    def __init__(self, victim):
        self.begun = {"start": time.monotonic()}
        while victim.runs():
            self._note(victim.labels())
            time.sleep(0.002)
        victim.finish()
        self._note(victim.labels())
        self.ended = time.monotonic()
        times = [*self.begun.values(), self.ended]
        self.length_s = {stage: times[n + 1] - times[n] for n, stage in enumerate(self.begun)}
        self.total_s = self.ended - times[0]

    def _note(self, labels):
        """All of them: a stage may come and go between two looks on a busy machine."""
        for count in range(1, len(labels) + 1):
            self.begun.setdefault(stage_of(labels[:count]), time.monotonic())


class Chain:
    """One command, killed and started again until it ends undisturbed."""

    def __init__(self, arguments, folder, draw):
        self.arguments, self.folder, self.draw = arguments, folder, draw
        self.folder.mkdir()
        self.hits, self.signals, self.before = Counter(), Counter(), []

    def round(self, later_s, reached=lambda stage: True, passed=lambda stage: False, number=None):
        """Start, wait until a stage is reached and some time after that, but not until it is passed; send a signal.

        Returns the stage that was hit; None when the command had ended before.
        """
        number = number or self.draw.choice(list(CODES))
        victim = Victim(self.arguments, self.folder, self.folder / f"{len(self.before)}.log")
        self.before.append(victim)
        alive = victim.wait_for(lambda: victim.listens() and reached(stage_of(victim.labels())))
        until = time.monotonic() + later_s
        alive = alive and victim.wait_for(lambda: time.monotonic() >= until or passed(stage_of(victim.labels())))
        hit = stage_of(victim.labels())
        if not alive or not victim.stop(number):
            assert victim.process.returncode == 0, victim.printed()
            return None
        self.hits[hit] += 1
        self.signals[number] += 1
        return hit

    def finish(self):
        """Go on to the end at once, while processes of what was killed last may still be ending."""
        victim = Victim(self.arguments, self.folder, self.folder / "end.log")
        victim.finish()
        for killed in self.before:
            killed.check_quiet()
        left = [path for path in self.folder.rglob("*") if path.name.startswith(PREFIX) or path.name.endswith(".lock")]
        assert left == []


def check_results(place, expected):
    found = results(place)
    for what, value in expected.items():
        assert found[what] == value, what
    assert Run.open(place / "run").checksums.changed(reread=True) == []
    assert StemStore(place / "store").verify() == []


@pytest.fixture(scope="module")
def undisturbed(folder):
    place = folder / "undisturbed"
    place.mkdir()
    timing = Timing(Victim(["run", "../r.yaml"], place, place / "end.log"))
    assert list(timing.begun) == STAGES
    return timing, results(place)


def aim(chain, stage, timing):
    """Kill a run in a stage; when it is missed, again: a stage that is short, or was done before."""
    later = STAGES[STAGES.index(stage) :]
    for turn in range(TRIES):
        # this machine may be faster now than it was when the time was taken
        later_s = chain.draw.random() * timing.length_s[stage] / 2**turn
        hit = chain.round(later_s, later.__contains__, later[1:].__contains__)
        if hit in (stage, None):
            return


@pytest.mark.parametrize("rounds", [8, pytest.param(200, marks=pytest.mark.long)])
def test_runs_that_are_killed_at_any_point_end_as_undisturbed_ones(folder, undisturbed, rounds):
    timing, expected = undisturbed
    draw, hits, signals, chains = random.Random(rounds), Counter(), Counter(), 0
    while hits.total() < rounds or (set(hits) != set(STAGES) and chains < CHAINS):
        chain = Chain(["run", "../r.yaml"], folder / f"chain {rounds} {chains}", draw)
        # a run that is killed twice in each stage needs fewer undisturbed ends
        for stage in sorted(STAGES * (2 if rounds > len(STAGES) else 1), key=STAGES.index):
            aim(chain, stage, timing)
        chain.finish()
        check_results(chain.folder, expected)
        hits, signals, chains = hits + chain.hits, signals + chain.signals, chains + 1
        print(f"{hits.total()} kills in {chains} runs: {dict(hits)}, {dict(signals)}", flush=True)
    assert set(hits) == set(STAGES), hits
    assert len(signals) == len(CODES), signals


COMMANDS = {
    "separate": ["separate", "../songs", "--separator", "harmonic_percussive", "--store", "store", "--workers", "2"],
    "search": ["fit", "search", "--out", "blend.npz", "--option", "trials=200"],
    "conv1x1": ["fit", "conv1x1", "--out", "blend.npz", "--option", "epochs=20", "--option", "segment=4096"],
    "score": ["score", "--references", "../songs", "--estimates", "../estimates", "--out", "scores", "--workers", "2"],
    "fuse": ["fuse", "../blend.npz", "../songs", "--store", "store", "--out", "fused", "--workers", "2"],
    "train": ["train", "tfc_tdf_v2", "../train.yaml"],
}  # fmt: skip
OFTEN = ("separate", "conv1x1", "train")
"""Those that are killed whenever the slow tests run; the others among the long ones."""

FIT = ["--data", "../songs", "--store", "store", "--separators", "centre_channel,harmonic_percussive"]
TRAINING = {
    "out": "trained",
    "valid": [],
    "network": {"n_fft": 256, "hop": 64, "bins": 64, "frames": 32, "levels": 1, "layers": 1, "growth": 2},
    "chunks": 8,
    "recipe": {"batch": 4, "epochs": 6},
    "execution": {"accelerator": "cpu", "checkpoint_steps": 1},
}


def prepare(folder, name):
    """What the commands take beside the songs."""
    if name == "score" and not (folder / "estimates").exists():
        for song in (folder / "songs").glob("*/*"):
            write_track(
                folder / "estimates" / song.parent.name / song.name,
                noise32(4, 2, 44_100, seed=7),
                parts=("drums", "bass", "other", "vocals"),
                subtype="FLOAT",
            )
    if name == "fuse" and not (folder / "blend.npz").exists():
        Victim(["fit", "mean", *FIT, "--out", "../blend.npz"], folder / "undisturbed", folder / "fit.log").finish()
    (folder / "train.yaml").write_text(yaml.safe_dump(TRAINING | {"data": str(folder / "songs")}))


def outcome(place):
    """All that a command has left, but for times and what they lie in."""
    found = digests(place, TIMED)
    return found, [rows_of(path) for path in place.rglob("history.csv")]


@pytest.mark.parametrize("rounds", [3, pytest.param(12, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "name", [name if name in OFTEN else pytest.param(name, marks=pytest.mark.long) for name in COMMANDS]
)
def test_other_commands_that_are_killed_end_as_undisturbed_ones(folder, name, rounds):
    (folder / "undisturbed").mkdir(exist_ok=True)
    prepare(folder, name)
    arguments = [*COMMANDS[name], *(FIT if COMMANDS[name][0] == "fit" else [])]
    place = folder / f"{name} {rounds}"
    place.mkdir()
    victim = Victim(arguments, place, place / "end.log")
    victim.finish()
    total_s, expected = time.monotonic() - victim.started, outcome(place)
    draw = random.Random(name)
    chain = Chain(arguments, folder / f"{name} {rounds} killed", draw)
    for number in [*CODES] * (rounds // len(CODES)):
        # the first run was the slowest; a command that has ended is no victim, and a fit would begin anew after it
        chain.round(0.6 * draw.random() * total_s, number=number)
    chain.finish()
    assert outcome(chain.folder) == expected
    store = chain.folder / "store"
    assert not store.exists() or StemStore(store).verify() == []
    print(f"{name}: {chain.signals.total()} kills, {dict(chain.signals)}")
    assert chain.signals
