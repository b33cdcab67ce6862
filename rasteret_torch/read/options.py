"""`ReadOptions`: every knob of the read path, in one frozen value that crosses processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal

from rasteret_torch.errors import InputError
from rasteret_torch.store.policy import MIB, FetchPolicy

OnError = Literal["raise", "nodata", "replace"]
LevelChoice = Literal["auto"] | int
_NO_DEADLINE_S = 1e9  # 30 years; network libraries count in whole numbers, of which none is infinite
_NUMBERS = (
    "max_inflight_nbytes", "coalesce_gap_nbytes", "disk_cache_nbytes", "max_bad_samples",
    "range_timeout_s", "header_timeout_s", "sample_timeout_s",
)  # fmt: skip


@dataclass(frozen=True)  # without slots: LightningCLI reads the fields of a default by vars()
class ReadOptions:
    """How pixels are fetched, decoded and kept, and what happens when that fails.

    Attributes:
        max_concurrent: requests in flight in this process.
        max_inflight_nbytes: bytes asked for and not yet decoded, in this process.
        coalesce_gap_nbytes: ranges of one file closer than this become one request.
        attempts: tries per range in total.
        range_timeout_s, header_timeout_s: deadlines of a range and of a header, all attempts and waits included; as
            `sample_timeout_s`, they may be infinite.
        sample_timeout_s: of a batch (or a sample that is read alone); tiles that are not there by then fail.
        tile_cache_nbytes: decoded tiles kept in memory, per process; 0 keeps none. None begins with 128 MiB or what
            eight chips need, and takes more, up to 2 GiB (or the process's share of an eighth of the memory), while
            tiles are often asked for again soon after they were dropped.
        disk_cache_dir: folder in which the bytes of remote tiles are kept, shared by processes and runs; None keeps
            none. Only objects whose ETag the index knows are kept, so that no changed file is answered with old bytes.
        disk_cache_nbytes: its size, beyond which what was not used for longest goes.
        decode_threads: threads that decode; None takes the process's share of the cores.
        lookahead: batches planned and fetched ahead of the one in use (iterable loading); up to four times as many
            while they take less than 16 MiB together.
        level: "auto" reads the overview that suits the resolution, a number forces that level (0: full resolution).
        on_error: "raise"; "nodata" leaves what failed invalid; "replace" takes another sample (where a model trains).
        max_bad_samples: failed samples of a process tolerated by "nodata" and "replace" before an error ends the run;
            of a stream those of one epoch, of a `RasteretGeoDataset` the queries that ever failed, each once.
    """

    max_concurrent: int = 64
    max_inflight_nbytes: int = 128 * MIB
    coalesce_gap_nbytes: int = 64 * 1024
    attempts: int = 4
    range_timeout_s: float = 30.0
    header_timeout_s: float = 60.0
    sample_timeout_s: float = 120.0
    tile_cache_nbytes: int | None = None
    disk_cache_dir: str | Path | None = None
    disk_cache_nbytes: int = 32 * 1024 * MIB
    decode_threads: int | None = None
    lookahead: int = 2
    level: LevelChoice = "auto"
    on_error: OnError = "raise"
    max_bad_samples: int = 100

    def __post_init__(self) -> None:
        """Refuses values that could not work.

        Raises:
            InputError: naming the field and its range.
        """
        for name in ("max_concurrent", "attempts", "lookahead"):
            if not isinstance(getattr(self, name), Integral):
                raise InputError(f"ReadOptions.{name} is {getattr(self, name)!r}; it must be a whole number")
        for name in _NUMBERS:
            if not isinstance(getattr(self, name), Real):
                raise InputError(f"ReadOptions.{name} is {getattr(self, name)!r}; it must be a number")
        positive = ("max_concurrent", "max_inflight_nbytes", "attempts", "range_timeout_s", "header_timeout_s")
        for name in (*positive, "sample_timeout_s"):
            if not getattr(self, name) > 0:
                raise InputError(f"ReadOptions.{name} is {getattr(self, name)!r}; it must be greater than 0")
        if self.tile_cache_nbytes is not None and not self.tile_cache_nbytes >= 0:
            raise InputError(f"ReadOptions.tile_cache_nbytes is {self.tile_cache_nbytes!r}; it must be None, 0 or more")
        for name in ("disk_cache_nbytes", "coalesce_gap_nbytes", "lookahead", "max_bad_samples"):
            if not getattr(self, name) >= 0:
                raise InputError(f"ReadOptions.{name} is {getattr(self, name)!r}; it must be 0 or more")
        if self.on_error not in ("raise", "nodata", "replace"):
            raise InputError(f"ReadOptions.on_error is {self.on_error!r}; choose 'raise', 'nodata' or 'replace'")
        if self.level != "auto" and not (isinstance(self.level, int) and self.level >= 0):
            raise InputError(f"ReadOptions.level is {self.level!r}; choose 'auto' or a level number from 0")
        if self.decode_threads is not None and self.decode_threads < 1:
            raise InputError(f"ReadOptions.decode_threads is {self.decode_threads}; choose None or at least 1")

    @classmethod
    def of(cls, value: ReadOptions | Mapping[str, Any]) -> ReadOptions:
        """These options, be it of a mapping, as a YAML config holds them.

        Raises:
            InputError: neither of both, or names that are no options.
        """
        if isinstance(value, cls):
            return value
        names = [field.name for field in fields(cls)]
        if not isinstance(value, Mapping) or not set(value) <= set(names):
            raise InputError(f"read={value!r} is no ReadOptions; these are its fields: {', '.join(names)}")
        return cls(**value)

    def __repr__(self) -> str:
        """What differs from the defaults, so that signatures that show one stay readable."""
        told = [(field.name, getattr(self, field.name)) for field in fields(self)]
        changed = [f"{name}={value!r}" for name, value in told if value != getattr(type(self), name)]
        return f"{type(self).__name__}({', '.join(changed)})"

    def fetch_policy(self) -> FetchPolicy:
        """The part that the store needs."""
        return FetchPolicy(
            attempts=self.attempts,
            range_timeout_s=min(self.range_timeout_s, _NO_DEADLINE_S),
            max_requests=self.max_concurrent,
            max_inflight_nbytes=self.max_inflight_nbytes,
            coalesce_gap_nbytes=self.coalesce_gap_nbytes,
        )
