import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from makers.places import TESTS
from makers.planted import CONVEX, mixed_of_two
from stemfuse.blending import BlendSpace, FusionError, LeastSquares, check_fusion, load_fusion, make_fusion
from stemfuse.blending.conformance import conformance_tracks
from stemfuse.blending.criteria import METRICS, criterion
from stemfuse.blending.search import Search
from stemfuse.blending.studies import SAMPLERS
from stemfuse.separators import SOURCES, Track

pytest.importorskip("optuna")


@pytest.fixture(scope="module")
def tracks():
    return mixed_of_two(CONVEX, 1)


@pytest.mark.parametrize(
    "sampler", [name if name == "tpe" else pytest.param(name, marks=pytest.mark.slow) for name in SAMPLERS]
)
def test_every_sampler_finds_the_planted_optimum(tracks, sampler):
    if sampler == "gp":
        pytest.importorskip("torch")
    if sampler == "cmaes":
        pytest.importorskip("cmaes")
    fusion = Search(trials=12 if sampler == "gp" else 40, sampler=sampler).fit(tracks)
    space = BlendSpace.of(tracks)
    for number, source in enumerate(SOURCES):
        score = criterion("SDR", space, tracks, source)
        assert fusion.scores_[source][0] > score(CONVEX[:, number]) - 0.01, source
        sums = fusion.weights_.matrix[0, 2 * number].sum()
        assert sums == pytest.approx(1, abs=1e-6)
    assert (fusion.weights_.matrix >= 0).all()


def test_search_without_its_first_trials_comes_near_too(tracks):
    # the sampler itself has to work: warm starts alone would pass the test above
    fusion = Search(trials=60)
    fusion._starts = lambda train, space: {source: [np.array([0.5, 0.5])] for source in space.sources}
    fusion.fit(tracks)
    space = BlendSpace.of(tracks)
    for number, source in enumerate(SOURCES):
        best = criterion("SDR", space, tracks, source)(CONVEX[:, number])
        assert fusion.scores_[source][0] > best - 0.1, source


@pytest.mark.parametrize(
    ("constraint", "valid"),
    [
        ("simplex", True),
        ("free", False),
        *(pytest.param(*rest, marks=pytest.mark.slow) for rest in [("nonnegative", True), ("free", True)]),
        *(pytest.param(name, False, marks=pytest.mark.slow) for name in ("simplex", "nonnegative")),
    ],
)
def test_never_worse_than_what_it_starts_from(constraint, valid):
    train = conformance_tracks(("a", "b"), 3.0)
    other = conformance_tracks(("a", "b"), 4.0)[1:]
    scored = [*train, *other] if valid else train
    search = Search("all", True, constraint=constraint, trials=15).fit(train, other if valid else None)
    space = BlendSpace.of(scored, "all", True)
    for weighting in ("frames", "mean", "median"):
        start = LeastSquares("all", True, constraint=constraint, weighting=weighting).fit(train)
        for source in SOURCES:
            score = criterion("SDR", space, scored, source)(np.array(list(start.theta_[source].values())))
            assert search.scores_[source][0] >= score - 1e-6, (source, weighting)
    low = -1e-9 if constraint != "free" else -np.inf
    assert search.weights_.matrix.min() >= low


@pytest.mark.slow
def test_ladder_on_the_least_squares_objective():
    train = conformance_tracks(("a", "b", "c"), 3.0)
    space = BlendSpace.of(train)
    for source in SOURCES:
        frames = space.frames(source)
        counts = np.bincount(frames.tracks, frames.counted)[frames.tracks]

        def error(fusion, source=source, frames=frames, counts=counts):
            theta = np.array(
                [fusion.weights_.matrix[0, fusion.weights_.outputs.index(f"{source}.left"), column]
                 for column in (fusion.weights_.inputs.index(f"{name}.{source}.left") for name in "abc")],
                np.float64,
            )  # fmt: skip
            return float(np.sum(frames.errors(theta)[frames.counted] / (frames.c * counts)[frames.counted]))

        free = error(LeastSquares().fit(train))
        simplex = error(LeastSquares(constraint="simplex").fit(train))
        searched = error(Search(trials=20).fit(train))
        assert free <= simplex + 1e-6
        assert simplex <= searched + 1e-6


# filters make four of them slow, and two do not need to be asked as often; whole songs are enough for every day
MARKS = {"SDR": [pytest.mark.slow], "SIR": [pytest.mark.slow], "ISR": [pytest.mark.long], "SAR": [pytest.mark.long]}


