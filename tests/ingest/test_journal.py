"""Headers as lines of a journal: exactly as they were, damaged lines aside."""

from pathlib import Path

import pytest
from ingest_items import write_tiff

from rasteret_torch.index.headers import header_array
from rasteret_torch.ingest import read_headers
from rasteret_torch.ingest.journal import Journal, recorded, restored
from rasteret_torch.tiff.model import TiffHeader


def same(one: TiffHeader, other: TiffHeader) -> bool:
    return str(header_array([one]).to_pylist()) == str(header_array([other]).to_pylist())


def test_every_header_comes_back(shared_data: Path) -> None:
    files = sorted(str(file) for file in (shared_data / "geotiff" / "variants").rglob("*.tif*"))
    headers = [header for header in read_headers(files) if isinstance(header, TiffHeader)]
    assert len(headers) > 100
    for header in headers:
        back = restored(recorded(header))
        assert same(header, back)
        assert [one.dtype for one in back.levels] == [one.dtype for one in header.levels]
        assert (back.gcps, back.transform, back.image.jpeg_tables) == (
            header.gcps, header.transform, header.image.jpeg_tables,
        )  # fmt: skip


def test_lines_that_were_cut_short_are_skipped(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tif")
    header = read_headers([str(tmp_path / "a.tif")])[0]
    assert isinstance(header, TiffHeader)
    with Journal(tmp_path).part() as log:
        log.add("https://x.example/a?sig=secret", header)
        log.add("b", header)
        log.keep = True
    file = next(tmp_path.glob("*.heads"))
    assert b"secret" not in file.read_bytes()
    file.write_bytes(file.read_bytes()[:-7])
    with Journal(tmp_path).part() as log:
        found = log.find("https://x.example/a?sig=secret")
        assert found is not None
        assert same(found, header)
        assert log.find("b") is None
    assert [*tmp_path.glob("*.heads")] == [file]
    with pytest.raises(KeyError):
        restored({})
