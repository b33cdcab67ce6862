"""What is read: the same places and times for every engine, drawn from a fixed seed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from data import BANDS, NORTH, RES_M, SIZE_PX, ZONES, Scene, scenes

CHIP_PX = 256
SEED = 20260107


@dataclass(frozen=True)
class Query:
    """One chip: xmin, ymin, xmax, ymax in the CRS of its workload, and the dates it wants (both included)."""

    bounds: tuple[float, float, float, float]
    first: dt.date
    last: dt.date

    @property
    def window(self) -> tuple[int, int]:
        """(row, col) of its upper left pixel in the scenes of the western zone."""
        west = ZONES["32633"][3]
        return round((NORTH - self.bounds[3]) / RES_M), round((self.bounds[0] - west) / RES_M)


@dataclass(frozen=True)
class Workload:
    """Batches to be read.

    Attributes:
        name: in results.
        scenes: of the collection.
        bands: in channel order.
        batches: queries, by batch.
        time_series: [T, C, H, W] chips; otherwise one date is asked for, [C, H, W].
        is_warped: some scenes lie in another CRS than the queries: checksums differ, pixels are not compared.
    """

    name: str
    scenes: tuple[Scene, ...]
    bands: tuple[str, ...]
    batches: tuple[tuple[Query, ...], ...]
    time_series: bool
    is_warped: bool = False

    @property
    def chips(self) -> int:
        return sum(len(batch) for batch in self.batches)

    @property
    def warmup(self) -> tuple[Query, ...]:
        """A chip that no batch contains, in a corner of its own: it opens files and connections."""
        edge = ZONES["32633"][3] + (SIZE_PX - CHIP_PX) * RES_M
        days = self.batches[0][0]
        return (Query((edge, NORTH - CHIP_PX * RES_M, edge + CHIP_PX * RES_M, NORTH), days.first, days.last),)


def train(batches: int = 6) -> Workload:
    """Random chips of four bands from thirty scenes."""
    random = np.random.default_rng(SEED)
    archive = scenes("32633", 30)
    corners = random.integers(0, SIZE_PX - CHIP_PX, (batches * 32, 2))
    days = random.integers(0, len(archive), batches * 32)
    queries = [_query(row, col, archive[day].day) for (row, col), day in zip(corners, days, strict=True)]
    return Workload("train", tuple(archive), BANDS, _batched(queries, 32), time_series=False)


def single_aoi(chips: int = 100, batch: int = 4) -> Workload:
    """Time series of fifteen dates in one area of 2048 x 2048 pixels."""
    random = np.random.default_rng(SEED + 1)
    archive = scenes("32633", 15)
    corners = random.integers(0, 2048 - CHIP_PX, (chips, 2)) + np.array((3000, 4000))
    return _series(f"single_aoi_{chips}", archive, corners, batch)


def multi_aoi() -> Workload:
    """Time series of thirty dates in five areas."""
    random = np.random.default_rng(SEED + 2)
    archive = scenes("32633", 30)
    areas = random.integers(0, SIZE_PX - 1024, (5, 2))
    corners = areas[random.integers(0, 5, 20)] + random.integers(0, 1024 - CHIP_PX, (20, 2))
    return _series("multi_aoi", archive, corners, 4)


def two_zones() -> Workload:
    """Time series of twelve scenes, six of them in the neighbouring UTM zone."""
    random = np.random.default_rng(SEED + 3)
    archive = scenes("32633", 6) + scenes("32634", 6)
    corners = random.integers(0, 3000, (16, 2)) + np.array((3000, 1500))
    return _series("two_zones", archive, corners, 2, is_warped=True)


WORKLOADS: dict[str, Callable[[], Workload]] = {
    "train": train,
    "single_aoi_8": lambda: single_aoi(8, 2),
    "single_aoi_100": single_aoi,
    "multi_aoi": multi_aoi,
    "two_zones": two_zones,
}


def _series(name: str, archive: list[Scene], corners: np.ndarray, batch: int, *, is_warped: bool = False) -> Workload:
    first, last = min(scene.day for scene in archive), max(scene.day for scene in archive)
    queries = [_query(row, col, first, last) for row, col in corners]
    return Workload(name, tuple(archive), ("B02", "B03", "B04"), _batched(queries, batch), True, is_warped)


def _query(row: int, col: int, first: dt.date, last: dt.date | None = None) -> Query:
    xmin, ymax = ZONES["32633"][3] + float(col) * RES_M, NORTH - float(row) * RES_M
    return Query((xmin, ymax - CHIP_PX * RES_M, xmin + CHIP_PX * RES_M, ymax), first, last or first)


def _batched(queries: list[Query], size: int) -> tuple[tuple[Query, ...], ...]:
    def parts() -> Iterator[tuple[Query, ...]]:
        for start in range(0, len(queries), size):
            yield tuple(queries[start : start + size])

    return tuple(parts())
