"""Songs whose references are a known mix of their inputs: what a fit has to find again."""

import numpy as np

from stemfuse.blending import MixingWeights, apply_weights, input_labels, output_labels
from stemfuse.separators import RATE, SOURCES, Stems, Track

# weights of two separators (separator, source) for drums, bass, other and vocals
CONVEX = np.array([[0.25, 0.5, 0.8, 0.0], [0.75, 0.5, 0.2, 1.0]])


def same_source(weights):
    """The matrix (8, 2 + 8 n) over mixture and stems of per-source weights (source, separator)."""
    matrix = np.zeros((8, 2 + 8 * weights.shape[1]))
    for source, row in enumerate(weights):
        for separator, weight in enumerate(row):
            for channel in range(2):
                matrix[2 * source + channel, 2 + 8 * separator + 2 * source + channel] = weight
    return matrix


def mixed_by_matrix(matrix, count=3, seed=0, noise=0.0, length=60_000):
    """Tracks whose references are a known mix, (8, 2 + 8 n), of mixture and stems; the mixture is independent here."""
    generator = np.random.default_rng(seed)
    tracks = []
    for index in range(count):
        separators = (matrix.shape[1] - 2) // 8
        mixture = generator.normal(0, 0.1, (2, length)).astype(np.float32)
        stems = generator.normal(0, 0.1, (separators, 4, 2, length)).astype(np.float32)
        inputs = np.concatenate([mixture, stems.reshape(-1, length)]).astype(np.float64)
        references = (matrix @ inputs).reshape(4, 2, length) + noise * generator.normal(0, 0.1, (4, 2, length))
        named = dict(zip("abc", stems, strict=False))
        tracks.append(
            Track.from_arrays(f"planted {index}", mixture, references.astype(np.float32), named, subset="train")
        )
    return tracks


def mixed_of_two(weights, seed, noise=0.1, count=3):
    """Tracks of 4 s whose references are a mix (separator, source) of two separators' stems, and noise."""
    generator = np.random.default_rng(seed)
    tracks = []
    for index in range(count):
        stems = generator.normal(0, 0.1, (2, 4, 2, 4 * RATE)) * np.array([1.0, 0.6])[:, None, None, None]
        references = np.einsum("ks,kscft->scft", weights, stems[:, :, :, None])[:, :, 0]
        references = references + noise * generator.normal(0, 0.1, references.shape)
        named = {"a": stems[0], "b": stems[1]}
        tracks.append(Track.from_arrays(f"planted {index}", references.sum(0), references, named, subset="train"))
    return tracks


def mean_with_residual(gains, seconds=(1.2, 0.7), channels=2, seed=3):
    """Tracks whose references are exactly the mean of two separators with the residual given back by gains."""
    generator = np.random.default_rng(seed)
    tracks = []
    for index, length_s in enumerate(seconds):
        # powers of two keep the sums of float32 exact
        stems = generator.integers(-512, 512, (2, 4, channels, round(length_s * RATE))) / 4096 / (1 + 3 * index)
        mixture = generator.integers(-512, 512, stems.shape[2:]) / 1024
        estimates = stems.mean(0)
        residual = mixture - estimates.sum(0)
        others = residual.sum(0) - residual
        references = [
            estimates[row] + gains[source][0] * residual + gains[source][1] * others
            for row, source in enumerate(SOURCES)
        ]
        tracks.append(
            Track.from_arrays(f"planted {index}", mixture, np.array(references), {"a": stems[0], "b": stems[1]})
        )
    return tracks


def planted_weights(track, seed=3, mixture=True):
    """Random weights from all inputs of a track to all outputs."""
    generator = np.random.default_rng(seed)
    inputs = input_labels(track, mixture)
    return MixingWeights(generator.uniform(-0.4, 0.4, (1, 8, len(inputs))), inputs, output_labels())


