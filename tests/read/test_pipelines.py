"""Calls with equal options share a pipeline, and a process does not gather one for every options it has seen."""

import gc
import threading
import time
from dataclasses import dataclass

import numpy as np
import rasterio
from rasterio.transform import from_origin

import rasteret_torch as rt
from rasteret_torch.read import ReadOptions, pipeline
from rasteret_torch.read.pipelines import MAX_PIPELINES


@dataclass
class Provider:
    key: str

    def __call__(self) -> None:
        return None


def decode_threads() -> int:
    return sum(thread.name.startswith("rasteret-") and "-io" not in thread.name for thread in threading.enumerate())


def test_equal_options_and_equal_backends_share_one():
    assert pipeline(ReadOptions(attempts=2)) is pipeline(ReadOptions(attempts=2))
    assert pipeline(ReadOptions(), rt.create_backend()) is pipeline(ReadOptions(), rt.create_backend())
    assert pipeline(ReadOptions(), rt.create_backend(region="eu-west-1")) is not pipeline(ReadOptions())


def test_credential_providers_need_not_be_hashable():
    one, same, other = (rt.create_backend(credential_provider=Provider(key)) for key in "aab")
    assert pipeline(ReadOptions(), one) is pipeline(ReadOptions(), same)
    assert pipeline(ReadOptions(), one) is not pipeline(ReadOptions(), other)


def test_threads_of_options_that_are_not_used_again_end(tmp_path):
    path = tmp_path / "image.tif"
    where = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 10, 10)}
    with rasterio.open(path, "w", driver="GTiff", width=32, height=32, count=1, dtype="uint8", **where) as file:
        file.write(np.full((1, 32, 32), 7, np.uint8))
    for number in range(3 * MAX_PIPELINES):
        assert (rt.read_tiff(path, read=ReadOptions(range_timeout_s=60 + number)).data == 7).all()
    gc.collect()
    most = 2 * MAX_PIPELINES  # a decode thread and a finisher each
    deadline = time.monotonic() + 30
    while decode_threads() > most and time.monotonic() < deadline:
        time.sleep(0.01)
    assert decode_threads() <= most
