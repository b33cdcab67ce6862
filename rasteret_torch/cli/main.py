"""Arguments of the commands, and their output.

Heavy imports stand inside the commands, so that `rasteret-torch ls` answers without loading torch.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import rasteret_torch
from rasteret_torch.cli import annotate, indexing
from rasteret_torch.cli.arguments import positive
from rasteret_torch.errors import RasteretTorchError

OK, FAILED, MISTAKE = 0, 1, 2
_SIGNALLED = 128
LIGHTNING = {
    "fit": "train a model as a YAML config says (see fit --help, fit --print_config, and configs/ of the repository)",
    "validate": "validate a model as a YAML config says",
    "test": "test a model as a YAML config says",
    "predict": "predict with a model as a YAML config says",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        0; 1 where the command's own test failed (`demo` below its margin, `check` with bad items); 2 for an error,
        which is one line on stderr; 128 and the signal's number, as shells count, where one ended it.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    is_lightning = bool(given) and given[0] in LIGHTNING
    if arguments is None and not is_lightning:  # what Lightning warns of is not ours
        warnings.showwarning = _warned
    if arguments is None:
        _never_fail_to_print()
    try:
        code = _lightning(arguments) if is_lightning else _run(given)
        sys.stdout.flush()
    except RasteretTorchError as error:
        print(f"rasteret-torch: {error}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        print("rasteret-torch: interrupted", file=sys.stderr)
        return _SIGNALLED + signal.SIGINT
    except BrokenPipeError:  # whoever read has seen enough, as `head`; what is left would fail again at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _SIGNALLED + signal.SIGPIPE
    except UnicodeEncodeError:
        print("rasteret-torch: this locale has no name for that path; set PYTHONUTF8=1", file=sys.stderr)
        return MISTAKE
    except OSError as error:  # no room, no right to write
        if is_lightning:
            raise
        print(f"rasteret-torch: {error}", file=sys.stderr)
        return MISTAKE
    return code


def _never_fail_to_print() -> None:
    """Signs that the terminal's encoding lacks (km² in ASCII) are shown as question marks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """One line, as errors are; where in the code it came from is nothing to whoever types a command."""
    print(f"rasteret-torch: warning: {message}", file=sys.stderr)


def _run(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    code: int = options.run(options)
    return code


def _lightning(arguments: Sequence[str] | None) -> int:
    """Commands whose arguments are Lightning's to parse."""
    from rasteret_torch.cli.fit import run

    run(arguments)
    return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rasteret-torch", description="PyTorch data loading straight from cloud GeoTIFFs."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {rasteret_torch.__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    demo = _command(commands, "demo", _demo, "train a small U-Net on the NAIP COGs of this repository, offline")
    demo.add_argument(
        "--output",
        type=Path,
        default=Path("demo_output"),
        help="folder for the index and the pictures (default: demo_output)",
    )
    demo.add_argument("--data", type=Path, help="folder of the COGs (default: train_examples/data of the clone)")
    demo.add_argument("--epochs", type=positive, default=5, help="passes over 320 random chips each (default: 5)")
    demo.add_argument("--seed", type=int, default=0, help="of weights and chips (default: 0)")

    indexing.add_arguments(
        _command(commands, "build", _build, "index TIFFs (a folder, files, URLs) or a named dataset")
    )
    _command(commands, "datasets", _datasets, "list the named datasets that build knows")

    ls = _command(commands, "ls", _ls, "list the collections in a folder")
    ls.add_argument("folder", nargs="?", type=Path, default=Path(), help="default: this one")
    ls.add_argument("--json", action="store_true", help="one JSON object a line")

    info = _command(commands, "info", _info, "what a collection holds")
    info.add_argument("collection", help="path of a collection")
    info.add_argument("--json", action="store_true", help="as one JSON object")

    annotate.add_commands(lambda name, run, text: _command(commands, name, run, text))
    for name, text in LIGHTNING.items():
        _command(commands, name, None, text)
    return parser


def _command(commands: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.set_defaults(run=run)
    return parser


def _demo(options: argparse.Namespace) -> int:
    from rasteret_torch.cli.demo import DemoOptions, run_demo

    wanted = DemoOptions(options.output, options.data, options.epochs, options.seed)
    return OK if run_demo(wanted) else FAILED


def _build(options: argparse.Namespace) -> int:
    collection = indexing.build(options)
    print(f"{collection}\n\nwritten to {options.output.absolute()}")
    return OK


def _datasets(_: argparse.Namespace) -> int:
    for line in indexing.datasets():
        print(line)
    return OK


def _ls(options: argparse.Namespace) -> int:
    from rasteret_torch.cli.listing import collections_in, facts_of, table

    found = collections_in(options.folder)
    if options.json:
        for path in found:
            print(json.dumps(facts_of(path), default=str))
        return OK
    if not found:
        print(f"no collections in {options.folder.resolve()}")
    for line in table(found):
        print(line)
    return OK


def _info(options: argparse.Namespace) -> int:
    from rasteret_torch.index import load

    collection = load(options.collection)
    print(json.dumps(collection.describe(), default=str, indent=2) if options.json else collection)
    return OK
