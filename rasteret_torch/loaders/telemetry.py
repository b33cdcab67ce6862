"""`RasteretTelemetry`: what loading costs a Lightning run, in its logs, and a ledger of samples that failed."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from rasteret_torch.errors import InputError
from rasteret_torch.loaders.iterable_loader import RasteretDataLoader
from rasteret_torch.loaders.telemetry_counts import LoaderCounts


class RasteretTelemetry(Callback):  # type: ignore[misc]
    """Logs samples/s, MB/s, the share of tiles found in memory, the share of time spent waiting for the loader,
    retries and bad samples; each for the steps since the last line, of this rank with all its workers.

    Looks at the `RasteretDataLoader`s of the run (those of `RasteretDataModule` are). Where the loader holds the
    training up, it says once, after an epoch, what would help (`LoaderCounts.hint`).

    With a `ledger`, every sample that failed under `on_error="nodata"` or `"replace"` becomes a line of JSON there:
    time, stage, epoch, index, error, message. Ranks other than 0 write beside it (`bad.rank1.jsonl`).
    """

    def __init__(self, every_n_steps: int = 50, *, ledger: str | Path | None = None, prog_bar: bool = True) -> None:
        """Notes the settings.

        Args:
            every_n_steps: training steps between two lines; the end of an epoch gives one too.
            ledger: JSONL file that lines are appended to; None keeps none.
            prog_bar: show samples/s and the waiting share in the progress bar as well.

        Raises:
            InputError: `every_n_steps` below 1.
        """
        if every_n_steps < 1:
            raise InputError(f"every_n_steps={every_n_steps} must be at least 1")
        self.every_n_steps, self.prog_bar = every_n_steps, prog_bar
        self.ledger = None if ledger is None else Path(ledger)
        self._before = WeakKeyDictionary[RasteretDataLoader, LoaderCounts]()  # a trainer may make new loaders
        self._hinted = False

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_before"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _before=WeakKeyDictionary())

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gives a hint where one would help."""
        counted = (loader.counts for loader in loaders_in(trainer.train_dataloader))
        hint = sum(counted, start=LoaderCounts()).hint
        if hint is not None and not self._hinted:
            self._hinted = True
            rank_zero_info(f"RasteretTelemetry: {hint}.")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Logs the figures of the last steps."""
        if (batch_idx + 1) % self.every_n_steps and not trainer.is_last_batch:
            return
        figures = self._since(list(loaders_in(trainer.train_dataloader)))
        shown = {"loader/samples_per_s": figures.samples_per_s, "loader/stall_share": figures.stall_share}
        others = {
            "loader/mb_per_s": figures.mb_per_s,
            "loader/cache_hit_share": figures.cache_hit_share,
            "loader/retries": float(figures.read.retries),
            "loader/bad_samples": float(figures.bad_samples),
        }
        # The size of a batch has no part in figures of one step; Lightning would guess it from the batch.
        self.log_dict(shown, prog_bar=self.prog_bar, on_step=True, on_epoch=False, batch_size=1)
        self.log_dict(others, on_step=True, on_epoch=False, batch_size=1)
        self._note(trainer, "train", trainer.train_dataloader)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes the bad samples of a validation."""
        self._note(trainer, "val", trainer.val_dataloaders)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes the bad samples of a test."""
        self._note(trainer, "test", trainer.test_dataloaders)

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes the bad samples of a prediction."""
        self._note(trainer, "predict", trainer.predict_dataloaders)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Notes what led here, such as more failures than the budget allows."""
        self._note(trainer, "train", trainer.train_dataloader)
        self._note(trainer, "val", trainer.val_dataloaders)
        self._note(trainer, "test", trainer.test_dataloaders)
        self._note(trainer, "predict", trainer.predict_dataloaders)

    def _since(self, loaders: Sequence[RasteretDataLoader]) -> LoaderCounts:
        """What loaders have counted since they were last looked at."""
        unseen = LoaderCounts()
        found = sum((loader.counts - self._before.get(loader, unseen) for loader in loaders), start=unseen)
        self._before.update((loader, loader.counts) for loader in loaders)
        return found

    def _note(self, trainer: Trainer, stage: str, loaders: Any) -> None:
        if self.ledger is None:
            return
        lines = list(_lines(stage, loaders_in(loaders)))
        if not lines:
            return
        rank = trainer.global_rank
        path = self.ledger if rank == 0 else self.ledger.with_suffix(f".rank{rank}{self.ledger.suffix}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.writelines(lines)


def loaders_in(found: Any) -> Iterator[RasteretDataLoader]:
    """The `RasteretDataLoader`s among what a Trainer holds: one loader, or lists and dictionaries of them."""
    if isinstance(found, RasteretDataLoader):
        yield found
    elif isinstance(found, (Mapping, list, tuple)):
        for part in found.values() if isinstance(found, Mapping) else found:
            yield from loaders_in(part)


def _lines(stage: str, loaders: Iterable[RasteretDataLoader]) -> Iterator[str]:
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    for loader in loaders:
        bad, loader.bad_samples[:] = list(loader.bad_samples), []
        for sample in bad:
            facts = {"time": now, "stage": stage, "epoch": sample.epoch, "index": sample.index}
            yield json.dumps(facts | {"error": sample.error, "message": sample.message}) + "\n"
