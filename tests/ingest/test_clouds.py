"""From gs:// and az:// URLs to pixels, by the environment alone: a loopback server takes the place of the cloud."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from servers import RangeServer
from tiffs import write_tiff

from rasteret_torch import build_from_files, load


@pytest.mark.parametrize(("scheme", "folder"), [("gs", "scenes"), ("az", "devstoreaccount1/scenes")])
def test_an_index_of_bucket_urls(
    tmp_path: Path, range_server: RangeServer, monkeypatch: pytest.MonkeyPatch, scheme: str, folder: str
) -> None:
    endpoint = range_server.url().rstrip("/")
    monkeypatch.setenv("GOOGLE_BASE_URL", endpoint)
    monkeypatch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")
    monkeypatch.setenv("AZURITE_BLOB_STORAGE_URL", endpoint)
    pixels = np.random.default_rng(1).integers(1, 999, (2, 96, 128)).astype("uint16")
    path = range_server.folder / folder / "tile 1" / "s_20200102.tif"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tiff(path, pixels, tiled=True, blockxsize=32, blockysize=32, compress="deflate")
    href = f"{scheme}://scenes/tile 1/s_20200102.tif"
    regex = r"s_(?P<date>\d{8})"
    build_from_files([href], name="clouds", filename_regex=regex, workspace_dir=tmp_path, progress=False)
    built = load(tmp_path / "clouds")
    assert built.to_table(["assets"]).column(0)[0].as_py()["B1"]["href"] == href
    with rasterio.open(path) as source:
        bounds = rasterio.windows.bounds(rasterio.windows.Window(40, 10, 50, 60), source.transform)
        expected = source.read(window=((10, 70), (40, 90)))
    read = built.read_window(built.head(1).to_table(["id"]).column(0).to_pylist(), bounds, 10.0, ["B1", "B2"])
    assert read.valid.all()
    np.testing.assert_array_equal(read.data, expected)
    assert not any("authorization" in hit.headers for hit in range_server.hits)
