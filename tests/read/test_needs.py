"""What is read and decoded together, and where an error met it."""

from types import SimpleNamespace

import pytest

from rasteret_torch.errors import CorruptTileError, FetchError
from rasteret_torch.read.cache import TileKey
from rasteret_torch.read.needs import bundles, located


def test_small_things_go_together_until_they_are_large():
    sizes = [3, 3, 4, 10, 1, 25, 2, 2]
    assert list(bundles(sizes, lambda size: size, 10)) == [[3, 3, 4], [10], [1, 25], [2, 2]]
    assert list(bundles([], len, 10)) == []


@pytest.mark.parametrize(
    ("item_id", "names", "level", "is_mask", "said"),
    [
        ("a", ("B1", "B2"), 0, False, "item 'a', band B1, B2, tile 7 of https://h/a.tif: short"),
        ("a", ("B1",), 2, True, "item 'a', band B1, mask tile 7 of level 2 of https://h/a.tif: short"),
        ("https://h/a.tif?key=k", (), 0, False, "tile 7 of https://h/a.tif: short"),
    ],
)
def test_errors_say_where(item_id, names, level, is_mask, said):
    href = "https://h/a.tif?key=k"
    job = SimpleNamespace(plan=SimpleNamespace(item_id=item_id, names=names))
    key = TileKey(href, level, is_mask, 7)
    assert str(located(FetchError("https://h/a.tif, short"), job, key)) == said
    damaged = located(CorruptTileError("short"), job, key)
    assert type(damaged) is CorruptTileError
    assert str(damaged).startswith(f"{said}; the file is damaged")
    assert ("collection.check()" in str(damaged)) == (item_id == "a")
