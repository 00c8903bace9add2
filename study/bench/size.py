"""How much is measured."""

from dataclasses import dataclass

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Size:
    """Defaults are the paper's: 90 training ROIs of about 200 slices of 150×150, batches of four sub-volumes."""

    patients: int = 90
    roi: Shape = (200, 150, 150)
    """Voxels (z, y, x) of an ROI."""
    crop: Shape = (64, 150, 150)
    """Voxels (z, y, x) of a crop."""
    batch_size: int = 4
    batches: int = 500
    """From a cold process."""
    peer_batches: int = 60
    """Where a peer's numbers of workers are tried."""
    growing_patients: tuple[int, ...] = (10, 100, 1000, 10000)
    """Sizes of the cohorts that are prepared and streamed, to see what grows with them; their ROIs are small."""
    abdomens: int = 40
    """Whole-abdomen CTs in which kidneys are searched."""
