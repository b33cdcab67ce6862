"""Named datasets as data: where to search, which bands, how the bytes are reached."""

from __future__ import annotations

import datetime as dt
import functools
import importlib.resources
import json
import os
import re
import tomllib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from rasteret_torch.errors import DatasetNotFoundError, InputError
from rasteret_torch.index import load, locate, registered
from rasteret_torch.store import CloudConfig, StorageBackend, create_backend
from rasteret_torch.store.credentials import DEFAULT_REGION
from rasteret_torch.store.recipes_by_name import recipe

Access = Literal["public", "requester-pays", "planetary-computer", "earthdata"]
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")


@dataclass(frozen=True)
class Dataset:
    """One named dataset. Holds no secret.

    Attributes:
        id: `source/name`.
        title: one line.
        stac_api: STAC API, or, with `static`, the root document of a static catalog.
        collection: id of the STAC collection; "" for all.
        static: whether `stac_api` is a catalog of files.
        table: path or URI of a Parquet table of items, instead of `stac_api`.
        path: of a collection on disk, instead of both.
        band_map: band to asset key.
        band_index_map: band to 0-based sample of multi-band files.
        bands: names of a collection's bands by prefix and count (`{"prefix": "A", "count": 64}`: A00 to A63).
        column_map, href_column: of `table`, as in `build_from_table`.
        query: always part of the search.
        access: how the files are reached.
        region: of the buckets.
        rewrite: URL prefix to the bucket URL behind it.
        buckets: that may charge, or that credentials are for.
        credentials_url: where temporary keys are had ("earthdata"), or tokens, where not the Planetary Computer's own.
        licence, licence_url: as the provider names it.
        example_bbox, example_dates: a search that finds something.
    """

    id: str
    title: str = ""
    stac_api: str = ""
    collection: str = ""
    static: bool = False
    table: str = ""
    path: str = ""
    band_map: Mapping[str, str] = field(default_factory=dict, hash=False)
    band_index_map: Mapping[str, int] = field(default_factory=dict, hash=False)
    bands: Mapping[str, Any] = field(default_factory=dict, hash=False)
    column_map: Mapping[str, str] = field(default_factory=dict, hash=False)
    href_column: str = ""
    query: Mapping[str, Any] = field(default_factory=dict, hash=False)
    access: Access = "public"
    region: str = ""
    rewrite: Mapping[str, str] = field(default_factory=dict, hash=False)
    buckets: tuple[str, ...] = ()
    credentials_url: str = ""
    licence: str = ""
    licence_url: str = ""
    example_bbox: tuple[float, ...] = ()
    example_dates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise InputError(
                f"dataset id {self.id!r} must be names of letters, digits, . _ - with slashes between them"
            )
        if sum(map(bool, (self.stac_api, self.table, self.path))) != 1:
            raise InputError(f"dataset {self.id!r} must have exactly one of stac_api, table and path")
        if self.access not in get_args(Access):
            raise InputError(f"access {self.access!r} of dataset {self.id!r} must be one of {list(get_args(Access))}")
        if self.access == "earthdata" and not (self.credentials_url and self.buckets):
            raise InputError(f"dataset {self.id!r} needs credentials_url, and the buckets that the keys are for")

    @property
    def band_names(self) -> list[str]:
        """Bands that items have, as far as the entry says."""
        if self.bands:
            digits = len(str(self.bands["count"] - 1))
            return [f"{self.bands['prefix']}{number:0{digits}d}" for number in range(self.bands["count"])]
        return list(self.band_map or self.band_index_map)

    @property
    def cloud_config(self) -> CloudConfig | None:
        """How the buckets are reached; None where plain URLs need nothing."""
        if self.access == "planetary-computer":
            return CloudConfig("azure")
        pays = self.access == "requester-pays"
        config = CloudConfig("aws", pays, self.region or DEFAULT_REGION, dict(self.rewrite), self.buckets)
        return None if config == CloudConfig("aws") else config

    def backend(self) -> StorageBackend | None:
        """The recipe by which its files are read; None where plain URLs need nothing."""
        return _backend(self)


@functools.lru_cache(64)  # one object a dataset, so that all its readers share connections
def _backend(dataset: Dataset) -> StorageBackend | None:
    config = dataset.cloud_config
    if dataset.access in ("public", "requester-pays"):
        return None if config is None else create_backend(cloud_config=config)
    if dataset.access == "earthdata":
        keys = recipe("EarthdataCredentials")(dataset.credentials_url, dataset.buckets)
    else:
        keys = recipe("PlanetaryComputerCredentials")(dataset.credentials_url or None)
    return create_backend(keys, config)


