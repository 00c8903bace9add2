"""The formats in which a mask is written: their names, and the files of each."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from renalnet.config import LabelSet
from renalnet.data.cases.loading import is_series
from renalnet.data.dicom.source_series import SourceSeries, read_source
from renalnet.data.images.volume import Volume
from renalnet.errors import ConfigError, InputError, nearest

NIFTI: Final = "nifti"
DICOM_SEG: Final = "dicom-seg"
RTSTRUCT: Final = "rtstruct"
STL: Final = "stl"
FORMATS: Final = (NIFTI, DICOM_SEG, RTSTRUCT, STL)
"""Names of the formats. NIfTI is always written."""
_OF_A_SERIES: Final = (DICOM_SEG, RTSTRUCT)


def parse_formats(text: str | None) -> tuple[str, ...] | None:
    """Return the formats of a list with commas, without repeats; None for no list.

    Raises:
        ConfigError: a format is unknown.
    """
    if text is None:
        return None
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in FORMATS:
            raise ConfigError(f"unknown format '{name}'; {nearest(name, FORMATS)}")
    return tuple(name for name in FORMATS if name in names)


def formats_of(scan: Path, chosen: Sequence[str] | None) -> tuple[str, ...]:
    """Return the formats of a scan besides NIfTI: the chosen ones, or by default DICOM-SEG for a DICOM series."""
    if chosen is None:
        return (DICOM_SEG,) if is_series(scan) else ()
    return tuple(name for name in chosen if name != NIFTI)


def write_formats(
    stem: str,
    mask: Volume,
    labels: LabelSet,
    scan: Path,
    *,
    formats: Sequence[str],
    series: str | None = None,
    phase: str | None = None,
) -> Iterator[InputError | str]:
    """Write a mask in each format. A format that cannot be written does not stop the others.

    Args:
        stem: path or URI of the files, without their endings. DICOM-SEG is `<stem>.dcm`, RTSTRUCT is
            `<stem>.rtstruct.dcm`, and STL is `<stem>.<label>.stl` for each label that has a voxel.
        mask: labels on the grid of the scan's file.
        labels: meaning of the labels.
        scan: the scan.
        formats: names of `FORMATS`; NIfTI is ignored.
        series: number or UID of the DICOM series, if the folder contains several.
        phase: number or time of an acquisition, if the series contains several phases.

    Yields:
        An InputError for each format that could not be written, and remarks on the series.
    """
    if STL in formats:
        _write_surfaces(stem, mask, labels)
    wanted = [name for name in formats if name in _OF_A_SERIES]
    if not wanted:
        return
    if not is_series(scan):
        yield InputError(
            f"{scan}: no {' and no '.join(wanted)} was written, because these formats refer to the slices of a DICOM "
            f"series; name a DICOM folder, or leave them out of --format"
        )
        return
    try:
        source = read_source(scan, series, phase=phase)
    except InputError as error:
        yield error
        return
    yield from source.remarks
    yield from _write_dicom(stem, mask, labels, source, wanted)


def _write_surfaces(stem: str, mask: Volume, labels: LabelSet) -> None:
    from renalnet.data.mask_formats.surface_writer import write_surface

    for label in labels.labels:
        write_surface(f"{stem}.{label.name}.stl", mask.array == label.value, mask.grid, label.title)


def _write_dicom(
    stem: str, mask: Volume, labels: LabelSet, source: SourceSeries, formats: Sequence[str]
) -> Iterator[InputError]:
    from renalnet.data.dicom.segmentation_writer import write_segmentation
    from renalnet.data.mask_formats.structure_set_writer import write_structure_set

    writers: Mapping[str, tuple[Callable[..., None], str]] = {
        DICOM_SEG: (write_segmentation, ".dcm"),
        RTSTRUCT: (write_structure_set, ".rtstruct.dcm"),
    }
    for name in formats:
        write, ending = writers[name]
        try:
            write(f"{stem}{ending}", mask.array, source, labels=labels, version=version("renalnet"))
        except InputError as error:
            yield error
