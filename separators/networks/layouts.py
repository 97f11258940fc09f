"""The names and shapes of published weights, brought into those of our networks, and the sizes that they tell."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from stemfuse.separators.errors import SeparatorError
from stemfuse.separators.stems import SOURCES

from .checkpoints import State
from .ismir2020 import UNetShape
from .tfc_tdf import TFCTDFShape
from .unet_danna import UNetDannaShape
from .xumx import XUMXShape

_SWAPPED = [0, 2, 1, 3]
"""From left, left, right, right to real, real, imaginary, imaginary."""


def renamed(state: Mapping[str, torch.Tensor], rules: Sequence[tuple[str, str]]) -> State:
    r"""Tensors under new names: every rule is a regular expression and what takes its place, one after the other.

    Examples
    --------
    >>> list(renamed({"module.us.0.weight": torch.zeros(1)}, [("^module\\.", ""), ("^us", "up")]))
    ['up.0.weight']
    """
    result = dict(state)
    for pattern, replacement in rules:
        result = {re.sub(pattern, replacement, name): tensor for name, tensor in result.items()}
    return result


def count(names: Collection[str], prefix: str) -> int:
    """How many numbered modules there are below a prefix.

    Examples
    --------
    >>> count(["encoders.0.a", "encoders.1.a", "encoders.1.b"], "encoders")
    2
    """
    numbers = {found[1] for name in names if (found := re.match(rf"{re.escape(prefix)}\.(\d+)\.", name))}
    return len(numbers)


def ismir2020_state(state: Mapping[str, torch.Tensor], path: Path) -> tuple[State, UNetShape, bool]:
    """Weights of a `CaCUNet` from the authors' current or their deprecated code, whichever it is.

    Parameters
    ----------
    state : mapping of str to Tensor
        As `read_state` gives it: with ``spec2spec.`` or without, or deprecated, with ``module.`` or without.
    path : Path
        For the message.

    Returns
    -------
    tensors : dict
        In the current code's form.
    shape : UNetShape
        What they tell; ``bins`` is kept at its default where no tensor depends on it.
    deprecated : bool
        Whether they are of the deprecated code, whose transform is another one.

    Raises
    ------
    SeparatorError
        The names are not those of such a network.
    """
    # checkpoints of training hold more than the network
    inside = {name: tensor for name, tensor in state.items() if "spec2spec." in name}
    tensors = renamed(inside or state, [(r"^(module|model)\.", ""), (r"^spec2spec\.", "")])
    deprecated = "final_conv.0.weight" in tensors
    if deprecated:
        sampling = [("^downsampling", "downsamplings"), ("^upsampling", "upsamplings"), ("^final_conv", "last_conv")]
        tensors = renamed(tensors, sampling)
    try:
        if deprecated:
            # frequency came before time there, and both parts of the left channel before the right
            tensors["first_conv.0.weight"] = tensors["first_conv.0.weight"].transpose(2, 3)[:, _SWAPPED]
            tensors["last_conv.0.weight"] = tensors["last_conv.0.weight"].transpose(2, 3)[_SWAPPED]
            tensors["last_conv.0.bias"] = tensors["last_conv.0.bias"][_SWAPPED]
        return tensors, _ismir2020_shape(tensors), deprecated
    except (KeyError, IndexError) as error:
        raise SeparatorError(f"{path}: no U-Net of ISMIR 2020 ({error} is missing)") from error


def _ismir2020_shape(tensors: Mapping[str, torch.Tensor]) -> UNetShape:
    levels = count(tensors, "encoders")
    block = _ismir2020_block(tensors)
    dense = {"tfc_tdf": "encoders.0.tfc.H", "tdc_rnn": "encoders.0.tic.H"}.get(block, "encoders.0.H")
    linear = {"tfc_tdf": "encoders.0.tif.tif", "tdc_rnn": "encoders.0.tif_f1_to_f2.tif"}.get(block, "encoders.0.tif")
    sizes: dict[str, Any] = {"block": block, "blocks": 2 * levels + 1, "channels": len(tensors["first_conv.0.bias"])}
    if block != "tdf":
        first = tensors[f"{dense}.0.0.weight"]
        sizes |= {"layers": count(tensors, dense), "growth": first.shape[0], "kernel": first.shape[-1]}
    if f"{linear}.0.weight" in tensors:
        sizes |= {"bins": tensors[f"{linear}.3.weight"].shape[0], "bias": f"{linear}.0.bias" in tensors}
    samplers = [tensors.get(f"downsamplings.{level}.0.weight") for level in range(levels)]
    halved = tuple(level for level, kernel in enumerate(samplers) if kernel is not None and kernel.shape[2] == 2)
    return UNetShape(**sizes, time_levels=halved)


def _ismir2020_block(tensors: Mapping[str, torch.Tensor]) -> str:
    if "encoders.0.tfc.H.0.0.weight" in tensors:
        return "tfc_tdf"
    if "encoders.0.tic.H.0.0.weight" in tensors:
        return "tdc_rnn"
    if "encoders.0.tif.0.weight" in tensors:
        return "tdf"
    return "tfc" if tensors["encoders.0.H.0.0.weight"].dim() == 4 else "tdc"


_SUBMISSION = [
    (r"^ds_dense\.", "encoding_blocks."),
    (r"^us_dense\.", "decoding_blocks."),
    (r"^mid_dense\.", "bottleneck_block."),
    (r"^((?:en|de)coding_blocks\.\d+|bottleneck_block)\.H\.", r"\1.tfc.H."),
]
"""From the names of KUIELab's submission to those of its training code."""


