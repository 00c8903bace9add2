"""The phases of a series: volumes that a scanner or an archive stored under one SeriesInstanceUID."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from renalnet.data.dicom.headers import DicomImage
from renalnet.data.dicom.slices import SAME_POSITION_MM
from renalnet.errors import InputError

_MAX_LISTED: Final = 8


@dataclass(frozen=True)
class Phase:
    """Images of a series that make one volume."""

    name: str
    """Number of the acquisition, or of the series; empty if only times tell the phases apart."""
    images: tuple[DicomImage, ...]

    @property
    def time(self) -> str:
        """Time of its first image as HHMMSS; empty if an image has none."""
        times = sorted((image.time for image in self.images), key=_seconds)
        return times[0] if times and all(times) else ""

    def __str__(self) -> str:
        size = f"{len(self.images)} slices"
        if not self.name:
            return f"{self.time} ({size})"
        return f"{self.name} ({size}, at {self.time})" if self.time else f"{self.name} ({size})"


def choose_phase(
    images: Sequence[DicomImage], phase: str | None, named: Collection[DicomImage], where: object
) -> list[DicomImage]:
    """Return the images of a phase, or all images if they are those of one volume.

    Args:
        images: slices of a series.
        phase: number or time of the phase.
        named: images that a segmentation refers to. They choose where `phase` is None.
        where: name of the series in error messages.

    Raises:
        InputError: there are several phases and none is chosen, or `phase` names none or several.
    """
    if phase is None and not _holds_several(images):
        return [*images]
    found = list_phases(images) or [_whole(images)]
    if phase is None and len(found) == 1:
        return [*images]  # copies of slices, which are no phases; `ordered_slices` reports them
    selected = [one for one in found if (_is_called(one, phase) if phase else _contains(one, named))]
    if len(selected) == 1:
        return [*selected[0].images]
    wanted = "" if phase is None else f", and phase '{phase}' names {'several' if selected else 'none'} of them"
    count = f"{len(found)} phase{'s' if len(found) > 1 else ''} in one series{wanted}"
    listed = "; ".join(map(str, found[:_MAX_LISTED]))
    raise InputError(f"{where}: holds {count}; choose one with --phase NUMBER or TIME: {listed}")


def list_phases(images: Sequence[DicomImage]) -> list[Phase]:
    """Return the phases of a series in the order of their numbers or times. It is empty for a single volume.

    Phases have their own AcquisitionNumber, or else SeriesNumber, or else are apart in AcquisitionTime. A field that
    some images lack tells nothing, because a phase would lose these slices.
    """
    by_time = [Phase("", part) for part in _by_time(images)]
    for found in (_by_field(images, "acquisition"), _by_field(images, "series_number"), by_time):
        if len(found) > 1 and not any(_num_copies(one.images) for one in found):
            return found
    return []


def _is_called(phase: Phase, name: str) -> bool:
    return name in (phase.name, phase.time)


def _contains(phase: Phase, images: Collection[DicomImage]) -> bool:
    paths = {image.path for image in phase.images}
    return bool(images) and all(image.path in paths for image in images)


def _whole(images: Sequence[DicomImage]) -> Phase:
    acquisitions = {image.acquisition for image in images}
    return Phase(acquisitions.pop() if len(acquisitions) == 1 else "", tuple(images))


def _holds_several(images: Sequence[DicomImage]) -> bool:
    """Whether images cannot be one volume: two have one position, or the acquisitions lie between each other."""
    if _num_copies(images):
        return True
    ranges = sorted(_range_mm(one.images) for one in _by_field(images, "acquisition"))
    return any(second[0] < first[1] for first, second in pairwise(ranges))


def _num_copies(images: Sequence[DicomImage]) -> int:
    """Return the number of images whose position is that of another one."""
    places = sorted(_along(images))
    return sum(second - first < SAME_POSITION_MM for first, second in pairwise(places))


def _range_mm(images: Sequence[DicomImage]) -> tuple[float, float]:
    places = _along(images)
    return min(places, default=0.0), max(places, default=0.0)


def _along(images: Sequence[DicomImage]) -> list[float]:
    """Return the positions along the slice normal, in mm. Images of unknown geometry are left out."""
    known = [image.geometry for image in images if image.geometry]
    return [sum(a * b for a, b in zip(one.position_mm, known[0].normal, strict=True)) for one in known]


def _by_field(images: Sequence[DicomImage], name: str) -> list[Phase]:
    """Return the images by a number that all of them have; empty if one has none."""
    groups: defaultdict[str, list[DicomImage]] = defaultdict(list)
    for image in images:
        groups[getattr(image, name)].append(image)
    if "" in groups:
        return []
    return [Phase(number, tuple(groups[number])) for number in sorted(groups, key=lambda text: (len(text), text))]


def _by_time(images: Sequence[DicomImage]) -> list[tuple[DicomImage, ...]]:
    """Return the images in as many parts as one position has images, divided at the longest pauses."""
    if not all(image.time for image in images):
        return []
    ordered = sorted(images, key=lambda image: _seconds(image.time))
    pauses = [_seconds(second.time) - _seconds(first.time) for first, second in pairwise(ordered)]
    num_parts = _most_at_one_place(images)
    longest = sorted(range(len(pauses)), key=lambda index: pauses[index], reverse=True)[: num_parts - 1]
    ends = [0, *sorted(index + 1 for index in longest if pauses[index] > 0), len(ordered)]
    return [tuple(ordered[start:end]) for start, end in pairwise(ends)]


def _most_at_one_place(images: Sequence[DicomImage]) -> int:
    most = number = 1
    for first, second in pairwise(sorted(_along(images))):
        number = number + 1 if second - first < SAME_POSITION_MM else 1
        most = max(most, number)
    return most


def _seconds(time: str) -> float:
    """Return a time HHMMSS as the number of seconds since midnight; 0 for an empty one."""
    return int(time[:2]) * 3600 + int(time[2:4]) * 60 + float(time[4:]) if time else 0.0
