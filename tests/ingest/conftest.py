"""A STAC API for the tests of ingest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from stac_api import StacApi


@pytest.fixture
def stac_api() -> Iterator[StacApi]:
    """An empty STAC API on loopback."""
    with StacApi() as api:
        yield api
