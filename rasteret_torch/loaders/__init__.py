"""Endings in torch: datasets, loaders, targets, data module, prediction; the only folder that imports torch."""
