"""Endings without torch: NumPy, xarray, GeoDataFrame, points, pictures."""
