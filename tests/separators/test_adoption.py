"""Stems of other tools: layouts and names as they write them, and stems that are shifted, scaled, cut or foreign."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from makers.places import CLIP
from stemfuse.separators import RATE, SOURCES, ArraySignal, AudioError, Signal, Stems, StemStore, Track, TrackError
from stemfuse.separators.audio.containers import open_signal
from stemfuse.separators.conversion import converted_to
from stemfuse.separators.store.adoption import Adoption, FoundStems, find_stems
from stemfuse.separators.store.alignment import Alignment, check_alignment

TRACKS = ("Song", "Actions - One Minute Smile")
LAYOUTS = [
    ("test/{track}/{source}.wav", "<subset>/<track>/<source>", ""),
    ("{track}/{source}.wav", "<track>/<source>", ""),
    ("{track}/{Source}.flac", "<track>/<source>", ""),
    ("htdemucs/{track}/{source}.mp3", "<model>/<track>/<source>", "htdemucs"),
    ("separated/htdemucs/{track}/{source}.wav", "<model>/<track>/<source>", "separated/htdemucs"),
    ("mdx_extra/{track}-{source}.wav", "<model>/<track>_<source>", "mdx_extra"),
    ("{track}/htdemucs/mixture/{source}.wav", "<track>/<model>/<source>", "htdemucs"),
    ("{track}_{source}.wav", "<track>_<source>", ""),
    ("{track} ({source}).wav", "<track>_(<source>)", ""),
    ("{track}/mixture_({Source})_MDX23C.wav", "<track>/(<source>)_<model>", "MDX23C"),
    ("{track}_({Source})_htdemucs_ft.flac", "<track>_(<source>)_<model>", "htdemucs_ft"),
    ("1_{track}_({Source}).wav", "<track>_(<source>)", ""),
    ("17_{track}_MDX23C-8KFFT_({Source}).wav", "<track>_<model>_(<source>)", "MDX23C-8KFFT"),
    ("{track}_bs_roformer_{source}.wav", "<track>_<model>_<source>", "bs_roformer"),
]
TWO = ("bass", "vocals")
ODD_NAMES = (
    "Don't Stop (Live) [2001]",
    'He said "no"',
    "Ünïcode – 東京の夜",
    "Song_(Vocals)_mix",
    "Song",
    "Song_2",
    "What? Why: *",
    "...dots...",
    "Bass",
    "100% no_vocals",
    "Some Drums",
)


def make_track(name: str) -> Track:
    return Track.from_arrays(name, np.zeros((2, 100)))


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def files_of(adoption: Adoption) -> dict[str, dict[str, str]]:
    return {
        stems.track.name: {source: path.relative_to(adoption.folder).as_posix() for source, path in stems.files.items()}
        for stems in adoption.found
    }


# -- finding ------------------------------------------------------------------


def write_empty(folder: Path, template: str, names: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Empty files for bass and vocals of every track, under the name that a tool gives it; what should be found."""
    expected = {
        track: {source: template.format(track=name, source=source, Source=source.title()) for source in TWO}
        for track, name in names.items()
    }
    touch(folder, *(path for paths in expected.values() for path in paths.values()))
    return expected


@pytest.mark.parametrize(("template", "layout", "model"), LAYOUTS)
def test_layouts_of_the_tools_are_read(tmp_path: Path, template: str, layout: str, model: str) -> None:
    expected = write_empty(tmp_path, template, {track: track for track in TRACKS})
    adoption = find_stems(tmp_path, map(make_track, TRACKS))
    assert files_of(adoption) == expected
    assert (adoption.layout, adoption.model) == (layout, model)
    assert [*adoption.left_over, *adoption.ignored, *adoption.without] == []
    assert "2 tracks, 4 stems: 2 bass, 2 vocals" in str(adoption)


def sanitized(name: str) -> str:
    return re.sub("_+", "_", re.sub(r'[<>:"/\\|?*]', "_", name)).strip("_. ")


