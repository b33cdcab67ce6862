"""What is read and decoded together."""

from rasteret_torch.read.needs import bundles


def test_small_things_go_together_until_they_are_large():
    sizes = [3, 3, 4, 10, 1, 25, 2, 2]
    assert list(bundles(sizes, lambda size: size, 10)) == [[3, 3, 4], [10], [1, 25], [2, 2]]
    assert list(bundles([], len, 10)) == []
