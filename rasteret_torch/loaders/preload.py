"""What the server process that workers are forked from imports, and sets aside from the garbage collector.

A collection in a worker would write to every object, and so turn the pages that all workers share into its own.
"""

import atexit
import gc

import rasteret_torch.loaders.iterable_loader  # noqa: F401 - for the workers

gc.collect()
gc.freeze()
atexit.register(gc.unfreeze)  # else libraries that count their objects at the end complain of these
