"""The example's task: water, bare ground and vegetation from red, green and blue, labelled by NDVI."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from rasteret_torch.errors import DatasetNotFoundError
from rasteret_torch.index import Collection
from rasteret_torch.ingest import build_from_files
from rasteret_torch.loaders.tensors import Sample
from rasteret_torch.readers.window import read_window

BANDS = ("R", "G", "B", "NIR")
CLASSES = ("water", "bare", "vegetation")
IGNORE = 255  # label of pixels that are not valid
SPLIT_OF_BLOCK = {"a": "train", "b": "train", "e": "train", "f": "train", "c": "val", "d": "test"}
FILENAMES = r"m_(?P<quad>\d+)_(?P<quarter>[a-z]{2})_\d+_\d+_(?P<date>\d{8})_(?P<block>[a-f])\.tif"


def find_data(folder: str | Path | None = None) -> Path:
    """The folder of the example's COGs: `folder`, else the one in this checkout.

    Raises:
        DatasetNotFoundError: no COG is there.
    """
    place = Path(folder) if folder is not None else Path(__file__).parents[2] / "train_examples" / "data"
    if not any(place.glob("m_*.tif")):
        raise DatasetNotFoundError(
            f"no NAIP COGs (m_*.tif) in {place}; they come with the repository: install a clone with "
            "pip install -e ., or name the folder train_examples/data of a clone with --data"
        )
    return place


def build_index(folder: str | Path | None = None, progress: bool = False) -> Collection:
    """Index of the example's COGs, with the columns `split`, by block of ground, `vegetation`, the share of its pixels
    that the labels call so, and `cover`, the number of its most frequent class.
    """
    collection = build_from_files(
        find_data(folder), name="naip", bands=BANDS, filename_regex=FILENAMES, data_source="naip", progress=progress
    )
    shares = [_class_shares(collection, row) for row in range(len(collection))]
    return (
        collection.assign_splits("block", mapping=SPLIT_OF_BLOCK)
        .with_column("vegetation", [float(share[2]) for share in shares])
        .with_column("cover", [int(share.argmax()) for share in shares])
    )


def _class_shares(collection: Collection, row: int) -> Tensor:
    """The share of each class among the valid pixels of an item."""
    grid = collection.runtime.grid(row, BANDS[0])
    read = read_window(collection, collection.runtime.ids[row], grid.bounds, grid.res, BANDS)
    valid = torch.from_numpy(read.valid.all(axis=0).astype("uint8"))
    mask = NdviClasses()({"image": torch.from_numpy(read.data), "mask_valid": valid})["mask"]
    counts = torch.bincount(mask[mask != IGNORE].long(), minlength=len(CLASSES))
    return counts / counts.sum()


@dataclass(frozen=True)
class NdviClasses:
    """A sample transform: `mask` from the near infrared band, which then leaves `image`.

    Attributes:
        water_below: NDVI below this is class 0.
        vegetation_from: NDVI from this on is class 2; between the two is class 1, bare.
    """

    water_below: float = -0.25
    vegetation_from: float = 0.2

    def __call__(self, sample: Sample) -> Sample:
        """Takes `image` [4, H, W] as red, green, blue, near infrared; gives [3, H, W] and `mask` uint8 [H, W]."""
        image = sample["image"]
        red, infrared = image[0].float(), image[3].float()
        ndvi = (infrared - red) / (infrared + red).clamp(min=1)
        mask = (ndvi >= self.water_below).byte() + (ndvi >= self.vegetation_from).byte()
        mask[sample["mask_valid"] == 0] = IGNORE
        return {**sample, "image": image[:3], "mask": mask}


@dataclass(frozen=True)
class LastDateClasses:
    """As `NdviClasses`, for time series: `mask` [H, W] is that of the last date, of which red, green and blue stay.

    Attributes:
        classes: makes the mask.
    """

    classes: NdviClasses = NdviClasses()

    def __call__(self, sample: Sample) -> Sample:
        """Takes `image` [T, 4, H, W]; gives [T, 3, H, W] and `mask` uint8 [H, W]."""
        last = self.classes({"image": sample["image"][-1], "mask_valid": sample["mask_valid"][-1]})
        return {**sample, "image": sample["image"][:, :3], "mask": last["mask"]}


class SmallUNet(nn.Module):
    """A U-Net of three resolutions."""

    def __init__(self, channels: int = 3, classes: int = len(CLASSES), width: int = 8) -> None:
        super().__init__()
        self.down = nn.ModuleList([_block(channels, width), _block(width, 2 * width), _block(2 * width, 4 * width)])
        self.up = nn.ModuleList([_block(6 * width, 2 * width), _block(3 * width, width)])
        self.head = nn.Conv2d(width, classes, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits [B, classes, H, W] of images [B, channels, H, W]; H and W are multiples of 4."""
        fine: Tensor = self.down[0](image)
        middle: Tensor = self.down[1](functional.max_pool2d(fine, 2))
        coarse: Tensor = self.down[2](functional.max_pool2d(middle, 2))
        for block, skip in zip(self.up, (middle, fine), strict=True):
            coarse = block(torch.cat([functional.interpolate(coarse, scale_factor=2.0), skip], dim=1))
        logits: Tensor = self.head(coarse)
        return logits


def _block(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        convolution = nn.Conv2d(channels, outputs, kernel_size=3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


@dataclass(frozen=True, eq=False)
class Confusion:
    """Counted pixels, [true class, predicted class]."""

    counts: Tensor

    @classmethod
    def none(cls) -> Confusion:
        """Nothing counted yet."""
        return cls(torch.zeros(len(CLASSES), len(CLASSES), dtype=torch.int64))

    def plus(self, mask: Tensor, predicted: Tensor) -> Confusion:
        """With the labelled pixels of these two maps counted in."""
        labelled = mask != IGNORE
        pairs = mask[labelled].long() * len(CLASSES) + predicted[labelled].long()
        counts = torch.bincount(pairs.cpu(), minlength=len(CLASSES) ** 2).reshape(len(CLASSES), len(CLASSES))
        return Confusion(self.counts + counts)

    @property
    def iou(self) -> Tensor:
        """Intersection over union of each class; nan for one that is neither true nor predicted anywhere."""
        hits = self.counts.diagonal().double()
        return hits / (self.counts.sum(dim=0) + self.counts.sum(dim=1) - hits)

    @property
    def majority_iou(self) -> float:
        """Mean IoU of predicting the most frequent true class everywhere."""
        true = self.counts.sum(dim=1).double()
        return float(true.max() / true.sum() / len(CLASSES))
