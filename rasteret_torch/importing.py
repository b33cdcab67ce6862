"""Imports of modules that bring hundreds of thousands of objects, with the garbage collector at rest."""

from __future__ import annotations

import gc
import importlib
import sys
from types import ModuleType

_MANY_OBJECTS = 50_000
_is_first = True  # what was imported before this package was never looked through either


def heavy(name: str) -> ModuleType:
    """Imports a module that brings torch or torchgeo: a sixth less time than with the collector at work.

    What was made is looked through once, here, while nobody waits for a batch. The collector would do it soon after,
    for a quarter of a second in which no other thread runs.
    """
    global _is_first
    if name in sys.modules or not gc.isenabled():
        return importlib.import_module(name)
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        made = gc.get_count()[0]
        gc.enable()
        if made > _MANY_OBJECTS or _is_first:
            _is_first = False
            gc.collect()
