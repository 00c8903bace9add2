"""Overlap, surface distance, detection: how a predicted mask differs from the truth.

Definitions, and where others of the same name differ:

- **Dice** 2·|x ∩ y| / (|x| + |y|), as MONAI's and SimpleITK's; both empty is 1 here (MONAI: NaN, out of its means).
- **Surface voxels** have a face neighbour outside the mask or the volume: MONAI's edges. SimpleITK's LabelContour has
  no surface at the end of the volume.
- **Surface distance**: mean over the surface voxels of both masks of the distance to the nearest surface voxel of the
  other one, MONAI's `compute_average_surface_distance(symmetric=True)`. Averaging the two directed means instead
  weighs the smaller surface more. SimpleITK's AverageHausdorffDistance runs over all voxels of the masks, those inside
  the other one at distance 0.
- **HD95**: the larger of the two directed 95th percentiles, linearly interpolated, MONAI's `percentile=95`. A
  percentile of both directions pooled, as medpy's `hd95`, is another number.
- **Surface Dice**: share of both surfaces' voxels within the tolerance, MONAI's default. Google DeepMind's
  `surface-distance` weighs the surface between voxel centres by its area (MONAI's `use_subvoxels=True`), which is
  another number, by some per cent on coarse grids.
- **Empty masks**: both empty is distance 0 and surface Dice 1; one empty the diagonal of the volume and 0. Others give
  infinity or NaN, which then leave the patient out of a mean.
- **Detection** by IoU of a predicted component with the whole truth, see `detection`.

Equality with MONAI and SimpleITK is tested on real label maps, to 1e-6; MONAI's means and quantiles in single
precision to 1e-5.
"""
