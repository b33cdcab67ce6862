"""The `rasteret-torch` command: thin words over public functions.

`main` has the arguments; `indexing`, `listing` and `annotate` are about collections, `fit` is Lightning's command
line, `demo` trains on `naip` and draws `pictures`.
"""

from rasteret_torch.cli.main import main

__all__ = ["main"]
