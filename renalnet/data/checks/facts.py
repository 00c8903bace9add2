"""The facts of a case: everything that the checks and tables of a cohort read, as a flat row of scalars.

Checks and tables read facts and never voxels. Thousands of cases therefore fit in memory, and facts that were written
to a file can be judged again. The fields are the columns of `validation.csv` and the keys of the facts file.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from renalnet.types import Triple

Phase: TypeAlias = Literal["unenhanced", "enhanced", "unknown"]


@dataclass(frozen=True, slots=True)
class CaseFacts:
    """The facts of one case, measured on its canonical image and label map; volumes count labelled voxels."""

    case: str
    """Name of the case."""
    num_slices: int
    """Voxels along z."""
    num_rows: int
    """Voxels along y."""
    num_columns: int
    """Voxels along x."""
    spacing_z_mm: float
    """Distance between slices."""
    spacing_y_mm: float
    """Distance between rows."""
    spacing_x_mm: float
    """Distance between columns."""
    oblique: bool
    """Whether the axes in the file of the scan differ from those of the body."""
    is_cut: bool
    """Whether the field of view is that of an ROI already cut."""
    hu_min: int
    """Lowest CT number (the reader clamps at -1024)."""
    hu_max: int
    """Highest CT number."""
    hu_p1: int
    """1st percentile of the CT numbers."""
    hu_p99: int
    """99th percentile of the CT numbers."""
    air_share: float
    """Share of the voxels below -300 HU, 0-1."""
    fat_share: float
    """Share of fat (-150 to -50 HU) among the other voxels, 0-1; 0 where there are no other voxels."""
    kidney_hu: float | None
    """Mean CT number of the kidney; None without kidney."""
    kidney_not_tissue_share: float | None
    """Share of the kidney's voxels below -30 HU (fat or air), 0-1; None without kidney."""
    tumor_hu: float | None
    """Mean CT number of the tumor; None without tumor."""
    phase: Phase
    """Phase of the contrast agent, guessed from `kidney_hu`."""
    kidney_left_ml: float
    """Volume of the left kidney by `split_sides`; in an ROI already cut the side is a guess."""
    kidney_right_ml: float
    """Volume of the right kidney, likewise."""
    tumor_ml: float
    """Volume of the tumor on both sides."""
    num_tumors: int
    """Number of 26-connected tumor components of at least 0.1 ml."""
    tumor_detached_ml: float
    """Volume of the tumor that touches no kidney, not even at a corner."""
    num_fragments: int
    """Number of labelled components smaller than 0.1 ml."""
    label_faces: str
    """Faces of the volume that labelled voxels touch, e.g. "feet head"; empty if none."""
    midline_offset_mm: float | None
    """Distance of the kidneys' middle from the body's, positive to the left; None for one kidney or an ROI."""
    roi_ml: float
    """Volume of the ROI that the paper's window cuts around the kidney with the most tumor (without tumor, the larger
    kidney); 0 for an empty label map."""
    roi_kidney_ml: float
    """Volume of that kidney inside the ROI; the other kidney does not count."""
    roi_tumor_ml: float
    """Volume of that kidney's tumor inside the ROI."""
    image_digest: str
    """Hash of the voxels of the image."""
    label_digest: str
    """Hash of the voxels of the label map."""
    signature: str
    """`coarse_signature` of the box around the kidney of the ROI; empty for an empty label map."""
    # None in files of earlier versions, which did not measure what follows.
    tissue_z: float | None = None
    """Share of body in the emptier one of the first and the last slice, 0-1."""
    tissue_y: float | None = None
    """Likewise for the faces in front and behind."""
    tissue_x: float | None = None
    """Likewise for the faces at both sides."""
    lung_feet: float | None = None
    """Volume of lung relative to tissue in the lowest tenth of the slices."""
    lung_head: float | None = None
    """Likewise in the highest tenth."""
    elongation_left: float | None = None
    """Extent of the left kidney with its lesions along z relative to in-plane; None without kidney."""
    elongation_right: float | None = None
    """Likewise for the right kidney."""

    @property
    def spacing_mm(self) -> Triple:
        """Voxel spacing as (z, y, x)."""
        return self.spacing_z_mm, self.spacing_y_mm, self.spacing_x_mm

    @property
    def field_mm(self) -> Triple:
        """Field of view as (z, y, x)."""
        return (
            self.num_slices * self.spacing_z_mm,
            self.num_rows * self.spacing_y_mm,
            self.num_columns * self.spacing_x_mm,
        )

    @property
    def kidney_ml(self) -> float:
        """Volume of both kidneys."""
        return self.kidney_left_ml + self.kidney_right_ml
