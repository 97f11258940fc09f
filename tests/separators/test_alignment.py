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


NAMED = [("speech", "music", "effects"), ("kazoo", "choir", "vocals"), ("guitar", "drums", "vocals")]


@pytest.mark.parametrize("sources", NAMED)
def test_a_large_residual_of_named_sources_is_said(sources: tuple[str, ...]) -> None:
    parts = band()[:3]
    noise = np.random.default_rng(2).normal(0, 1, parts.shape) * parts.std(axis=(1, 2), keepdims=True)
    alignment = check_alignment(Stems(parts + noise, sources), Track.from_arrays("Song", parts.sum(0)))
    assert alignment.faults == ()
    assert alignment.residual_db == pytest.approx(-3, abs=0.2)
    (warning,) = alignment.warnings
    assert warning.startswith("a large residual: their sum leaves -3.0 dB of the mixture: weak stems, or a source")
    assert "offset 0, residual -3.0 dB" in str(alignment)


@pytest.mark.parametrize("sources", [*NAMED, ("drums", "other", "vocals"), ("drums", "vocals"), SOURCES])
def test_stems_of_another_song_are_refused_whatever_their_names(sources: tuple[str, ...]) -> None:
    parts = band()[: len(sources)]
    other = Track.from_arrays("Other", parts[..., ::-1].sum(0))
    (problem,) = check_alignment(Stems(parts, sources), other).problems
    assert problem.startswith("their sum is not like the mixture (correlation ")
    assert "another song" in problem


@pytest.mark.parametrize("sources", [("drums", "other", "vocals"), ("kazoo", "choir", "vocals"), ("drums", "vocals")])
@pytest.mark.parametrize("level", [0.03, 0.3, 1.0])
def test_stems_of_some_sources_of_the_right_song_pass(
    truth: np.ndarray, sources: tuple[str, ...], level: float
) -> None:
    """A song with a source that has no stem, which may be much louder than those that have one."""
    song = truth.copy()
    song[: len(sources)] *= level
    stems = Stems(estimated(song)[: len(sources)], sources)
    alignment = check_alignment(stems, Track.from_arrays("Song", song.sum(0)))
    assert alignment.faults == ()
    assert alignment.gain_db is None
    # of the usual four it is known which one is missing
    assert (alignment.residual_db is None) == ("kazoo" not in sources)


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


@pytest.mark.parametrize("sources", [("vocals",), SOURCES])
@pytest.mark.parametrize("sign", [1, -1])
def test_polarity_is_judged_against_a_stems_own_reference(
    truth: np.ndarray, sources: tuple[str, ...], sign: int
) -> None:
    """A voice that keeps some of the others inverted is unlike the mixture, but not inverted."""
    stems = dict(zip(SOURCES, estimated(truth), strict=True))
    stems["vocals"] = sign * (0.8 * truth[3] - 0.45 * truth[:3].sum(0))
    track = Track.from_arrays("Song", truth.sum(0), truth)
    alignment = check_alignment(Stems(np.stack([stems[name] for name in sources]), sources), track)
    words = "their polarity" if len(sources) == 1 else "the polarity of vocals"
    assert alignment.problems == ((f"{words} is inverted",) if sign < 0 else ())
    if sources == SOURCES and sign > 0:
        assert measured(np.stack(list(stems.values())), truth, has_references=False).problems == ()


@pytest.mark.parametrize("has_references", [True, False])
@pytest.mark.parametrize("place", [1, 3])
def test_a_copy_of_the_mixture_is_named_and_no_other_stem(truth: np.ndarray, place: int, has_references: bool) -> None:
    stems = estimated(truth)
    stems[place] = 0.7 * truth.sum(0)
    alignment = measured(stems, truth, has_references)
    assert alignment.problems == (f"{SOURCES[place]} is the mixture itself, not a stem of it",)
    assert not any("one by one" in text for text in alignment.warnings)


@pytest.mark.parametrize("has_references", [True, False])
def test_bleed_of_the_mixture_in_a_stem_of_a_silent_source_is_no_copy(truth: np.ndarray, has_references: bool) -> None:
    instrumental = truth * np.array([1, 1, 1, 0])[:, None, None]
    stems = estimated(instrumental)
    stems[3] = 0.15 * instrumental.sum(0)
    assert measured(stems, instrumental, has_references).problems == ()


def test_a_copy_of_the_mixture_among_stems_of_other_names_is_named() -> None:
    parts = band()[:3]
    stems = np.stack([parts[0], parts.sum(0), parts[2]])
    alignment = check_alignment(Stems(stems, ("speech", "music", "effects")), Track.from_arrays("S", parts.sum(0)))
    assert alignment.problems == ("music is the mixture itself, not a stem of it",)


def test_the_mixture_of_a_song_that_is_all_voice_is_a_fair_stem(truth: np.ndarray) -> None:
    alone = truth * np.array([1e-3, 1e-3, 1e-3, 1])[:, None, None]
    stems = estimated(alone)
    stems[3] = 1.2 * alone.sum(0)
    assert measured(stems, alone, has_references=True).problems == ()


@pytest.mark.parametrize("has_references", [True, False])
@pytest.mark.parametrize("level", [1e-4, 3e-3])
def test_stems_that_are_nearly_silent_were_not_scaled_one_by_one(
    truth: np.ndarray, level: float, has_references: bool
) -> None:
    quiet = truth.copy()
    quiet[0] *= level * quiet.std() / quiet[0].std()
    rng = np.random.default_rng(3)
    for stem in (0 * quiet[0], rng.normal(0, quiet[0].std(), quiet[0].shape), -quiet[0], 0.01 * quiet[0]):
        stems = quiet.copy()
        stems[0] = stem
        alignment = measured(stems, quiet, has_references)
        assert not any("one by one" in text for text in alignment.warnings)
        assert not any("drums" not in text for text in alignment.problems)
    # a loud one that is not in the mixture has no gain either
    stems[0] = rng.normal(0, truth.std(), quiet[0].shape)
    assert not any("one by one" in text for text in measured(stems, quiet, has_references).warnings)


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
