"""Endings without torch: arrays, tables, files and pictures.

- By geometry: `numpy`, `xarray` (its `cube`, `lazy` and `cf` parts), `geodataframe`, `iterate`. All make a `request`
  of `options`, lay it out on pixels (`layout`; `longitude` turns what lies across 180 degrees) and read every `area` in
  a `stream`.
- By point: `points`, of any `point_input`, with `gather`. By window: `window`, and `tiff` for a file without an
  index.
- About a collection: `statistics` (adding up: `tally`), `check`, `plot`; `plot_pixels` draws rasters.
- Into files: `save`, by `write_cog`.
"""
