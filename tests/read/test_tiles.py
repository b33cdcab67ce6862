"""Which tiles hold a window, and which level suits a resolution, whatever the sizes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rasteret_torch.geo import Window
from rasteret_torch.read.place import choose_level
from rasteret_torch.read.tiles import tiles_of
from rasteret_torch.tiff.model import Layout, TiffHeader

NONE = np.empty(0, np.uint64)
IMAGE = Layout(
    width=1, height=1, tile_width=1, tile_height=1, samples=1, bits=8, sample_format=1, dtype=np.dtype(np.uint8),
    compression=1, offsets=NONE, counts=NONE,
)  # fmt: skip


@st.composite
def windows(draw: st.DrawFn) -> tuple[Layout, Window, tuple[int, ...]]:
    """An image of tiles or strips, a window inside it, and samples to read."""
    height, width = draw(st.integers(1, 200)), draw(st.integers(1, 200))
    is_tiled = draw(st.booleans())
    samples = draw(st.integers(1, 3))
    layout = replace(
        IMAGE,
        height=height,
        width=width,
        tiled=is_tiled,
        tile_height=draw(st.integers(1, 64)),
        tile_width=draw(st.integers(1, 64)) if is_tiled else width,
        samples=samples,
        planar=draw(st.sampled_from((1, 2))),
    )
    row, col = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    window = Window(row, col, draw(st.integers(1, height - row)), draw(st.integers(1, width - col)))
    wanted = draw(st.lists(st.integers(0, samples - 1), min_size=1, unique=True))
    return layout, window, tuple(wanted)


@given(windows())
def test_tiles_cover_a_window_once(given_: tuple[Layout, Window, tuple[int, ...]]) -> None:
    layout, window, samples = given_
    planes = samples if layout.planes > 1 else (None,)
    covered = {plane: np.zeros(window.shape, int) for plane in planes}
    for ref in tiles_of(layout, window, samples):
        at = ref.paste
        covered[ref.plane_sample][at.to_rows, at.to_cols] += 1
        tile_row, tile_col = divmod(ref.index % (layout.tiles_across * layout.tiles_down), layout.tiles_across)
        # The same pixels of the image, counted from the tile and from the window.
        assert tile_row * layout.tile_height + at.rows.start == window.row + at.to_rows.start
        assert tile_col * layout.tile_width + at.cols.start == window.col + at.to_cols.start
        assert at.rows.stop - at.rows.start == at.to_rows.stop - at.to_rows.start
        assert at.cols.stop - at.cols.start == at.to_cols.stop - at.to_cols.start
        assert 0 <= at.rows.start < at.rows.stop <= ref.rows == layout.tile_rows(tile_row)
        assert 0 <= at.cols.start < at.cols.stop <= layout.tile_width
        assert ref.index == layout.tile_index(tile_row, tile_col, ref.plane_sample or 0)
    assert all((count == 1).all() for count in covered.values())


@given(
    size=st.tuples(st.integers(2000, 20_000), st.integers(2000, 20_000)),
    levels=st.integers(1, 6),
    octave=st.floats(-1, 8),
    rounds_up=st.booleans(),
)
def test_the_coarsest_level_that_is_as_fine_as_the_target(
    size: tuple[int, int], levels: int, octave: float, rounds_up: bool
) -> None:
    shrink = 2.0**octave
    halves = [[-(-side // 2**k) if rounds_up else side // 2**k for side in size] for k in range(levels)]
    pyramid = tuple(replace(IMAGE, height=height, width=width) for height, width in halves)
    header = TiffHeader(levels=pyramid, masks=(None,) * levels)
    chosen = choose_level(header, (shrink, shrink), "auto")
    if abs(octave - round(octave)) > 0.1:  # beside the edges, at which writers' rounding decides
        assert chosen == min(max(int(np.floor(octave)), 0), levels - 1)
    assert choose_level(header, (shrink, shrink), 3) == min(3, levels - 1)
