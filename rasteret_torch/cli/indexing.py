"""`build` and `datasets`: from files, or from a named dataset, to a collection."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from rasteret_torch.cli.arguments import named, pair, positive
from rasteret_torch.errors import DatasetNotFoundError, InputError

if TYPE_CHECKING:
    from rasteret_torch.index import Collection

_MOST_BANDS = 4  # that are named one by one
_OF_FILES = ("filename_regex", "date_format")
_OF_DATASETS = ("bbox", "dates", "max_items", "stac_api")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `build` is asked for."""
    parser.add_argument("paths", nargs="+", help="folder, glob, file or URL; or one dataset of `datasets`")
    parser.add_argument("--output", type=Path, required=True, help="folder of the collection; an older one is replaced")
    parser.add_argument("--name", help="name of the collection (default: that of the output folder)")
    parser.add_argument(
        "--bands",
        nargs="+",
        metavar="BAND",
        help="names of a file's samples in order (default: B1 B2 ...), or red=0 nir=3 for some of them; of a dataset, "
        "or of files with a band in their names, the bands to take",
    )
    files = parser.add_argument_group("files")
    files.add_argument(
        "--filename-regex",
        metavar="REGEX",
        help="matched from the start of each file name; named groups date (or start, stop) and band, others become "
        "columns; names that do not match are left out",
    )
    files.add_argument("--date-format", metavar="FORMAT", help="of the date group (default: %%Y%%m%%d)")
    datasets = parser.add_argument_group("datasets")
    sides = ("WEST", "SOUTH", "EAST", "NORTH")
    datasets.add_argument(
        "--bbox", nargs=4, type=float, metavar=sides, help="degrees of longitude and latitude (WGS 84)"
    )
    datasets.add_argument(
        "--dates", nargs=2, metavar=("START", "END"), help="2024-06-01 2024-06-30: both days included"
    )
    datasets.add_argument("--max-items", type=positive, metavar="N", help="the first so many items only")
    datasets.add_argument("--stac-api", metavar="URL", help="search this STAC API, not the dataset's own")


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
    if not wanted:
        _check_words(options.paths, known)
    unfit, what = (_OF_FILES, "files") if wanted else (_OF_DATASETS, "a dataset of `rasteret-torch datasets`")
    given = [f"--{name.replace('_', '-')}" for name in unfit if getattr(options, name) is not None]
    if given:
        raise InputError(f"{', '.join(given)} is for {what}, not for {options.paths[0]}; leave it out")
    return (_of_dataset if wanted else _of_files)(options)


def _check_words(paths: Sequence[str], datasets: Set[str]) -> None:
    """A bare word that is no path was meant as a dataset."""
    for word in paths:
        name = word.rpartition("/")[2]
        if name and not set("*?[.:~") & set(word) and not Path(word).exists():
            near = sorted(one for one in datasets if name in one)[:3] or get_close_matches(word, sorted(datasets), 2)
            raise DatasetNotFoundError(
                f"{word} is no path here, and no dataset of `rasteret-torch datasets`"
                f"{', which has ' + ' and '.join(near) if near else ''}; check the name"
            )


def _of_files(options: argparse.Namespace) -> Collection:
    from rasteret_torch.ingest import build_from_files

    collection = build_from_files(
        options.paths,
        name=options.name or options.output.name,
        bands=_samples(options.bands),
        filename_regex=options.filename_regex,
        date_format=options.date_format or "%Y%m%d",
        progress=sys.stderr.isatty(),
    )
    collection.save(options.output)
    return collection


def _samples(bands: Sequence[str] | None) -> Sequence[str] | Mapping[str, int] | None:
    """Names in order, or name to sample where they say `name=sample`."""
    if not any("=" in band for band in bands or ()):
        return bands
    pairs = [pair(band) if "=" in band else (band, "") for band in bands or ()]
    wrong = [name for name, sample in pairs if not sample.isdecimal()]
    if wrong:
        raise InputError(f"--bands: {wrong[0]} has no sample; number those of a file from 0, as in red=0 nir=3")
    return {name: int(sample) for name, sample in named(pairs, "--bands").items()}


def _of_dataset(options: argparse.Namespace) -> Collection:
    """Built in its place, so that an interrupted build goes on where it stopped."""
    from rasteret_torch.ingest.named import build as build_named

    if options.name not in (None, options.output.name):
        raise InputError(f"a dataset is named as its folder, {options.output.name}; leave --name out")
    return build_named(
        options.paths[0],
        name=options.output.absolute().name,
        workspace_dir=options.output.absolute().parent,
        force=True,
        bbox=options.bbox,
        date_range=options.dates,
        bands=options.bands,
        max_items=options.max_items,
        stac_api=options.stac_api,
        progress=sys.stderr.isatty(),
    )


def datasets() -> Iterator[str]:
    """One line a named dataset: its id, how it is reached, its bands, and its title."""
    from rasteret_torch.ingest import catalog

    rows = [(one.id, one.access, _bands(one.band_names), one.title) for one in catalog.list_datasets()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip()


def _bands(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= _MOST_BANDS else f"{names[0]}, {names[1]}, … {names[-1]} ({len(names)})"
