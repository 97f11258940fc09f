import copy
import warnings
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from stemfuse.analysis import GramStatistics, bss_eval, compare
from stemfuse.blending import FusionError, LeakWarning, LeastSquares, Mean, cross_validate, leaks, make_fusion
from stemfuse.blending.conformance import conformance_tracks
from stemfuse.experiments import open_data
from stemfuse.experiments.band import synthesize
from stemfuse.separators import BaseSeparator, StemStore, Track
from stemfuse.separators.weights import published_files

MLP = make_fusion("mlp_mixer", segment=4096, shift=4096, fold=16, layers=1, epochs=1)


class Half(BaseSeparator):
    """Every source is an eighth of the mixture."""

    name = "half"

    def _separate(self, mixture):
        return np.stack([mixture / 8] * 4)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Tracks of a small tree with stems of a separator in a store, by subset."""
    folder = tmp_path_factory.mktemp("guards")
    synthesize(folder / "songs", {"train": 2, "test": 2}, 2.0, seed=5)

    def attached(trained_on, subset):
        separator = Half()
        separator.trained_on = trained_on
        store = StemStore(folder / f"store {trained_on}")
        tracks = open_data(folder / "songs").tracks(subset)
        for track in tracks:
            if store.missing([track], separator):
                store.put(track, separator, separator.separate(track.mixture.read(), track.rate))
        return [store.attach(track, [separator]) for track in tracks]

    return attached


def test_clean_data_give_no_warning(stored):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert leaks(stored(("musdb18hq/train",), "train"), stored(("musdb18hq/train",), "test")) == []
        assert leaks(stored(None, "train")) == []


@pytest.mark.parametrize(
    ("declared", "role"), [("songs/train", "fitted"), ("songs/test", "scored"), ("songs", "fitted")]
)
def test_separators_that_were_trained_on_the_tracks_are_named(stored, declared, role):
    with pytest.warns(LeakWarning, match=f"separator half declares that it was trained on 2 of 2 tracks.*{role}"):
        leaks(stored((declared,), "train"), stored((declared,), "test"))


@pytest.mark.parametrize(("edition", "warned"), [("kuielab_mdx_a", False), ("kuielab_mdx_b", True)])
def test_kuielabs_files_of_leaderboard_b_have_seen_the_test_set(stored, edition, warned):
    declared = {tuple(row.trained_on) for row in published_files() if row.system == edition and row.source}
    assert len(declared) == 1
    tracks = [replace(track, data="musdb18hq") for track in stored(declared.pop(), "test")]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = leaks([], tracks)
    assert [warning.category for warning in caught] == [LeakWarning] * warned
    assert ["2 of 2 tracks that weights are scored on" in words for words in found] == [True] * warned


def test_validation_tracks_of_musdb_are_training_tracks(stored):
    tracks = [replace(track, data="musdb18hq", subset="valid") for track in stored(("musdb18hq/train",), "train")]
    with pytest.warns(LeakWarning, match="half"):
        assert len(leaks(tracks)) == 1


def test_a_test_track_under_another_name_is_found_by_its_samples(stored):
    train = stored((), "train")
    renamed = Track("another name", train[0].mixture, "test", train[0].references)
    with pytest.warns(LeakWarning, match="1 of 2 test tracks .*'another name'"):
        leaks(train, [*stored((), "test")[:1], renamed])
    with pytest.warns(LeakWarning, match="2 of 2 test tracks"):
        leaks(train, train)


def test_a_musdb_tree_is_known_by_its_tracks_whatever_its_folder_is_called(tmp_path):
    for name in ("Meaxic - Take A Step", "Some Other - Song"):
        (tmp_path / "renamed/train" / name).mkdir(parents=True)
        soundfile.write(tmp_path / "renamed/train" / name / "mixture.wav", np.zeros((100, 2)), 44_100)
    assert {track.data for track in open_data(tmp_path / "renamed").tracks()} == {"musdb18hq"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "fusion", [make_fusion("wiener"), make_fusion("bandwise", edges_hz=[1000.0]), MLP], ids=lambda one: one.kind
)
def test_what_has_no_constant_weights_is_scored_from_its_audio(fusion):
    tracks = conformance_tracks(("a", "b"), 2.0)
    table = cross_validate(fusion, tracks)
    for track in tracks:
        fitted = copy.deepcopy(fusion).fit([other for other in tracks if other is not track])
        expected = bss_eval(track.references, fitted.fuse(track), track.rate, track.rate).SDR
        rows = table[(table["track"] == track.name) & (table["fusion"] == fusion.kind) & (table["metric"] == "SDR")]
        np.testing.assert_allclose(rows["value"].to_numpy().reshape(expected.shape), expected, atol=1e-4)


def test_cross_validation_scores_tracks_with_weights_that_have_not_seen_them():
    tracks = conformance_tracks(("a", "b"), 2.0)
    table = cross_validate(LeastSquares("all", mixture=True), tracks)
    assert set(table["fusion"]) == {"mean", "least_squares"}
    for track in tracks:
        rest = [other for other in tracks if other is not track]
        weights = LeastSquares("all", mixture=True).fit(rest).weights_
        expected = GramStatistics.of(track).sdr(weights)
        rows = table[(table["track"] == track.name) & (table["fusion"] == "least_squares") & (table["metric"] == "SDR")]
        np.testing.assert_allclose(rows["value"].to_numpy().reshape(expected.shape), expected, atol=1e-9)
    assert len(compare(table, "mean")) == 5
    with pytest.raises(FusionError, match="at least two"):
        cross_validate(Mean(), tracks[:1])
