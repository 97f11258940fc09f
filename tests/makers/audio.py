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
