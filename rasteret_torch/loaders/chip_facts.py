"""`ChipFacts`: what a model must know of its chips, before anything is set up."""

from __future__ import annotations

import abc
import functools
import itertools
from typing import Any

from torch import Tensor

from rasteret_torch.errors import InputError
from rasteret_torch.index import Collection, load
from rasteret_torch.loaders.device import Scaling, Statistic, labelled
from rasteret_torch.loaders.evaluation import SurveyDataset
from rasteret_torch.loaders.iterable import RasteretIterableDataset
from rasteret_torch.loaders.labels import class_count, label_counts
from rasteret_torch.loaders.measure import CHIPS, CHIPS_A_BATCH, Measured, balancing_weights, measured
from rasteret_torch.loaders.targets import Target
from rasteret_torch.loaders.targets_resolve import resolved


class ChipFacts(abc.ABC):
    """Mixin of `RasteretDataModule`: channels, classes and their weights, mean and std.

    Each is found at first use: from the settings, from the index, or from a seeded sample of training chips, which is
    the same on every rank.
    """

    collection: Any
    bands: list[str] | None
    splits: dict[str, str | None]
    sampler: str
    ignore_index: int | None
    dataset_options: dict[str, Any]
    _num_classes: int | None
    _scaling: Scaling | None
    _settings: tuple[Statistic, Statistic]

    @abc.abstractmethod
    def _stream(self, kind: type[RasteretIterableDataset], role: str, **options: Any) -> RasteretIterableDataset:
        """The chips of a role."""

    @functools.cached_property
    def _opened(self) -> Collection:
        return self.collection if isinstance(self.collection, Collection) else load(self.collection)

    @property
    def mean(self) -> Tensor:
        """Subtracted from `image`: (C,) float32, or (1,) for one number."""
        return self._scale.mean.float()

    @property
    def std(self) -> Tensor:
        """What `image` is divided by: (C,) float32, or (1,) for one number."""
        return self._scale.std.float()

    @property
    def in_channels(self) -> int:
        """Channels of `image` as the model sees it; where there are `transforms`, read from training chips."""
        if self.dataset_options["transforms"] is None:
            return len(self._opened.check_bands(self.bands))
        return len(self._measured.mean)

    @property
    def num_classes(self) -> int:
        """Classes of the task.

        Raises:
            InputError: they are not known.
        """
        found = class_count(self._targets) if self._num_classes is None else self._num_classes
        if found is None:
            raise InputError("the number of classes is not known from the masks of a few chips; pass num_classes=")
        return found

    @property
    def class_weights(self) -> Tensor:
        """(num_classes,) inversely proportional to how often a class occurs in training, 1 on average.

        Of a column of labels all rows are counted, else the masks of a sample of training chips.

        Raises:
            InputError: the number of classes is not known, or there are no whole-numbered labels.
        """
        counts = label_counts(self._targets, self._rows("train"))
        counts = self._measured.classes if counts is None else counts
        if not len(counts):
            raise InputError("there are no whole-numbered labels to weigh; choose targets= or label_field=")
        return balancing_weights(counts, self.num_classes)

    def _rows(self, role: str) -> Collection:
        name = self.splits[role]
        assert name is not None
        return self._opened.select_split(name, split_column=self.dataset_options["split_column"])

    @functools.cached_property
    def _targets(self) -> tuple[Target, ...]:
        targets, column, backend = (self.dataset_options[name] for name in ("targets", "label_field", "backend"))
        return resolved(targets, column, self._opened, is_image=True, level="auto", backend=backend)

    @functools.cached_property
    def _measured(self) -> Measured:
        length = CHIPS if self.sampler == "random" else None  # there are as many rows as there are
        size = 1 if self.dataset_options["time_series"] else CHIPS_A_BATCH  # series may differ in length
        wanted = {"length": length, "batch_size": size, "drop_last": False, "locality": None}
        stream = self._stream(SurveyDataset, "train", **wanted)
        seen = (labelled(batch, self.ignore_index) for batch in itertools.islice(stream, CHIPS // size))
        return measured(seen, self.ignore_index)

    @property
    def _scale(self) -> Scaling:
        if self._scaling is None:
            found = (self._stored or self._measured) if "collection" in self._settings else None
            self._scaling = Scaling.of(self._settings, found)
        return self._scaling

    @property
    def _stored(self) -> Measured | None:
        """What the collection keeps of its training pixels, where chips hold the numbers of these bands alone."""
        bands, column = self._opened.check_bands(self.bands), self.dataset_options["split_column"]
        others = self.dataset_options["transforms"] is not None or self.dataset_options["scaled"]
        stats = None if others else self._opened.stored_stats
        if stats is None or (stats.split, stats.split_column) != (self.splits["train"], column):
            return None
        if not all(band in stats for band in bands):
            return None
        return Measured.of(stats.means(bands), stats.stds(bands))

    def state_dict(self) -> dict[str, Any]:
        """Mean and std, for the checkpoint."""
        return {"mean": self._scale.mean, "std": self._scale.std}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes mean and std from a checkpoint, so that a model meets the numbers it was trained with."""
        self._scaling = Scaling(state_dict["mean"], state_dict["std"])

    def normalise(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """(image - mean) / std as float32, 0 where not valid.

        Args:
            image: [..., C, H, W], any dtype.
            valid: [..., H, W], nonzero where valid.

        Raises:
            InputError: another number of channels than mean and std have.
        """
        return self._scale.apply(image, valid)

    def denormalise(self, image: Tensor) -> Tensor:
        """The inverse of `normalise`, for pictures."""
        return self._scale.undo(image)