def decomposed(name: str) -> str:
    return unicodedata.normalize("NFD", name)


@pytest.mark.parametrize("template", [template for template, *_ in LAYOUTS])
@pytest.mark.parametrize("change", [str, sanitized, str.upper, decomposed])
def test_odd_names_find_their_tracks(tmp_path: Path, template: str, change: Callable[[str], str]) -> None:
    expected = write_empty(tmp_path, template, {name: change(name) for name in ODD_NAMES})
    assert files_of(find_stems(tmp_path, map(make_track, ODD_NAMES))) == expected


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text("ab_ ()'é.-夜1", min_size=1, max_size=8).filter(str.strip), min_size=1, max_size=4, unique=True),
    st.sampled_from(["{track}_({Source})_htdemucs.wav", "{track}_{source}.wav", "{track}_bs_roformer_{source}.wav"]),
)
def test_any_name_is_read_back(tmp_path_factory: pytest.TempPathFactory, names: list[str], template: str) -> None:
    folder = tmp_path_factory.mktemp("flat")
    # names that begin like macOS's resource forks or UVR's numbers are read as such
    names = [name for name in names if not name.startswith((".", "1_"))] or ["Song"]
    expected = write_empty(folder, template, {name: name for name in names})
    assert files_of(find_stems(folder, map(make_track, names))) == expected


def test_other_words_for_the_sources(tmp_path: Path) -> None:
    files = {"drums": "A/DRUM.wav", "other": "A_Others.wav", "vocals": "A_(Voice).wav"}
    touch(tmp_path, *files.values(), "B_(Vocal).wav")
    assert files_of(find_stems(tmp_path, map(make_track, "AB"))) == {"A": files, "B": {"vocals": "B_(Vocal).wav"}}


def test_input_suffixes_left_in_names_are_read(tmp_path: Path) -> None:
    # demucs on Song.stem.mp4, older MSST on Two.flac, which cuts four characters
    touch(tmp_path, "x/Song.stem/vocals.wav", "x/Two._vocals.wav")
    assert list(files_of(find_stems(tmp_path, map(make_track, ("Song", "Two"))))) == ["Song", "Two"]


def test_what_is_not_adopted_is_reported(tmp_path: Path) -> None:
    touch(tmp_path, "A/vocals.wav", "A/drums.wav", "A/no_vocals.wav", "A/Instrumental.wav", "A/lead vocals.wav")
    touch(tmp_path, "B/vocals.wav", "B/accompaniment.wav", "A/guitar.wav")
    touch(tmp_path, "Z/vocals.wav", "A/clicks.wav", "loop.flac", "A/vocals.png", "A/._vocals.wav", "notes.txt")
    adoption = find_stems(tmp_path, map(make_track, "ABC"))
    adopted = {
        # beside drums and a guitar the accompaniment is the sum of others; beside the vocals alone it is a stem
        "A": {"drums": "A/drums.wav", "vocals": "A/vocals.wav", "guitar": "A/guitar.wav"},
        "B": {"vocals": "B/vocals.wav", "accompaniment": "B/accompaniment.wav"},
    }
    assert files_of(adoption) == adopted
    assert set(adoption.ignored) == {"no_vocals", "instrumental", "lead_vocals"}
    left_over = ["A/._vocals.wav", "A/clicks.wav", "Z/vocals.wav", "loop.flac"]
    assert [path.as_posix() for path in adoption.left_over] == left_over
    text = str(adoption)
    assert "one folder per track" in text
    assert "C: no stems" in text
    assert "ignored: 1 x no_vocals, such as A/no_vocals.wav" in text
    assert "left over, not a track's stem: loop.flac" in text


