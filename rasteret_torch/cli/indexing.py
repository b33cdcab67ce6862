"""`build` and `datasets`: from files, or from a named dataset, to a collection."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rasteret_torch.errors import InputError

if TYPE_CHECKING:
    from rasteret_torch.index import Collection

_OF_FILES = ("filename_regex", "date_format")
_OF_DATASETS = ("bbox", "dates", "max_items", "stac_api")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `build` is asked for."""
    parser.add_argument("paths", nargs="+", help="folder, glob, file or URL; or one dataset of `datasets`")
    parser.add_argument("--output", type=Path, required=True, help="where the collection goes; replaced if it is one")
    parser.add_argument("--name", help="name of the collection (default: that of the output folder)")
    parser.add_argument("--bands", nargs="+", help="band names in file order (default: B1 B2 ...), or those to take")
    files = parser.add_argument_group("files")
    files.add_argument("--filename-regex", help="named groups date (or start, stop) and band; others become columns")
    files.add_argument("--date-format", help="of the date group (default: %%Y%%m%%d)")
    datasets = parser.add_argument_group("datasets")
    sides = ("WEST", "SOUTH", "EAST", "NORTH")
    datasets.add_argument("--bbox", nargs=4, type=float, metavar=sides, help="degrees of longitude and latitude")
    datasets.add_argument(
        "--dates", nargs=2, metavar=("START", "END"), help="2024-06-01 2024-06-30: both days included"
    )
    datasets.add_argument("--max-items", type=int, help="the first so many items only")
    datasets.add_argument("--stac-api", help="search here instead")


def build(options: argparse.Namespace) -> Collection:
    """Runs `build`.

    Raises:
        InputError: options that do not go together.
        RasteretTorchError: as the functions of the package.
    """
    from rasteret_torch.index.snapshot import check_free
    from rasteret_torch.ingest import catalog

    check_free(options.output)
    known = {one.id for one in catalog.list_datasets()}
    wanted = [path for path in options.paths if path in known and not Path(path).exists()]
    if wanted and len(options.paths) > 1:
        raise InputError(f"{wanted[0]} is a dataset, which is indexed alone; build the rest into another collection")
    unfit, what = (_OF_FILES, "files") if wanted else (_OF_DATASETS, "a dataset of `rasteret-torch datasets`")
    given = [f"--{name.replace('_', '-')}" for name in unfit if getattr(options, name) is not None]
    if given:
        raise InputError(f"{', '.join(given)} is for {what}, not for {options.paths[0]}; leave it out")
    return (_of_dataset if wanted else _of_files)(options)


def _of_files(options: argparse.Namespace) -> Collection:
    from rasteret_torch.ingest import build_from_files

    collection = build_from_files(
        options.paths,
        name=options.name or options.output.name,
        bands=options.bands,
        filename_regex=options.filename_regex,
        date_format=options.date_format or "%Y%m%d",
    )
    collection.save(options.output)
    return collection


def _of_dataset(options: argparse.Namespace) -> Collection:
    """Built in its place, so that an interrupted build goes on where it stopped."""
    from rasteret_torch.ingest import named

    if options.name not in (None, options.output.name):
        raise InputError(f"a dataset is named as its folder, {options.output.name}; leave --name out")
    return named.build(
        options.paths[0],
        name=options.output.absolute().name,
        workspace_dir=options.output.absolute().parent,
        force=True,
        bbox=options.bbox,
        date_range=options.dates,
        bands=options.bands,
        max_items=options.max_items,
        stac_api=options.stac_api,
    )


def datasets() -> Iterator[str]:
    """One line a named dataset: its id, how it is reached, and its title."""
    from rasteret_torch.ingest import catalog

    rows = [(one.id, one.access, one.title) for one in catalog.list_datasets()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip()
