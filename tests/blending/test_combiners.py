"""Classical combiners: what each rule gives, streaming, and files of one stem."""

import subprocess
import sys
import tracemalloc

import librosa
import numpy as np
import pytest
import soundfile as sf

from makers.audio import noise32
from makers.places import CLIP
from stemfuse.analysis import bss_eval
from stemfuse.blending import FusionError, LinearFusion, check_fusion, load_fusion, make_fusion
from stemfuse.blending.classical.combined_files import combine_files
from stemfuse.blending.classical.combiners import AVERAGES, RULES, Average, Combine, Crossover, median
from stemfuse.blending.classical.spectral import BLOCK, BandSplit, ShortTimeFourier
from stemfuse.blending.conformance import conformance_tracks
from stemfuse.separators import RATE, SOURCES, AudioError, ContainerSignal, Stems, Track, WriteError


def track_of(*stems, rate=RATE):
    """A track whose only source is vocals, by separators a, b, c."""
    parts = {
        name: Stems(np.asarray(audio)[None], ("vocals",), rate) for name, audio in zip("abcde", stems, strict=False)
    }
    return Track("song", parts["a"]["vocals"], stems=parts)


def fused(fusion, *stems, rate=RATE):
    track = track_of(*stems, rate=rate)
    return fusion.fit([track]).fuse(track)["vocals"].read()


def tone(frequency_hz, seconds=1.0, amplitude=0.5):
    wave = amplitude * np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * RATE)) / RATE)
    return np.stack([wave, -wave]).astype(np.float32)


@pytest.fixture(scope="module")
def music():
    """Two seconds of a real vocal stem."""
    return ContainerSignal(CLIP, stream=4).read()[:, -2 * RATE :]


def sdr_db(reference, estimate):
    return 10 * np.log10(np.square(reference).sum() / np.square(reference - estimate).sum())


def transformed(audio):
    return librosa.stft(np.ascontiguousarray(audio), n_fft=2048, hop_length=1024)


def restored(spectrum, length):
    return librosa.istft(spectrum, hop_length=1024, length=length)


@pytest.mark.slow
def test_the_median_of_complex_bins_beats_that_of_the_other_tools(music):
    """Three noisy copies: the tools' median orders bins by their real part; ours is near the average, and robust."""
    copies = [music + noise32(*music.shape, seed=seed, scale=0.3 * music.std()) for seed in range(3)]
    theirs = sdr_db(music, restored(np.median([transformed(copy) for copy in copies], axis=0), music.shape[1]))
    ours = sdr_db(music, fused(Combine("median_fft"), *copies))
    average = sdr_db(music, fused(Average(), *copies))
    single = sdr_db(music, copies[0])
    assert single + 2 < theirs + 1 < ours < average
    failed = [*copies[:2], music[:, ::-1]]
    assert sdr_db(music, fused(Combine("median_fft"), *failed)) > sdr_db(music, fused(Average(), *failed)) + 3


@pytest.mark.slow
@pytest.mark.parametrize("how", ["min_fft", "max_spec", "max_fft", "median_fft", "min_spec"])
def test_rules_on_spectra_are_those_of_librosa_on_the_whole_song(how):
    copies = [noise32(2, 40_000, seed=seed) for seed in range(3)]
    bins = np.stack([transformed(copy) for copy in copies])
    if how == "median_fft":
        chosen = np.median(bins.real, axis=0) + 1j * np.median(bins.imag, axis=0)
    else:
        pick = np.argmin if how.startswith("min") else np.argmax
        chosen = np.take_along_axis(bins, pick(np.abs(bins), axis=0)[None], axis=0)[0]
    expected = restored(chosen, 40_000)
    # librosa leaves out the last frame
    np.testing.assert_allclose(fused(Combine(how), *copies)[:, :-2048], expected[:, :-2048], atol=2e-6)


def test_rules_on_samples():
    a, b, c, d = np.array([[1, -2, 0.5], [-3, 1, 0.5], [2, 4, -0.25], [8, -8, -0.5]], np.float32)[:, None]
    assert fused(Combine("median_wave"), a, b, c).tolist() == [[1, 1, 0.5]]
    assert fused(Combine("median_wave"), a, b, c, d).tolist() == [[1.5, -0.5, 0.125]]
    assert fused(Combine("min_wave"), a, b, c, d).tolist() == [[1, 1, -0.25]]
    assert fused(Combine("max_wave"), a, b, c, d).tolist() == [[8, -8, 0.5]]


