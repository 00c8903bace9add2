"""What is worth knowing of a case before any work, as a flat row of scalars.

Every check and every table reads facts, never voxels again: thousands of cases fit in memory, and facts that
were written to a file can be judged anew.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from renalnet.types import Triple

Phase: TypeAlias = Literal["unenhanced", "enhanced", "unknown"]


@dataclass(frozen=True, slots=True)
class CaseFacts:
    """One case, measured on its canonical image and label; volumes count labelled voxels."""

    case: str
    """Name."""
    num_slices: int
    """Along z."""
    num_rows: int
    """Along y."""
    num_columns: int
    """Along x."""
    spacing_z_mm: float
    """Between slices."""
    spacing_y_mm: float
    """Between rows."""
    spacing_x_mm: float
    """Between columns."""
    oblique: bool
    """Whether the scan's file states axes that are not the body's."""
    is_cut: bool
    """Whether the field of view is that of an ROI already cut."""
    hu_min: int
    """Lowest CT number (the reader clamps at -1024)."""
    hu_max: int
    """Highest CT number."""
    hu_p1: int
    """1st percentile."""
    hu_p99: int
    """99th percentile."""
    air_share: float
    """Share of the voxels below -300 HU, 0-1."""
    fat_share: float
    """Share of fat (-150 to -50 HU) among the other voxels, 0-1; 0 where there are none."""
    kidney_hu: float | None
    """Mean of the kidney; none without kidney."""
    kidney_not_tissue_share: float | None
    """Share of the kidney's voxels below -30 HU: fat or air, 0-1; none without kidney."""
    tumor_hu: float | None
    """Mean of the tumor; none without tumor."""
    phase: Phase
    """A guess from the kidney's mean."""
    kidney_left_ml: float
    """By `kidneys.split_sides`; of an ROI already cut the side is a guess."""
    kidney_right_ml: float
    """Likewise."""
    tumor_ml: float
    """Of both sides."""
    num_tumors: int
    """Tumor components that are no fragments, 26-connected."""
    tumor_detached_ml: float
    """Tumor that touches no kidney, not even over a corner."""
    num_fragments: int
    """Labelled components smaller than 0.1 ml."""
    label_faces: str
    """Faces of the volume that labelled voxels touch, e.g. "feet head"; empty if none."""
    midline_offset_mm: float | None
    """How far to the left of the body's middle the middle between both kidneys lies; none for one or an ROI."""
    roi_ml: float
    """Volume of the ROI that the paper's window cuts around the kidney with most tumor, without tumor the larger; 0
    for an empty label."""
    roi_kidney_ml: float
    """Kidney in it; the other kidney does not count."""
    roi_tumor_ml: float
    """Tumor in it."""
    image_digest: str
    """Equal only for the same voxels."""
    label_digest: str
    """Equal only for the same voxels."""
    signature: str
    """Of the box of the kidney in the ROI (`signature.coarse_signature`); empty for an empty label."""

    @property
    def spacing_mm(self) -> Triple:
        """Spacing as (z, y, x)."""
        return self.spacing_z_mm, self.spacing_y_mm, self.spacing_x_mm

    @property
    def field_mm(self) -> Triple:
        """Field of view as (z, y, x)."""
        slices, rows, columns = self.num_slices, self.num_rows, self.num_columns
        return slices * self.spacing_z_mm, rows * self.spacing_y_mm, columns * self.spacing_x_mm

    @property
    def kidney_ml(self) -> float:
        """Both kidneys."""
        return self.kidney_left_ml + self.kidney_right_ml
