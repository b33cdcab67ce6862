"""Commands that look at a collection or add to it: `check`, `split`, `stats`, `plot`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from rasteret_torch.cli.arguments import named, pair, picture, positive
from rasteret_torch.errors import InputError

OK, FAILED = 0, 1
Maker = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def add_commands(command: Maker) -> None:
    """Adds the commands.

    Args:
        command: makes the parser of one, of its name, what runs it, and its help.
    """
    check = command("check", _check, "compare files with the index: size, ETag, header, and a tile of each")
    check.add_argument("collection", help="path of a collection")
    check.add_argument("--bands", nargs="+", help="of these bands only (default: all)")
    check.add_argument("--sample", type=positive, help="look at so many assets (default: all)")
    check.add_argument("--depth", choices=("header", "tile"), default="tile", help="how deep to look (default: tile)")
    check.add_argument("--json", action="store_true", help="as one JSON object")

    _add_split(command)
    stats = command("stats", _stats, "mean, spread, percentiles, nodata share and classes of each band")
    stats.add_argument("collection", help="path of a collection")
    stats.add_argument("--bands", nargs="+", help="of these bands only (default: all)")
    stats.add_argument("--split", help="of this split only, as a model should be normalised by its training data")
    stats.add_argument("--split-column", default="split", help="where the splits stand (default: split)")
    stats.add_argument("--level", type=int, default=0, help="overview to look at, 0 for full resolution (default: 0)")
    stats.add_argument("--exact", action="store_true", help="look at every pixel, not at a sample")
    stats.add_argument("--keep", action="store_true", help="write them into the collection, for RasteretDataModule")
    stats.add_argument("--picture", type=picture, help="draw the histograms into this .png, .pdf or .svg")
    _finish(stats, "with --keep: where the result goes (default: the collection itself)")

    plot = command("plot", _plot, "draw the footprints of a collection")
    plot.add_argument("collection", help="path of a collection")
    plot.add_argument("--by", help='"date" (a panel each), "cloud", or the column to colour by (default: split)')
    plot.add_argument("--output", type=picture, required=True, help="the picture: a .png, .pdf or .svg")


def _add_split(command: Maker) -> None:
    split = command("split", _split, "write a split column, and say what its splits share")
    split.add_argument("collection", help="path of a collection")
    how = split.add_mutually_exclusive_group()
    how.add_argument("--by", default="random", help='"random" (by id and seed), or a column whose values stay together')
    how.add_argument("--blocks-m", type=float, metavar="SIDE", help="whole squares of ground with this side, in metres")
    how.add_argument(
        "--times",
        type=pair,
        nargs="+",
        metavar="SPLIT=START..END",
        help="days, months or years, both included; either may be left out, and 2020 is that year",
    )
    how.add_argument("--audit", action="store_true", help="write nothing, only look at the splits that are there")
    split.add_argument(
        "--buffer-m",
        type=float,
        default=0.0,
        help="least distance between splits of --blocks-m, in metres (default: 0)",
    )
    split.add_argument(
        "--map",
        type=pair,
        nargs="+",
        metavar="VALUE=SPLIT",
        help="the split of each value of the column that --by names",
    )
    split.add_argument(
        "--fractions", type=pair, nargs="+", metavar="SPLIT=SHARE", help="default: train=0.8 val=0.1 test=0.1"
    )
    split.add_argument("--column", default="split", help="where the splits stand (default: split)")
    split.add_argument("--seed", type=int, default=0, help="of the draw (default: 0)")
    split.add_argument(
        "--holds-out", choices=("space", "time"), help="what splits must not share (default: space; time with --times)"
    )
    split.add_argument(
        "--min-distance-m",
        type=float,
        default=0.0,
        help="least distance that the audit asks for, in metres (default: 0)",
    )
    _finish(split, "where the result goes (default: the collection itself)")


def _finish(parser: argparse.ArgumentParser, output_help: str) -> None:
    parser.add_argument("--output", type=Path, help=output_help)
    parser.add_argument("--json", action="store_true", help="as one JSON object")


def _check(options: argparse.Namespace) -> int:
    from rasteret_torch.index import load

    chosen = {"sample": options.sample, "depth": options.depth}
    report = load(options.collection).check(options.bands, **chosen, progress=sys.stderr.isatty())
    print(json.dumps(report.to_dict()) if options.json else report)
    return OK if report.ok else FAILED


def _split(options: argparse.Namespace) -> int:
    from rasteret_torch.index import load

    collection = load(options.collection)
    if options.audit and options.column not in collection.schema.names:
        raise InputError(f"there is no column {options.column!r} to audit; name it with --column, or leave --audit out")
    if not options.audit:
        collection = _assigned(collection, options)
    holds_out: Literal["space", "time"] = options.holds_out or ("time" if options.times else "space")
    audit = collection.audit_splits(options.column, holds_out=holds_out, min_distance_m=options.min_distance_m)
    written = None if options.audit else collection.save(options.output or options.collection)
    if options.json:
        print(json.dumps(audit.to_dict(), default=str))
    else:
        print(audit if written is None else f"{audit}\n\nwritten to {written}")
    return OK if audit.ok else FAILED


def _assigned(collection: Any, options: argparse.Namespace) -> Any:
    from rasteret_torch.index.blocks import SpatialBlocks, TimeRanges

    by: Any = options.by
    if options.map and by == "random":
        raise InputError("--map needs the column whose values it sends to splits; name it with --by")
    if options.buffer_m and options.blocks_m is None:
        raise InputError("--buffer-m keeps squares apart; give their side with --blocks-m")
    if options.blocks_m is not None:
        by = SpatialBlocks(options.blocks_m, options.buffer_m)
    elif options.times:
        by = TimeRanges({name: _times(span) for name, span in named(options.times, "--times").items()})
    shares = named(options.fractions, "--fractions") if options.fractions else None
    try:
        fractions = None if shares is None else {name: float(share) for name, share in shares.items()}
    except ValueError as error:
        raise InputError(f"--fractions {error}; write shares as train=0.8") from error
    mapping = _mapping(collection, options.by, options.map) if options.map else None
    return collection.assign_splits(by, fractions=fractions, mapping=mapping, column=options.column, seed=options.seed)


def _mapping(collection: Any, by: str, pairs: Sequence[tuple[str, str]]) -> dict[Any, str]:
    """The split of each value of a column, which may hold numbers where the command line has text."""
    import pyarrow.types as types

    kind = collection.schema.field(by).type if by in collection.schema.names else None
    is_number = kind is not None and (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))
    known = {str(value): value for value in collection.column(by).unique().to_pylist()} if is_number else {}
    return {known.get(text, text): split for text, split in named(pairs, "--map").items()}


def _times(span: str) -> tuple[str | None, str | None]:
    start, dots, end = span.partition("..")
    return start or None, (end if dots else start) or None


def _stats(options: argparse.Namespace) -> int:
    from rasteret_torch.index import load
    from rasteret_torch.readers.statistics import StatsOptions

    if options.output is not None and not options.keep:
        raise InputError("--output is where --keep writes; add --keep, or use --picture or --json")
    collection = load(options.collection)
    looking = StatsOptions(level=options.level)
    if options.exact:
        looking = replace(looking, max_pixels=None)
    chosen = {"split": options.split, "split_column": options.split_column}
    found = collection.stats(options.bands, **chosen, options=looking, progress=sys.stderr.isatty())
    if options.picture is not None:
        from rasteret_torch.readers.plot_pixels import plot_stats

        _drawn(plot_stats(found), options.picture)
    print(json.dumps(found.to_dict()) if options.json else found)
    if options.keep:
        written = collection.with_stats(found).save(options.output or options.collection)
        print(f"written to {written}", file=sys.stderr)
    return OK


def _plot(options: argparse.Namespace) -> int:
    from rasteret_torch.index import load
    from rasteret_torch.readers.plot import plot

    _drawn(plot(load(options.collection), options.by), options.output)
    print(options.output)
    return OK


def _drawn(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