def tfc_tdf_state(state: Mapping[str, torch.Tensor], path: Path) -> tuple[State, TFCTDFShape, int | None]:
    """Weights of a `TFCTDFUNet` from KUIELab's training code, its submission or an ONNX `Graph`.

    Parameters
    ----------
    state : mapping of str to Tensor
        As `read_state` or `Graph.state` gives it.
    path : Path
        For the message.

    Returns
    -------
    tensors : dict
        In the training code's form, without its constants.
    shape : TFCTDFShape
        What they tell.
    n_fft : int or None
        The window's length, which only the training code's files tell.

    Raises
    ------
    SeparatorError
        The names are not those of such a network.
    """
    tensors = renamed(state, [(r"^(module|model)\.", ""), *_SUBMISSION])
    window = tensors.pop("window", None)
    tensors.pop("freq_pad", None)
    try:
        first, linear = tensors["first_conv.0.weight"], tensors["bottleneck_block.tdf.0.weight"]
        levels = count(tensors, "ds")
        shape = TFCTDFShape(
            levels=levels,
            layers=count(tensors, "bottleneck_block.tfc.H"),
            kernel=tensors["bottleneck_block.tfc.H.0.0.weight"].shape[-1],
            growth=first.shape[0],
            bins=linear.shape[1] << levels,
            factor=linear.shape[1] // linear.shape[0],
            parts=first.shape[1],
            sources=len(tensors["final_conv.0.weight"]) // first.shape[1],
        )
    except (KeyError, ZeroDivisionError) as error:
        raise SeparatorError(f"{path}: no TFC-TDF-U-Net v2 ({error} is missing)") from error
    return tensors, shape, None if window is None else len(window)


def demucs_state(state: Mapping[str, torch.Tensor], path: Path) -> tuple[State, int, bool]:
    """Weights of a `DemucsV2Network` or a `DemucsFourDecodersNetwork`, whichever it is.

    Parameters
    ----------
    state : mapping of str to Tensor
        As `read_state` gives it.
    path : Path
        For the message.

    Returns
    -------
    tensors : dict
        In the form that both authors' code has.
    channels : int
        Of the highest level.
    four_decoders : bool
        Whether they are Danna-Sep's.

    Raises
    ------
    SeparatorError
        The names are not those of such a network.
    """
    tensors = renamed(state, [(r"^(module|model)\.", "")])
    missing = [name for name in ("encoder.0.0.bias", "encoder.0.2.weight") if name not in tensors]
    if missing:
        raise SeparatorError(f"{path}: no Demucs v2 ({missing[0]} is missing)")
    return tensors, len(tensors["encoder.0.0.bias"]), "lstm_linear.weight" in tensors


