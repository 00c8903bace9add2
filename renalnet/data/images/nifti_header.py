"""Checks of a NIfTI-1 header that SimpleITK does not make (definition of the format: nifti.nimh.nih.gov).

SimpleITK replaces a missing orientation by the identity and a voxel size of 0 by 1. If the header contains two
different orientations, it silently chooses one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from renalnet.data.images.grid import Grid, grid_of_axes
from renalnet.data.images.integrity import PixelStorage, open_data
from renalnet.errors import InputError

_BYTE_ORDERS: Final[tuple[Literal["<", ">"], ...]] = ("<", ">")
_HEADER_BYTES: Final = 348
_FIRST_VOXEL: Final = 352
"""Smallest offset of the voxels: the header and four bytes that announce extensions."""
_MAX_FIRST_VOXEL: Final = 2**24
# Type and offset in bytes of each field that is read, as in nifti1.h.
_FIELDS: Final = {
    "sizeof_hdr": ("i4", 0),
    "dim": ("(8,)i2", 40),
    "datatype": ("i2", 70),
    "bitpix": ("i2", 72),
    "pixdim": ("(8,)f4", 76),
    "vox_offset": ("f4", 108),
    "scl_slope": ("f4", 112),
    "scl_inter": ("f4", 116),
    "xyzt_units": ("u1", 123),
    "qform_code": ("i2", 252),
    "sform_code": ("i2", 254),
    "quatern": ("(3,)f4", 256),
    "qoffset": ("(3,)f4", 268),
    "srow": ("(3,4)f4", 280),
    "magic": ("S4", 344),
}
_HEADER: Final = np.dtype(
    {
        "names": list(_FIELDS),
        "formats": [kind for kind, _ in _FIELDS.values()],
        "offsets": [offset for _, offset in _FIELDS.values()],
        "itemsize": _HEADER_BYTES,
    }
)
# NumPy types by NIfTI's data type codes: integers, then floating-point numbers.
_DTYPES: Final = {
    **{2: "u1", 256: "i1", 4: "i2", 512: "u2", 8: "i4", 768: "u4", 1024: "i8", 1280: "u8"},
    **{16: "f4", 64: "f8"},
}
_MM_PER_UNIT: Final = {0: 1.0, 1: 1e3, 2: 1.0, 3: 1e-3}
"""Factors by the low three bits of `xyzt_units`: unknown (taken as mm), metre, millimetre, micrometre."""
_RAS_TO_LPS: Final = np.array([[-1.0], [-1.0], [1.0]])
"""NIfTI's x and y grow to the right and to the front, those of ITK and DICOM to the left and to the back."""
# Beyond half a voxel, a position belongs to a neighbouring voxel.
_MAX_DISAGREEMENT_VOXELS: Final = 0.5
_QUATERNION_TOLERANCE: Final = 2e-3
"""Excess over 1 of a squared norm that counts as rounding: headers store the quaternion in single precision."""


@dataclass(frozen=True)
class NiftiHeader:
    """A header that passed all checks that need no other part of the file."""

    storage: PixelStorage
    size: tuple[int, ...]
    """Voxels along each axis, x first."""
    dtype: np.dtype[Any]
    """Type of the stored voxels. SimpleITK reports the type after scaling instead."""
    affines: tuple[NDArray[np.float64], ...]
    """The sform and the qform, if they are set: (3, 4), voxel vectors and origin, in LPS mm."""

    def check_position(self, grid: Grid) -> None:
        """Compare SimpleITK's grid with each orientation in the header.

        Raises:
            InputError: a corner of the volume differs by more than half a voxel.
        """
        size = np.array(grid.size_xyz) - 1
        corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * (*size, 1)
        vectors = np.array(grid.direction).reshape(3, 3) * grid.spacing_xyz_mm
        chosen = np.column_stack([vectors, grid.origin_xyz_mm])
        errors = [float(np.linalg.norm(corners @ (affine - chosen).T, axis=1).max()) for affine in self.affines]
        apart = max(errors)
        if not apart <= _MAX_DISAGREEMENT_VOXELS * min(grid.spacing_xyz_mm):
            raise InputError(
                f"{self.storage.path}: its sform, qform and voxel sizes place the volume up to {apart:.3g} mm apart; "
                "keep the right orientation (set the other's code to 0) and write its voxel sizes"
            )


def read_nifti_header(path: Path) -> NiftiHeader:
    """Read and check a header.

    Raises:
        InputError: the file is damaged or is not single-file NIfTI-1; its voxels are colours or complex numbers; it
            contains no orientation; or its voxel sizes, origin or axes are not those of a scan.
    """
    storage, header = _read(path)
    dtype = _dtype(header, path)
    offset = _pixel_offset(header, path)
    _check_scaling(float(header["scl_slope"]), float(header["scl_inter"]), path)
    affines = _affines(header, path)
    size = tuple(header["dim"][1 : header["dim"][0] + 1].tolist())
    # SimpleITK replaces NaN and infinity in NIfTI files by 0, so they must be found in the stored bytes.
    float_dtype = dtype if dtype.kind == "f" else None
    return NiftiHeader(PixelStorage(path, storage.container, 0, offset, float_dtype), size, dtype, affines)


