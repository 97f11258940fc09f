"""What a track is, who separates it, and where its stems are kept."""

from .audio.containers import ContainerSignal, open_signal
from .audio.signals import BLOCK, RATE, ArraySignal, FileSignal, Samples, Signal, write_audio
from .audio.whole_files import whole_file, whole_folder, write_whole
from .conformance import check_separator
from .conversion import ConvertedSignal, convert
from .errors import (
    AudioError,
    ConformanceError,
    MissingWeightsError,
    SeparatorError,
    StemfuseError,
    StoreError,
    TrackError,
    TrainingError,
    WriteError,
)
from .labels import (
    MIXTURE,
    ChannelLabel,
    WeightsLike,
    channel_names,
    input_labels,
    mixture_labels,
    output_labels,
    stem_labels,
)
from .optional import import_optional
from .options import check_fields, checked_constructor, checked_options
from .registry import Registry
from .separator import BaseSeparator, Separator, digest, list_separators, load_separator, separator_class
from .stems import SOURCES, Stems
from .store.adoption import Adoption, FoundStems, find_stems
from .store.alignment import Alignment, check_alignment
from .store.entry import file_stamp
from .store.stem_store import StemStore
from .track import LENGTH_TOLERANCE, StoredStems, Track, fit_length

__all__ = [
    "BLOCK",
    "LENGTH_TOLERANCE",
    "MIXTURE",
    "RATE",
    "SOURCES",
    "Adoption",
    "Alignment",
    "ArraySignal",
    "AudioError",
    "BaseSeparator",
    "ChannelLabel",
    "ConformanceError",
    "ContainerSignal",
    "ConvertedSignal",
    "FileSignal",
    "FoundStems",
    "MissingWeightsError",
    "Registry",
    "Samples",
    "Separator",
    "SeparatorError",
    "Signal",
    "StemStore",
    "StemfuseError",
    "Stems",
    "StoreError",
    "StoredStems",
    "Track",
    "TrackError",
    "TrainingError",
    "WeightsLike",
    "WriteError",
    "channel_names",
    "check_alignment",
    "check_fields",
    "check_separator",
    "checked_constructor",
    "checked_options",
    "convert",
    "digest",
    "file_stamp",
    "find_stems",
    "fit_length",
    "import_optional",
    "input_labels",
    "list_separators",
    "load_separator",
    "mixture_labels",
    "open_signal",
    "output_labels",
    "separator_class",
    "stem_labels",
    "whole_file",
    "whole_folder",
    "write_audio",
    "write_whole",
]
