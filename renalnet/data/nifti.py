"""NIfTI-1 in one file (`.nii`, `.nii.gz`), after the header's definition at nifti.nimh.nih.gov."""

from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from renalnet.data.grid import Grid, Volume, grid_of_axes
from renalnet.data.pixels import Inflated, Promise, Source, bytes_left, three_dimensional
from renalnet.errors import InputError

_BYTE_ORDERS: Final[tuple[Literal["<", ">"], ...]] = ("<", ">")
_HEADER_BYTES: Final = 348
_FIRST_VOXEL: Final = 352
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
_DTYPES: Final = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
_MM_PER_UNIT: Final = {0: 1.0, 1: 1e3, 2: 1.0, 3: 1e-3}
"""By the low three bits of `xyzt_units`: unknown (taken as mm), metre, millimetre, micrometre."""
_RAS_TO_LPS: Final = np.array([[-1.0], [-1.0], [1.0]])
_FORMS_AGREE_VOXELS: Final = 0.5
_QUATERNION_SLACK: Final = 1e-3
_HALF_TURN: Final = 1e-7


def read_nifti(path: Path) -> Volume:
    """Read an image; values are scaled by its slope and intercept where it has them.

    Where both the qform and the sform place the volume, the sform is taken, and the two must agree.

    Raises:
        InputError: the file is damaged, is not NIfTI-1, has colour or complex voxels or more than one volume,
            or does not say (or contradicts itself on) where it lies.
    """
    with path.open("rb") as file:
        num_stored = bytes_left(file)
        compressed = file.peek(2)[:2] == b"\x1f\x8b"
        source: Source = Inflated(file, "gzip") if compressed else file
        header = _read_header(source, path)
        size = three_dimensional(str(path), header["dim"][1 : header["dim"][0] + 1].tolist())
        promise = Promise(str(path), size, _dtype(header, path))
        to_skip = _first_voxel(header, path) - _HEADER_BYTES
        promise.check(num_stored if compressed else num_stored - _HEADER_BYTES - to_skip, compressed=compressed)
        grid = _grid(header, size, path)
        source.read(to_skip)
        array = promise.read(source)
    return Volume(_scaled(array, float(header["scl_slope"]), float(header["scl_inter"])), grid)


def _read_header(source: Source, path: Path) -> Any:
    data = source.read(_HEADER_BYTES)
    if len(data) == _HEADER_BYTES:
        for order in _BYTE_ORDERS:
            header = np.frombuffer(data, _HEADER.newbyteorder(order))[0]
            if header["sizeof_hdr"] == _HEADER_BYTES and header["magic"] == b"n+1" and 1 <= header["dim"][0] <= 7:
                return header
    raise InputError(f"{path}: not readable as an image (no header of a NIfTI-1 file); replace or remove it")


def _dtype(header: Any, path: Path) -> np.dtype[Any]:
    code = int(header["datatype"])
    if code not in _DTYPES:
        raise InputError(f"{path}: voxels of NIfTI type {code} are no CT numbers or labels; save one grey value each")
    dtype = np.dtype(_DTYPES[code]).newbyteorder(header.dtype["datatype"].byteorder)
    if header["bitpix"] != 8 * dtype.itemsize:
        raise InputError(f"{path}: damaged header ({header['bitpix']} bits a voxel of type {code}); export it again")
    return dtype


def _first_voxel(header: Any, path: Path) -> int:
    offset = float(header["vox_offset"])
    if not 0 <= offset <= 2**24:
        raise InputError(f"{path}: damaged header (voxels start at byte {offset:g}); export it again")
    return max(int(offset), _FIRST_VOXEL)


def _scaled(array: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    """A slope of 0 or one that is no number means none, as the definition says and writers do."""
    if slope == 0 or not np.isfinite(slope) or (slope, intercept) == (1.0, 0.0):
        return array
    values: NDArray[Any] = array.astype(np.float32 if array.dtype.itemsize <= 2 else np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found by whoever needs it finite
        values *= slope
        values += intercept
    return values


def _grid(header: Any, size_xyz: tuple[int, int, int], path: Path) -> Grid:
    unit = _MM_PER_UNIT.get(int(header["xyzt_units"]) & 7)
    if unit is None:
        raise InputError(f"{path}: lengths in an unknown unit ({header['xyzt_units'] & 7}); write it in mm")
    forms = [form(header) for form, code in ((_sform, "sform_code"), (_qform, "qform_code")) if header[code] > 0]
    if not forms:
        raise InputError(
            f"{path}: does not say where it lies (sform_code and qform_code are 0), so left and right are unknown; "
            "write it with an orientation"
        )
    grids = [
        grid_of_axes(path, size_xyz, form[:, :3] * _RAS_TO_LPS * unit, (form[:, 3:] * _RAS_TO_LPS * unit)[:, 0])
        for form in forms
    ]
    if len(grids) > 1:
        _check_agreement(grids[0], forms[0], forms[1], path)
    return grids[0]


def _check_agreement(grid: Grid, sform: NDArray[np.float64], qform: NDArray[np.float64], path: Path) -> None:
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float64)
    corners[:, :3] *= np.array(grid.size_xyz) - 1
    apart = float(np.linalg.norm(corners @ (sform - qform).T, axis=1).max())
    if apart > _FORMS_AGREE_VOXELS * min(grid.spacing_xyz_mm):
        raise InputError(
            f"{path}: its sform and qform place the volume up to {apart:.3g} mm apart; keep the right one "
            "(set the other's code to 0)"
        )


def _sform(header: Any) -> NDArray[np.float64]:
    return np.asarray(header["srow"], np.float64)


def _qform(header: Any) -> NDArray[np.float64]:
    """Quaternion, spacing and offset as a (3, 4) matrix; not finite where the quaternion is none."""
    vector = np.asarray(header["quatern"], np.float64)
    length = float(np.linalg.norm(vector))
    if not length <= 1 + _QUATERNION_SLACK:
        return np.full((3, 4), np.nan)
    square = 1.0 - length**2
    # A half turn, but for the rounding of the header's numbers, as the format's own library has it.
    a, (b, c, d) = (square**0.5, vector) if square >= _HALF_TURN else (0.0, vector / length)
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    steps = np.asarray(header["pixdim"][1:4], np.float64) * (1, 1, -1 if header["pixdim"][0] < 0 else 1)
    return np.column_stack([rotation * steps, np.asarray(header["qoffset"], np.float64)])