def _read(path: Path) -> tuple[PixelStorage, Any]:
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b" and path.suffix.lower() == ".gz"
    storage = PixelStorage(path, "gzip" if compressed else "raw")
    with open_data(storage) as data:
        content = data.read(_HEADER_BYTES)
    # The format has no field for the byte order: it is the one in which the size of the header reads 348.
    if len(content) == _HEADER_BYTES:
        for order in _BYTE_ORDERS:
            header = np.frombuffer(content, _HEADER.newbyteorder(order))[0]
            if header["sizeof_hdr"] == _HEADER_BYTES and header["magic"] == b"n+1" and 1 <= header["dim"][0] <= 7:
                return storage, header
    raise InputError(f"{path}: not readable as an image (no header of a NIfTI-1 file); replace or remove it")


def _dtype(header: Any, path: Path) -> np.dtype[Any]:
    code = int(header["datatype"])
    if code not in _DTYPES:
        raise InputError(f"{path}: voxels of NIfTI type {code} are not CT numbers or labels; save one number per voxel")
    dtype = np.dtype(_DTYPES[code]).newbyteorder(header.dtype["datatype"].byteorder)
    if header["bitpix"] != 8 * dtype.itemsize:
        problem = f"{header['bitpix']} bits per voxel of type {code}, which has {8 * dtype.itemsize}"
        raise InputError(f"{path}: damaged header ({problem}); export it again")
    return dtype


def _pixel_offset(header: Any, path: Path) -> int:
    offset = float(header["vox_offset"])
    if not _FIRST_VOXEL <= offset <= _MAX_FIRST_VOXEL:
        rule = f"must be {_FIRST_VOXEL} to {_MAX_FIRST_VOXEL}"
        raise InputError(f"{path}: damaged header (voxels start at byte {offset:g}, {rule}); export it again")
    return int(offset)


def _check_scaling(slope: float, intercept: float, path: Path) -> None:
    """Refuse an intercept without a slope (0 or NaN): the format ignores it, but SimpleITK adds it."""
    is_scaled = bool(np.isfinite(slope)) and slope != 0
    if is_scaled != bool(np.isfinite(intercept)) and (is_scaled or intercept != 0):
        rule = "must be finite, and the slope not 0; export it again"
        raise InputError(f"{path}: scaling slope {slope:g} and intercept {intercept:g} {rule}")


def _affines(header: Any, path: Path) -> tuple[NDArray[np.float64], ...]:
    """Return the orientations that are set, (3, 4), in LPS mm. Each is the grid of a scan."""
    unit = _MM_PER_UNIT.get(int(header["xyzt_units"]) & 7)
    if unit is None:
        raise InputError(f"{path}: unit of length {header['xyzt_units'] & 7} must be m, mm or µm; write it in mm")
    pixdim = header["pixdim"][1:4]
    if not (pixdim > 0).all():
        spacing = "×".join(f"{size:g}" for size in pixdim)
        raise InputError(f"{path}: voxel spacing {spacing} mm must be positive; correct the header")
    affines = tuple(affine * _RAS_TO_LPS * unit for affine in _stored_affines(header, path))
    for affine in affines:
        # Only for its checks of spacing, origin and angles; they do not depend on the size.
        grid_of_axes(path, (1, 1, 1), affine[:, :3], affine[:, 3].tolist())
    return affines


def _stored_affines(header: Any, path: Path) -> list[NDArray[np.float64]]:
    """Return the orientations that are set, (3, 4), in RAS and in the header's unit."""
    affines = []
    if header["sform_code"] > 0:
        affines.append(np.asarray(header["srow"], np.float64))
    if header["qform_code"] > 0:
        affines.append(_qform(header))
    if not affines:
        raise InputError(
            f"{path}: contains no orientation (sform_code and qform_code are 0), so left and right are unknown; "
            "write it with an orientation"
        )
    return affines


def _qform(header: Any) -> NDArray[np.float64]:
    """Return quaternion, spacing and offset as a (3, 4) matrix. It is NaN if the norm of the quaternion exceeds 1."""
    from scipy.spatial.transform import Rotation

    vector = np.asarray(header["quatern"], np.float64)
    square = float(vector @ vector)
    if not square <= 1 + _QUATERNION_TOLERANCE:
        return np.full((3, 4), np.nan)
    # The header stores three components of a unit quaternion; the real one is never negative.
    quaternion = np.array([*vector, np.sqrt(max(1.0 - square, 0.0))])
    # A rotation cannot mirror. The sign of pixdim[0] ("qfac") flips the third axis for left-handed grids.
    spacing = np.asarray(header["pixdim"][1:4], np.float64) * (1, 1, -1 if header["pixdim"][0] < 0 else 1)
    return np.column_stack([Rotation.from_quat(quaternion).as_matrix() * spacing, header["qoffset"]])
