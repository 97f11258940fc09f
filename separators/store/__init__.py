"""The stem store: stems kept on disk under the identity of their separator and mixture."""

from .adoption import TOOLS, Adoption, find_stems
from .alignment import Alignment, check_alignment
from .contents import Contents, file_stamp
from .entry import DescribedSeparator, TrainedSeparator
from .found_stems import FoundStems
from .older import Moved, move_store
from .stem_names import OTHER_STEMS, STEM_NAMES
from .stem_store import Problem, StemStore

__all__ = [
    "OTHER_STEMS",
    "STEM_NAMES",
    "TOOLS",
    "Adoption",
    "Alignment",
    "Contents",
    "DescribedSeparator",
    "FoundStems",
    "Moved",
    "Problem",
    "StemStore",
    "TrainedSeparator",
    "check_alignment",
    "file_stamp",
    "find_stems",
    "move_store",
]
