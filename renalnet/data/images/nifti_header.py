"""What the header of a NIfTI-1 file says beyond what SimpleITK makes of it (definition: nifti.nimh.nih.gov).

It takes a missing orientation for the identity, a voxel size of 0 for 1, and the better of two orientations.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from renalnet.data.images.grid import Grid, grid_of_axes
from renalnet.data.images.integrity import Stored, open_data
from renalnet.errors import InputError

_BYTE_ORDERS: Final[tuple[Literal["<", ">"], ...]] = ("<", ">")
_HEADER_BYTES: Final = 348
_FIRST_VOXEL: Final = 352
_MAX_FIRST_VOXEL: Final = 2**24
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
    **{2: "u1", 256: "i1", 4: "i2", 512: "u2", 8: "i4", 768: "u4", 1024: "i8", 1280: "u8"},
    **{16: "f4", 64: "f8"},
}
_MM_PER_UNIT: Final = {0: 1.0, 1: 1e3, 2: 1.0, 3: 1e-3}
"""By the low three bits of `xyzt_units`: unknown (taken as mm), metre, millimetre, micrometre."""
_RAS_TO_LPS: Final = np.array([[-1.0], [-1.0], [1.0]])
_AGREE_VOXELS: Final = 0.5
_QUATERNION_SLACK: Final = 2e-3


@dataclass(frozen=True)
class NiftiHeader:
    """A header that is sound in itself."""

    stored: Stored
    size: tuple[int, ...]
    """Voxels along each axis, x first."""
    dtype: np.dtype[Any]
    """Of the stored voxels; the library states the one that it scales them to."""
    forms: tuple[NDArray[np.float64], ...]
    """The sform and the qform where they are set: voxel steps and origin (3, 4), in LPS and mm."""

    def check_place(self, grid: Grid) -> None:
        """Compare the library's grid with each way in which the header places the volume.

        Raises:
            InputError: a corner of the volume lies more than half a voxel away.
        """
        size = np.array(grid.size_xyz) - 1
        corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * (*size, 1)
        steps = np.array(grid.direction).reshape(3, 3) * grid.spacing_xyz_mm
        placed = np.column_stack([steps, grid.origin_xyz_mm])
        apart = max(float(np.linalg.norm(corners @ (form - placed).T, axis=1).max()) for form in self.forms)
        if not apart <= _AGREE_VOXELS * min(grid.spacing_xyz_mm):
            raise InputError(
                f"{self.stored.path}: its sform, qform and voxel sizes place the volume up to {apart:.3g} mm apart; "
                "keep the right orientation (set the other's code to 0) and write its voxel sizes"
            )


def read_nifti_header(path: Path) -> NiftiHeader:
    """Read and check a header.

    Raises:
        InputError: the file is damaged, is not NIfTI-1 in one file, has colour or complex voxels, does not say where it
            lies, or places itself with voxel sizes or an origin that no scan has or with axes that are not at right
            angles.
    """
    stored, header = _read(path)
    dtype = _dtype(header, path)
    offset = float(header["vox_offset"])
    if not _FIRST_VOXEL <= offset <= _MAX_FIRST_VOXEL:
        raise InputError(f"{path}: damaged header (voxels start at byte {offset:g}); export it again")
    _check_scaling(float(header["scl_slope"]), float(header["scl_inter"]), path)
    unit = _MM_PER_UNIT.get(int(header["xyzt_units"]) & 7)
    if unit is None:
        raise InputError(f"{path}: lengths in an unknown unit ({header['xyzt_units'] & 7}); write it in mm")
    pixdim = header["pixdim"][1:4]
    if not (pixdim > 0).all():
        raise InputError(f"{path}: voxel spacing {'×'.join(f'{size:g}' for size in pixdim)} mm; correct the header")
    size = tuple(header["dim"][1 : header["dim"][0] + 1].tolist())
    hides = dtype if dtype.kind == "f" else None
    forms = tuple(form * _RAS_TO_LPS * unit for form in _forms(header, path))
    for form in forms:
        grid_of_axes(path, (1, 1, 1), form[:, :3], form[:, 3].tolist())
    return NiftiHeader(Stored(path, stored.container, 0, int(offset), hides), size, dtype, forms)


def _read(path: Path) -> tuple[Stored, Any]:
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b" and path.suffix.lower() == ".gz"
    stored = Stored(path, "gzip" if compressed else "raw")
    with open_data(stored) as data:
        content = data.read(_HEADER_BYTES)
    if len(content) == _HEADER_BYTES:
        for order in _BYTE_ORDERS:
            header = np.frombuffer(content, _HEADER.newbyteorder(order))[0]
            if header["sizeof_hdr"] == _HEADER_BYTES and header["magic"] == b"n+1" and 1 <= header["dim"][0] <= 7:
                return stored, header
    raise InputError(f"{path}: not readable as an image (no header of a NIfTI-1 file); replace or remove it")


def _dtype(header: Any, path: Path) -> np.dtype[Any]:
    code = int(header["datatype"])
    if code not in _DTYPES:
        raise InputError(f"{path}: voxels of NIfTI type {code} are no CT numbers or labels; save one grey value each")
    dtype = np.dtype(_DTYPES[code]).newbyteorder(header.dtype["datatype"].byteorder)
    if header["bitpix"] != 8 * dtype.itemsize:
        raise InputError(f"{path}: damaged header ({header['bitpix']} bits a voxel of type {code}); export it again")
    return dtype


def _check_scaling(slope: float, intercept: float, path: Path) -> None:
    """No slope (0, or not a number) goes without an intercept: the format ignores one, and the library adds it."""
    is_scaled = bool(np.isfinite(slope)) and slope != 0
    if is_scaled != bool(np.isfinite(intercept)) and (is_scaled or intercept != 0):
        raise InputError(f"{path}: scaling slope {slope:g}, intercept {intercept:g} has no meaning; export it again")


def _forms(header: Any, path: Path) -> list[NDArray[np.float64]]:
    """The orientations that are set, in RAS and the header's unit."""
    forms = []
    if header["sform_code"] > 0:
        forms.append(np.asarray(header["srow"], np.float64))
    if header["qform_code"] > 0:
        forms.append(_qform(header))
    if not forms:
        raise InputError(
            f"{path}: does not say where it lies (sform_code and qform_code are 0), so left and right are unknown; "
            "write it with an orientation"
        )
    return forms


def _qform(header: Any) -> NDArray[np.float64]:
    """Quaternion, spacing and offset as a (3, 4) matrix; not finite where the quaternion is none."""
    from scipy.spatial.transform import Rotation

    vector = np.asarray(header["quatern"], np.float64)
    square = float(vector @ vector)
    if not square <= 1 + _QUATERNION_SLACK:
        return np.full((3, 4), np.nan)
    quaternion = np.array([*vector, np.sqrt(max(1.0 - square, 0.0))])
    steps = np.asarray(header["pixdim"][1:4], np.float64) * (1, 1, -1 if header["pixdim"][0] < 0 else 1)
    return np.column_stack([Rotation.from_quat(quaternion).as_matrix() * steps, header["qoffset"]])