@pytest.mark.parametrize("count", range(1, 10))
def test_the_median_is_that_of_numpy(count):
    values = noise32(count, 3, 500, seed=count)
    np.testing.assert_array_equal(median(values), np.median(values, axis=0))
    pairs = values[:, :, ::2] + 1j * values[:, :, 1::2]
    np.testing.assert_array_equal(median(pairs), np.median(pairs.real, axis=0) + 1j * np.median(pairs.imag, axis=0))


def test_extremes_of_spectra_gather_and_share_tones():
    low, high, both = tone(400), tone(4000), tone(400) + tone(4000)
    inside = slice(4096, -4096)
    np.testing.assert_allclose(fused(Combine("max_fft"), low, high)[:, inside], both[:, inside], atol=2e-3)
    np.testing.assert_allclose(fused(Combine("min_fft"), low, high)[:, inside], 0, atol=2e-3)
    np.testing.assert_allclose(fused(Combine("min_fft"), both, low)[:, inside], low[:, inside], atol=2e-3)


@pytest.mark.parametrize("how", RULES)
@pytest.mark.parametrize(("channels", "length"), [(2, 30_001), (1, 1), (1, 1500), (3, 5000)])
def test_equal_inputs_stay_as_they_are(how, channels, length):
    stem = noise32(channels, length)
    np.testing.assert_allclose(fused(Combine(how), stem, stem, stem), stem, atol=1e-6)


@pytest.mark.parametrize(("n_fft", "hop"), [(4096, 1024), (2000, 700), (512, 256), (1000, 3), (4, 2)])
def test_unchanged_spectra_give_the_signal_back(n_fft, hop):
    stem = noise32(2, 3333)
    transform = ShortTimeFourier(n_fft, hop)
    same = transform.apply(lambda start, stop: stem[:, start:stop], lambda spectra: spectra, 3333, 5, 3330)
    np.testing.assert_allclose(same, stem[:, 5:3330], atol=1e-6)


@pytest.mark.parametrize(("n_fft", "hop"), [(2048, 1025), (2047, 512), (2048, 0), (2, 1)])
def test_transforms_that_do_not_give_back_are_refused(n_fft, hop):
    with pytest.raises(FusionError, match="at most half"):
        Combine("min_fft", n_fft=n_fft, hop=hop).fit([track_of(noise32(2, 100))])


FUSIONS = [
    Average(),
    Average([3, 2, 1]),
    *(Combine(how) for how in RULES),
    Combine("median_fft", ["a", "c"], n_fft=1000, hop=300),
    Crossover([200, 3000.5], ["a", {"a": 1, "b": 3}, [1, 1, 1]]),
]


@pytest.mark.parametrize("fusion", FUSIONS, ids=repr)
def test_every_fusion_conforms(fusion):
    check_fusion(fusion)


@pytest.mark.parametrize("fusion", [Combine("median_wave"), Combine("max_fft"), Crossover([900], ["b", "a"])], ids=repr)
def test_any_range_is_that_of_the_whole(fusion):
    """Across the borders of blocks, at both ends, and empty."""
    length = 2 * BLOCK + 4321
    track = track_of(noise32(2, length), noise32(2, length, seed=1), noise32(2, length, seed=2))
    stems = fusion.fit([track]).fuse(track)
    whole = stems.audio
    for start, stop in [(0, 1), (0, 3000), (BLOCK - 5, BLOCK + 5), (777, BLOCK + 60_000), (length - 1, length), (9, 9)]:
        np.testing.assert_allclose(stems.read(start, stop), whole[:, :, start:stop], atol=1e-6)
    np.testing.assert_allclose(np.concatenate([part for _, part in stems.blocks(50_021)], 2), whole, atol=1e-6)


