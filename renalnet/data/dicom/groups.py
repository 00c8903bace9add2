"""The series of a folder: which images belong together, although an archive may have removed identifiers.

SeriesInstanceUID decides. SeriesNumber describes a series, and decides only where no image has a UID. Images without
an identifier belong to the series of the same geometry, if there is only one.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from renalnet.data.dicom.headers import DicomFolder, DicomImage
from renalnet.errors import InputError

_MAX_LISTED: Final = 8
_MAX_LOCALIZERS: Final = 2
"""Most images that are left out as localizers: a frontal and a lateral one. More images may be a volume."""
_STEEP_COSINE: Final = 0.5
"""A localizer is a projection along the slices. The cosine between its normal and theirs is below this one."""

_KEYWORDS: Final = {"series_uid": "SeriesInstanceUID", "series_number": "SeriesNumber"}

_Geometry: TypeAlias = tuple[object, ...]


@dataclass(frozen=True)
class Series:
    """The CT images that belong together."""

    uid: str
    """SeriesInstanceUID; empty if its images have none."""
    images: tuple[DicomImage, ...]
    notes: tuple[str, ...] = ()
    """What is unusual about the series, one line each."""

    @property
    def numbers(self) -> list[str]:
        """The series numbers that its images state, which is one as a rule."""
        return sorted({image.series_number for image in self.images} - {""}, key=_by_value)

    def is_named(self, name: str) -> bool:
        """Whether `name` is its UID or its number."""
        return name in (self.uid, *self.numbers)

    def __str__(self) -> str:
        number = ", ".join(self.numbers) or "without number"
        return f"{number} ({len(self.images)} slices, {self.uid or 'no UID'})"


def list_series(images: Sequence[DicomImage]) -> list[Series]:
    """Return the series of CT images, in the order of their numbers.

    Raises:
        InputError: images without an identifier could belong to several series.
    """
    name = "series_uid" if any(image.series_uid for image in images) else "series_number"
    groups = _by(images, name)
    strays = groups.pop("", [])
    groups = _single_images_joined(groups)
    homes = _homes(strays, groups)
    _refuse_doubt(strays, homes, name)
    for image, keys in zip(strays, homes, strict=True):
        groups.setdefault(keys[0] if keys else "", []).append(image)
    found = [_series(key, members, name) for key, members in groups.items()]
    return sorted(found, key=lambda one: (_by_value("".join(one.numbers[:1])), one.uid))


def choose_series(listing: DicomFolder, series: str | None, uids: Collection[str]) -> Series:
    """Return the CT series of a folder.

    A single image or two are left out as a localizer, if their planes are not those of the other series.

    Args:
        listing: the images of the folder.
        series: number or UID of the series.
        uids: UIDs that a segmentation refers to. They choose where `series` names no series.

    Raises:
        InputError: there is no CT series, or several, of which neither `series` nor `uids` names one.
    """
    found = list_series(listing.slices)
    if not found:
        raise _no_series(listing)
    named = [one for one in found if series is not None and one.is_named(series)]
    referred = [one for one in found if one.uid in uids or any(image.instance_uid in uids for image in one.images)]
    volumes = _without_localizers(found) if series is None else []
    selected = next((chosen for chosen in (named, referred, volumes) if chosen), [])
    if len(selected) == 1:
        left_out = [one for one in found if selected == volumes and one not in volumes]
        notes = [f"series {one} was left out as a localizer" for one in left_out]
        return _noted(selected[0], [*notes, *_of_other_kinds(listing, selected[0])])
    listed = "; ".join(map(str, found[:_MAX_LISTED]))
    wanted = "" if series is None else f" and series '{series}' names {'several' if named else 'none'} of them"
    raise InputError(
        f"{listing.folder}: holds {len(found)} CT series{wanted}; choose one with --series NUMBER or UID: {listed}"
    )


def _of_other_kinds(listing: DicomFolder, series: Series) -> list[str]:
    """Return a note of the images that state the UID of a series and are no CT slices, such as a damaged slice."""
    others = [
        image
        for image in listing.images
        if image.series_uid == series.uid != "" and not (image.is_ct or image.is_localizer or image.is_segmentation)
    ]
    modalities = ", ".join(sorted({image.modality or "unknown" for image in others}))
    images = "1 image was" if len(others) == 1 else f"{len(others)} images were"
    return [f"{images} left out of the series: no CT slice (modality {modalities})"] if others else []


def without_localizers(series: Series) -> Series:
    """Return a series without the one or two images whose planes are steep to those of all others.

    A localizer states itself by ImageType. Anonymisation may have emptied that field.
    """
    planes = _planes(series.images)
    usual = max(planes, key=lambda normal: len(planes[normal]), default=None)
    steep = {normal for normal in planes if usual and abs(_product(normal, usual)) < _STEEP_COSINE}
    paths = {image.path for normal in steep for image in planes[normal]}
    if not 0 < len(paths) <= min(_MAX_LOCALIZERS, len(series.images) - 2):
        return series
    kept = tuple(image for image in series.images if image.path not in paths)
    images = "1 image was" if len(paths) == 1 else f"{len(paths)} images were"
    note = f"{images} left out as a localizer: the plane is steep to those of the {len(kept)} slices"
    return _noted(Series(series.uid, kept, series.notes), [note])


def _by(images: Iterable[DicomImage], name: str) -> dict[str, list[DicomImage]]:
    groups: defaultdict[str, list[DicomImage]] = defaultdict(list)
    for image in images:
        groups[getattr(image, name)].append(image)
    return dict(groups)


def _single_images_joined(groups: Mapping[str, list[DicomImage]]) -> dict[str, list[DicomImage]]:
    """Return the groups, with those of one image each joined if they are the slices of one volume.

    Some programs give each slice a series of its own. Slices of a volume have one number, geometry and frame of
    reference, and a position each.
    """
    joined: defaultdict[_Geometry, list[str]] = defaultdict(list)
    for key, (first, *others) in groups.items():
        if not others and first.geometry:
            joined[first.series_number, first.frame_of_reference, *_geometry(first)].append(key)
    result = dict(groups)
    for keys in joined.values():
        images = [image for key in keys for image in groups[key]]
        places = {image.geometry.position_mm for image in images if image.geometry}
        if len(keys) > _MAX_LOCALIZERS and len(places) == len(keys):
            result = {key: members for key, members in result.items() if key not in keys} | {keys[0]: images}
    return result


def _homes(strays: Sequence[DicomImage], groups: Mapping[str, Sequence[DicomImage]]) -> list[list[str]]:
    """Return for each image without an identifier the keys of the groups to which it may belong."""
    geometries = {key: {_geometry(member) for member in members} for key, members in groups.items() if strays}
    alike = [[key for key in geometries if _geometry(image) in geometries[key]] for image in strays]
    return [_narrowed(image, keys, groups) for image, keys in zip(strays, alike, strict=True)]


def _narrowed(image: DicomImage, keys: list[str], groups: Mapping[str, Sequence[DicomImage]]) -> list[str]:
    for name in ("series_number", "frame_of_reference"):
        value = getattr(image, name)
        alike = [key for key in keys if value and value in {getattr(member, name) for member in groups[key]}]
        keys = alike or keys
    return keys


def _refuse_doubt(strays: Sequence[DicomImage], homes: Sequence[Sequence[str]], name: str) -> None:
    doubtful = [image.path for image, keys in zip(strays, homes, strict=True) if len(keys) > 1]
    if doubtful:
        raise InputError(
            f"{doubtful[0].parent}: {len(doubtful)} CT images such as {doubtful[0].name} lack {_KEYWORDS[name]}, and "
            "may belong to several series by their geometry; put each series into a folder of its own"
        )


def _series(key: str, images: Sequence[DicomImage], name: str) -> Series:
    """Return a group as a series, with notes of what its images lack."""
    total = len(images)
    uids = {image.series_uid for image in images} - {""}
    own = Series(key if key in uids else "", tuple(images))
    added = sum(not getattr(image, name) for image in images) if key else 0
    unnumbered = sum(not image.series_number for image in images) if own.numbers and name == "series_uid" else 0
    notes = (
        (added, f"{added} of {total} slices lack {_KEYWORDS[name]}; by their geometry they belong to its volume"),
        (unnumbered, f"{unnumbered} of {total} slices lack SeriesNumber; they share its SeriesInstanceUID"),
        (len(own.numbers) > 1, f"its {total} slices state several series numbers: {', '.join(own.numbers)}"),
        (len(uids) > 1, f"its {total} slices have {len(uids)} SeriesInstanceUIDs, and the geometry of one volume"),
    )
    return _noted(own, [note for is_true, note in notes if is_true])


def _without_localizers(found: Sequence[Series]) -> list[Series]:
    """Return the series that may be volumes: not those of one or two images in planes of their own."""
    large = [one for one in found if len(one.images) > _MAX_LOCALIZERS]
    planes = {normal for one in large for normal in _planes(one.images)}
    return [one for one in found if one in large or not large or not planes.isdisjoint(_planes(one.images))]


def _planes(images: Iterable[DicomImage]) -> dict[tuple[float, ...], list[DicomImage]]:
    """Return images by the normals of their planes. Images of unknown geometry are left out."""
    planes: defaultdict[tuple[float, ...], list[DicomImage]] = defaultdict(list)
    for image in images:
        if image.geometry:
            planes[image.geometry.normal].append(image)
    return dict(planes)


def _geometry(image: DicomImage) -> _Geometry:
    own = image.geometry
    return (own.shape, own.spacing_mm, own.orientation) if own else (image.path,)


def _product(first: Sequence[float], second: Sequence[float]) -> float:
    return sum(one * other for one, other in zip(first, second, strict=True))


def _noted(series: Series, notes: Sequence[str]) -> Series:
    return Series(series.uid, series.images, (*series.notes, *notes))


def _by_value(number: str) -> tuple[int, str]:
    return len(number), number  # series 2 before series 10


def _no_series(listing: DicomFolder) -> InputError:
    others = sorted({image.modality or "unknown" for image in listing.images})
    content = f"images of modality {', '.join(others)}" if others else "no DICOM image"
    return InputError(
        f"{listing.folder}: holds no CT slices ({content}, {listing.num_ignored} other files ignored); "
        "name the folder of a CT series"
    )
