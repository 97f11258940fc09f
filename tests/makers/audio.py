"""Audio of tests: noise, the streams of the real clip, and folders of a track."""

import av
import numpy as np
import soundfile

from makers.places import CLIP
from stemfuse.separators import SOURCES

LENGTH = 3_001


def noise(*shape, seed=0, scale=0.1):
    """Gaussian noise in double precision."""
    return np.random.default_rng(seed).normal(0, scale, shape)


def noise32(*shape, seed=0, scale=0.1):
    """The same noise in single precision."""
    return noise(*shape, seed=seed, scale=scale).astype(np.float32)


def decode(path, stream=0):
    """All samples of a planar float stream by the shortest possible use of PyAV."""
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray() for frame in container.decode(audio=stream)], axis=1)


def clip_streams(*streams):
    """Audio (channel, time) of streams of the clip: 0 is the mixture, then drums, bass, other and vocals."""
    return [decode(CLIP, stream) for stream in streams]


def sources(length=LENGTH, channels=2, seed=0):
    """Audio of four sources (source, channel, time) on the grid of 16-bit samples."""
    return (np.round(noise(4, channels, length, seed=seed, scale=0.05) * 2**15) / 2**15).astype(np.float32)


def write_track(folder, audio=None, rate=44_100, suffix=".wav", parts=("mixture", *SOURCES), **options):
    """Write a track's folder and give its audio back."""
    audio = sources() if audio is None else audio
    folder.mkdir(parents=True, exist_ok=True)
    for part, samples in zip(("mixture", *SOURCES), (audio.sum(0), *audio), strict=True):
        if part in parts:
            soundfile.write(folder / f"{part}{suffix}", samples.T, rate, **options)
    return audio


PAIR = ("speech", "music")
"""Sources of `write_systems`."""


def write_systems(root, songs, errors, lacking=None, seconds=1, rate=44_100):
    """Write songs of speech and music without mixture files, and stems by systems with independent errors.

    ``songs/<song>/<source>.wav`` and ``<system>/<song>/<source>.wav``. What a system adds to one
    source it takes from the other; ``errors`` has its level by system, ``lacking`` the songs that it has no stems of.
    """
    for number in range(songs):
        parts = np.random.default_rng(number).normal(0, 0.1, (2, seconds * rate, 2))
        name = f"song {number}"
        found = {"songs": parts}
        # zeros at the end of a seed change nothing: the errors would be the speech
        for place, (system, error) in enumerate(errors.items()):
            if name not in (lacking or {}).get(system, ()):
                added = np.random.default_rng([number, 1 + place]).normal(0, error, (seconds * rate, 2))
                found[system] = parts + np.stack([added, -added])
        for folder, stems in found.items():
            for source, samples in zip(PAIR, stems, strict=True):
                (root / folder / name).mkdir(parents=True, exist_ok=True)
                soundfile.write(root / folder / name / f"{source}.wav", samples, rate, subtype="FLOAT")