@pytest.mark.parametrize(
    "fusion", [Combine("median_wave"), Combine("max_fft"), Crossover([9000], ["a", "b"])], ids=repr
)
def test_memory_does_not_grow_with_the_song(fusion):
    """Four lazy minutes, 42 MB, are fused in some MB, and read block by block."""
    seen = []

    def read(start, stop):
        seen.append(stop - start)
        return np.full((1, 1, stop - start), 0.5, np.float32)

    stems = Stems.lazy(read, ("vocals",), 1, 240 * RATE)
    track = Track("long", stems["vocals"], stems={"a": stems, "b": stems})
    tracemalloc.start()
    for start, block in fusion.fit([track]).fuse(track).blocks():
        if start and start + block.shape[2] < track.length:
            assert abs(block - 0.5).max() < 1e-5
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert max(seen) <= 1 << 18
    assert peak < 24e6


def test_weights_of_an_average_are_normalised():
    one = np.ones((1, 10), np.float32)
    assert fused(Average([2, 1, 1]), one, 2 * one, 4 * one)[0, 0] == 2
    assert fused(Average({"c": 1, "a": 3}), one, 2 * one, 4 * one)[0, 0] == 1.75
    assert fused(Average({"vocals": {"a": 0, "b": 10}}), one, 2 * one)[0, 0] == 2
    assert fused(Average([2, -1]), one, 4 * one)[0, 0] == -2
    assert fused(Average(), one, 2 * one)[0, 0] == 1.5


def test_a_demucs_bag_has_a_row_of_weights_for_each_model():
    tracks = conformance_tracks()
    bag = [[1, 0, 2, 1.0], [1, 1, 0, 3], [2, 0, 0, 1]]
    fusion = Average(bag).fit(tracks)
    audio = np.stack([stems.audio for stems in tracks[0].stems.values()])
    shares = np.array(bag) / np.sum(bag, axis=0)
    np.testing.assert_allclose(fusion.fuse(tracks[0]).audio, np.einsum("ms,msct->sct", shares, audio), atol=1e-6)
    by_source = Average({source: [row[index] for row in bag] for index, source in enumerate(SOURCES)}).fit(tracks)
    np.testing.assert_array_equal(by_source.weights_.matrix, fusion.weights_.matrix)
    assert isinstance(fusion, LinearFusion)


@pytest.mark.slow  # librosa compiles for most of a minute in a new environment
def test_the_average_of_spectra_is_the_average():
    copies = [noise32(2, 30_000, seed=seed) for seed in range(3)]
    spectra = sum(weight * transformed(copy) for weight, copy in zip([0.5, 0.3, 0.2], copies, strict=True))
    averaged = fused(Average([5, 3, 2]), *copies)
    np.testing.assert_allclose(averaged[:, :-2048], restored(spectra, 30_000)[:, :-2048], atol=1e-6)


def test_sources_that_only_some_separators_give():
    ones = np.ones((4, 2, 100), np.float32)
    track = Track.from_arrays("t", ones.sum(0), stems={"a": ones, "b": 3 * ones})
    track = track.with_stems({"voice": Stems(np.full((1, 2, 100), 8.0), ("vocals",))})
    for fusion, expected in [(Average([1, 1, 2]), [2, 2, 2, 5]), (Combine("median_wave"), [2, 2, 2, 3])]:
        stems = fusion.fit([track]).fuse(track)
        assert [stems[source].read(0, 1)[0, 0] for source in SOURCES] == expected


def test_a_crossover_takes_each_band_from_its_own_separator():
    first = tone(300) + tone(3000, amplitude=0.2) + tone(12_000, amplitude=0.1)
    second = tone(310) + tone(3100, amplitude=0.3) + tone(12_500, amplitude=0.1)
    third = tone(290) + tone(2900, amplitude=0.4) + tone(13_000, amplitude=0.2)
    expected = tone(300) + tone(3100, amplitude=0.3) + tone(13_000, amplitude=0.2)
    inside = slice(4096, -4096)
    made = fused(Crossover([1000, 8000], ["a", "b", "c"]), first, second, third)
    assert sdr_db(expected[:, inside], made[:, inside]) > 60
    # a blend of separators in the upper band
    made = fused(Crossover([1000], ["a", {"b": 1, "c": 1}]), first, second, third)
    upper = second + third - tone(310) - tone(290)
    assert sdr_db((tone(300) + upper / 2)[:, inside], made[:, inside]) > 60


