"""KUIELab's whole chain in one folder: four networks of one source each, and the Mixer fitted on their stems."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from stemfuse.blending.errors import FusionError
from stemfuse.blending.explanation import Array, constant_matrix
from stemfuse.blending.weights import MixingWeights
from stemfuse.separators import separator_class
from stemfuse.separators.audio.whole_files import whole_folder
from stemfuse.separators.labels import ChannelLabel, mixture_labels, output_labels, stem_labels
from stemfuse.separators.weights.folder import read_notes

from .kuielab import KUIELAB_KEY, KUIELAB_SOURCES, import_torch, mixer_matrix

if TYPE_CHECKING:
    from stemfuse.separators.networks.tfc_tdf_separator import TFCTDF

log = logging.getLogger(__name__)

NETWORK = "tfc_tdf_v2"
"""The separator that each network of the chain is."""


def export_kuielab_mdx(
    weights: MixingWeights,
    path: str | os.PathLike[str],
    models: Mapping[str, str],
    trained_on: Sequence[str] = (),
    described: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Write a folder that the separator ``kuielab_mdx`` loads: four networks, and these weights as their Mixer.

    ``load_separator("kuielab_mdx", weights=FOLDER)`` then gives what the fusion makes of the four networks' stems.

    Parameters
    ----------
    weights : MixingWeights
        Constant ones for `SOURCES` in stereo, from the stems of four separators, each of one source, with or without
        the mixture. Any weights can be expressed, those across sources and channels too.
    path : path-like
        The folder, which is not there yet: ``bass``, ``drums``, ``other`` and ``vocals`` with the suffixes of their
        files, and ``mixer.safetensors``.
    models : mapping of separator to path
        By label, the file of weights of each network: of ``stemfuse train tfc_tdf_v2``, or a published one. It is
        copied.
    trained_on : sequence of str
        Data that the weights were fitted on, such as ``"musdb18hq/train"``, if it is not the networks' own: kept in the
        Mixer's file, so that scores on these songs are warned of.
    described : mapping, optional
        By label, the separator as it described itself when it separated (a fusion's ``separators_``): the files have to
        be those that the fusion was fitted with.

    Raises
    ------
    FusionError
        The weights have other inputs or sources, or a network is not named, not the one that the fusion was fitted
        with, or was used with options that are not in its file; or torch is not installed.
    SeparatorError
        A file is missing, damaged, or holds another network.
    WriteError
        The folder is there already or cannot be written.

    See Also
    --------
    stemfuse.blending.exchange.export_kuielab_mixer : the Mixer's file alone, of one separator of four sources.

    References
    ----------
    M. Kim, W. Choi, J. Chung, D. Lee, S. Jung, "KUIELab-MDX-Net: a two-stream neural network for music demixing",
    MDX workshop at ISMIR 2021, sections 2.2 and 2.3.

    Examples
    --------
    >>> blend = MixingWeights.same_source({source: {"one": 1.0} for source in KUIELAB_SOURCES})
    >>> export_kuielab_mdx(blend, "chain", {})
    Traceback (most recent call last):
    ...
    stemfuse.blending.errors.FusionError: got bass, drums, other, vocals by one; KUIELab's chain has four networks, ...
    """
    matrix = constant_matrix(weights)
    labels = _networks(weights, matrix)
    inputs = sum((stem_labels(label, (source,)) for source, label in labels.items()), ()) + mixture_labels()
    mixer = mixer_matrix(weights, inputs)
    torch = import_torch()
    networks = {source: _network(source, label, models, described) for source, label in labels.items()}
    from stemfuse.separators.weights.tensors import write_tensors

    own = [data for network in networks.values() for data in network.trained_on or ()]
    with whole_folder(path) as folder:
        for source, network in networks.items():
            file = Path(str(network.weights)).expanduser()
            shutil.copyfile(file, folder / f"{source}{file.suffix}")
        notes = {"trained_on": list(dict.fromkeys(trained_on or own))}
        write_tensors({KUIELAB_KEY: torch.from_numpy(mixer)}, folder / "mixer.safetensors", notes)


def _networks(weights: MixingWeights, matrix: Array) -> dict[str, str]:
    """The separator of each source, in KUIELab's order; anything but one for each is refused."""
    used = [
        label
        for label, column in zip(map(ChannelLabel.parse, weights.inputs), matrix.T, strict=True)
        if label.is_stem and column.any()
    ]
    by_separator: dict[str, list[str]] = {}
    for label in used:
        if label.source not in (sources := by_separator.setdefault(label.separator, [])):
            sources.append(label.source)
    by_source = {sources[0]: label for label, sources in by_separator.items() if len(sources) == 1}
    if set(weights.outputs) != set(output_labels(KUIELAB_SOURCES)):
        raise FusionError(
            f"got a fusion for {', '.join(weights.outputs)}; KUIELab's chain gives stereo {', '.join(KUIELAB_SOURCES)}"
        )
    if len(by_separator) != len(KUIELAB_SOURCES) or set(by_source) != set(KUIELAB_SOURCES):
        got = "; ".join(f"{', '.join(sorted(sources))} by {label}" for label, sources in by_separator.items())
        raise FusionError(
            f"got {got or 'no stems'}; KUIELab's chain has four networks, one each for {', '.join(KUIELAB_SOURCES)}: "
            "fit conv1x1 on the stems of such separators"
        )
    return {source: by_source[source] for source in KUIELAB_SOURCES}


def _network(source: str, label: str, models: Mapping[str, str], described: Mapping[str, Any]) -> TFCTDF:
    """The network of a source, loaded; one that is not what the fusion was fitted with is refused."""
    if label not in models:
        raise FusionError(
            f"no file is named for {label}, the network of {source}; got models for {', '.join(models) or 'none'}"
        )
    network: TFCTDF = separator_class(NETWORK)(models[label], source)
    network.load()
    known = described.get(label)
    if known is None:
        if (trained := read_notes(Path(models[label]).expanduser()).get("source", source)) != source:
            raise FusionError(f"{label}: {models[label]} was trained for {trained}, its stems are of {source}")
        log.warning("%s: what the fusion was fitted with is not known; %s is taken as it is", label, models[label])
        return network
    if known.get("name") != NETWORK or "weights" not in known:
        by = f"{known.get('name')}, adopted" if "adopted" in known else known.get("name")
        raise FusionError(f"the stems of {label} are by {by}; KUIELab's chain runs networks of {NETWORK}")
    (sha256,) = network.weights_sha256().values()
    if sha256 not in known["weights"].values():
        then = ", ".join(f"{name} ({digest[:8]})" for name, digest in known["weights"].items())
        raise FusionError(
            f"{label}: {models[label]} has sha256 {sha256[:8]}, the fusion was fitted with {then}: name that file, or "
            "fit again"
        )
    _check_options(label, network, known.get("options", {}))
    return network


def _check_options(label: str, network: TFCTDF, options: Mapping[str, Any]) -> None:
    """Refuse a network that has separated with other options than the chain will take from its file."""
    for name, kept in network.sizes.items():
        if (used := options.get(name)) not in (None, kept):
            raise FusionError(
                f"{label}: its stems were separated with {name}={used}, its file is for {kept}: separate again without "
                "this option, and fit again"
            )
