"""From points with labels to chips: what a field campaign or a photo interpreter delivers.

python train_examples/point_labels.py --epochs 3

A chip is drawn around every point; the mask holds the classes of the points in it, and everything else is ignored, so
that the loss is taken at labelled pixels only.
"""

from __future__ import annotations

import argparse

import geopandas as gpd
import numpy as np
import torch
from torch.nn import functional

import rasteret_torch as rt
from rasteret_torch.cli.naip import BANDS, CLASSES, NdviClasses, SmallUNet, build_index


def campaign(collection: rt.Collection, count: int, seed: int = 0) -> gpd.GeoDataFrame:
    """Points with the class that someone noted there; here, NDVI stands for that someone."""
    xmin, ymin, xmax, ymax = collection.bounds
    random = np.random.default_rng(seed)
    points = gpd.GeoDataFrame(
        geometry=gpd.points_from_xy(random.uniform(xmin, xmax, count), random.uniform(ymin, ymax, count)),
        crs="OGC:CRS84",
    )
    table = collection.sample_points(points, ["R", "NIR"]).to_pandas()
    values = table.pivot_table(index="point_index", columns="band", values="value", aggfunc="first").dropna()
    rule = NdviClasses()
    ndvi = (values["NIR"] - values["R"]) / (values["NIR"] + values["R"]).clip(lower=1)
    classes = (ndvi >= rule.water_below).astype(int) + (ndvi >= rule.vegetation_from).astype(int)
    found = points.loc[values.index]
    return found.assign(cover=[CLASSES[number] for number in classes])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--points", type=int, default=2000)
    parser.add_argument("--length", type=int, default=160, help="training chips an epoch")
    options = parser.parse_args()
    torch.manual_seed(0)

    # One date, as a point's class belongs to the day on which it was noted.
    collection = build_index().subset(date_range=("2012-07-31", "2012-07-31"))
    points = campaign(collection, options.points)
    print(f"{len(points)} points: {points['cover'].value_counts().to_dict()}")
    dataset = rt.RasteretIterableDataset(
        collection,
        BANDS[:3],
        sampler="random",
        patch_size=96,
        length=options.length,
        batch_size=16,
        split="train",
        targets=rt.VectorTargets(points, attribute="cover", classes=CLASSES),
    )
    loader = rt.RasteretDataLoader(dataset)
    model = SmallUNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for epoch in range(options.epochs):
        hits = labelled = 0
        for batch in loader:
            logits = model((batch["image"].float() - 100.0) / 30.0)
            loss = functional.cross_entropy(logits, batch["mask"])  # pixels without a point are -100, which it ignores
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            known = batch["mask"] >= 0
            hits += int((logits.argmax(dim=1) == batch["mask"])[known].sum())
            labelled += int(known.sum())
        print(f"epoch {epoch}: {hits / labelled:.0%} of {labelled} labelled pixels right while training")


if __name__ == "__main__":
    main()