def test_a_crossover_whose_bands_blend_alike_is_that_blend():
    stems = [noise32(2, 30_000, seed=seed) for seed in range(2)]
    alike = fused(Crossover([300, 4000], [[1, 3], [1, 3], {"b": 0.75, "a": 0.25}]), *stems)
    np.testing.assert_allclose(alike, fused(Average([1, 3]), *stems), atol=1e-6)
    np.testing.assert_allclose(fused(Crossover([700], ["a", "b"]), stems[0], stems[0]), stems[0], atol=1e-6)


def test_a_crossover_has_linear_phase():
    click = np.zeros((1, 9001), np.float32)
    click[0, 4500] = 1
    low = fused(Crossover([500], ["a", "b"]), click, 0 * click)[0]
    np.testing.assert_allclose(low, low[::-1], atol=1e-7)
    assert low.argmax() == 4500
    assert BandSplit((500.0,), 60.0, RATE).reach < 4500


@pytest.mark.parametrize(
    ("fusion", "message"),
    [
        (Combine("medium_fft"), "'medium_fft' is unknown, there are median_wave, .*max_spec"),
        (Combine("avg_fft"), "linear, make an Average"),
        (Combine("min_wave", ["a", "nobody"]), r"has stems by a, b, expected nobody"),
        (Average([1, 2, 3]), "got 3 weights, expected one for each separator: a, b"),
        (Average([1, -1]), "weights of vocals.left sum to zero"),
        (Average({"z": 1}), "has stems by a, b, expected z"),
        (Average("a"), "expected one weight for each of a, b"),
        (Average({"vocals": {"z": 1}}), "no such stem"),
        (Crossover([500], ["a"]), "got 1 bands and 1 edges, expected one band more"),
        (Crossover([500, 400], ["a", "b", "a"]), "expected ascending edges above 0 Hz"),
        (Crossover([22_040], ["a", "b"]), "expected ascending edges"),
        (Crossover([500], ["a", "b"], width_hz=0), "expected ascending edges"),
        (Crossover([500], ["a", "nobody"]), "expected nobody"),
    ],
    ids=repr,
)
def test_errors_say_what_was_expected(fusion, message):
    with pytest.raises(FusionError, match=message):
        fusion.fit([track_of(noise32(2, 100), noise32(2, 100))])


def test_bands_have_to_give_the_same_sources():
    tracks = conformance_tracks()
    with pytest.raises(FusionError, match="band 2 gives vocals, band 1 drums, bass"):
        Crossover([500], ["a", {"vocals": {"b": 1}}]).fit(tracks)


@pytest.fixture
def files(tmp_path):
    """Three stems of one source, with names that need care; the last is seven samples short."""
    names = ["ä b 'c'.wav", "-x.wav", "last.wav"]
    for seed, name in enumerate(names):
        sf.write(tmp_path / name, noise32(9000 - 7 * (seed == 2), 2, seed=seed), RATE, "FLOAT")
    return [tmp_path / name for name in names]


def loaded(files):
    waves = [sf.read(file, dtype="float32")[0].T for file in files]
    return [np.pad(wave, ((0, 0), (0, waves[0].shape[1] - wave.shape[1]))) for wave in waves]


@pytest.mark.parametrize("how", [*AVERAGES, *RULES])
def test_files_of_one_stem_are_combined_as_stems_are(how, files, tmp_path):
    weights = [3, 1, 1] if how in AVERAGES else None
    out = combine_files(files, how, tmp_path / "out.wav", weights)
    fusion = Average(weights) if how in AVERAGES else Combine(how)
    np.testing.assert_allclose(loaded([out])[0], fused(fusion, *loaded(files)), atol=1e-6)
    assert sf.info(out).subtype == "FLOAT"


def test_files_are_the_bands_of_a_crossover_from_the_lowest_up(files, tmp_path):
    out = combine_files(files, "crossover", tmp_path / "out.flac", edges_hz=[500, 5000])
    expected = fused(Crossover([500, 5000], ["a", "b", "c"]), *loaded(files))
    np.testing.assert_allclose(loaded([out])[0], expected, atol=2e-7)
    assert sf.info(out).subtype == "PCM_24"


