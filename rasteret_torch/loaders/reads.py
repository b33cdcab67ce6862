"""`Reads`: the pixels of a batch and of its labels on their way, in one gather where they share a source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rasteret_torch.loaders.recipe import ChipRead, PlannedChip
from rasteret_torch.loaders.targets import Target
from rasteret_torch.read import ChipPixels, ChipPlan, Failures, Pipeline, machine, pipeline

_IMAGE = -1  # stands where the numbers of targets do


@dataclass(slots=True, eq=False)
class _Part:
    """What one pipeline reads.

    Attributes:
        plans: what is read.
        into: arrays for it.
        owners: for each plan its chip and its target.
        failures: of the plans.
    """

    plans: list[ChipPlan] = field(default_factory=list)
    into: list[ChipPixels] = field(default_factory=list)
    owners: list[tuple[int, int]] = field(default_factory=list)
    failures: Failures = field(default_factory=dict)

    def add(self, plan: ChipPlan, into: ChipPixels | None, owner: tuple[int, int]) -> None:
        """One more plan; without an array for it, into a new one."""
        self.plans.append(plan)
        self.into.append(ChipPixels.unfilled(plan) if into is None else into)
        self.owners.append(owner)


class Reads:
    """Reads planned chips; they are on their way when it is made."""

    def __init__(
        self,
        images: Pipeline,
        targets: Sequence[Target],
        chips: Sequence[PlannedChip],
        into: Sequence[ChipPixels] | None,
        failures: Failures,
    ) -> None:
        """Starts.

        Args:
            images: reads the images; labels of another source have a pipeline of their own, of the same options.
            targets: of the samples.
            chips: what is to be read.
            into: arrays for the images, such as the parts of a batch; None makes new ones.
            failures: filled, where errors do not raise, with the first error of every chip that had one.
        """
        self._count = len(chips)
        self._targets = len(targets)
        self._failures = failures
        by_pipeline = {images: _Part()}
        for number, chip in enumerate(chips):
            by_pipeline[images].add(chip.plan, None if into is None else into[number], (number, _IMAGE))
        for place, target in enumerate(targets):
            source = images if target.backend is images.backend else pipeline(images.options, target.backend)
            for number, chip in enumerate(chips):
                label = chip.labels[place]
                if label is not None:
                    by_pipeline.setdefault(source, _Part()).add(label, None, (number, place))
        parts = by_pipeline.items()
        self._parts = [(part, source.submit(part.plans, part.into, part.failures)) for source, part in parts]

    def cancel(self) -> None:
        """Stops reading; without effect when all is there."""
        for _, future in self._parts:
            future.cancel()

    def result(self) -> list[ChipRead]:
        """Waits for all chips.

        Raises:
            RasteretTorchError: what reading said.
        """
        found: dict[tuple[int, int], ChipPixels] = {}
        try:
            for part, future in self._parts:
                found.update(zip(part.owners, future.result(), strict=True))
        finally:
            self.cancel()  # an interrupt while waiting, or an error, ends the other reads too
        for part, _ in self._parts:
            for number, error in part.failures.items():
                self._failures.setdefault(part.owners[number][0], error)
        targets = range(self._targets)
        return [
            ChipRead(found[chip, _IMAGE], tuple(found.get((chip, target)) for target in targets))
            for chip in range(self._count)
        ]


def check_fits(chips: Sequence[PlannedChip]) -> None:
    """Refuses a batch that the machine cannot hold, before memory is asked for.

    Raises:
        InputError: saying how large it would be.
    """
    plans = [plan for chip in chips for plan in chip.plans]
    nbytes = sum(plan.nbytes for plan in plans)
    shape = max((plan.shape for plan in plans), default=())
    what = f"a batch of {len(chips)} x {shape} pixels (chips x time steps, bands, rows, cols)"
    machine.check_fits(nbytes, what, "choose a smaller patch_size or batch_size")
