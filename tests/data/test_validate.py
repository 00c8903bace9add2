"""Cases that read well but cannot be right."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from renalnet.data.ingest import LoadedCase
from renalnet.data.validate import Finding, check_case, check_cohort, image_digest
from renalnet.data.volume import Grid, Volume

GRID = Grid.axis_aligned((10, 20, 20), (3.0, 3.0, 3.0))


def sound_case() -> LoadedCase:
    """A block of 200 HU and 27 ml (1000 voxels of 27 mm³) in air."""
    image, label = np.full(GRID.shape, -1000, np.int16), np.zeros(GRID.shape, np.uint8)
    image[:, 5:15, 5:15], label[:, 5:15, 5:15] = 200, 1
    return LoadedCase("a", Volume(image, GRID), Volume(label, GRID), GRID)


def with_label(label: NDArray[np.uint8]) -> LoadedCase:
    return replace(sound_case(), label=Volume(label, GRID))


def words(loaded: LoadedCase) -> list[str]:
    return [f"{finding.level}: {finding.message}" for finding in check_case(loaded)]


def test_a_sound_case_has_no_findings() -> None:
    assert check_case(sound_case()) == []


def test_an_empty_label_is_an_error() -> None:
    (found,) = words(with_label(np.zeros(GRID.shape, np.uint8)))
    assert found.startswith("error: the label is empty")


def test_a_constant_image_is_an_error() -> None:
    (found,) = words(replace(sound_case(), image=Volume(np.full(GRID.shape, 5, np.int16), GRID)))
    assert found.startswith("error: the image is constant (5 HU)")


def test_an_impossible_spacing_is_an_error() -> None:
    far = Grid.axis_aligned(GRID.shape, (30.0, 1.0, 1.0))
    (found,) = words(replace(sound_case(), image=Volume(sound_case().image.array, far)))
    assert found.startswith("error: spacing 30×1×1 mm outside")


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (np.full(GRID.shape, 2, np.uint8), "tumor but no kidney"),
        (np.eye(20, dtype=np.uint8)[None].repeat(10, 0), "only"),
    ],
)
def test_odd_labels_are_warnings(label: NDArray[np.uint8], message: str) -> None:
    assert any(found.startswith(f"warning: {message}") for found in words(with_label(label)))


def test_a_lost_rescale_intercept_is_a_warning() -> None:
    shifted = Volume(sound_case().image.array + np.int16(1024), GRID)
    found = words(replace(sound_case(), image=shifted))
    assert [text.split(";")[0] for text in found] == [
        "warning: the kidney's mean of 1224 HU is not within 0 to 500",
        "warning: no CT number below 0",
    ]


def test_the_same_image_under_two_names_is_an_error() -> None:
    digest = image_digest(sound_case())
    findings = check_cohort({"b": digest, "a": digest, "c": "other"})
    assert findings == [Finding("b", "error", findings[0].message)]
    assert "the same image as case 'a'" in str(findings[0])
