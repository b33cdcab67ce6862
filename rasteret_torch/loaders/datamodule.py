"""`RasteretDataModule`: a collection with a split column, ready for Lightning's Trainer and LightningCLI."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import kornia.augmentation as kornia_augmentation
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler
from torchgeo.datamodules import BaseDataModule

from rasteret_torch.errors import InputError
from rasteret_torch.index import Collection, load
from rasteret_torch.loaders.combined import Sample
from rasteret_torch.loaders.geodataset import RasteretGeoDataset
from rasteret_torch.loaders.patches import PatchSize, RandomPatches, grid_patches, stack_chips
from rasteret_torch.loaders.statistics import band_statistics
from rasteret_torch.loaders.tensors import SampleDtype
from rasteret_torch.read import ReadOptions
from rasteret_torch.store import StorageBackend

Statistic = Literal["collection", "none"] | float | list[float]
Transform = Callable[[Sample], Sample]
_STAGES = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("predict",)}


class RasteretDataModule(BaseDataModule):  # type: ignore[misc]
    """Chips of a collection for training, validation, testing and prediction, told apart by a split column.

    Training chips are random, a function of `seed` and the epoch alone; the others tile the items edge to edge.
    Workers start by forkserver. After the transfer to the device, `image` becomes float32 and is normalised, pixels
    that are not valid become 0 (the mean), `mask` becomes int64, and `train_aug` is applied to training batches.
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
        patch_size: int | tuple[int, int] = 256,
        batch_size: int = 32,
        length: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
        targets: str | None = None,
        mean: Statistic = "collection",
        std: Statistic = "collection",
        train_aug: Transform | list[nn.Module] | None = None,
        iterable: bool = False,
        crs: str | int | None = None,
        res: float | tuple[float, float] | None = None,
        dtype: SampleDtype = "native",
        time_series: bool = False,
        label_field: str | None = None,
        transforms: Transform | None = None,
        drop_last: bool = False,
        read: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
        backend: StorageBackend | None = None,
    ) -> None:
        """Notes the settings; the collection is opened by `setup`.

        Args:
            collection: a collection, the path of one, or a dataset id.
            bands: names, in channel order; None takes all bands.
            split_column: the column that tells the splits apart.
            train, val, test, predict: its values; `val=None` trains without validation, `predict` may name any split.
            patch_size: side of a chip, or (height, width), px.
            batch_size: chips a batch.
            length: training chips an epoch; None takes as many as cover all training items once.
            num_workers: processes that read; 0 reads in this one.
            seed: of the training chips and of the sample that `mean="collection"` looks at.
            targets: reserved for label rasters and vectors; derive labels in `transforms` meanwhile.
            mean, std: subtracted, then divided by, per channel: numbers, "none", or "collection", which measures both
                on a seeded sample of training chips (valid pixels, after `transforms`). They are kept in checkpoints.
            train_aug: kornia augmentations, or any function of a batch; `image`, `mask` and `mask_valid` move together.
            iterable: reserved for the streaming loader; must be False.
            crs: of the chips; None takes the CRS of the items.
            res: pixel size in units of the CRS, one number or (x, y); None takes the items'.
            dtype: of samples on their way to the device; "native" keeps the file's.
            time_series: chips of all acquisitions at a place, `image` [B, T, C, H, W], instead of one of them.
            label_field: column that becomes `label`.
            transforms: applied to each sample, in the worker; it must pickle when `num_workers` is not 0.
            drop_last: leave out a last training batch that is not full.
            read: how pixels are fetched.
            backend: byte source; None reads paths and URLs directly.

        Raises:
            InputError: a setting that is not available or makes no sense.
        """
        if iterable:
            raise InputError("iterable=True is not available yet; leave it at False for TorchGeo's samplers")
        if targets is not None:
            raise InputError("targets= is not available yet; derive the labels of a sample in transforms=")
        for name, setting in (("mean", mean), ("std", std)):
            if isinstance(setting, str) and setting not in ("collection", "none"):
                raise InputError(f"{name}={setting!r} is not understood; give numbers, 'collection' or 'none'")
        if batch_size < 1 or num_workers < 0 or (length is not None and length < 1):
            raise InputError(
                f"batch_size={batch_size} and length={length} must be at least 1, num_workers={num_workers} at least 0"
            )
        super().__init__(RasteretGeoDataset, batch_size, num_workers)
        self.collection = collection
        self.splits: dict[str, str | None] = {"train": train, "val": val, "test": test, "predict": predict}
        self.patch_size: PatchSize = patch_size
        self.length, self.seed, self.drop_last = length, seed, drop_last
        self.mean_setting, self.std_setting = mean, std
        self.train_aug = _augmentation(train_aug)
        self.aug = None  # normalisation is `on_after_batch_transfer`'s, since kornia refuses integers and 5-D images
        self.dataset_options: dict[str, Any] = {
            "split_column": split_column,
            "crs": crs,
            "res": res,
            "dtype": dtype,
            "time_series": time_series,
            "label_field": label_field,
            "transforms": transforms,
            "read": read,
            "backend": backend,
        }
        self.bands = None if bands is None else list(bands)
        self.mean: Tensor | None = None
        self.std: Tensor | None = None
        self._datasets: dict[str, RasteretGeoDataset] = {}

    # Datasets ------------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Opens the splits that a stage needs, and settles mean and std.

        Args:
            stage: "fit", "validate", "test" or "predict".

        Raises:
            SplitNotFoundError, BandNotFoundError, DatasetNotFoundError: the collection has no such thing.
            InputError: `predict` names no split.
        """
        for role in _STAGES[stage]:
            if role == "predict" and self.splits[role] is None:
                raise InputError('predict=None names no split; pass one to predict on, for example predict="test"')
            if self.splits[role] is not None:
                setattr(self, f"{role}_dataset", self._split(role))
        if self.mean is None:
            self.mean, self.std = self._statistics()

    def _split(self, role: str) -> RasteretGeoDataset:
        if role not in self._datasets:
            if not isinstance(self.collection, Collection):
                self.collection = load(self.collection)
            options = self.dataset_options | {"split": self.splits[role]}
            self._datasets[role] = RasteretGeoDataset(self.collection, self.bands, **options)
        return self._datasets[role]

    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and std as tensors (C,), or (1,) for one number."""
        settings = (self.mean_setting, self.std_setting)
        measured: tuple[Tensor, Tensor] = (torch.zeros(1), torch.ones(1))
        if "collection" in settings:
            dataset = self._split("train")
            patches = RandomPatches(dataset, self.patch_size, None, self.seed, lambda: 0, self.time_series)
            measured = band_statistics(dataset, patches)
        mean = _as_statistic(settings[0], measured[0], absent=0.0)
        std = _as_statistic(settings[1], measured[1], absent=1.0)
        if not bool((std > 0).all()):
            raise InputError(f"std={self.std_setting} must be positive in every channel")
        return mean, std

    @property
    def time_series(self) -> bool:
        """Whether chips hold all acquisitions at a place."""
        return bool(self.dataset_options["time_series"])

    @property
    def in_channels(self) -> int:
        """Channels of `image` as the model sees it; reads one training chip."""
        dataset = self._split("train")
        query = next(iter(grid_patches(dataset, self.patch_size, self.time_series)))
        return int(dataset[query]["image"].shape[-3])

    def state_dict(self) -> dict[str, Any]:
        """Mean and std, for the checkpoint."""
        return {"mean": self.mean, "std": self.std}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes mean and std from a checkpoint, so that a model meets the numbers it was trained with."""
        self.mean, self.std = state_dict["mean"], state_dict["std"]

    # Loaders -------------------------------------------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader[Sample]:
        """Random chips of the training split."""
        dataset = self._split("train")
        sampler = RandomPatches(dataset, self.patch_size, self.length, self.seed, self._epoch, self.time_series)
        return self._loader(dataset, sampler, drop_last=self.drop_last)

    def val_dataloader(self) -> Any:
        """All of the validation split, edge to edge: a DataLoader, or an empty list where `val=None`."""
        return [] if self.splits["val"] is None else self._grid_loader("val")

    def test_dataloader(self) -> DataLoader[Sample]:
        """All of the test split, edge to edge."""
        return self._grid_loader("test")

    def predict_dataloader(self) -> DataLoader[Sample]:
        """All of the split that `predict` names, edge to edge."""
        return self._grid_loader("predict")

    def _epoch(self) -> int:
        return int(self.trainer.current_epoch) if self.trainer is not None else 0

    def _grid_loader(self, role: str) -> DataLoader[Sample]:
        dataset = self._split(role)
        return self._loader(dataset, grid_patches(dataset, self.patch_size, self.time_series))

    def _loader(
        self, dataset: RasteretGeoDataset, sampler: Sampler[Any], drop_last: bool = False
    ) -> DataLoader[Sample]:
        workers = self.num_workers
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=workers,
            collate_fn=stack_chips,
            drop_last=drop_last,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0,
            multiprocessing_context="forkserver" if workers > 0 else None,  # a forked child could not use the network
        )

    # On the device -------------------------------------------------------------------------------------------------

    def on_after_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Sample:
        """Casts, normalises, blanks invalid pixels, and augments training batches."""
        batch = dict(batch)
        if "image" in batch:
            batch["image"] = self.normalise(batch["image"], batch.get("mask_valid"))
        if "mask" in batch and not batch["mask"].is_floating_point():
            batch["mask"] = batch["mask"].long()
        if self.train_aug is not None and self.trainer is not None and self.trainer.training:
            batch = augmented(self.train_aug, batch)
        return batch

    def normalise(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """(image - mean) / std as float32, 0 where not valid.

        Args:
            image: [..., C, H, W], any dtype.
            valid: [..., H, W], nonzero where valid.

        Raises:
            InputError: before `setup`, or with another number of channels than mean and std have.
        """
        if self.mean is None or self.std is None:
            raise InputError('mean and std are not known yet; call setup("fit") first')
        # uint16 has no arithmetic on most devices, so the cast comes first.
        image = image.float() if not image.is_floating_point() else image
        if any(part.numel() not in (1, image.shape[-3]) for part in (self.mean, self.std)):
            raise InputError(
                f"mean has {self.mean.numel()} and std {self.std.numel()} numbers, but images have {image.shape[-3]} "
                "channels (after transforms=); give one number a channel"
            )
        mean, std = (part.to(image)[:, None, None] for part in (self.mean, self.std))
        image = (image - mean) / std
        return image if valid is None else image.masked_fill(valid.unsqueeze(-3) == 0, 0.0)

    def denormalise(self, image: Tensor) -> Tensor:
        """The inverse of `normalise`, for pictures."""
        if self.mean is None or self.std is None:
            raise InputError('mean and std are not known yet; call setup("fit") first')
        mean, std = (part.to(image)[:, None, None] for part in (self.mean, self.std))
        return image * std + mean


def to_datamodule(collection: Collection, bands: Sequence[str] | None = None, **options: Any) -> RasteretDataModule:
    """The collection as a data module; takes the arguments of `RasteretDataModule`."""
    return RasteretDataModule(collection, bands, **options)


def _as_statistic(setting: Statistic, measured: Tensor, absent: float) -> Tensor:
    if setting == "collection":
        return measured
    if setting == "none":
        return torch.full((1,), absent)
    return torch.as_tensor(setting, dtype=torch.float32).reshape(-1)


def _augmentation(wanted: Transform | list[nn.Module] | None) -> Transform | None:
    if isinstance(wanted, list):
        sequential: Transform = kornia_augmentation.AugmentationSequential(*wanted, data_keys=None)
        return sequential
    return wanted


def augmented(augmentation: Transform, batch: Mapping[str, Tensor]) -> Sample:
    """A batch after augmentation, its masks moved with the image and back in their dtypes.

    kornia moves float tensors with a channel axis whose keys start with image or mask. What an augmentation moves in
    from outside of the chip is not valid.

    Raises:
        InputError: a time series, which kornia does not take.
    """
    if batch["image"].dim() != 4:
        raise InputError("train_aug works on images [B, C, H, W]; leave it out for a time series")
    masks = {key: value for key, value in batch.items() if key.startswith("mask")}
    moved = augmentation(
        {"image": batch["image"]} | {key: value.unsqueeze(1).to(batch["image"].dtype) for key, value in masks.items()}
    )
    restored = {key: moved[key].squeeze(1).round().to(value.dtype) for key, value in masks.items()}
    return {**batch, "image": moved["image"], **restored}
