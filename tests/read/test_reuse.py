"""How much a cache must hold: compared with going back through all that was asked for."""

from hypothesis import given, settings
from hypothesis import strategies as st

from rasteret_torch.read.reuse import ReuseDistances

# key, rows needed, rows decoded beyond those
ASKED = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 3), st.integers(0, 2)), max_size=40)


@settings(max_examples=50)
@given(ASKED, st.sampled_from([1, 8]))
def test_distances_are_those_of_going_back(asked, rounds):
    """In several rounds the tree of sums, which begins with 64 places, grows."""
    distances = ReuseDistances[int]()
    kept = {}  # rows by key, that touched longest ago first
    for key, rows, more in asked * rounds:
        order = list(kept)
        has = kept.pop(key, 0)
        since = 10 * (has + sum(kept[other] for other in order[order.index(key) + 1 :])) if has >= rows else None
        assert distances.touch(key, rows, rows + more, 10 * (rows + more)) == since
        kept[key] = max(has, rows + more)
    assert set(distances) == set(kept)
    assert len(distances) == len(kept)
