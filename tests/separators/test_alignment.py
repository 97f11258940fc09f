"""Faults of single stems, on a real song and on bands of noise: found where they are, and no others."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from makers.places import SHARED
from stemfuse.separators import RATE, SOURCES, AudioError, Stems, Track, open_signal
from stemfuse.separators.store.adoption import FoundStems
from stemfuse.separators.store.alignment import Alignment, check_alignment

SONGS = SHARED / "real" / "songs"
SISEC = SHARED / "real" / "sisec18"


def band() -> np.ndarray:
    """Four sources of noise at different places of the stereo image: (source, channel, time)."""
    rng = np.random.default_rng(5)
    noise = rng.normal(0, 0.1, (4, 1, 3 * RATE)) + 0.3 * rng.normal(0, 0.1, (4, 2, 3 * RATE))
    noise = np.stack(
        [lfilter([1 - pole], [1, -pole], part) for pole, part in zip((0, 0.9, 0.7, 0.5), noise, strict=True)]
    )
    gains = np.array([[1.0, 0.4], [0.8, 0.8], [0.3, 1.0], [0.9, 0.6]])
    return noise * gains[:, :, None]


def song() -> np.ndarray:
    """8 s of a real song in four stems."""
    folder = SONGS / "eif_lithium"
    if not folder.is_dir():
        pytest.skip("needs the real songs beside the repository")
    return np.stack([open_signal(folder / f"{source}.flac").read(8 * RATE, 13 * RATE) for source in SOURCES])


@pytest.fixture(scope="module", params=[band, pytest.param(song, marks=pytest.mark.slow)])
def truth(request: pytest.FixtureRequest) -> np.ndarray:
    return request.param()


def estimated(audio: np.ndarray) -> np.ndarray:
    """What a fair separator gives of it: bleed and a little noise."""
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 1, audio.shape) * audio.std(axis=(1, 2), keepdims=True) / 20
    return 0.9 * audio + 0.1 * audio.sum(0) / 2 + noise


def measured(stems: np.ndarray, truth: np.ndarray, has_references: bool) -> Alignment:
    track = Track.from_arrays("Song", truth.sum(0), truth if has_references else None)
    return check_alignment(Stems(stems, SOURCES), track)


def late(audio: np.ndarray, samples: int) -> np.ndarray:
    moved = np.roll(audio, samples, axis=-1)
    moved[..., :samples] = 0
    return moved


@pytest.mark.parametrize("has_references", [True, False])
def test_a_fair_separator_has_no_fault(truth: np.ndarray, has_references: bool) -> None:
    alignment = measured(estimated(truth), truth, has_references)
    assert alignment.faults == ()
    assert alignment.offset == 0
    assert not alignment.offsets
    assert [stem.source for stem in alignment.stems] == list(SOURCES)


@pytest.mark.parametrize(
    "sources", [("speech", "music"), ("kazoo", "choir", "vocals"), ("guitar", "drums", "bass", "vocals"), ("kazoo",)]
)
def test_stems_of_any_names_may_add_up_to_the_mixture(sources: tuple[str, ...]) -> None:
    parts = band()[: len(sources)]
    alignment = check_alignment(Stems(parts, sources), Track.from_arrays("Song", parts.sum(0)))
    assert alignment.faults == ()
    assert alignment.gain_db == pytest.approx(0, abs=1e-4)
    quieter = check_alignment(Stems(parts / 2, sources), Track.from_arrays("Song", parts.sum(0)))
    assert quieter.problems == ("their sum is 6.0 dB quieter than the mixture",)
    alone = check_alignment(Stems(band()[3:], sources[:1]), Track.from_arrays("Song", band().sum(0)))
    assert alone.faults == ()
    assert alone.gain_db is None


@pytest.mark.parametrize("sources", [("other", "vocals"), ("drums", "bass", "vocals"), ("other",)])
def test_other_that_is_everything_but_the_voice_is_found(sources: tuple[str, ...]) -> None:
    parts = band()[: len(sources)]
    alignment = check_alignment(Stems(parts, sources), Track.from_arrays("Song", parts.sum(0)))
    assert "they already sum to the mixture, without" in alignment.problems[0]


@pytest.mark.parametrize("has_references", [True, False])
@pytest.mark.parametrize(("place", "samples"), [(3, 50), (0, 1105)])
def test_one_late_stem_is_found_and_moved_alone(
    truth: np.ndarray, place: int, samples: int, has_references: bool
) -> None:
    stems = estimated(truth)
    stems[place] = late(stems[place], samples)
    alignment = measured(stems, truth, has_references)
    assert alignment.late == {source: samples * (row == place) for row, source in enumerate(SOURCES)}
    assert any(f"{SOURCES[place]} is {samples} samples late (seen in" in fault for fault in alignment.faults)


def test_shift_moves_only_the_late_stem(tmp_path, truth: np.ndarray) -> None:
    stems = truth.astype(np.float32)
    stems[3] = late(stems[3], 300)
    Stems(stems).write(tmp_path)
    found = FoundStems(Track.from_arrays("Song", truth.sum(0), truth), {s: tmp_path / f"{s}.wav" for s in SOURCES})
    with pytest.raises(AudioError, match=r"vocals is 300 samples late .*: .* --shift to move them, or --as-is"):
        found.load()
    moved, _ = found.load("shift")
    np.testing.assert_array_equal(moved.audio[..., :-300], truth.astype(np.float32)[..., :-300])


def test_one_sample_of_phase_shifted_bleed_is_no_fault(truth: np.ndarray) -> None:
    """Bleed that a filter has delayed moves the peak of a weak stem by a sample; moving the stem would not mend it."""
    stems = estimated(truth)
    rest = truth.sum(0) - truth[3]
    stems[3] = 0.5 * truth[3] + 0.5 * late(truth[3], 1) + 0.5 * late(rest, 1)
    for has_references in (True, False):
        alignment = measured(stems, truth, has_references)
        assert not any("late" in fault for fault in alignment.faults)
        assert alignment.late == dict.fromkeys(SOURCES, 0)


def test_one_sample_of_good_stems_is_beyond_doubt(truth: np.ndarray) -> None:
    alignment = measured(late(truth, 1), truth, has_references=True)
    assert set(alignment.late.values()) == {1}
    assert alignment.faults[0].startswith("the stems are 1 sample late (seen in")


@pytest.mark.parametrize("has_references", [True, False])
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lambda audio: audio[::-1], "left and right of drums are swapped"),
        (lambda audio: -audio, "the polarity of drums is inverted"),
        (lambda audio: audio * np.array([[-1], [1]]), "the polarity of the left channel of drums is inverted"),
        (lambda audio: audio + 0.1, "drums has a constant (DC) of +0.100"),
    ],
)
def test_a_fault_of_one_stem_is_named(truth: np.ndarray, fault, words: str, has_references: bool) -> None:
    stems = estimated(truth)
    stems[0] = fault(stems[0])
    alignment = measured(stems, truth, has_references)
    if truth.shape[-1] > 4 * RATE and "swapped" in words and not has_references:
        pytest.skip("the song's drums are in the middle")
    (problem,) = alignment.problems
    assert problem.startswith(words)


FAULTS = {
    "left and right of {} are swapped": lambda audio: audio[::-1],
    "the polarity of {} is inverted": lambda audio: -audio,
    "the polarity of the right channel of {} is inverted": lambda audio: audio * np.array([[1], [-1]]),
    "{} has a constant (DC) of -0.200": lambda audio: audio - 0.2,
    "{} is 12.0 dB louder than its reference": lambda audio: 4 * audio,
}
SETS = {
    "four": (band, SOURCES),
    "a pair": (lambda: np.stack([band()[3], band()[:3].sum(0)]), ("vocals", "accompaniment")),
    "speech": (lambda: band()[[0, 2, 3]], ("speech", "music", "effects")),
    "mono": (lambda: band()[:, :1], SOURCES),
}


@pytest.mark.parametrize("words", FAULTS)
@pytest.mark.parametrize(("kind", "place"), [("four", 2), ("four", 3), ("a pair", 0), ("a pair", 1), ("speech", 1)])
def test_a_fault_of_any_stem_of_any_set_is_named(kind: str, place: int, words: str) -> None:
    make, sources = SETS[kind]
    named_alone(make(), sources, place, words)


@pytest.mark.parametrize("words", [words for words in FAULTS if "left" not in words and "right" not in words])
@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_fault_of_a_mono_stem_is_named(place: int, words: str) -> None:
    make, sources = SETS["mono"]
    named_alone(make(), sources, place, words)


def named_alone(truth: np.ndarray, sources: tuple[str, ...], place: int, words: str) -> None:
    """Check that the fault of one stem is the only problem, with and without faults of its level."""
    stems = truth.copy() if "louder" in words else estimated(truth)
    stems[place] = FAULTS[words](stems[place])
    track = Track.from_arrays("Song", truth.sum(0), truth, sources=sources)
    problems = [text for text in check_alignment(Stems(stems, sources), track).problems if "their sum" not in text]
    assert [text.partition(", ")[0] for text in problems] == [words.format(sources[place])]


def test_dc_of_all_stems_and_a_large_residual_are_said(truth: np.ndarray) -> None:
    alignment = measured(truth + 0.3, truth, has_references=False)
    assert sum("constant (DC) of +0.300" in problem for problem in alignment.problems) == 4
    assert any(warning.startswith("a large residual: their sum leaves -") for warning in alignment.warnings)


@pytest.mark.parametrize(
    ("correlation", "is_said"), [(0.12, True), (0.3, True), (0.5, True), (0.65, False), (0.8, False)]
)
@pytest.mark.parametrize("sources", [("vocals",), SOURCES])
def test_a_large_residual_of_a_single_stem_is_said(correlation: float, is_said: bool, sources: tuple[str, ...]) -> None:
    """A weak separator is no fault, but nobody should adopt such stems without knowing it."""
    truth = band()
    noise = np.random.default_rng(8).normal(0, truth[3].std(), truth[3].shape)
    stems = {source: truth[SOURCES.index(source)] for source in sources}
    stems["vocals"] = correlation * truth[3] + np.sqrt(1 - correlation**2) * noise
    track = Track.from_arrays("Song", truth.sum(0), truth)
    alignment = check_alignment(Stems(np.stack(list(stems.values())), list(stems)), track)
    assert alignment.faults == ()
    residual = alignment.stems[-1].residual_db
    assert residual == pytest.approx(10 * np.log10(1 - correlation**2), abs=0.1)
    text = f"a large residual: without its reference vocals is only {-residual:.1f} dB quieter"
    assert any(warning.startswith(text) for warning in alignment.warnings) == is_said


def test_stems_under_the_names_of_others_are_found(truth: np.ndarray) -> None:
    stems = estimated(truth)[[1, 0, 2, 3]]
    problems = measured(stems, truth, has_references=True).problems
    assert [text.split(" (")[0] for text in problems] == [
        "drums is like the reference of bass",
        "bass is like the reference of drums",
    ]
    assert measured(stems, truth, has_references=False).problems == ()


def test_levels_of_single_stems_against_their_references(truth: np.ndarray) -> None:
    stems = truth.copy()
    stems[2] *= 0.25
    alignment = measured(stems, truth, has_references=True)
    assert alignment.problems == ("other is 12.0 dB quieter than its reference",)
    assert alignment.stems[2].gain_db == pytest.approx(-12.04, abs=0.01)


@pytest.mark.parametrize(("system", "expected"), [("STL1", 2048), pytest.param("TAU1", 0, marks=pytest.mark.slow)])
def test_real_systems_of_sisec(system: str, expected: int) -> None:
    folders = sorted((SISEC / "references" / "test").glob("*"))
    if not folders:
        pytest.skip("needs the real songs beside the repository")
    for folder in folders[::5]:
        names = ("vocals", "accompaniment")
        references = Stems.from_signals({name: open_signal(folder / f"{name}.flac") for name in names})
        estimate = open_signal(SISEC / "estimates" / system / "test" / folder.name / "vocals.flac")
        for known in (references, None):
            track = Track.from_arrays(folder.name, references.audio.sum(0))
            track = Track(track.name, track.mixture, references=known)
            alignment = check_alignment({"vocals": estimate}, track)
            assert alignment.late == {"vocals": expected}
            assert alignment.problems == ()


@pytest.mark.slow
@pytest.mark.parametrize("system", ["JY3", "MDL1", "TAK2", "UHL3"])
def test_real_systems_have_no_false_faults(system: str) -> None:
    folders = sorted((SISEC / "references" / "test").glob("*"))
    if not folders:
        pytest.skip("needs the real songs beside the repository")
    for folder in folders[::3]:
        names = ("vocals", "accompaniment")
        references = Stems.from_signals({name: open_signal(folder / f"{name}.flac") for name in names})
        vocals = open_signal(SISEC / "estimates" / system / "test" / folder.name / "vocals.flac")
        track = Track.from_arrays(folder.name, references.audio.sum(0))
        alignment = check_alignment({"vocals": vocals}, Track(track.name, track.mixture, references=references))
        assert alignment.faults == ()
        assert not any("residual" in warning for warning in alignment.warnings)
