"""Headers of NIfTI-1 and NIfTI-2, in one file (.nii) or in two (.hdr and .img); definition: nifti.nimh.nih.gov.

SimpleITK 2.5.7 reads NIfTI-1 only, replaces a missing orientation by the identity and a voxel size of 0 by 1, and
refuses axes that are off a right angle by rounding. Of two different orientations it silently chooses one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from renalnet.data.images.grid import Grid, grid_of_axes
from renalnet.data.images.integrity import Container, PixelStorage, open_data
from renalnet.errors import InputError

_BYTE_ORDERS: Final[tuple[Literal["<", ">"], ...]] = ("<", ">")
_MAX_FIRST_VOXEL: Final = 2**24


@dataclass(frozen=True)
class _Version:
    """A version of the format."""

    num_bytes: int
    """Size of the header, which its first field states."""
    magic: bytes
    """Start of the field `magic` where the voxels follow the header."""
    pair_magic: bytes
    """Likewise where they are in a second file."""
    fields: Mapping[str, tuple[str, int]]
    """Type and offset in bytes of each field that is read, as in nifti1.h and nifti2.h."""

    @property
    def dtype(self) -> "np.dtype[Any]":
        """Type of the whole header."""
        kinds, offsets = zip(*self.fields.values(), strict=True)
        names = list(self.fields)
        return np.dtype({"names": names, "formats": kinds, "offsets": offsets, "itemsize": self.num_bytes})


_VERSIONS: Final = (
    _Version(
        348,
        b"n+1",
        b"ni1",
        {
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
        },
    ),
    _Version(
        540,
        b"n+2",
        b"ni2",
        {
            "sizeof_hdr": ("i4", 0),
            "magic": ("S8", 4),
            "datatype": ("i2", 12),
            "bitpix": ("i2", 14),
            "dim": ("(8,)i8", 16),
            "pixdim": ("(8,)f8", 104),
            "vox_offset": ("i8", 168),
            "scl_slope": ("f8", 176),
            "scl_inter": ("f8", 184),
            "qform_code": ("i4", 344),
            "sform_code": ("i4", 348),
            "quatern": ("(3,)f8", 352),
            "qoffset": ("(3,)f8", 376),
            "srow": ("(3,4)f8", 400),
            "xyzt_units": ("i4", 500),
        },
    ),
)
_EXTENSION_BYTES: Final = 4
"""Bytes after a header that announce extensions; the voxels of a single file follow them at the earliest."""
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
_ROUNDING_OF_SQUARES: Final = 3 * float(np.finfo(np.float32).eps)
"""Rest of a squared norm that is rounding of single precision, as nibabel takes it; the real component is then zero."""


@dataclass(frozen=True)
class NiftiHeader:
    """A header that passed all checks that need no other part of the file."""

    storage: PixelStorage
    size: tuple[int, ...]
    """Voxels along each axis, x first."""
    dtype: np.dtype[Any]
    """Type of the stored voxels."""
    scaling: tuple[float, float] | None
    """Slope and intercept; None where the stored voxels are the values."""
    affines: tuple[NDArray[np.float64], ...]
    """The sform and the qform, if they are set: (3, 4), voxel vectors and origin, in LPS mm."""
    voxel_mm: tuple[float, ...]
    """Voxel sizes along each axis, x first, which programs without orientations read."""

    def grid(self) -> Grid:
        """Return the grid, by the sform where it is set and else by the qform.

        Programs differ where both are set: nibabel, FSL and dcm2niix take the sform, SimpleITK takes the qform unless
        the code of the sform is 1. The sform is the more exact one, because a quaternion in single precision is
        rounded more. Here both, and the voxel sizes, place the volume alike within half a voxel, or the file is
        refused.

        Raises:
            InputError: a corner of the volume differs by more than half a voxel between them.
        """
        steps = self.affines[0]
        grid = grid_of_axes(self.storage.path, self.size[:3], steps[:, :3], steps[:, 3].tolist())
        size = np.array(grid.size_xyz) - 1
        corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * (*size, 1)
        scale = np.array([*np.divide(self.voxel_mm, grid.spacing_xyz_mm), 1.0])
        others = (*self.affines, steps * scale)
        apart = max(float(np.linalg.norm(corners @ (other - steps).T, axis=1).max()) for other in others)
        if not apart <= _MAX_DISAGREEMENT_VOXELS * min(grid.spacing_xyz_mm):
            raise InputError(
                f"{self.storage.path}: its sform, qform and voxel sizes place the volume up to {apart:.3g} mm apart; "
                "keep the right orientation (set the other's code to 0) and write its voxel sizes"
            )
        return grid


def read_nifti_header(path: Path) -> NiftiHeader:
    """Read and check a header.

    Args:
        path: a single file, or the header of a pair of files.

    Raises:
        InputError: the file is damaged or is not NIfTI; its second file is missing; its voxels are colours or complex
            numbers; it contains no orientation; or its voxel sizes, origin or axes are not those of a scan.
    """
    header, version = _read(path)
    dtype = _dtype(header, path)
    scaling = _scaling(float(header["scl_slope"]), float(header["scl_inter"]), path)
    affines = _affines(header, path)
    size = tuple(header["dim"][1 : header["dim"][0] + 1].tolist())
    voxel_mm = header["pixdim"][1:4].astype(float) * _MM_PER_UNIT[int(header["xyzt_units"]) & 7]
    return NiftiHeader(_storage(header, version, path), size, dtype, scaling, affines, tuple(voxel_mm.tolist()))


def _read(path: Path) -> tuple[Any, _Version]:
    with open_data(PixelStorage(path, _container(path))) as data:
        content = data.read(_VERSIONS[-1].num_bytes)
    # The format has no field for the byte order: it is the one in which the first field reads the size of the header.
    for version, order in product(_VERSIONS, _BYTE_ORDERS):
        if len(content) < version.num_bytes:
            continue
        header = np.frombuffer(content[: version.num_bytes], version.dtype.newbyteorder(order))[0]
        if header["sizeof_hdr"] == version.num_bytes and 1 <= header["dim"][0] <= 7:
            return _checked_kind(header, version, path), version
    raise InputError(f"{path}: not readable as an image (no header of a NIfTI file); replace or remove it")


def _checked_kind(header: Any, version: _Version, path: Path) -> Any:
    magic = bytes(header["magic"])[:3]
    expected = version.pair_magic if _is_pair(path) else version.magic
    if magic == expected:
        return header
    if not magic and _is_pair(path):
        raise InputError(
            f"{path}: an Analyze header, which contains no orientation, so left and right are unknown; export NIfTI"
        )
    raise InputError(f"{path}: not readable as an image (no header of a NIfTI file); replace or remove it")


def _is_pair(path: Path) -> bool:
    return path.name.lower().endswith((".hdr", ".hdr.gz"))


def _container(path: Path) -> Container:
    with path.open("rb") as file:
        is_compressed = file.read(2) == b"\x1f\x8b" and path.suffix.lower() == ".gz"
    return "gzip" if is_compressed else "raw"


def _storage(header: Any, version: _Version, path: Path) -> PixelStorage:
    """Return the storage of the voxels: after the header, or in the second file of a pair."""
    is_pair = _is_pair(path)
    offset = float(header["vox_offset"])
    least = 0 if is_pair else version.num_bytes + _EXTENSION_BYTES
    if not least <= offset <= _MAX_FIRST_VOXEL:
        rule = f"must be {least} to {_MAX_FIRST_VOXEL}"
        raise InputError(f"{path}: damaged header (voxels start at byte {offset:g}, {rule}); export it again")
    file = _data_file(path) if is_pair else path
    return PixelStorage(file, _container(file), 0, int(offset))


def _data_file(path: Path) -> Path:
    stem = re.sub(r"\.hdr(\.gz)?$", "", path.name, flags=re.IGNORECASE)
    for ending in (".img", ".img.gz", ".IMG", ".IMG.GZ"):
        if (file := path.with_name(stem + ending)).is_file():
            return file
    raise InputError(f"{path}: its voxels are missing, in a file {stem}.img; copy both files")


def _dtype(header: Any, path: Path) -> np.dtype[Any]:
    code = int(header["datatype"])
    if code not in _DTYPES:
        raise InputError(f"{path}: voxels of NIfTI type {code} are not CT numbers or labels; save one number per voxel")
    dtype = np.dtype(_DTYPES[code]).newbyteorder(header.dtype["datatype"].byteorder)
    if header["bitpix"] != 8 * dtype.itemsize:
        problem = f"{header['bitpix']} bits per voxel of type {code}, which has {8 * dtype.itemsize}"
        raise InputError(f"{path}: damaged header ({problem}); export it again")
    return dtype


def _scaling(slope: float, intercept: float, path: Path) -> tuple[float, float] | None:
    """Return slope and intercept; refuse an intercept without a slope (0 or NaN), which readers treat differently."""
    is_scaled = bool(np.isfinite(slope)) and slope != 0
    if is_scaled != bool(np.isfinite(intercept)) and (is_scaled or intercept != 0):
        rule = "must be finite, and the slope not 0; export it again"
        raise InputError(f"{path}: scaling slope {slope:g} and intercept {intercept:g} {rule}")
    return (slope, intercept) if is_scaled and (slope, intercept) != (1.0, 0.0) else None


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
    # A component of a damaged header may be so large that its square overflows.
    square = float(vector @ vector) if np.all(np.abs(vector) <= 2) else np.inf
    if not square <= 1 + _QUATERNION_TOLERANCE:
        return np.full((3, 4), np.nan)
    # The header stores three components of a unit quaternion; the real one is never negative.
    rest = 1.0 - square
    # Its root would turn a rounding error of 4e-8 into an angle of 4e-4.
    real = np.sqrt(rest) if rest > _ROUNDING_OF_SQUARES else 0.0
    quaternion = np.array([*vector, real])
    # A rotation cannot mirror. The sign of pixdim[0] ("qfac") flips the third axis for left-handed grids.
    spacing = np.asarray(header["pixdim"][1:4], np.float64) * (1, 1, -1 if header["pixdim"][0] < 0 else 1)
    return np.column_stack([Rotation.from_quat(quaternion).as_matrix() * spacing, header["qoffset"]])
