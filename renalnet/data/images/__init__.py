"""Images in space: grids, volumes, image files, resampling, label values."""