def test_two_models_in_one_folder_are_refused_and_can_be_selected(tmp_path: Path) -> None:
    touch(tmp_path, *(f"Song_({source})_{model}.wav" for source in ("Vocals", "Bass") for model in ("MDX", "htdemucs")))
    with pytest.raises(TrackError, match=r"got stems of 2 models.*'MDX': 2 files such as Song_.*'htdemucs'.*--model"):
        find_stems(tmp_path, [make_track("Song")])
    adoption = find_stems(tmp_path, [make_track("Song")], model="MDX")
    assert files_of(adoption) == {"Song": {"bass": "Song_(Bass)_MDX.wav", "vocals": "Song_(Vocals)_MDX.wav"}}
    assert list(adoption.ignored) == ["bass of model 'htdemucs'", "vocals of model 'htdemucs'"]
    adoption = find_stems(tmp_path, [make_track("Song")], sources=["vocals"], model="MDX")
    assert files_of(adoption) == {"Song": {"vocals": "Song_(Vocals)_MDX.wav"}}


def test_models_of_different_tracks_are_not_mixed(tmp_path: Path) -> None:
    touch(tmp_path, "htdemucs/A/vocals.wav", "mdx/B/vocals.wav")
    with pytest.raises(TrackError, match="got stems of 2 models"):
        find_stems(tmp_path, map(make_track, "AB"))
    assert list(files_of(find_stems(tmp_path, map(make_track, "AB"), model="mdx"))) == ["B"]


def test_two_files_for_one_stem_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "Song/vocals.wav", "Song/vocals.flac")
    with pytest.raises(TrackError, match=r"got 2 files for vocals, expected one: .*vocals.flac, .*vocals.wav"):
        find_stems(tmp_path, [make_track("Song")])


def test_a_file_that_fits_two_tracks_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "What_/vocals.wav")
    with pytest.raises(TrackError, match=r"'What_' fits the tracks 'What\?', 'What!'"):
        find_stems(tmp_path, map(make_track, ("What?", "What!")))
    assert list(files_of(find_stems(tmp_path, map(make_track, ("What?", "What_", "What!"))))) == ["What_"]


def test_nothing_found_says_what_was_expected(tmp_path: Path) -> None:
    touch(tmp_path, "Unknown/vocals.wav")
    with pytest.raises(TrackError, match=r"none of 1 audio files .*<subset>/<track>/<source>"):
        find_stems(tmp_path, [make_track("Song")])
    for absent, what in ((tmp_path / "absent", "no such folder"), (tmp_path / "Unknown" / "vocals.wav", "a file")):
        with pytest.raises(TrackError, match=f"{what}; expected a folder of stems"):
            find_stems(absent, [make_track("Song")])


# -- checking -----------------------------------------------------------------


