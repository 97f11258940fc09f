"""The synthetic band: the same bytes for the same seed, music as its score demands, and no song half written."""

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from itertools import pairwise

import numpy as np
import pytest
import soundfile as sf
from scipy.signal import find_peaks

from stemfuse.experiments.band import compose, draw_production, plan_tracks, render, synthesize
from stemfuse.experiments.band.accompaniment import HELD
from stemfuse.experiments.band.mixing import mix, reverberate
from stemfuse.experiments.band.score import SCALES, STEPS, Phrase, Syllable
from stemfuse.experiments.band.tones import fade, frequency, noise_band, place, pluck
from stemfuse.experiments.band.voice import LEAD_S, Singer, sing
from stemfuse.experiments.band.widening import Treatment, coded, draw_treatment, mix_widely, treat
from stemfuse.separators import SOURCES, StemfuseError, TrackError, WriteError

RATE = 44_100
SECONDS = 20.0
FILES = ("mixture", *SOURCES)


@pytest.fixture(scope="module")
def songs():
    """Six songs with their stems (source, channel, time)."""
    composed = [compose((11, index), SECONDS) for index in range(6)]
    return [(song, render(song).audio) for song in composed]


def sha256(directory):
    """Path and digest of every file of a tree."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*.wav"))
    }


def envelope(wave, size):
    """Root mean square of a stem (channel, time) in steps of ``size`` samples, over both channels."""
    count = wave.shape[1] // size
    return np.sqrt(np.mean(wave[:, : count * size].reshape(2, count, size) ** 2, axis=(0, 2)))


def run_python(code, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


@pytest.mark.slow
def test_same_bytes_in_a_fresh_process_and_on_a_later_day(tmp_path):
    synthesize(tmp_path / "here", 2, 3.0, seed=5)
    time.sleep(1.1)  # headers that hold the time of day would differ now
    done = run_python(
        "import sys; from stemfuse.experiments.band import synthesize; synthesize(sys.argv[1], 2, 3.0, seed=5)",
        tmp_path / "there",
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "1234"},
    )
    assert done.returncode == 0, done.stderr
    assert sha256(tmp_path / "here") == sha256(tmp_path / "there")
    assert len(sha256(tmp_path / "here")) == 10


def test_layout_and_mixture_is_exactly_the_sum(tmp_path):
    reported = []
    folders = synthesize(tmp_path, 4, 2.5, seed=3, progress=lambda done, total: reported.append((done, total)))
    assert [folder.relative_to(tmp_path).as_posix() for folder in folders] == [
        "train/Synth Band 0003 - 000",
        "test/Synth Band 0003 - 001",
        "valid/Synth Band 0003 - 002",
        "train/Synth Band 0003 - 003",
    ]
    assert reported == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert {path.name for path in tmp_path.iterdir()} == {"train", "valid", "test"}
    for folder in folders:
        assert {path.name for path in folder.iterdir()} == {f"{name}.wav" for name in FILES}
        mixture, *stems = (sf.read(folder / f"{name}.wav", dtype="float32")[0] for name in FILES)
        info = sf.info(folder / "mixture.wav")
        assert (info.samplerate, info.channels, info.subtype, info.frames) == (RATE, 2, "PCM_16", 110_250)
        np.testing.assert_array_equal(mixture, np.sum(stems, axis=0, dtype=np.float32))
        assert max(np.abs(wave).max() for wave in (mixture, *stems)) < 1
        assert np.abs(mixture).max() > 0.3


def test_files_hold_what_render_gives(tmp_path):
    (folder,) = synthesize(tmp_path, 1, 2.0, seed=9)
    stems = render(compose((9, 0), 2.0))
    assert stems.sources == SOURCES
    for source, audio in zip(stems.sources, stems.audio, strict=True):
        np.testing.assert_array_equal(sf.read(folder / f"{source}.wav", dtype="float32")[0].T, audio)


def test_a_song_does_not_depend_on_how_many_others_there_are(tmp_path):
    synthesize(tmp_path / "many", 6, 2.0, seed=1)
    synthesize(tmp_path / "few", {"test": 2}, 2.0, seed=1)
    synthesize(tmp_path / "subset", 2, 2.0, seed=1, subset="test")
    many, few = sha256(tmp_path / "many"), sha256(tmp_path / "few")
    assert few.items() <= many.items()
    assert few == sha256(tmp_path / "subset")
    assert len(few) == 10


def test_no_song_is_ever_in_two_subsets():
    seen = {}
    plans = [1, 2, 3, 7, 40, {"test": 9}, {"train": 3, "valid": 5}, {"valid": 1, "train": 1, "test": 1}]
    for plan in plans:
        planned = plan_tracks(plan)
        assert len(planned) == (plan if isinstance(plan, int) else sum(plan.values()))
        for subset, index in planned:
            assert seen.setdefault(index, subset) == subset
    counts = [sum(subset == name for subset, _ in plan_tracks(40)) for name in ("train", "valid", "test")]
    assert counts == [20, 10, 10]


def test_songs_that_are_there_are_left_alone_and_the_rest_is_added(tmp_path):
    first = synthesize(tmp_path, 2, 2.0, seed=1)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.wav")}
    again = synthesize(tmp_path, 3, 2.0, seed=1)
    assert again[:2] == first
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    assert len(sha256(tmp_path)) == 15


@pytest.mark.slow
def test_killed_process_leaves_no_half_song_and_is_continued(tmp_path):
    code = "import sys; from stemfuse.experiments.band import synthesize; synthesize(sys.argv[1], 3, 4.0, seed=2)"
    killed = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", code, str(killed)])
    deadline = time.monotonic() + 60
    # wait for the middle of the second song
    while not (len(list(killed.glob("t*/*"))) >= 1 and list(killed.glob(".writing-*/*.wav"))):
        assert process.poll() is None, "the process ended before it could be killed"
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGKILL)
    process.wait()
    standing = list(killed.glob("t*/*"))
    assert standing
    assert all(len(list(folder.glob("*.wav"))) == 5 for folder in standing)
    synthesize(killed, 3, 4.0, seed=2)
    synthesize(tmp_path / "undisturbed", 3, 4.0, seed=2)
    assert sha256(killed) == sha256(tmp_path / "undisturbed")
    assert not list(killed.glob(".writing-*"))


def test_temporary_folder_of_a_dead_process_is_no_track(tmp_path):
    from stemfuse.separators.audio.whole_files import HOST

    remains = tmp_path / f".writing-{HOST}-{2**22 + 1}-abcd"
    elsewhere = tmp_path / ".writing-another_host-1-abcd"
    for folder in (remains, elsewhere):
        folder.mkdir()
        (folder / "mixture.wav").write_bytes(b"RIFF")
    made = synthesize(tmp_path, 1, 2.0, seed=1)
    assert [path.parent.name for path in made] == ["train"]
    assert not remains.exists()
    # whether a process of another machine lives cannot be known from here
    assert elsewhere.exists()


def test_a_folder_of_another_length_or_with_a_file_missing_is_not_taken(tmp_path):
    (folder,) = synthesize(tmp_path, 1, 2.0, seed=1)
    with pytest.raises(TrackError, match=r"88200 samples.*expected 132300.*delete the folder"):
        synthesize(tmp_path, 1, 3.0, seed=1)
    (folder / "bass.wav").unlink()
    with pytest.raises(TrackError, match=r"not complete.*bass\.wav: no such file"):
        synthesize(tmp_path, 1, 2.0, seed=1)
    assert not (folder / "bass.wav").exists()


def test_file_in_place_of_the_directory(tmp_path):
    (tmp_path / "data").write_text("not a folder")
    with pytest.raises(WriteError, match=r"cannot be written.*choose another directory"):
        synthesize(tmp_path / "data", 1, 2.0)


@pytest.mark.slow
@pytest.mark.parametrize(("trouble", "words"), [("read-only", "Permission denied"), ("full", "File too large")])
def test_disk_that_cannot_be_written(trouble, words):
    code = """
        import os, resource, sys, tempfile
        from stemfuse.experiments.band import compose, render, synthesize
        from stemfuse.separators import StemfuseError
        render(compose(0, 2.0))  # everything is imported before root becomes nobody
        with tempfile.TemporaryDirectory() as folder:
            if sys.argv[1] == "full":
                resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
            else:
                os.chmod(folder, 0o555)
                os.geteuid() or os.seteuid(65534)
            try:
                synthesize(folder, 1, 2.0)
            except StemfuseError as error:
                print(error)
            os.getuid() or os.seteuid(0)
            assert not [name for _, _, names in os.walk(folder) for name in names]
            assert set(os.listdir(folder)) <= {"train"}
    """
    done = run_python(code, trouble)
    assert done.returncode == 0, done.stderr
    assert f"cannot be written ({words})" in done.stdout
    assert "free some space or choose another directory" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"tracks": 0}, "one or more"),
        ({"tracks": -1}, "one or more"),
        ({"tracks": {"train": 1, "other": 2}}, "'other'"),
        ({"tracks": {"train": 1}, "subset": "test"}, "one of the two"),
        ({"subset": "tset"}, "train, valid or test"),
        ({"seconds": 0.5}, "1 seconds or more"),
        ({"seconds": float("nan")}, "1 seconds or more"),
        ({"seed": -1}, "from 0 up"),
    ],
)
def test_arguments_out_of_range(tmp_path, arguments, words):
    with pytest.raises(StemfuseError, match=words):
        synthesize(tmp_path, **{"tracks": 1, "seconds": 2.0, **arguments})
    assert not list(tmp_path.rglob("*.wav"))


@pytest.mark.parametrize("length", [44_100, 88_200, 88_201, 147_013, 262_144])
def test_any_length(length):
    stems = render(compose((4, length), length / RATE)).audio
    assert stems.shape == (4, 2, length)
    assert np.isfinite(stems).all()
    assert all(np.abs(stem).max() > 0.01 for stem in stems), "a source is silent in a short song"


@pytest.mark.slow
def test_songs_differ_and_seeds_differ(songs):
    for (first, one), (second, other) in pairwise(songs):
        assert first.form != second.form
        assert np.corrcoef(one.sum((0, 1)), other.sum((0, 1)))[0, 1] < 0.2
    assert len({song.form.style for song, _ in songs}) >= 3
    assert len({song.bass.instrument for song, _ in songs}) >= 3
    assert len({(song.form.tonic, song.form.mode) for song, _ in songs}) >= 4
    assert compose(1, 5.0) == compose((1,), 5.0)


def test_sections_cover_the_song_without_gaps(songs):
    for song, _ in songs:
        form = song.form
        bars = [bar for section in form.sections for bar in range(section.start, section.start + section.bars)]
        assert bars == list(range(len(bars)))
        assert form.time_s(len(bars), 0) >= SECONDS > form.time_s(len(bars) - 1, 0)
        assert 2 <= len(song.others) <= 3


def test_drums_sound_on_the_grid_of_the_tempo(songs):
    shares = []
    for song, stems in songs:
        hop = 220
        level = np.log(envelope(stems[0], hop) + 1e-4)
        rise = level[2:] - level[:-2]
        peaks, _ = find_peaks(rise, height=1.5, distance=8)
        assert len(peaks) > 10
        grid = np.array([song.form.time_s(0, step) for step in range(round(SECONDS / song.form.step_s) + STEPS)])
        onsets_s = (peaks + 1.5) * hop / RATE
        distance = np.abs(onsets_s[:, None] - grid).min(axis=1)
        shares.append(np.mean(distance < 0.02))
    # onsets anywhere would be within 20 ms of a sixteenth in about a third of the cases
    assert np.mean(shares) > 0.85, shares


def test_bass_is_low_and_follows_the_chords(songs):
    for song, stems in songs:
        bass = stems[1].mean(0)
        windows = np.lib.stride_tricks.sliding_window_view(bass, 8192)[::8192] * np.hanning(8192)
        spectra = np.abs(np.fft.rfft(windows))
        loud = spectra.max(1) > 0.05 * spectra.max()
        peaks_hz = spectra[loud].argmax(1) * RATE / 8192
        assert np.mean(peaks_hz < 300) > 0.9
        form = song.form
        fits = [
            note.pitch % 12 in form.chord(bar).tones
            for note in song.bass.notes
            for bar in range(40)
            if abs(note.start_s - form.time_s(bar, 0)) < 0.04
        ]
        assert fits
        assert np.mean(fits) > 0.9


def test_voice_sings_in_the_key_and_rests(songs):
    for song, stems in songs:
        form = song.form
        pitches = [syllable.pitch for phrase in song.voice for syllable in phrase.syllables]
        scale = {(form.tonic + step) % 12 for step in SCALES[form.mode]}
        assert np.mean([pitch % 12 in scale for pitch in pitches]) > 0.9
        assert max(pitches) - min(pitches) <= 24
        level = envelope(stems[3], RATE // 10)
        sounding = level > 0.03 * level.max()
        assert 0.25 < sounding.mean() < 0.95
        # a rest of a second at least, reverberation included
        assert "0" * 10 in "".join("1" if sound else "0" for sound in level > 0.1 * level.max())


def test_every_source_rests_in_some_song(songs):
    for number, source in enumerate(SOURCES):
        levels = [envelope(stems[number], RATE // 2) for _, stems in songs]
        assert any(np.mean(level < 0.01 * level.max()) > 0.04 for level in levels), source


def test_a_looping_accompaniment_repeats_exactly_and_a_free_one_does_not():
    repeated = {True: [], False: []}
    for index in range(20):
        song = compose((21, index), 40.0)
        form = song.form
        bars = range(form.sections[-1].start)
        # held chords begin with the harmony, whoever plays
        for part in (part for part in song.others if part.instrument not in HELD):
            rhythms = [
                [
                    (round(note.start_s - form.time_s(bar, 0), 6), note.velocity)
                    for note in part.notes
                    if form.time_s(bar, 0) - 0.03 <= note.start_s < form.time_s(bar + 1, 0) - 0.03
                ]
                for bar in bars
            ]
            repeated[form.loops] += [one == next_one for one, next_one in pairwise(rhythms) if one and next_one]
    assert len(repeated[True]) > 50
    assert len(repeated[False]) > 50
    # where a section begins the rhythm may change even in a loop
    assert np.mean(repeated[True]) > 0.7
    assert np.mean(repeated[False]) == 0


def test_stereo_image_varies_from_song_to_song(songs):
    productions = [draw_production(compose((3, index), 2.0).form) for index in range(60)]
    centred = np.mean([production.voice_pan == 0 for production in productions])
    assert 0.5 < centred < 0.9
    widths = [production.drum_width for production in productions]
    assert min(widths) < 0.05
    assert max(widths) > 0.8
    audio = np.stack([stems for _, stems in songs])
    sides, sums = np.square(audio[:, :, 0] - audio[:, :, 1]).sum(-1), np.square(audio.sum(2)).sum(-1)
    side_db = dict(zip(SOURCES, 10 * np.log10(sides / sums + 1e-9).T, strict=True))
    assert np.mean(side_db["bass"]) < np.mean(side_db["drums"]) < np.mean(side_db["other"])
    assert np.ptp(side_db["drums"]) > 6
    assert np.ptp(side_db["vocals"]) > 3


def test_levels_are_those_of_a_mix(songs):
    for _, stems in songs:
        power_db = 10 * np.log10(np.mean(stems**2, axis=(1, 2)) / np.mean(stems.sum(0) ** 2))
        assert (power_db > -16).all()
        assert (power_db < -1).all()
        crest_db = 20 * np.log10(np.abs(stems.sum(0)).max() / np.sqrt(np.mean(stems.sum(0) ** 2)))
        assert 9 < crest_db < 24


@pytest.mark.parametrize("pitch", [28, 45, 61, 76, 88])
def test_plucked_strings_are_in_tune_and_decay(pitch):
    wave = pluck(np.random.default_rng(0), frequency(pitch), 2 * RATE, 2.0, 3_000.0, 0.2, 0.3)
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 16 * RATE))
    around = np.arange(int(frequency(pitch - 1) * 16), int(frequency(pitch + 1) * 16))
    cents = 1200 * np.log2(around[spectrum[around].argmax()] / 16 / frequency(pitch))
    assert abs(cents) < 4
    early, late = np.sqrt(np.mean(wave[:4410] ** 2)), np.sqrt(np.mean(wave[RATE : RATE + 4410] ** 2))
    assert -55 < 20 * np.log10(late / early) < -25


def test_noise_band_has_unit_power_in_its_band():
    noise = noise_band(np.random.default_rng(0), 50_021, 1_000, 4_000)
    assert noise.shape == (50_021,)
    assert np.mean(noise**2) == pytest.approx(1, rel=0.03)
    power = np.abs(np.fft.rfft(noise)) ** 2
    hertz = np.fft.rfftfreq(len(noise), 1 / RATE)
    assert power[(hertz > 700) & (hertz < 6_000)].sum() > 0.85 * power.sum()
    assert power[hertz < 250].sum() < 0.01 * power.sum()


def test_tones_outside_the_song_are_cut():
    bus = np.zeros(10, np.float32)
    place(bus, np.ones(4, np.float32), -2, 2.0)
    place(bus, np.ones(4, np.float32), 8)
    place(bus, np.ones(4, np.float32), 20)
    np.testing.assert_array_equal(bus, [2, 2, 0, 0, 0, 0, 0, 0, 1, 1])
    assert fade(np.ones(0, np.float32), 0.1, 0.1).shape == (0,)


def test_room_does_not_depend_on_where_blocks_begin():
    room = np.random.default_rng(0).standard_normal((2, 3_000), dtype=np.float32)
    echoes = []
    for start in (0, 5_000, 12_002):
        wave = np.zeros((2, 30_000), np.float32)
        wave[:, start] = 1
        reverberate(wave, room, 0.5)
        wave[:, start] -= 1
        echoes.append(wave[:, start : start + 6_000])
        # straight lines between the samples of half the rate begin one sample early
        assert np.abs(wave[:, : max(start - 1, 0)]).max(initial=0) < 1e-5
    np.testing.assert_allclose(echoes[1], echoes[0], atol=1e-5)
    np.testing.assert_allclose(echoes[2], echoes[0], atol=1e-5)
    np.testing.assert_allclose(echoes[0][:, ::2], 0.35 * 0.5 * 2 * room, atol=1e-5)


def sung(vowel, consonant="", pitch=50.0):
    singer = Singer(1.0, 0.6, 6.0, 0.02, 5.5, 30.0, 0.06, 5.0)
    phrase = Phrase((Syllable(1.0, 1.0, pitch, 0.8, consonant, vowel),))
    return sing(np.random.default_rng(0), singer, phrase, (pitch,))


def test_voice_holds_its_pitch():
    wave, start = sung("ah", pitch=57.0)
    assert start == round((1.0 - LEAD_S) * RATE)
    held = wave[round(0.7 * RATE) : round(1.3 * RATE)]
    correlation = np.correlate(held[:8_000], held[:8_000], "full")[8_000:]
    lags = np.arange(int(RATE / 300), int(RATE / 160))
    hertz = RATE / (lags[correlation[lags].argmax()] + 1)
    assert abs(1200 * np.log2(hertz / 220)) < 60
    assert np.abs(wave[: round(0.05 * RATE)]).max() < 0.01 * np.abs(wave).max()
    assert np.abs(wave[-round(0.1 * RATE) :]).max() < 0.01 * np.abs(wave).max()


def test_vowels_have_their_formants():
    peaks = {}
    for vowel in ("ee", "ah", "oo"):
        wave, _ = sung(vowel)
        held = wave[round(0.6 * RATE) : round(0.9 * RATE)]
        spectrum = np.abs(np.fft.rfft(held * np.hanning(len(held)))) ** 2
        hertz = np.fft.rfftfreq(len(held), 1 / RATE)
        bands = [
            spectrum[(hertz > low) & (hertz < high)].mean() for low, high in ((150, 450), (600, 1_300), (2_000, 2_700))
        ]
        peaks[vowel] = 10 * np.log10(bands)
    # open against closed, front against back
    assert peaks["ah"][1] - peaks["ah"][0] > peaks["ee"][1] - peaks["ee"][0] + 15
    assert peaks["ee"][2] - peaks["ee"][1] > peaks["oo"][2] - peaks["oo"][1] + 15


def test_consonants_are_noise_before_the_vowel():
    hiss, _ = sung("ah", "s")
    plain, _ = sung("ah", "")
    before = slice(round((LEAD_S - 0.09) * RATE), round((LEAD_S - 0.02) * RATE))
    high = np.fft.rfftfreq(before.stop - before.start, 1 / RATE) > 4_500
    hiss_power, plain_power = (np.sum(np.abs(np.fft.rfft(wave[before])[high]) ** 2) for wave in (hiss, plain))
    assert hiss_power > 100 * plain_power


def test_the_band_is_what_it_always_was():
    """Bytes of a song as of the first release of the networks that were trained on it."""
    assert hashlib.sha256(np.ascontiguousarray(mix(compose((9000, 0), 3.0)))).hexdigest()[:16] == "60450f71ce23840b"


def test_wide_songs_have_their_own_names_and_lie_beside_the_others(tmp_path):
    plain, wide = (synthesize(tmp_path, 1, 2.0, seed=5, wide=wide)[0] for wide in (False, True))
    assert (plain.name, wide.name) == ("Synth Band 0005 - 000", "Wide Band 0005 - 000")
    mixture, *stems = (sf.read(wide / f"{name}.wav", dtype="int16")[0].astype(int) for name in FILES)
    assert (mixture == sum(stems)).all()
    assert len(mixture) == 2 * RATE
    again = synthesize(tmp_path / "again", 1, 2.0, seed=5, wide=True)[0]
    assert sha256(again) == sha256(wide)


def test_wide_levels_are_wider():
    """Spread of the difference in level of bass and drums over songs: the wide one is twice as large or more."""

    def spread(make):
        levels = [10 * np.log10(np.square(make(index)[:2].astype(float)).mean((1, 2))) for index in range(8)]
        return np.std(np.diff(levels, axis=1))

    plain = spread(lambda index: mix(compose((12, index), 4.0)))
    assert spread(lambda index: mix_widely((12, index), 4.0)) > 1.5 * plain


def test_speed_moves_pitch_and_tempo():
    tone = np.tile(np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE), (2, 1)).astype(np.float32)
    faster = treat(np.random.default_rng(0), tone, Treatment(speed=1.25))
    assert abs(faster.shape[1] - RATE / 1.25) < 2
    spectrum = np.abs(np.fft.rfft(faster[0, :32_768] * np.hanning(32_768)))
    assert abs(np.argmax(spectrum) * RATE / 32_768 - 1250) < 2


def test_bells_lift_their_frequency_alone():
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 4 * RATE)).astype(np.float32)
    lifted = treat(np.random.default_rng(0), noise, Treatment(bells=((1000, 12.0, 2.0),)))
    before, after = (np.abs(np.fft.rfft(wave[0])) ** 2 for wave in (noise, lifted))
    gain_db = [
        10 * np.log10(part[4 * hertz - 80 : 4 * hertz + 80].sum()) for hertz in (1000, 8000) for part in (after, before)
    ]
    assert abs(gain_db[0] - gain_db[1] - 12) < 0.3
    assert abs(gain_db[2] - gain_db[3]) < 0.3


def test_the_codec_is_exact_when_fine_and_keeps_nothing_above_its_band():
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 10_001)).astype(np.float32)
    np.testing.assert_allclose(coded(noise, 1e-6, RATE), noise, atol=1e-5)
    spectrum = np.abs(np.fft.rfft(coded(noise, 0.3, 10_000)[0])) ** 2
    hertz = np.fft.rfftfreq(10_001, 1 / RATE)
    assert spectrum[hertz > 11_000].sum() < 1e-3 * spectrum.sum()
    error = coded(noise, 0.3, RATE) - noise
    # uniform errors of both parts of a complex number, in windowed STFT frames of half the power
    assert abs(10 * np.log10(np.square(error).sum() / np.square(noise).sum() / (0.3**2 / 12))) < 0.3


def test_treated_silence_stays_silent():
    rng = np.random.default_rng(0)
    for source in SOURCES * 4:
        assert not treat(rng, np.zeros((2, 20_000), np.float32), draw_treatment(rng, source)).any()