def test_the_result_may_take_the_place_of_a_file(files):
    expected = fused(Average(), *loaded(files))
    np.testing.assert_array_equal(loaded([combine_files(files, "avg_wave", files[1])])[0], expected)
    assert sorted(files[0].parent.iterdir()) == sorted(files)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"how": "average"}, FusionError, "'average' is unknown, there are avg_wave, .*crossover"),
        ({"weights": [1, 2]}, FusionError, r"got weights \[1, 2\] for 3 files"),
        ({"weights": [1, -2, 1]}, FusionError, "with a sum other than zero"),
        ({"how": "median_fft", "weights": [1, 1, 1]}, FusionError, "only avg_wave and avg_fft take them"),
        ({"how": "median_fft", "n_ftf": 1}, FusionError, "'n_ftf' is unknown"),
        ({"how": "crossover"}, FusionError, "got 3 bands and 0 edges"),
        ({"files": []}, FusionError, "got no files"),
        ({"out": "out.mp4"}, AudioError, "expected a name that ends in .wav or .flac"),
        ({"out": "out.flac", "subtype": "FLOAT"}, AudioError, "FLOAT"),
        ({"out": "last.wav/out.wav"}, WriteError, "last.wav: no such folder"),
    ],
    ids=repr,
)
def test_errors_about_files_say_what_was_expected(change, error, message, files, tmp_path):
    arguments = {"files": files, "how": "avg_wave", **change}
    out = tmp_path / arguments.pop("out", "out.wav")
    with pytest.raises(error, match=message):
        combine_files(out=out, **arguments)
    assert not out.exists()


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros((9000, 2)), 48_000, "got 2 channels at 48000 Hz, expected 2 at 44100 Hz as in .*c'.wav; convert"),
        (np.zeros((9000, 1)), RATE, "got 1 channels at 44100 Hz, expected 2"),
        (np.zeros((19_000, 2)), RATE, "19000 samples"),
        (np.full((9000, 2), np.nan), RATE, "odd.wav: sample 0 of channel 0 is nan"),
    ],
)
def test_files_that_do_not_fit_are_refused(samples, rate, message, files, tmp_path):
    sf.write(tmp_path / "odd.wav", samples, rate, "FLOAT")
    with pytest.raises(AudioError, match=message):
        combine_files([*files, tmp_path / "odd.wav"], "avg_wave", tmp_path / "out.wav")
    assert not (tmp_path / "out.wav").exists()


def test_averaging_files_imports_nothing_heavy(files, tmp_path):
    code = (
        "import sys; from stemfuse.blending.classical.combined_files import combine_files;"
        "combine_files(sys.argv[2:], 'avg_wave', sys.argv[1]);"
        "print([name for name in ('pandas', 'scipy', 'librosa', 'torch', 'matplotlib') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out.wav"), *map(str, files)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_fusions_are_made_by_name():
    assert make_fusion("combine", how="max_fft").arguments() == Combine("max_fft").arguments()
    with pytest.raises(FusionError, match="its arguments are edges_hz, bands, width_hz"):
        make_fusion("crossover", edges=[1])


@pytest.mark.slow
def test_weights_by_band_find_the_separator_that_is_right_in_each():
    truth, error = noise32(4, 2, 2 * RATE), noise32(4, 2, 2 * RATE, seed=1)
    split = BandSplit((2000.0,), 60.0, RATE)
    below = split.apply(lambda start, stop: error[None, ..., start:stop], 2 * RATE, 0, 2 * RATE, slice(1))
    track = Track.from_arrays(
        "song", truth.sum(0), truth, {"right above": truth + below, "below": truth + error - below}
    )

    def sdr(name, **options):
        estimate = make_fusion(name, **options).fit([track]).fuse(track).audio
        return np.median(bss_eval(truth.swapaxes(1, 2), estimate.swapaxes(1, 2))[0])

    assert sdr("bandwise", edges_hz=[2000]) > sdr("least_squares") + 10


def test_bands_of_a_fitted_fusion_are_loaded_from_its_files(tmp_path):
    track = conformance_tracks()[0]
    fusion = make_fusion("bandwise", fusion="gram_mixer", options={"epochs": 1}, edges_hz=[1500]).fit([track])
    fusion.save(tmp_path / "x.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.bands.json", "x.bands.safetensors", "x.json"]
    np.testing.assert_array_equal(load_fusion(tmp_path / "x.json").fuse(track).audio, fusion.fuse(track).audio)
    with pytest.raises(FusionError, match="not fitted"):
        make_fusion("bandwise").fuse(track)