@pytest.mark.parametrize(
    "metric",
    [pytest.param(name, marks=MARKS.get(name, [])) for name in METRICS],
)
def test_criteria_are_the_metrics_of_the_fused_audio(metric):
    from stemfuse.analysis import bleedless_fullness, bss_eval, si_sdr
    from stemfuse.blending import apply_weights

    train = conformance_tracks(("a", "b"), 3.0)
    space = BlendSpace.of(train, mixture=True)
    theta = {source: np.array([0.1, 0.6, 0.3]) for source in SOURCES}
    equal = {source: space.equal(source) for source in SOURCES}
    ours = criterion(metric, space, train, "vocals", "mean", "mean")(theta["vocals"])
    expected = []
    for track in train:
        # frame metrics of one source do not depend on the others, as long as none is silent
        fused = apply_weights(space.weights(equal | {"vocals": theta["vocals"]}), track)
        truth = track.references["vocals"].read(0, track.length)
        if metric == "SI_SDR":
            expected.append(si_sdr(truth, fused["vocals"].read(0, track.length)))
        elif metric in ("bleedless", "fullness"):
            pair = bleedless_fullness(truth, fused["vocals"].read(0, track.length))
            expected.append(pair[metric == "fullness"])
        else:
            scores = bss_eval(track.references, fused)
            expected.append(np.nanmean(scores[METRICS.index(metric)][3]))
    assert ours == pytest.approx(np.mean(expected), abs=2e-3 if metric in ("bleedless", "fullness") else 1e-4)


def test_whole_song_criterion_is_the_challenge_metric_of_whole_frames():
    from stemfuse.analysis import song_sdr
    from stemfuse.blending import apply_weights

    train = [track for track in conformance_tracks(("a", "b"), 2.0) if track.length == 2 * 44_100]
    space = BlendSpace.of(train)
    theta = np.array([0.7, 0.3])
    ours = criterion("SDR", space, train, "drums", "song", "mean")(theta)
    fused = apply_weights(space.weights(dict.fromkeys(SOURCES, theta)), train[0])
    assert ours == pytest.approx(song_sdr(train[0].references, fused)[0], abs=1e-4)


@pytest.mark.slow
def test_two_objectives_give_a_front_and_a_point_of_it():
    train = conformance_tracks(("a", "b"), 1.0)[:1]
    fusion = Search(objectives=("SDR", "bleedless"), constraint="free", trials=30).fit(train)
    study = fusion.studies_["vocals"]
    values = np.array([trial.values for trial in study.best_trials])
    assert tuple(fusion.scores_["vocals"]) in {tuple(row) for row in values}
    for row in values:
        assert not ((values >= row).all(1) & (values > row).any(1)).any(), "a dominated trial is on the front"


def test_same_seed_same_weights_and_other_seed_other_trials(tracks):
    first, second, third = (Search(trials=15, seed=seed).fit(tracks) for seed in (3, 3, 4))
    assert np.array_equal(first.weights_.matrix, second.weights_.matrix)
    proposed = [[trial.params for trial in fusion.studies_["bass"].trials] for fusion in (first, second, third)]
    assert proposed[0] == proposed[1] != proposed[2]


@pytest.mark.parametrize("file", ["search.journal", pytest.param("sqlite", marks=pytest.mark.slow)])
def test_resumes_where_it_stopped(tracks, tmp_path, file):
    storage = str(tmp_path / file) if file != "sqlite" else f"sqlite:///{tmp_path}/search.db"
    Search(trials=8, storage=storage).fit(tracks[:1])
    longer = Search(trials=12, storage=storage).fit(tracks[:1])
    counts = {source: len(study.trials) for source, study in longer.studies_.items()}
    assert counts == dict.fromkeys(SOURCES, 12)
    again = Search(trials=12, storage=storage).fit(tracks[:1])
    assert again.scores_ == longer.scores_
    assert len(again.studies_["bass"].trials) == 12
    # other tracks are another search, in the same file
    other = Search(trials=8, storage=storage).fit(tracks[1:2])
    assert len(other.studies_["bass"].trials) == 8


SEARCHING = """
import sys
sys.path.insert(0, sys.argv[2])
from makers.planted import CONVEX, mixed_of_two
from stemfuse.blending.search import Search
Search(trials=40, storage=sys.argv[1]).fit(mixed_of_two(CONVEX, 1, count=1))
"""


