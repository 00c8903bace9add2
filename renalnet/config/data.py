"""Synthetic cohorts, and the preparation of scans."""

from typing import Literal, Self

from pydantic import Field, model_validator

from renalnet.config.section import Lengths, Section, Voxels


class PhantomConfig(Section):
    """A synthetic cohort."""

    num_cases: int = Field(24, ge=1)
    """Patients to paint (ignored where label maps are given: then one patient a label map)."""
    seed: int = Field(0, ge=0)
    """Two cohorts of one seed are the same, voxel for voxel."""
    shape: Voxels = (96, 200, 200)
    """Voxels of a whole-abdomen CT (z, y, x)."""
    spacing_mm: Lengths = (3.0, 1.8, 1.8)
    """Voxel spacing of a whole-abdomen CT (z, y, x)."""
    healthy_share: float = Field(0.15, ge=0, le=1)
    """Share of patients whose kidneys carry no tumor."""
    tumor_volume_ml: tuple[float, float] = (2.0, 145.0)
    """Range of tumor volumes; the paper's cohort spans 2.11 to 144.82 ml."""
    noise_hu: float = Field(14.0, ge=0)
    """Standard deviation of the scanner's noise (11-17 HU measured in liver and spleen of real CTs)."""
    blur_mm: float = Field(0.8, ge=0)
    """Standard deviation of the scanner's point spread."""


class PrepareConfig(Section):
    """From scans to a store of regions of interest (ROIs)."""

    spacing_mm: Lengths | None = (1.0, 0.65, 0.65)
    """Grid of the ROIs; none keeps each scan's own spacing (no resampling)."""
    window_mm: float = Field(97.5, gt=0)
    """Side of the in-plane window; 150 pixels of 0.65 mm in the paper. It grows where a kidney does not fit."""
    margin_mm: float = Field(10.0, ge=0)
    """Kept around the kidney where the window grows, and above and below it along z."""
    localise: Literal["auto", "atlas", "cut"] = "auto"
    """`atlas` registers atlases; `cut` takes scans as ROIs already cut; `auto` decides by the field of view."""
    num_atlases: int = Field(8, ge=1)
    """Low-resolution atlas images; eight in the paper."""
    atlas_spacing_mm: float = Field(6.0, gt=0)
    """Isotropic grid of the atlases (reconstruction)."""
    validation_share: float = Field(0.2, ge=0, lt=1)
    """Share of the training patients that select the model; never test patients."""
    test_share: float = Field(0.25, ge=0, lt=1)
    """Share of all patients held out, where neither a test cohort nor a splits file is given (paper: 50 of 140)."""
    seed: int = Field(0, ge=0)
    """Decides the split and which patients become atlases."""
    hu_min: int = -200
    """Intensities are clipped from below here, then scaled to 0-1."""
    hu_max: int = 500
    """Intensities are clipped from above here."""
    slab_slices: int = Field(8, ge=1)
    """Slices in a row of the store, so that a crop reads only the rows it touches."""
    shard_mb: int = Field(64, ge=1)
    """Target size of a shard; a patient is never split over two."""

    @model_validator(mode="after")
    def _window_is_a_range(self) -> Self:
        if self.hu_min >= self.hu_max:
            raise ValueError(f"hu_min {self.hu_min} must lie below hu_max {self.hu_max}")
        return self
