"""The `rasteret-torch` command: thin words over public functions.

`main` has the commands, `arguments` what their words stand for; `indexing`, `listing` and `annotate` are about
collections, `fit` is Lightning's command line, `demo` trains on `naip` and draws `pictures`.
"""

from rasteret_torch.cli.main import main

__all__ = ["main"]
