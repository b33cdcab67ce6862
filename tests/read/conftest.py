"""The read path on small files."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from tiffs import CRS, source_of

from rasteret_torch.geo import Grid, parse_crs
from rasteret_torch.read import ReadOptions, pipeline, plan_chip


@pytest.fixture
def read_chip() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """read_chip(paths, bounds, res, kernel, samples=(0,)): mosaic of files in the order given: data, valid."""

    def read(
        paths: Sequence[Path],
        bounds: tuple[float, float, float, float],
        res: tuple[float, float],
        kernel: str = "nearest",
        samples: Sequence[int] = (0,),
        options: ReadOptions = ReadOptions(tile_cache_nbytes=0),  # noqa: B008
    ) -> tuple[np.ndarray, np.ndarray]:
        grid = Grid.from_bounds(bounds, res, parse_crs(CRS))
        items = [[source_of(path, sample) for sample in samples] for path in paths]
        plan = plan_chip(grid, [items], resampling=lambda dtype: kernel, level=options.level)
        data, valid = pipeline(options).read([plan])[0]
        return data[0], valid[0]

    return read
