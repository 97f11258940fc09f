"""The benchmark: what all fusions are worth on real and on synthetic music, as one document, kept to compare."""

import lazy_loader

# a run asks whether it is one, and pandas takes long to import
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
