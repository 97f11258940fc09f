"""The whole test of a separator's form; what it promises beyond that is yours to test."""

import numpy as np
from mid_side import MidSide

from stemfuse.separators import check_separator


def test_it_keeps_the_rules():
    check_separator(MidSide())


def test_what_is_equal_in_both_channels_is_the_voice():
    voice = np.random.default_rng(0).normal(0, 0.1, (1, 1000)).repeat(2, axis=0).astype(np.float32)
    assert np.allclose(MidSide().separate(voice, 44100)["vocals"].read(), voice)