def make_music(seconds: float = 3.0, seed: int = 0) -> np.ndarray:
    """Four sources of coloured noise in beats, overlapping in frequency: (source, channel, time)."""
    rng = np.random.default_rng(seed)
    length = int(seconds * RATE)
    beats = 0.1 + (np.arange(length) // 9000 % np.array([[2], [3], [5], [7]]) == 0)
    noise = rng.normal(0, 0.1, (4, 2, length)) * beats[:, None]
    poles = zip((0.0, 0.98, 0.8, 0.5), noise, strict=True)
    return np.stack([(1 - pole) ** 0.5 * lfilter([1], [1, -pole], part) for pole, part in poles])


MUSIC = make_music()
TRACK = Track.from_arrays("Song", MUSIC.sum(0))


def shifted(audio: np.ndarray, late: int) -> np.ndarray:
    moved = np.roll(audio, late, axis=-1)
    moved[..., : max(late, 0)] = 0
    moved[..., moved.shape[-1] + min(late, 0) :] = 0
    return moved


def check(audio: np.ndarray, sources: tuple[str, ...] = SOURCES, track: Track = TRACK) -> Alignment:
    return check_alignment(Stems(audio, sources, track.rate), track)


@pytest.mark.parametrize("late", [0, 1, 37, 1105, -37, -20_000, 44_100])
def test_offset_is_found_to_the_sample(late: int) -> None:
    alignment = check(shifted(MUSIC, late))
    assert alignment.offset == late
    assert alignment.gain_db == pytest.approx(0, abs=1e-4)
    assert alignment.residual_db is not None
    assert alignment.residual_db < -100
    assert alignment.problems + alignment.warnings == ()


@settings(max_examples=15, deadline=None)
@given(
    # a fault that is beyond doubt is seen in three parts of a second
    st.integers(-RATE // 2, RATE // 2),
    st.floats(-20, 20),
    st.booleans(),
    st.sets(st.sampled_from(range(4)), min_size=1),
    st.floats(0, 0.5),
)
@pytest.mark.slow
def test_any_offset_of_any_sources_is_found(
    late: int, gain_db: float, invert: bool, kept: set[int], error: float
) -> None:
    """Offset, gain and polarity of any of the sources, with separation errors up to -6 dB of each source."""
    rest = MUSIC.sum(0, keepdims=True) - MUSIC
    audio = (1 - error) * MUSIC + error * rest / 3
    audio = shifted(audio, late) * 10 ** (gain_db / 20) * (-1 if invert else 1)
    rows = sorted(kept)
    alignment = check(audio[rows], tuple(SOURCES[row] for row in rows))
    assert alignment.offset == late
    assert ("their polarity is inverted" in alignment.problems) == invert
    if len(kept) == 4:
        assert alignment.gain_db == pytest.approx(gain_db, abs=1e-3)
        assert any("the mixture" in text for text in alignment.problems) == (abs(gain_db) > 6)


def put(folder: Path, audio: np.ndarray, rate: int = RATE) -> FoundStems:
    """Write stems as a tool would, and find them."""
    Stems(audio, rate=rate).write(folder / "Song")
    (found,) = find_stems(folder, [TRACK]).found
    return found


@pytest.mark.parametrize("late", [1105, -300])
def test_an_offset_is_refused_shifted_or_left(tmp_path: Path, late: int) -> None:
    audio = shifted(MUSIC, late).astype(np.float32)
    found = put(tmp_path, audio)
    with pytest.raises(AudioError, match=rf"'Song': the stems are {abs(late)} samples .*add --shift .*, or --as-is"):
        found.load()
    moved, alignment = found.load("shift")
    inner = slice(max(-late, 0), TRACK.length - max(late, 0))
    np.testing.assert_array_equal(moved.audio[..., inner], MUSIC.astype(np.float32)[..., inner])
    assert not moved.audio[..., inner.stop :].any()
    assert not moved.audio[..., : inner.start].any()
    assert f"offset {late:+d}, gain" in str(alignment)
    as_they_lie, _ = found.load("as-is")
    np.testing.assert_array_equal(as_they_lie.audio, audio)


def test_shifting_keeps_the_end_that_a_longer_file_has(tmp_path: Path) -> None:
    stems, _ = put(tmp_path, np.pad(MUSIC, ((0, 0), (0, 0), (1105, 0)))).load("shift")
    np.testing.assert_array_equal(stems.audio, MUSIC.astype(np.float32))


def test_aligned_stems_are_loaded_as_they_are(tmp_path: Path) -> None:
    found = put(tmp_path, MUSIC)
    stems, alignment = found.load()
    np.testing.assert_array_equal(stems.audio, MUSIC.astype(np.float32))
    with pytest.raises(AudioError, match="'refuse', 'shift' or 'as-is'"):
        found.load("force")
    assert str(alignment).startswith("Song: drums, bass, other, vocals; offset 0, gain +0.00 dB, residual -1")
    assert "\n" not in str(alignment)


def test_gain_is_reported_and_refused_beyond_a_limit(tmp_path: Path) -> None:
    quieter = check(MUSIC * 10 ** (-3 / 20))
    assert quieter.gain_db == pytest.approx(-3, abs=1e-4)
    assert quieter.warnings == ("their sum is 3.0 dB quieter than the mixture",)
    assert not quieter.problems
    found = put(tmp_path, MUSIC * 4)
    with pytest.raises(AudioError, match=r"sum is 12\.0 dB louder than the mixture.*add --as-is"):
        found.load()
    assert found.load(gain_limit_db=13)[1].warnings == ("their sum is 12.0 dB louder than the mixture",)
    stems, alignment = found.load("as-is")
    np.testing.assert_array_equal(stems.audio, np.float32(4) * MUSIC.astype(np.float32))
    assert "  problem: their sum is 12.0 dB louder" in str(alignment)


def test_stems_that_were_scaled_one_by_one_are_found() -> None:
    gains_db = np.array([-1.5, 0.0, 3.0, -6.0])
    alignment = check(MUSIC * 10 ** (gains_db / 20)[:, None, None])
    assert not alignment.problems
    (text,) = [text for text in alignment.warnings if "one by one" in text]
    for source, gain_db in zip(SOURCES, gains_db, strict=True):
        assert f"{source} {gain_db:+.1f} dB" in text.replace("-0.0", "+0.0")


def test_inverted_polarity_is_a_problem(tmp_path: Path) -> None:
    assert "their polarity is inverted" in check(-shifted(MUSIC, 37)).problems
    one = MUSIC * np.array([1, 1, 1, -1])[:, None, None]
    assert check(one).problems == ("the polarity of vocals is inverted",)
    with pytest.raises(AudioError, match=r"polarity of vocals is inverted.*add --as-is"):
        put(tmp_path, one).load("shift")


@pytest.mark.parametrize(
    ("audio", "rate", "message"),
    [
        (MUSIC[:, :1], RATE, "1 channels, the mixture has 2"),
        (MUSIC, 48_000, "48000 Hz, the mixture has 44100"),
        (MUSIC[..., :-20_000], RATE, "got 112300 samples, expected 132300 as in its mixture.*this one is 20000"),
        (np.where(np.arange(TRACK.length) == 99_999, np.nan, MUSIC), RATE, r"drums.wav: sample 99999 .* nan"),
    ],
)
@pytest.mark.parametrize("how", ["refuse", "as-is"])
def test_what_cannot_be_stored_is_refused_in_any_way(
    tmp_path: Path, audio: np.ndarray, rate: int, message: str, how: str
) -> None:
    with pytest.raises(AudioError, match=message):
        put(tmp_path, audio, rate=rate).load(how)


@pytest.mark.parametrize(("place", "rate", "channels"), [(1, 22_050, 2), (0, 48_000, 2), (3, RATE, 1)])
def test_one_stem_of_another_form_is_named_and_can_be_converted(
    tmp_path: Path, place: int, rate: int, channels: int
) -> None:
    for row, source in enumerate(SOURCES):
        form, count = (rate, channels) if row == place else (RATE, 2)
        stem = converted_to(ArraySignal(MUSIC[row]), form, count)
        Stems(stem.read()[None], (source,), form).write(tmp_path / "Song")
    (found,) = find_stems(tmp_path, [TRACK]).found
    got, expected = (f"{rate} Hz", RATE) if rate != RATE else ("1 channels", 2)
    words = rf"{SOURCES[place]}\.wav has {got}, the mixture has {expected}; add --convert"
    with pytest.raises(AudioError, match=words):
        found.load()
    # files that are added up are converted, too
    added = FoundStems(TRACK, {"drums": found.files["drums"]}, {"drums": tuple(found.files.values())[1:]})
    with pytest.raises(AudioError, match=words):
        added.load("as-is")
    for one in (found, added):
        stems, _ = one.load("as-is", convert=True)
        assert (stems.rate, stems.channels, stems.length) == (RATE, 2, TRACK.length)


def test_a_slightly_shorter_file_is_mended_with_a_warning(tmp_path: Path) -> None:
    stems, alignment = put(tmp_path, MUSIC[..., :-10]).load()
    assert stems.length == TRACK.length
    assert alignment.offset == 0
    assert [text for text in alignment.warnings if "10 zeros added to its end" in text]


def test_two_stems_that_are_the_mixture_are_not_vocals_and_other() -> None:
    other = MUSIC[:3].sum(0)
    alignment = check(np.stack([other, MUSIC[3]]), ("other", "vocals"))
    assert alignment.gain_db is None
    (problem,) = alignment.problems
    assert "already sum to the mixture, without drums, bass" in problem
    assert not check(MUSIC[2:], ("other", "vocals")).problems


def test_stems_of_another_song_are_refused(tmp_path: Path) -> None:
    found = put(tmp_path, make_music(seed=1))
    with pytest.raises(AudioError, match=r"sum is not like the mixture \(correlation -?0.0\d\): another song, or more"):
        found.load()
    assert found.load("as-is")[1].offset is None
    one = check(make_music(seed=1)[3:], ("vocals",))
    assert one.offset is None
    assert [text for text in one.warnings if "offset is unknown" in text]
    assert "offset unknown" in str(one)


def test_silence_and_copies_are_worth_a_warning() -> None:
    silent = MUSIC.copy()
    silent[3] = 0
    assert check(silent, track=Track.from_arrays("Song", silent.sum(0))).warnings == ("vocals is silent",)
    copies = check(np.stack([MUSIC.sum(0), MUSIC.sum(0), MUSIC[2], MUSIC[2]]))
    for pair in ("drums and bass", "other and vocals"):
        assert f"{pair} are the same audio" in copies.warnings
    assert copies.problems == tuple(f"{name} is the mixture itself, not a stem of it" for name in ("drums", "bass"))
    # the mixture in place of every stem is a known baseline
    shares = check(np.stack([MUSIC.sum(0) / 4] * 4))
    assert shares.problems == ()
    assert "the mixture and drums are the same audio" in shares.warnings


def test_silent_songs_and_stems_can_be_checked() -> None:
    nothing = np.zeros_like(MUSIC)
    for audio in (nothing, MUSIC):
        assert not check(audio, track=Track.from_arrays("Rest", nothing[0])).problems
    assert [text for text in check(nothing).problems if "not like the mixture" in text]


def test_exact_loops_are_left_where_they_fit() -> None:
    loop = np.tile(MUSIC[..., :11_025], 12)
    track = Track.from_arrays("Loop", loop.sum(0))
    assert check(loop, track=track).offset == 0
    late = check(shifted(loop, 11_025), track=track)
    assert late.offset is None
    assert not late.problems


class Watched(Signal):
    """A long song at 8 kHz that remembers its longest read."""

    rate, channels, length = 8000, 1, 8000 * 45

    def __init__(self, seed: int, loud: int, late: int = 0) -> None:
        rng = np.random.default_rng(seed)
        samples = rng.normal(0, 0.001, (1, self.length))
        samples[:, loud : loud + 20_000] *= 100
        self.samples = shifted(samples, late).astype(np.float32)
        self.longest = 0

    def _read(self, start: int, stop: int) -> np.ndarray:
        self.longest = max(self.longest, stop - start)
        return self.samples[:, start:stop]


@pytest.mark.parametrize("loud", [0, 170_000, 340_000])
def test_long_songs_are_read_in_blocks(loud: int) -> None:
    mixture, stem = Watched(0, loud), Watched(0, loud, late=-431)
    alignment = check_alignment({"vocals": stem}, Track("Long", mixture))
    assert alignment.offset == -431
    assert max(mixture.longest, stem.longest) <= 12 * 8000


@pytest.mark.parametrize(("suffix", "codec"), [(".mp3", "libmp3lame"), (".m4a", "aac")])
def test_delays_of_lossy_files_are_found(tmp_path: Path, suffix: str, codec: str) -> None:
    """The delay that the codec leaves, if any, and 1105 samples on top, against a search by plain residuals."""
    (tmp_path / "Song").mkdir()
    for source, stem in zip(SOURCES, shifted(MUSIC, 1105).astype(np.float32), strict=True):
        with av.open(str(tmp_path / "Song" / f"{source}{suffix}"), "w") as container:
            stream = container.add_stream(codec, rate=RATE, layout="stereo")
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(stem), "fltp", "stereo")
            frame.rate = RATE
            container.mux([*stream.encode(frame), *stream.encode(None)])
    (found,) = find_stems(tmp_path, [TRACK]).found
    decoded = sum(open_signal(path).read(0, 60_000).astype(float) for path in found.files.values())
    part = MUSIC.sum(0)[:, 20_000:40_000]
    errors = [np.square(decoded[:, 20_000 + late : 40_000 + late] - part).sum() for late in range(4000)]
    _, alignment = found.load("shift")
    assert alignment.offset == int(np.argmin(errors)) >= 1105


def test_real_music_with_its_own_mastering() -> None:
    """Stempeg's clip: its mixture is not the sum of its stems, and each stem alone is found in it."""
    mixture, *stems = (open_signal(CLIP, stream).read() for stream in range(5))
    track = Track.from_arrays("Falcon 69", mixture)
    assert track.length > 5 * RATE
    everything = check(shifted(np.stack(stems), 500), track=track)
    assert everything.offset == 500
    assert everything.residual_db == pytest.approx(-15.5, abs=0.5)
    assert not everything.problems
    for source, stem in zip(SOURCES, stems, strict=True):
        assert check(shifted(stem, -700)[None], (source,), track).offset == -700
    backwards = check(np.stack(stems)[..., ::-1], track=track)
    assert backwards.offset is None
    assert backwards.problems


class TestUnreadable:
    """A file that cannot be read costs its track; alone it is an error."""

    def write(self, folder: Path, *names: str) -> list[Track]:
        noise = np.random.default_rng(0).normal(0, 0.1, (4, 2, 22_050)).astype("float32")
        for name in names:
            Stems(noise).write(folder / name)
        return [Track.from_arrays(name, noise.sum(0)) for name in names]

    def test_its_track_is_passed_over_and_the_file_is_named(self, tmp_path, caplog):
        tracks = self.write(tmp_path / "a", "one", "two", "three")
        (tmp_path / "a" / "two" / "bass.wav").write_bytes(b"junk")
        adoption, alignments = StemStore(tmp_path / "store").adopt(tmp_path / "a", "a", tracks)
        assert [found.track.name for found in adoption.found] == ["one", "three"]
        assert len(alignments) == 2
        assert "two: no stems" in adoption.notes
        assert "two/bass.wav" in caplog.text.replace("\\", "/")

    @pytest.mark.parametrize("suffix", ["flac", "wav", "mp3", "ogg"])
    def test_a_file_that_is_damaged_behind_its_header_is_no_other(self, tmp_path, caplog, suffix):
        tracks = self.write(tmp_path / "a", "one", "two", "three")
        whole = tmp_path / "a" / "two" / "bass.wav"
        damaged = whole.with_suffix(f".{suffix}")
        soundfile.write(damaged, open_signal(whole).read().T, RATE)
        if suffix != "wav":
            whole.unlink()
        content = damaged.read_bytes()
        damaged.write_bytes(content[: len(content) // 2])
        adoption, _ = StemStore(tmp_path / "store").adopt(tmp_path / "a", "a", tracks)
        assert [found.track.name for found in adoption.found] == ["one", "three"]
        assert f"bass.{suffix}" in caplog.text

    @pytest.mark.parametrize("names", [("one",), ("one", "two")])
    def test_where_no_track_is_left_it_is_an_error(self, tmp_path, names):
        tracks = self.write(tmp_path / "a", *names)
        for name in names:
            (tmp_path / "a" / name / "bass.wav").write_bytes(b"junk")
        with pytest.raises(AudioError, match=r"one.bass\.wav"):
            StemStore(tmp_path / "store").adopt(tmp_path / "a", "a", tracks)
        assert not (tmp_path / "store").exists()
