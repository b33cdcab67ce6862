"""Which files of this machine an index may name."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scenes import write_tiff

import rasteret_torch as rt
from rasteret_torch.errors import UntrustedUriError
from rasteret_torch.index import snapshot, trust


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A collection that names a file elsewhere on this machine by its absolute path."""
    write_tiff(tmp_path / "data" / "tiffs" / "a_20200101.tif")
    made = rt.build_from_files(tmp_path / "data" / "tiffs", filename_regex=r"a_(?P<date>\d{8})", progress=False)
    return made.save(tmp_path / "home" / "indexes" / "mine")


def with_href(saved: Path, target: Path, href: str) -> Path:
    """The saved rows as plain Parquet of another maker, with another href."""
    table = pq.read_table(saved / "part-00000.parquet")
    assets = [{"B1": {"href": href, "band_index": 0}}] * table.num_rows
    place = table.schema.get_field_index("assets")
    target.parent.mkdir(parents=True, exist_ok=True)
    changed = table.set_column(place, "assets", pa.array(assets, table.schema.field(place).type))
    pq.write_table(changed, target)
    return target


def test_what_was_saved_here_is_read_as_ever(saved: Path) -> None:
    loaded = rt.load(saved)
    assert loaded.runtime.source(0, "B1").href.endswith("data/tiffs/a_20200101.tif")


def test_what_somebody_else_saved_is_not(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user"))
    with pytest.raises(UntrustedUriError, match=r"outside of its own folder.*pass root="):
        rt.load(saved)
    assert len(rt.load(saved, root=tmp_path / "data")) == 1
    assert len(rt.load(saved, root=["/nowhere", str(tmp_path / "data" / "tiffs")])) == 1
    with pytest.raises(UntrustedUriError):
        rt.load(saved, root=tmp_path / "dat")
    monkeypatch.setenv(trust.ROOTS_VARIABLE, f"/nowhere:{tmp_path / 'data'}")
    assert len(rt.load(saved)) == 1


def test_a_seal_belongs_to_its_files(saved: Path, tmp_path: Path) -> None:
    other = rt.load(saved).with_column("x", [1]).save(tmp_path / "home" / "indexes" / "other")
    forged = (other / "_manifest.json").read_text()
    own, theirs = (_seal(text) for text in ((saved / "_manifest.json").read_text(), forged))
    assert own != theirs
    (other / "_manifest.json").write_text(forged.replace(theirs, own))
    with pytest.raises(UntrustedUriError):
        rt.load(other)


def test_a_seal_does_not_stand_for_other_files(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large files are not hashed when they are opened, but before they may name any file of this machine."""
    monkeypatch.setattr(snapshot, "_HASHED_NBYTES", 0)
    assert rt.load(saved).runtime.source(0, "B1").href.endswith("a_20200101.tif")
    changed = with_href(saved, saved / "part-00000.parquet", "/etc/passwd")
    manifest = json.loads((saved / "_manifest.json").read_text())
    manifest["files"][0]["nbytes"] = changed.stat().st_size
    (saved / "_manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UntrustedUriError):
        rt.load(saved)


def _seal(manifest: str) -> str:
    return manifest.partition('"seal": "')[2].partition('"')[0]


@pytest.mark.parametrize(
    "href", ["/etc/passwd", "file:///etc/passwd", "ftp://a.example/x.tif", "FILE:///etc/passwd", "/a\0b.tif"]
)
def test_parquet_of_others(saved: Path, tmp_path: Path, href: str) -> None:
    file = with_href(saved, tmp_path / "download" / "x.parquet", href)
    with pytest.raises(UntrustedUriError):
        rt.load(file)


@pytest.mark.parametrize("form", ["plain", "bytes", "categories", "twice"])
def test_hrefs_of_every_form_are_checked(saved: Path, tmp_path: Path, form: str) -> None:
    """What becomes an href is looked at, however the file of another maker holds it."""
    for href, refused in (("/etc/passwd", True), ("https://a.example/x.tif", False)):
        file = with_href(saved, tmp_path / "download" / "x.parquet", href)
        table = pq.read_table(file)
        hrefs = pa.array([href] * table.num_rows)
        asset = {
            "plain": lambda hrefs=hrefs: hrefs,
            "bytes": lambda hrefs=hrefs: pa.StructArray.from_arrays([hrefs.cast(pa.binary())], ["href"]),
            "categories": lambda hrefs=hrefs: pa.StructArray.from_arrays([hrefs.dictionary_encode()], ["href"]),
            "twice": lambda hrefs=hrefs: pa.StructArray.from_arrays([pa.array(["b.tif"]), hrefs], ["href"] * 2),
        }[form]()
        place = table.schema.get_field_index("assets")
        pq.write_table(table.set_column(place, "assets", pa.StructArray.from_arrays([asset], ["B1"])), file)
        if refused:
            with pytest.raises(UntrustedUriError):
                rt.load(file)
        else:
            assert rt.load(file).runtime._asset(0, "B1")[1] == href


def test_files_beside_it_may_be_named_by_anyone(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "index").mkdir()
    for href in (str(tmp_path / "data" / "tiffs" / "a_20200101.tif"), "../tiffs/a_20200101.tif"):
        file = with_href(saved, tmp_path / "data" / "index" / "x.parquet", href)
        assert rt.load(file).runtime.source(0, "B1").href == str(tmp_path / "data" / "tiffs" / "a_20200101.tif")
    (tmp_path / "data" / "out").symlink_to("/etc")
    with pytest.raises(UntrustedUriError):
        rt.load(with_href(saved, tmp_path / "data" / "index" / "x.parquet", "../out/passwd"))


def test_urls_are_for_the_fetch_layer(saved: Path, tmp_path: Path) -> None:
    for href in ("https://a.example/x.tif", "s3://bucket/x.tif", "HTTP://a.example/x.tif", "abfs://c@a.example/x.tif"):
        assert len(rt.load(with_href(saved, tmp_path / "download" / "x.parquet", href))) == 1


def test_without_a_place_for_the_key_nothing_is_sealed(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    again = rt.load(saved, root="/").save(tmp_path / "home" / "again")
    assert _seal((again / "_manifest.json").read_text()) == ""
    with pytest.raises(UntrustedUriError):
        rt.load(again)


def test_the_key_is_for_its_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    one, two = trust.seal(["a"]), trust.seal(["a"])
    assert one == two != trust.seal(["b"])
    files = list((tmp_path / "rasteret_torch").iterdir())
    assert [oct(file.stat().st_mode & 0o777) for file in files] == ["0o600"]
