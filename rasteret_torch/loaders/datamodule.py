"""`RasteretDataModule`: a collection with a split column, ready for Lightning's Trainer and LightningCLI."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from matplotlib.figure import Figure
from torch import nn
from torch.utils.data import DataLoader, Sampler
from torchgeo.datamodules import BaseDataModule

from rasteret_torch.chips.layouts import check_whole, chip_px_of
from rasteret_torch.chips.mixing import key_of
from rasteret_torch.errors import InputError
from rasteret_torch.index import Collection
from rasteret_torch.index.audit import AuditMode, HoldsOut, audit_splits
from rasteret_torch.loaders.chip_facts import ChipFacts
from rasteret_torch.loaders.crossing import callable_or_none
from rasteret_torch.loaders.device import (
    Scaling,
    Statistic,
    Transform,
    augmentation,
    augmented,
    check_statistics,
    labelled,
)
from rasteret_torch.loaders.evaluation import EvaluationDataset, each_once
from rasteret_torch.loaders.geodataset import RasteretGeoDataset
from rasteret_torch.loaders.iterable import RasteretIterableDataset
from rasteret_torch.loaders.iterable_loader import RasteretDataLoader
from rasteret_torch.loaders.patches import (
    PatchSize,
    RandomPatches,
    SamePatches,
    grid_patches,
    patch_loader,
    stack_chips,
)
from rasteret_torch.loaders.plotting import Palette, plot_sample, rgb_bands_of
from rasteret_torch.loaders.recipe import SampleCRS
from rasteret_torch.loaders.seeding import seeded
from rasteret_torch.loaders.targets import TargetsLike
from rasteret_torch.loaders.tensors import Sample, SampleDtype
from rasteret_torch.read import ReadOptions, Resampling
from rasteret_torch.read.steps import GroupBy, MosaicOrder
from rasteret_torch.store import StorageBackend

ChipChoice = Literal["random", "rows"]
_STAGES = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("predict",)}
_AUGMENTATION = 41  # purpose of a key


class RasteretDataModule(ChipFacts, BaseDataModule):  # type: ignore[misc]
    """Chips of a collection for training, validation, testing and prediction, told apart by a split column.

    Training chips are random, a function of `seed` and the epoch alone; the others tile the items edge to edge. Both
    come as a stream (`RasteretIterableDataset`): batches are read ahead, ranks of a distributed run share an epoch
    (evaluation shows each chip once on one rank), and a run that stopped in mid-epoch goes on at the next batch. With
    `iterable=False` they come from `RasteretGeoDataset` and TorchGeo's samplers.

    Workers start by forkserver. After the transfer to the device, `image` becomes float32 and is normalised, pixels
    that are not valid become 0 (the mean), training batches go through `train_aug`, integer `mask` becomes int64, and
    `label` of one number a sample (B,).

    `in_channels`, `num_classes`, `class_weights`, `mean` and `std` are known before `setup`, for LightningCLI's
    `link_arguments`; what must be measured is measured at first use, alike on every rank.
    """

    def __init__(
        self,
        collection: str | Path | Collection,
        bands: Sequence[str] | None = None,
        *,
        split_column: str = "split",
        train: str = "train",
        val: str | None = "val",
        test: str = "test",
        predict: str | None = None,
        predict_overlap: int = 0,
        patch_size: int | tuple[int, int] = 256,
        batch_size: int = 32,
        length: int | None = None,
        sampler: ChipChoice = "random",
        weights: str | None = None,
        min_valid: float = 0.0,
        locality: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
        audit: AuditMode = "warn",
        holds_out: HoldsOut = "space",
        targets: TargetsLike = None,
        num_classes: int | None = None,
        ignore_index: int | None = None,
        mean: Statistic = "collection",
        std: Statistic = "collection",
        train_aug: list[nn.Module] | Transform | None = None,
        iterable: bool = True,
        crs: str | int | None = None,
        res: float | tuple[float, float] | None = None,
        dtype: SampleDtype = "native",
        time_series: bool = False,
        label_field: str | None = None,
        resampling: Resampling | None = None,
        mosaic: MosaicOrder = "index",
        group_by: GroupBy = "item",
        sample_crs: SampleCRS = "dataset",
        scaled: bool = False,
        transforms: Transform | None = None,
        drop_last: bool = False,
        read: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
        backend: StorageBackend | None = None,
    ) -> None:
        """Notes the settings; the collection is opened by `setup`, or by the first property that needs it.

        Args:
            collection: a collection, the path of one, or a dataset id.
            bands: names, in channel order; None takes all bands.
            split_column: the column that tells the splits apart.
            train, val, test, predict: its values; `val=None` trains without validation, `predict` may name any split.
            predict_overlap: pixels that neighbouring chips of prediction share, for maps without seams.
            patch_size: side of a chip, or (height, width), px.
            batch_size: chips a batch.
            length: training chips an epoch; None takes as many as cover all training items once.
            sampler: "random" trains on random chips and evaluates on all ground; "rows" takes one chip from the middle
                of each row of the collection, everywhere (labels by row, files that are chips).
            weights: column of numbers in proportion to which training "rows" are drawn, with repeats.
            min_valid: share of valid pixels that a chip must have, other than for prediction; see
                `RasteretIterableDataset`.
            locality: shuffle training chips in blocks of so many neighbours; see `RasteretIterableDataset`.
            num_workers: processes that read; 0 reads ahead in threads of this one.
            seed: of chips, order, augmentations and the sample that `mean="collection"` looks at.
            audit: what `setup("fit")` does about splits that leak into each other: "warn", "raise" or "off".
            holds_out: what other splits are kept apart by: "space" (no ground in common) or "time" (dates).
            targets: what becomes `mask` or `label`; see `RasteretIterableDataset`.
            num_classes: of the task; None takes the classes of `targets` or the whole numbers of `label_field`.
            ignore_index: written into an integer `mask` where the image is not valid; None leaves it as it is.
            mean, std: subtracted, then divided by, per channel: numbers, "none", or "collection", which takes those
                that `collection.with_stats(...)` keeps of the training split, or without them (or with `transforms`)
                measures both on a seeded sample of training chips. They are kept in checkpoints.
            train_aug: kornia augmentations, or any function of a batch; `image`, `mask` and `mask_valid` move together.
                With `iterable` they are drawn from (seed, epoch, chip number), so that they repeat after a resume.
            iterable: False takes TorchGeo's samplers and a map-style dataset: no resume in mid-epoch, and Lightning
                deals chips to ranks with padding.
            crs: of the chips; None takes the CRS of the items.
            res: pixel size in units of the CRS, one number or (x, y); None takes the items'.
            dtype: of samples on their way to the device; "native" keeps the file's.
            time_series: chips of all acquisitions at a place, `image` [B, T, C, H, W], instead of one of them.
            label_field: column that becomes `label`.
            resampling: None interpolates linearly where the sample's dtype is a float and takes the nearest pixel else.
            mosaic, group_by, sample_crs: which item shows where several do, what a step of a time series is, and the
                CRS of samples; see `RasteretGeoDataset`.
            scaled: images hold what pixels measure, as floats: scale times number plus offset, from the index. A mean
                and std of "collection" are then measured on training chips, since stored ones are of the numbers.
            transforms: applied to each sample, in the worker; it must pickle when `num_workers` is not 0.
            drop_last: leave out a last training batch that is not full.
            read: how pixels are fetched. Where `on_error` is "replace", chips that fail are replaced in training and
                left invalid elsewhere, so that no other is judged twice.
            backend: byte source; None reads paths and URLs directly, or as the catalog says of the collection.

        Raises:
            InputError: a setting that makes no sense.
        """
        check_statistics(mean, std)
        for name, word, words in (
            ("sampler", sampler, get_args(ChipChoice)),
            ("audit", audit, get_args(AuditMode)),
            ("holds_out", holds_out, get_args(HoldsOut)),
        ):
            if word not in words:
                raise InputError(f"{name}={word!r} is not known; choose one of {words}")
        check_whole("batch_size", batch_size, 1)
        check_whole("num_workers", num_workers, 0)
        for name, value in (("length", length), ("num_classes", num_classes)):
            if value is not None:
                check_whole(name, value, 1)
        if not 0 <= predict_overlap < min(chip_px_of(patch_size, "patch_size")):
            raise InputError(f"predict_overlap={predict_overlap} must be at least 0 and below patch_size={patch_size}")
        given = locality is not None or weights is not None or min_valid not in (None, 0)
        if not iterable and (given or sampler != "random"):
            raise InputError(
                "locality, sampler, weights and min_valid need the stream of chips; leave iterable at True"
            )
        self._scaling: Scaling | None = None
        self._settings: tuple[Statistic, Statistic] = ("none", "none")  # until TorchGeo's constructor has looked
        super().__init__(RasteretGeoDataset, batch_size, num_workers)
        self._scaling, self._settings = None, (mean, std)
        self.collection = collection
        self.splits: dict[str, str | None] = {"train": train, "val": val, "test": test, "predict": predict}
        self.patch_size: PatchSize = patch_size
        self.predict_overlap = predict_overlap
        self.length, self.seed, self.drop_last = length, seed, drop_last
        self.audit, self.holds_out = audit, holds_out
        self.sampler, self.locality, self.iterable = sampler, locality, iterable
        self.weights, self.min_valid = weights, min_valid
        self.ignore_index, self._num_classes = ignore_index, num_classes
        self.train_aug = augmentation(train_aug)
        self.aug = None  # normalisation is `on_after_batch_transfer`'s, since kornia refuses integers and 5-D images
        self.dataset_options: dict[str, Any] = {
            "split_column": split_column,
            "crs": crs,
            "res": res,
            "dtype": dtype,
            "time_series": time_series,
            "label_field": label_field,
            "targets": targets,
            "resampling": resampling,
            "mosaic": mosaic,
            "group_by": group_by,
            "sample_crs": sample_crs,
            "scaled": scaled,
            "transforms": callable_or_none("transforms", transforms),
            "read": read,
            "backend": backend,
        }
        self.bands = None if bands is None else list(bands)

    # Datasets ------------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Opens the splits that a stage needs; no pixel is read.

        Args:
            stage: "fit", "validate", "test" or "predict".

        Raises:
            SplitNotFoundError, BandNotFoundError, DatasetNotFoundError: the collection has no such thing.
            SplitLeakError: splits share what they must not, and `audit` is "raise".
            InputError: `predict` names no split; chips that do not fit.
        """
        if stage == "fit" and self.audit != "off" and self.train_dataset is None:
            column = self.dataset_options["split_column"]
            audit_splits(self._opened, column, holds_out=self.holds_out).enforce(self.audit)
        for role in _STAGES[stage]:
            if role == "predict" and self.splits[role] is None:
                raise InputError('predict=None names no split; pass one to predict on, for example predict="test"')
            if self.splits[role] is not None and getattr(self, f"{role}_dataset") is None:
                setattr(self, f"{role}_dataset", self._split(role))

    def _split(self, role: str) -> RasteretIterableDataset | RasteretGeoDataset:
        known = getattr(self, f"{role}_dataset")
        if known is not None:
            return known  # type: ignore[no-any-return]
        if self.iterable:
            return self._stream(RasteretIterableDataset if role == "train" else EvaluationDataset, role)
        options = self.dataset_options
        if role != "train":
            options = options | {"read": each_once(options["read"])}
        return RasteretGeoDataset(self._opened, self.bands, split=self.splits[role], **options)

    def _stream(self, kind: type[RasteretIterableDataset], role: str, **options: Any) -> RasteretIterableDataset:
        """The chips of a split: random ones of training, all in their order of the others."""
        is_training = role == "train"
        if role == "predict":
            options["overlap"] = self.predict_overlap
        chosen = {
            "sampler": "rows" if self.sampler == "rows" else "random" if is_training else "grid",
            "length": self.length if is_training else None,
            "batch_size": self.batch_size,
            "drop_last": self.drop_last and is_training,
            "shuffle": is_training,
            "locality": self.locality if is_training else None,
            "weights": self.weights if is_training else None,
            "min_valid": 0.0 if role == "predict" else self.min_valid,
        }
        return kind(
            self._opened,
            self.bands,
            split=self.splits[role],
            patch_size=self.patch_size,
            seed=self.seed,
            **(chosen | self.dataset_options | options),
        )

    @property
    def time_series(self) -> bool:
        """Whether chips hold all acquisitions at a place."""
        return bool(self.dataset_options["time_series"])

    # Loaders -------------------------------------------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader[Sample]:
        """Random chips of the training split."""
        dataset = self._split("train")
        if isinstance(dataset, RasteretIterableDataset):
            loader = self._stream_loader(dataset)
            loader.trainer = self.trainer
            return loader
        sampler = RandomPatches(dataset, self.patch_size, self.length, self.seed, self._epoch, self.time_series)
        return self._patch_loader(dataset, sampler, drop_last=self.drop_last)

    def val_dataloader(self) -> Any:
        """All of the validation split, edge to edge: a DataLoader, or an empty list where `val=None`."""
        return [] if self.splits["val"] is None else self._whole("val")

    def test_dataloader(self) -> DataLoader[Sample]:
        """All of the test split, edge to edge."""
        return self._whole("test")

    def predict_dataloader(self) -> DataLoader[Sample]:
        """All of the split that `predict` names, edge to edge."""
        return self._whole("predict")

    def _epoch(self) -> int:
        return 0 if self.trainer is None or self._overfits else int(self.trainer.current_epoch)

    @property
    def _overfits(self) -> bool:
        """Whether the same batches are to come in every epoch."""
        return self.trainer is not None and self.trainer.overfit_batches > 0

    def _whole(self, role: str) -> DataLoader[Sample]:
        dataset = self._split(role)
        if isinstance(dataset, RasteretIterableDataset):
            return self._stream_loader(dataset)
        return self._patch_loader(dataset, self._patches(dataset, role))

    def _stream_loader(self, dataset: RasteretIterableDataset) -> RasteretDataLoader:
        dataset.batch_size = self.batch_size  # a Tuner tries one after the other
        if hasattr(self.trainer, "distributed_sampler_kwargs"):
            # A trainer of one process may run in one of several, to test; those of tensor parallel runs share chips.
            share = self.trainer.distributed_sampler_kwargs or {"rank": 0, "num_replicas": 1}
            dataset.set_rank(share["rank"], share["num_replicas"])
        return RasteretDataLoader(dataset, num_workers=self.num_workers)

    def _patch_loader(
        self, dataset: RasteretGeoDataset, sampler: Sampler[Any], drop_last: bool = False
    ) -> DataLoader[Sample]:
        taken = SamePatches(sampler) if self._overfits else sampler
        return patch_loader(dataset, taken, self.batch_size, self.num_workers, drop_last)

    def _patches(self, dataset: RasteretGeoDataset, role: str = "val") -> Sampler[Any]:
        overlap = self.predict_overlap if role == "predict" else 0
        return grid_patches(dataset, self.patch_size, self.time_series, overlap)

    # Pictures ------------------------------------------------------------------------------------------------------

    def plot(self, sample: Sample | None = None, show_titles: bool = True, suptitle: str | None = None) -> Figure:
        """Draws a chip: image, mask, and a `prediction` put beside them, as TorchGeo's tasks ask for while validating.

        Args:
            sample: one sample, its image in the numbers of the file; None takes the first of validation (of training,
                without one).
            show_titles: write above the panels what they are.
            suptitle: above all.

        Raises:
            InputError: a batch.
        """
        if sample is None:
            dataset = self._split("train" if self.splits["val"] is None else "val")
            query = None if isinstance(dataset, RasteretIterableDataset) else next(iter(self._patches(dataset)))
            batch = next(iter(dataset)) if query is None else stack_chips([dataset[query]])
            sample = {key: value[0] for key, value in labelled(batch, None).items()}
        bands = self._opened.check_bands(self.bands)
        shown = [bands.index(band) for band in rgb_bands_of(bands)]
        classes = next((target.classes for target in self._targets if target.classes is not None), None)
        return plot_sample(sample, shown, Palette(names=classes), show_titles=show_titles, suptitle=suptitle)

    # On the device -------------------------------------------------------------------------------------------------

    def on_after_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Sample:
        """Casts, normalises, blanks invalid pixels, augments training batches, and puts labels into their form."""
        batch = dict(batch)
        if "image" in batch:
            batch["image"] = self.normalise(batch["image"], batch.get("mask_valid"))
        if self.train_aug is not None and self.trainer is not None and self.trainer.training:
            batch = self._augmented(self.train_aug, batch)
        return labelled(batch, self.ignore_index)

    def _augmented(self, augment: Transform, batch: Sample) -> Sample:
        if "index" not in batch:
            return augmented(augment, batch)
        key = key_of(self.seed, self._epoch(), int(batch["index"][0]), _AUGMENTATION)
        with seeded(key, batch["image"].device):
            return augmented(augment, batch)


def to_datamodule(collection: Collection, bands: Sequence[str] | None = None, **options: Any) -> RasteretDataModule:
    """The collection as a data module; takes the arguments of `RasteretDataModule`."""
    return RasteretDataModule(collection, bands, **options)
