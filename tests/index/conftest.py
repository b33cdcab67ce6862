"""Collections of small real files."""

from pathlib import Path

import pytest
from scenes import DATED, write_dated

from rasteret_torch.index import Collection
from rasteret_torch.ingest import build_from_files


@pytest.fixture
def dated(tmp_path: Path) -> Collection:
    """Three items of two bands: 2020-01-01, 2020-02-19 and 2021-06-30."""
    write_dated(tmp_path / "tiffs", bands=2)
    return build_from_files(
        tmp_path / "tiffs", name="dated", bands=["red", "nir"], filename_regex=DATED, progress=False
    )
