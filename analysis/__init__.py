"""Measuring and looking: BSS Eval, Gram statistics, aggregates, significance, figures."""

import lazy_loader

# whoever imports a part of this package would hide the function of its name otherwise
from .bss_eval import bss_eval as bss_eval

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
