"""Straight from cloud GeoTIFFs into PyTorch."""
