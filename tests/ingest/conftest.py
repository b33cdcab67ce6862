"""A STAC API, and a table of files, for the tests of ingest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from scenes import write_dated
from stac_api import StacApi


@pytest.fixture
def stac_api() -> Iterator[StacApi]:
    """An empty STAC API on loopback."""
    with StacApi() as api:
        yield api


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return write_dated(tmp_path / "tiffs", bands=2)


@pytest.fixture
def records(files: list[Path]) -> pa.Table:
    """What people have: a name, a year, a path."""
    return pa.table(
        {
            "scene": ["a", "b", "c"],
            "year": [2020, 2020, 2021],
            "path": [str(file) for file in files],
            "score": [0.1, 0.2, 0.3],
        }
    )
