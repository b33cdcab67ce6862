"""Endings in torch: datasets, loaders, targets, data module, prediction; the only folder that imports torch.

- Shared by all: `recipe` plans a sample and makes it of pixels (`tensors`: its dtypes), `reads` has it read, `ledger`
  keeps those that failed.
- By query, as TorchGeo: `geodataset` (`as_dataset`, by a method), its `lookup`, `combined` ones, `queries` and their
  substitutes; `samplers` and `patches`; `tile_cache` for its scripts.
- As a stream: `iterable`, of `sources` (layouts, or `sampled` queries), read as `batches`; `evaluation` hands each
  chip out once, `sight` looks how much of one is valid; `iterable_loader` starts workers (`preload`, `orphans`;
  `crossing`: what they must be able to receive; `cursor`: where they start) and counts (`telemetry_counts`); `ranks`,
  `seeding`.
- What is learned: `targets`, from what users name (`targets_resolve`): `targets_column`, `targets_raster`,
  `targets_vector`; `labels` counts classes.
- With Lightning: `datamodule`, its `chip_facts`, what it does on the `device`, what it has to `measure`; `telemetry`;
  `predict` draws each `predict_batch` on a `predict_canvas` and writes a `predict_map`.
- Beside training: `dry_run` forecasts an epoch, `plotting` draws samples, `save_chips` writes them.
"""