def planted_songs(count=3, length=6000, noise=0.0, mixture=True, rate=8000):
    """Songs whose references are exactly a constant mix of their inputs, or with Laplacian noise on top."""
    songs = []
    for index in range(count):
        generator = np.random.default_rng(index)
        loud = 0.02 * (1 + index)
        stems = {"a": Stems(generator.normal(0, loud, (4, 2, length + 77 * index)), SOURCES, rate)}
        stems["voice"] = Stems(generator.normal(0, loud, (1, 2, length + 77 * index)), ("vocals",), rate)
        bare = Track.from_arrays(f"song {index}", generator.normal(0, loud, (2, length + 77 * index)), rate=rate)
        bare = bare.with_stems(stems)
        mixed = apply_weights(planted_weights(bare, mixture=mixture), bare).audio
        mixed = mixed + generator.laplace(0, noise * loud, mixed.shape) if noise else mixed
        songs.append(Track(bare.name, bare.mixture, "train", Stems(mixed, SOURCES, rate), bare.stems))
    return songs


def switching_song(seed, seconds=8.0, switching=True, separators=1, error=0.3, rate=4000):
    """A song whose references are inputs mixed by one of two matrices, by whether the voice sounds; the matrices."""
    generator = np.random.default_rng(seed)
    length = int(seconds * rate) + 37 * seed
    sings = np.zeros(length, bool)
    position = 0
    while position < length:
        phrase = int(generator.uniform(1.2, 2.4) * rate)
        sings[position : position + phrase] = not sings[position - 1]
        position += phrase
    stems = {}
    for name in ("a", "b")[:separators]:
        audio = generator.normal(0, 0.1, (4, 2, length)).astype("float32")
        audio[3] *= np.where(sings, 1.0, 0.01)
        stems[name] = Stems(audio, SOURCES, rate)
    bare = Track.from_arrays(f"song {seed}", generator.normal(0, 0.1, (2, length)), rate=rate).with_stems(stems)
    planted = np.random.default_rng(5).uniform(-0.5, 0.5, (2, 8, len(input_labels(bare))))
    first, second = (
        apply_weights(MixingWeights(matrix, input_labels(bare), output_labels()), bare).audio for matrix in planted
    )
    mixed = np.where(sings, first, second) if switching else first
    mixed = mixed + generator.normal(0, 1, mixed.shape) * error * mixed.std()
    return Track(bare.name, bare.mixture, "train", Stems(mixed, SOURCES, rate), bare.stems), planted


def taking_turns(seed, turns=8, turn_s=2, rate=8000):
    """A song in which, turn by turn and source by source, one of two separators errs five times as much as the other.

    Errors are noise, so that a bad stem is louder than the source is.
    """
    generator = np.random.default_rng(seed)
    references = generator.normal(0, 0.1, (4, 2, turns * turn_s * rate)) * generator.uniform(0.5, 1, (4, 1, 1))
    is_bad = generator.random((4, turns)) < 0.5
    stems = {}
    for name, bad in zip("ab", (is_bad, ~is_bad), strict=True):
        level = np.where(bad, 0.1, 0.02).repeat(turn_s * rate, 1)[:, None]
        stems[name] = references + level * generator.normal(0, 1, references.shape)
    return Track.from_arrays(f"song {seed}", references.sum(0), references, stems, rate=rate, subset="train")


def turning_with_the_voice(seed, seconds=16, rate=8000):
    """A song and two separators: one errs little while the voice sings, the other while it rests.

    Sources are louder in some phrases than in others, by 20 dB and more, but the errors are not: as in music, the loud
    frames decide the squared error, and all frames the SDR.
    """
    generator = np.random.default_rng(seed)
    length, sings, loudness = seconds * rate, [], []
    while len(sings) < length:
        phrase = int(generator.uniform(2, 4) * rate)
        sings += [not (sings[-1] if sings else generator.random() < 0.5)] * phrase
        loudness += [10 ** generator.uniform(-1.2, 0, 4)] * phrase
    sings, levels = np.array(sings[:length]), np.array(loudness[:length]).T[:, None]
    levels[3] *= np.where(sings, 1.0, 0.01)
    references = generator.normal(0, 0.1, (4, 2, length)) * levels
    stems = {}
    for name, good in (("a", sings), ("b", ~sings)):
        errors = generator.normal(0, 0.1, references.shape)
        stems[name] = references + np.where(good, 0.01, 0.15) * errors
    return Track.from_arrays(f"song {seed}", references.sum(0), references, stems, rate=rate, subset="train")


def sdr_of(references, audio):
    """Mean over sources of the song's SDR in dB."""
    error = np.square(references - audio).sum((1, 2), dtype=float)
    return float(np.mean(10 * np.log10(np.square(references).sum((1, 2), dtype=float) / error)))
