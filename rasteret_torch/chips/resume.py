"""Where a run stands, as a state that a checkpoint holds, and whether a state belongs to a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Self

from rasteret_torch.errors import ResumeMismatchError

STATE_VERSION = 1
_END = 2**62  # workers hold epochs as int64

State = dict[str, Any]  # JSON-able


class Mark(NamedTuple):
    """A place in a run: where to go on.

    Attributes:
        epoch: number of the epoch.
        position: samples of its sequence that all ranks together have been handed.
    """

    epoch: int = 0
    position: int = 0

    @classmethod
    def of(cls, state: Mapping[str, object], length: int) -> Self:
        """The mark in a state of a run whose epochs have `length` samples.

        Raises:
            ResumeMismatchError: it holds no such mark.
        """
        stated = [state.get(name) for name in cls._fields]
        numbers = [number for number in stated if isinstance(number, int) and 0 <= number < _END]
        if len(numbers) < len(cls._fields) or numbers[1] > length:
            said = ", ".join(f"{name} {state.get(name)!r}" for name in cls._fields)
            raise ResumeMismatchError(
                f"cannot resume: the state has {said}, which is no place among {length} samples an epoch; it was "
                "damaged after it was saved, so take an older one"
            )
        return cls(*numbers)


class Standing(NamedTuple):
    """How far an iteration is: its mark, and in a worker that keeps its own state, the step that it does next."""

    mark: Mark
    next_step: int | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """What decides which samples an epoch has, and in which order: a state makes sense where all of it is equal.

    Attributes:
        length: samples of an epoch.
        seed, shuffle, locality: of the order.
        collection: content hash.
        chips: hash of what is cut from it.
    """

    length: int
    seed: int
    shuffle: bool
    locality: int | None
    collection: str
    chips: str

    def state(self, standing: Standing, batch_size: int | None, world_size: int) -> State:
        """The state of an iteration; batch size and ranks are told, but may change."""
        return {
            "version": STATE_VERSION,
            **standing.mark._asdict(),
            "next_step": standing.next_step,
            **asdict(self),
            "batch_size": batch_size,
            "world_size": world_size,
        }

    def mark_of(self, state: State) -> Mark:
        """The mark in a state of this run.

        Raises:
            ResumeMismatchError: it belongs to another.
        """
        version = state.get("version") if isinstance(state, Mapping) else None
        if version != STATE_VERSION:
            raise ResumeMismatchError(
                f"the state has version {version!r}, this release reads {STATE_VERSION}; was it saved by "
                "a RasteretDataLoader or RasteretIterableDataset?"
            )
        for name, value in asdict(self).items():
            if state.get(name) != value:
                raise ResumeMismatchError(
                    f"cannot resume: {name} is {value!r} here and {state.get(name)!r} in the state; load the same "
                    "collection with the same settings, or start anew without the state"
                )
        return Mark.of(state, self.length)