def xumx_state(state: Mapping[str, torch.Tensor], path: Path) -> tuple[State, XUMXShape, bool]:
    """Weights of an `XUMXNetwork` from asteroid or, with the sources' tensors joined, from Danna-Sep.

    Parameters
    ----------
    state : mapping of str to Tensor
        As `read_state` gives it.
    path : Path
        For the message.

    Returns
    -------
    tensors : dict
        In asteroid's form, without its windows.
    shape : XUMXShape
        What they tell.
    joined : bool
        Whether they are of Danna-Sep, who append silence to songs.

    Raises
    ------
    SeparatorError
        The names are not those of such a network.
    """
    tensors = renamed(state, [(r"^(module|model)\.", "")])
    joined = "affine1.0.weight" in tensors
    try:
        if joined:
            tensors = _split(tensors)
        tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith(".window")}
        hidden, inputs = tensors["layer_enc.drums.enc.0.weight"].shape
        used_bins = len(tensors["mean_scale.input_mean_drums"])
        shape = XUMXShape(
            bins=len(tensors["mean_scale.output_mean_drums"]),
            used_bins=used_bins,
            hidden=hidden,
            layers=sum(bool(re.fullmatch(r"layer_lstm\.drums\.weight_hh_l\d+", name)) for name in tensors),
            channels=inputs // used_bins,
        )
    except KeyError as error:
        raise SeparatorError(f"{path}: no X-UMX ({error} is missing)") from error
    return tensors, shape, joined


_JOINED = {
    "input_means": "mean_scale.input_mean_{}",
    "input_scale": "mean_scale.input_scale_{}",
    "output_means": "mean_scale.output_mean_{}",
    "output_scale": "mean_scale.output_scale_{}",
    "affine1.": "layer_enc.{}.enc.",
    "affine2.": "layer_dec.{}.dec.",
}
"""Beginnings of Danna-Sep's names, and the names of the four parts."""


def _split(tensors: Mapping[str, torch.Tensor]) -> State:
    state: State = renamed(tensors, [(r"^(\w+)_lstm\.", r"layer_lstm.\1.")])
    for beginning, part in _JOINED.items():
        for name in [name for name in state if name.startswith(beginning)]:
            tensor = state.pop(name)
            # kernels of one frame are matrices; a count of steps is the same for all
            tensor = tensor.squeeze(-1) if tensor.dim() == 3 else tensor
            parts = tensor.chunk(len(SOURCES)) if tensor.dim() else [tensor] * len(SOURCES)
            for source, values in zip(SOURCES, parts, strict=True):
                state[part.format(source) + name.removeprefix(beginning)] = values
    return state


def resunet_state(state: Mapping[str, torch.Tensor], path: Path) -> tuple[State, tuple[int, ...]]:
    """Weights of a `ResUNetSubband`, without those of the Fourier transform.

    Parameters
    ----------
    state : mapping of str to Tensor
        As `read_state` gives it.
    path : Path
        For the message.

    Returns
    -------
    tensors : dict
        In the authors' form, which is ours.
    widths : tuple of int
        Channels of the levels.

    Raises
    ------
    SeparatorError
        The names are not those of such a network.
    """
    tensors = renamed(state, [(r"^(module|model)\.", "")])
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(("stft.", "istft."))}
    last = [f"encoder_block{level}.conv_block4.conv2.weight" for level in range(1, 7)]
    missing = [name for name in [*last, "pqmf.ana_conv_filter.weight"] if name not in tensors]
    if missing:
        raise SeparatorError(f"{path}: no ResUNet143 in subbands ({missing[0]} is missing)")
    return tensors, tuple(len(tensors[name]) for name in last)


def unet_danna_state(state: Mapping[str, torch.Tensor], path: Path) -> tuple[State, UNetDannaShape]:
    """Weights of a `UNetDannaNetwork`.

    Parameters
    ----------
    state : mapping of str to Tensor
        As `read_state` gives it.
    path : Path
        For the message.

    Returns
    -------
    tensors : dict
        In the authors' form, which is ours.
    shape : UNetDannaShape
        What they tell; the number of bins and of heads is the published one.

    Raises
    ------
    SeparatorError
        The names are not those of such a network.
    """
    tensors = renamed(state, [(r"^(module|model)\.", "")])
    levels = range(count(tensors, "down_convs"))
    try:
        shape = UNetDannaShape(
            growth=len(tensors["down_convs.0.0.d2_layers.0.bn_layers.0.0.bias"]),
            layers=tuple(count(tensors, f"down_convs.{level}.0.d2_layers.0.conv_layers") for level in levels),
            attention=len(tensors["attn.0.qkv_conv.bias"]) // 3,
            bottom=len(tensors["attn.0.out_conv.weight"]),
        )
    except KeyError as error:
        raise SeparatorError(f"{path}: no U-Net of Danna-Sep ({error} is missing)") from error
    return tensors, shape
