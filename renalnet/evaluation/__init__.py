"""Evaluation: overlap, surface distance and detection of a predicted mask against the truth.

Definitions, and how other libraries differ under the same name:

- **Dice**: 2·|x ∩ y| / (|x| + |y|), as in MONAI and SimpleITK. Two empty masks give 1; MONAI gives NaN and leaves the
  case out of its means.
- **Surface voxels** have a face neighbour outside the mask or the volume, as MONAI's edges. SimpleITK's LabelContour
  has no surface at the border of the volume.
- **Surface distance**: mean distance from the surface voxels of both masks to the nearest surface voxel of the other
  mask, as MONAI's `compute_average_surface_distance(symmetric=True)`. The average of the two directed means would give
  the smaller surface more weight. SimpleITK's AverageHausdorffDistance includes all voxels of the masks, with distance
  0 for those inside the other mask.
- **HD95**: the larger of the two directed 95th percentiles, linearly interpolated, as MONAI's `percentile=95`. A
  percentile of both directions together, as medpy's `hd95`, has another value.
- **Surface Dice**: share of the surface voxels of both masks within the tolerance, as MONAI's default. DeepMind's
  `surface-distance` and MONAI's `use_subvoxels=True` weight the surface between voxel centres by its area. Their values
  differ by some per cent on coarse grids.
- **Empty masks**: two empty masks give distance 0 and surface Dice 1. If one is empty, the distance is the diagonal of
  the volume and surface Dice 0. Other libraries give infinity or NaN, and the case is then left out of a mean.
- **Detection**: by IoU of a predicted component with the whole truth, see `detection`.

Equality with MONAI and SimpleITK is tested on real label maps to 1e-6. MONAI's means and quantiles are in single
precision and are tested to 1e-5.
"""
