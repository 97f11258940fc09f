"""Data sets, recipes, the pipeline separate -> cache -> fit -> fuse -> score -> report, the command line."""

import sys
from types import ModuleType

import lazy_loader

# a command that lists names, or completes one, needs none of these
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


class _Package(ModuleType):
    """Keeps ``run`` the function, also after the module of that name has been imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name == "run" and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
