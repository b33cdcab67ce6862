"""`python -m rasteret_torch`: the same as the `rasteret-torch` command."""

import sys

from rasteret_torch.cli import main

if __name__ == "__main__":
    sys.exit(main())