@pytest.mark.slow
def test_killed_with_9_and_shared_by_two_processes(tmp_path):
    storage = tmp_path / "search.journal"
    command = [sys.executable, "-c", SEARCHING, str(storage), str(TESTS)]
    killed = subprocess.Popen(command, stderr=subprocess.PIPE)
    for _ in range(600):
        time.sleep(0.05)
        if storage.exists() and storage.stat().st_size > 8_000:
            break
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    both = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    fusion = Search(trials=40, storage=str(storage)).fit(mixed_of_two(CONVEX, 1, count=1))
    for study in fusion.studies_.values():
        assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 40


def test_bad_arguments_are_named(tracks, tmp_path):
    for bad, words in (
        ({"objectives": "loudness"}, "loudness"),
        ({"objectives": ("SDR", "SIR", "SAR")}, "one or two"),
        ({"sampler": "gradient"}, "gradient"),
        ({"constraint": "odd"}, "odd"),
        ({"over_frames": "odd"}, "odd"),
        ({"trials": 0}, "at least one trial"),
        ({"objectives": "SIR", "over_frames": "song"}, "song"),
    ):
        with pytest.raises(FusionError, match=words):
            Search(**({"trials": 2} | bad)).fit(tracks)
    silence = np.zeros((4, 2, 50_000), np.float32)
    silent = Track.from_arrays("silent", silence[0] + 0.1, silence, {"a": silence})
    with pytest.raises(FusionError, match="every reference sounds"):
        Search(trials=2).fit([silent])


def test_conforms_and_keeps_its_weights(tracks, tmp_path):
    check_fusion(make_fusion("search", trials=6))
    fusion = Search(trials=6, objectives=["SDR"]).fit(tracks)
    fusion.save(tmp_path / "search.npz")
    loaded = load_fusion(tmp_path / "search.npz")
    assert np.array_equal(loaded.weights_.matrix, fusion.weights_.matrix)
    assert json.dumps(loaded.arguments()) == json.dumps(fusion.arguments())


def test_progress_is_shown(tracks):
    calls = []
    fusion = Search(trials=9)
    fusion.progress = lambda stage, done, total: calls.append((stage, done, total))
    fusion.fit(tracks)
    assert calls[:9] == [("drums", done, 9) for done in range(1, 10)]


def noisy(better):
    """A song for each letter, of which one source by a separator of this name has less noise."""
    generator = np.random.default_rng(0)
    songs = []
    for number, letter in enumerate(better):
        reference = generator.normal(0, 0.1, (1, 2, 8 * 8000)).astype("float32")
        stems = {
            name: reference + generator.normal(0, 0.03 if name == letter else 0.09, reference.shape).astype("float32")
            for name in "ab"
        }
        songs.append(Track.from_arrays(f"song {number}", reference[0], reference, stems, rate=8000, sources=["vocals"]))
    return songs


@pytest.mark.parametrize(
    "options",
    [{}]
    + [
        pytest.param(options, marks=pytest.mark.slow)
        for options in (
            {"over_frames": "mean", "over_tracks": "mean"},
            {"objectives": "SI_SDR"},
            {"over_tracks": "pooled"},
        )
    ],
)
@pytest.mark.parametrize(
    ("better", "is_equal"), [("aabb", True), ("bababa", True), ("aaaa", False), ("bbbbbbb", False)]
)
def test_few_songs_keep_equal_weights_unless_each_gains_by_what_the_others_choose(options, better, is_equal):
    fusion = Search(trials=20, **options).fit(noisy(better))
    assert fusion.kept_equal_ == (("vocals",) if is_equal else ())
    weights = fusion.weights_.matrix[0, 0, [0, 2]]
    if is_equal:
        assert weights == pytest.approx([0.5, 0.5])
        equal = criterion(
            fusion.objectives,
            BlendSpace.of(noisy(better)),
            noisy(better),
            "vocals",
            fusion.over_frames,
            fusion.over_tracks,
        )(np.array([0.5, 0.5]))
        assert fusion.scores_["vocals"] == pytest.approx((equal,))
    else:
        assert weights["ab".index(better[0])] > 0.8


@pytest.mark.parametrize(("better", "objectives"), [("ab", "SDR"), ("abab" * 2, "SDR"), ("aabb", ["SDR", "SI_SDR"])])
def test_equal_weights_are_kept_only_where_few_songs_can_be_left_out(better, objectives):
    assert Search(trials=20, objectives=objectives).fit(noisy(better)).kept_equal_ == ()
