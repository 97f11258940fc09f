"""What a track is, who separates it, and where its stems are kept."""

from .audio.containers import ContainerSignal, open_signal
from .audio.signals import BLOCK, RATE, ArraySignal, FileSignal, Samples, Signal, write_audio, write_whole
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
    "RATE",
    "SOURCES",
    "Adoption",
    "Alignment",
    "ArraySignal",
    "AudioError",
    "BaseSeparator",
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
    "WriteError",
    "check_alignment",
    "check_separator",
    "convert",
    "digest",
    "file_stamp",
    "find_stems",
    "fit_length",
    "list_separators",
    "load_separator",
    "open_signal",
    "separator_class",
    "write_audio",
    "write_whole",
]