_registered: dict[str, Dataset] = {}


def list_datasets() -> list[Dataset]:
    """All named datasets: the package's, those of the user's TOML file, those registered in this process."""
    return list(_all().values())


def dataset(dataset_id: str) -> Dataset:
    """The dataset of that id.

    Raises:
        DatasetNotFoundError: there is none; names those that sound like it.
    """
    known = _all()
    if dataset_id not in known:
        part = dataset_id.rsplit("/", 1)[-1].lower()
        like = [one for one in known if part and (part in one.lower() or one.rsplit("/", 1)[-1].lower() in part)]
        raise DatasetNotFoundError(
            f"no dataset {dataset_id!r}; there are {like or list(known)}; register(...) adds one"
        )
    return known[dataset_id]


def register(dataset: Dataset | None = None, /, **entry: Any) -> Dataset:
    """Adds a dataset to this process, or replaces the one of that id.

    Args:
        dataset: as a value; or
        entry: its fields, as in the catalog (`id="acme/fields", stac_api=..., collection=..., band_map={...}`).

    Raises:
        InputError: a field is unknown or makes no sense.
    """
    if not isinstance(dataset, Dataset | None):
        raise InputError(f"{dataset!r} is no Dataset; pass one, or its fields: register(id=..., stac_api=..., ...)")
    made = dataset if dataset is not None else _made(entry)
    _registered[made.id] = made
    if made.path:
        registered.name_path(made.id, made.path)
    return made


def register_local(
    dataset_id: str,
    path: str | Path,
    *,
    title: str = "",
    access: Access = "public",
    persist: bool = True,
    registry_path: str | Path | None = None,
) -> Dataset:
    """Gives a name to a collection on disk, so that `load(dataset_id)` opens it.

    Args:
        dataset_id: `local/fields`.
        path: of the collection.
        title: one line; default the collection's name.
        access: how its files are reached, where not by plain URLs.
        persist: also writes it to the user's TOML file, for later processes.
        registry_path: that file; default `$RASTERET_TORCH_DATASETS`, else `datasets.toml` in the configuration folder.

    Raises:
        DatasetNotFoundError: no collection there.
    """
    opened = load(path)
    entry = {"path": str(locate.absolute(path)), "title": title or opened.name, "access": access}
    made = register(id=dataset_id, **entry)
    if persist:
        file = registered.user_file() if registry_path is None else locate.absolute(registry_path)
        _write(file, {**registered.read_entries(file), dataset_id: entry})
    return made


def backend_of(data_source: str) -> StorageBackend | None:
    """How the files of a collection are read when no backend is given: as the catalog says of its `data_source`."""
    known = _all().get(data_source) if data_source else None
    return None if known is None else known.backend()


def _all() -> dict[str, Dataset]:
    entries = registered.read_entries(registered.user_file())
    return {**_packaged(), **{key: _made({"id": key, **one}) for key, one in entries.items()}, **_registered}


@functools.cache
def _packaged() -> dict[str, Dataset]:
    text = importlib.resources.files("rasteret_torch.ingest").joinpath("catalog.toml").read_text("utf-8")
    return {key: _made({"id": key, **entry}) for key, entry in tomllib.loads(text)["dataset"].items()}


def _made(entry: Mapping[str, Any]) -> Dataset:
    names = {one.name for one in fields(Dataset)}
    unknown = sorted(set(entry) - names)
    if unknown or "id" not in entry:
        raise InputError(f"dataset {entry.get('id')!r} has {unknown or 'no id'}; the fields are {sorted(names)}")
    plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    return Dataset(**plain)


def _write(file: Path, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """The TOML file, replaced in one step. Entries are flat tables of text, numbers, lists and flat tables."""
    lines = ["# Datasets of this user; see rasteret_torch.register_local."]
    for key, entry in entries.items():
        lines += ["", f"[dataset.{_toml(key)}]"]
        lines += [f"{name} = {_toml(value)}" for name, value in entry.items()]
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}")
    aside.write_text("\n".join(lines) + "\n", "utf-8")
    os.replace(aside, file)


def _toml(value: Any) -> str:
    """A value in TOML 1.0, whose strings, whole numbers, booleans and arrays are written like JSON's."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_toml(str(key))} = {_toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, float):
        return repr(value)
    # Not JSON's escapes: TOML has none of halves of characters.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
