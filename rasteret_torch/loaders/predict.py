"""`RasteretPredictionWriter`: what a model predicts chip by chip, as maps."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from numpy.typing import NDArray

from rasteret_torch.errors import InputError
from rasteret_torch.geo import parse_crs, same_crs
from rasteret_torch.loaders.predict_batch import Places, predicted, told
from rasteret_torch.loaders.predict_canvas import Blend, Canvas, Merged, Sheet
from rasteret_torch.loaders.predict_map import MapStyle, Output, checked_names, class_of, write_map
from rasteret_torch.loaders.save_chips import crs_of_dataset


class _OwnNumbers:
    """Tells Lightning not to look for the numbers of samples in batch samplers, which streams do not have."""

    on_batch = on_epoch = False


class RasteretPredictionWriter(BasePredictionWriter):  # type: ignore[misc]
    """Writes the predictions of `Trainer.predict` as cloud-optimized GeoTIFFs, each with a STAC item beside it.

    `predict_step` returns a tensor, or a dictionary with one under "probabilities", "logits" or "prediction" (as
    TorchGeo's tasks do): [B, K, H, W] or [B, H, W], as high and wide as the chips. Where a chip lies is taken from
    `transform` and `bounds` of the batch. Chips are blended on disk, so memory does not grow with the area; call
    `trainer.predict(..., return_predictions=False)`, as Lightning keeps all predictions otherwise. Pixels that no chip
    covers, whose input was not valid (`mask_valid`), or for which the model says NaN, are nodata.

    In a distributed run every rank writes its part into a folder beside the result, which all ranks must see, and rank
    0 joins them; a chip that several ranks show counts once.

    Attributes:
        paths: files written by the last run, on rank 0.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        output: Output = "class",
        blend: Blend | None = None,
        per: Literal["date", "all"] = "date",
        names: Sequence[str] | None = None,
        crs: str | int | None = None,
    ) -> None:
        """Notes the settings.

        Args:
            path: of the GeoTIFF. Where there are several dates each has a file of its own, `map_20200219.tif`; where
                samples come in the CRSs of their items, each CRS has one too, `map_20200219_32632.tif`.
            output: "class": the channel with the greatest value (of one channel, taken as a probability: 1 from 0.5
                on; whole numbers are classes already) as uint8, nodata 255. "value": the numbers as they are, float32,
                a band a channel, nodata NaN: probabilities, regression.
            blend: what counts where chips overlap: "hann" the mean, in which pixels count less towards the edge of
                their chip; "centre" the chip whose edge is farthest. None takes "centre" for classes that are whole
                numbers already, else "hann".
            per: "date" makes one map for each UTC date of acquisition; "all" one of all chips, whatever their dates.
            names: of the classes, or of the bands of values.
            crs: of the chips; None takes that of their dataset, which is one for all chips of a map.

        Raises:
            InputError: a setting that makes no sense.
        """
        super().__init__("batch")
        self.interval = _OwnNumbers()
        if output not in ("class", "value") or blend not in (None, "hann", "centre") or per not in ("date", "all"):
            raise InputError(
                f"{output=}, {blend=}, {per=}: choose 'class' or 'value', 'hann' or 'centre', 'date' or 'all'"
            )
        self.path = Path(path).absolute()
        if self.path.suffix.lower() not in (".tif", ".tiff"):
            raise InputError(f"path={str(path)!r} is no name of a GeoTIFF; let it end with .tif")
        self.output, self.blend, self.per = output, blend, per
        self.names = checked_names(names)
        self.crs = None if crs is None else parse_crs(crs).to_wkt()
        self.paths: list[Path] = []
        self._canvases: dict[str, Canvas] = {}
        self._seen: set[bytes] = set()
        self._classes = 1
        self._blend: Blend = "hann"
        self._crs_of_loaders: list[str] = []

    # Lightning's hooks ---------------------------------------------------------------------------------------------

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes place for the parts."""
        self._canvases, self._seen, self._classes, self.paths = {}, set(), 1, []
        self._crs_of_loaders = _crs_of_loaders(trainer, self.crs)
        if trainer.is_global_zero:
            shutil.rmtree(self._parts, ignore_errors=True)
            self._parts.mkdir(parents=True)
        trainer.strategy.barrier("rasteret_torch: prediction parts")

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Takes the batch."""
        self.write_on_batch_end(trainer, pl_module, outputs, None, batch, batch_idx, dataloader_idx)

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Blends the chips of a batch into their maps.

        Raises:
            InputError: predictions or places that do not fit together.
        """
        found = predicted(prediction)
        values = self._stored(found)
        places = Places.of(prediction, batch, values.shape)
        shown = places.valid & told(found, in_full=self.output == "class")
        for number in range(len(values)):
            if self._claimed(places.keys[number], trainer.world_size):
                canvas = self._canvas(number, values, places, trainer, self._crs_of_loaders[dataloader_idx])
                chip = places.transform(number)
                canvas.draw(values[number], shown[number], chip, places.times(number))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Joins the parts of all ranks and writes the maps."""
        for canvas in self._canvases.values():
            canvas.close(self._classes)
        self._canvases = {}
        trainer.strategy.barrier("rasteret_torch: predictions drawn")
        if trainer.is_global_zero:
            try:
                self.paths = self._written()
            finally:
                shutil.rmtree(self._parts, ignore_errors=True)
        trainer.strategy.barrier("rasteret_torch: maps written")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leaves nothing behind."""
        self._canvases = {}
        if trainer.is_global_zero:
            shutil.rmtree(self._parts, ignore_errors=True)

    # Inside --------------------------------------------------------------------------------------------------------

    @property
    def _parts(self) -> Path:
        return self.path.parent / f".{self.path.stem}.parts"

    def _stored(self, values: NDArray[Any]) -> NDArray[Any]:
        """[B, K, H, W] as the canvases keep them."""
        whole = values.dtype.kind in "iub"
        if whole and self.blend == "hann":
            raise InputError("class numbers have no mean: use blend='centre', or let predict_step return probabilities")
        self._blend = self.blend or ("centre" if whole else "hann")
        if self.output == "value":
            return values.astype(np.float32)
        if not whole:
            self._classes = max(self._classes, values.shape[1], 2)
            if self.blend != "centre":
                return values.astype(np.float32)
            return np.stack([class_of(chip) for chip in values])[:, None].astype(np.uint16)
        if values.size and not 0 <= int(values.min()) <= int(values.max()) < np.iinfo(np.uint16).max:
            raise InputError(f"class numbers from {values.min()} to {values.max()}: they must be from 0 to 65534")
        self._classes = max(self._classes, int(values.max()) + 1 if values.size else 1)
        return values.astype(np.uint16)

    def _canvas(self, number: int, values: NDArray[Any], places: Places, trainer: Trainer, loader_crs: str) -> Canvas:
        """The map that a chip of a batch belongs to: that of its date, and of its CRS where chips have their own.

        Raises:
            InputError: the chips of a map come in several CRSs.
        """
        words = [places.date(number) if self.per == "date" else "", places.code(number)]
        name = "_".join(word for word in words if word) or "all"
        crs = parse_crs(int(words[1])).to_wkt() if words[1] else loader_crs
        if name in self._canvases:
            known = self._canvases[name].sheet.crs
            if known != crs and not same_crs(parse_crs(known), parse_crs(crs)):
                names = " and ".join(parse_crs(one).name for one in (known, crs))
                raise InputError(f"chips of one map come in {names}; give their datasets the same crs=")
        else:
            transform = places.transform(number)
            sheet = Sheet(tuple(transform)[:6], values.shape[1], values.dtype.name, self._blend, crs)
            self._canvases[name] = Canvas(self._parts / name / str(trainer.global_rank), sheet)
        return self._canvases[name]

    def _claimed(self, key: bytes, world_size: int) -> bool:
        """Whether this chip is met for the first time, by this rank before all others."""
        if key in self._seen:
            return False
        self._seen.add(key)
        if world_size == 1:
            return True
        name = hashlib.blake2b(key, digest_size=16).hexdigest()
        claim = self._parts / "claims" / name[-2:] / name
        claim.parent.mkdir(parents=True, exist_ok=True)
        try:
            claim.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def _written(self) -> list[Path]:
        maps = sorted(folder for folder in self._parts.iterdir() if folder.name != "claims")
        found = []
        for folder in maps:
            canvases = [Canvas.found(part) for part in sorted(folder.iterdir()) if (part / "sheet.json").exists()]
            canvases = [canvas for canvas in canvases if canvas.sheet.extent is not None]
            if not canvases:
                continue
            merged = Merged(canvases)
            style = MapStyle(self.output, merged.classes, self.names)
            target = self.path.with_stem(f"{self.path.stem}_{folder.name}") if len(maps) > 1 else self.path
            found.append(write_map(target, merged, style, self._parts))
        if not found:
            raise InputError("nothing was predicted: no chip had a valid pixel; check the split and its items")
        return found


def _crs_of_loaders(trainer: Trainer, chosen: str | None) -> list[str]:
    """The CRS of the dataset behind each loader, as WKT.

    Raises:
        InputError: one is not known.
    """
    loaders = trainer.predict_dataloaders
    found = []
    for loader in loaders if isinstance(loaders, Sequence) else [loaders]:
        crs = crs_of_dataset(loader) if chosen is None else parse_crs(chosen)
        if crs is None:
            raise InputError("the CRS of the chips is not known from the dataset; pass crs=")
        found.append(str(crs.to_wkt()))
    return found
