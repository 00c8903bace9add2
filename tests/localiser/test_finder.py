"""The packaged localiser on painted and real scans, and its agreement with the atlases."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from renalnet.config import PhantomConfig, PrepareConfig
from renalnet.data.cases.loading import load_scan
from renalnet.data.cases.sides import SIDE_VALUES, SIDES, Side, split_sides
from renalnet.data.images.volume import Grid, Volume, canonical, read_volume
from renalnet.data.localise.atlas import Atlas, make_atlas
from renalnet.data.localise.localiser import LOW_CONFIDENCE, Evidence
from renalnet.data.phantom import PaintedCase, paint_abdomen, paint_other_part
from renalnet.localiser.finder import ALONE_FACTOR, CUT, KidneyFinder
from renalnet.localiser.network import CoarseNetwork, new_network, packaged_network

PHANTOM = PhantomConfig(shape=(100, 124, 124), spacing_mm=(3.0, 3.0, 3.0), seed=77)
NARROW = PHANTOM.model_copy(update={"contrast": "narrow", "seed": 1})


@pytest.fixture(scope="module")
def network() -> CoarseNetwork:
    return packaged_network()


@pytest.fixture(scope="module")
def case() -> PaintedCase:
    return paint_abdomen(PHANTOM, 1)


@pytest.fixture(scope="module")
def atlases() -> Sequence[Atlas]:
    painted = [paint_abdomen(NARROW, index) for index in range(2)]
    return [make_atlas(f"p{i}", p.image, p.label, PrepareConfig(), synthetic=True) for i, p in enumerate(painted)]


def finder(network: CoarseNetwork | None, atlases: Sequence[Atlas] = (), localise: str = "network") -> KidneyFinder:
    return KidneyFinder(network, atlases, PrepareConfig.model_validate({"localise": localise}))


@pytest.mark.slow
def test_both_kidneys_are_held(network: CoarseNetwork, case: PaintedCase) -> None:
    found = finder(network).find(case.image)
    sides = split_sides(case.label, case.image)
    assert found.confident_sides == ("left", "right")
    for side in SIDES:
        box = found.box(side)
        assert box and box.share_of(sides == SIDE_VALUES[side], case.label.grid) >= 0.995


@pytest.mark.parametrize("part", ["head", "chest", "legs"])
def test_other_parts_have_no_kidney(network: CoarseNetwork, part: str) -> None:
    image = paint_other_part(part, PHANTOM, 9)  # type: ignore[arg-type]
    assert finder(network).find(image).confidence < LOW_CONFIDENCE


@pytest.mark.parametrize("value", [-1000, 0])
def test_a_constant_scan_has_no_kidney(network: CoarseNetwork, value: int, case: PaintedCase) -> None:
    image = Volume(np.full(case.image.array.shape, value, np.int16), case.image.grid)
    assert finder(network).find(image).confidence < LOW_CONFIDENCE


def test_noise_has_no_kidney(network: CoarseNetwork, case: PaintedCase) -> None:
    noise = np.random.default_rng(0).normal(0, 300, case.image.array.shape).astype(np.int16)
    assert finder(network).find(Volume(noise, case.image.grid)).confidence < LOW_CONFIDENCE


def test_a_scan_that_ends_in_a_kidney_says_so(network: CoarseNetwork, case: PaintedCase) -> None:
    slices = np.flatnonzero(case.label.array.any(axis=(1, 2)))
    middle = int(slices.mean())
    z, y, x = case.image.grid.origin_mm
    grid = Grid.axis_aligned((100 - middle, 124, 124), (3.0, 3.0, 3.0), (z + 3 * middle, y, x))
    found = finder(network).find(Volume(np.ascontiguousarray(case.image.array[middle:]), grid))
    assert found.confident_sides
    for side in found.confident_sides:
        kidney = found.kidney(side)
        assert kidney and CUT in kidney.notes


@pytest.mark.slow
def test_a_kidney_that_only_the_atlases_find_is_doubtful(atlases: Sequence[Atlas]) -> None:
    image = paint_abdomen(NARROW, 5).image
    alone = finder(None, atlases).find(image)
    assert alone.confident_sides
    # A network that knows nothing finds nothing.
    found = finder(new_network(0), atlases).find(image)
    for side in alone.confident_sides:
        assert found.confidence_of(side) == pytest.approx(ALONE_FACTOR * alone.confidence_of(side))
        assert found.box(side) == alone.box(side)
    assert found.confident_sides == ()


@pytest.mark.slow
def test_the_atlases_alone_are_an_option(network: CoarseNetwork, atlases: Sequence[Atlas]) -> None:
    image = paint_abdomen(NARROW, 5).image
    found = finder(network, atlases, "atlas").find(image)
    assert found == finder(None, atlases).find(image)
    assert all(isinstance(kidney.evidence, Evidence) for kidney in (found.left, found.right) if kidney)


REAL: dict[str, tuple[str, dict[Side, str]]] = {
    "portal": ("chaos/ct.nii.gz", {"left": "chaos/kidney_left.nii.gz", "right": "chaos/kidney_right.nii.gz"}),
    "unenhanced": (
        "totalsegmentator/example_ct.nii.gz",
        {"left": "totalsegmentator/kidney_left.nii.gz", "right": "totalsegmentator/kidney_right.nii.gz"},
    ),
}


@pytest.mark.parametrize("name", REAL)
def test_kidneys_of_real_scans_are_held(network: CoarseNetwork, real_data: Path, name: str) -> None:
    scan, kidneys = REAL[name]
    image, _ = load_scan(real_data / "ct" / scan)
    found = finder(network).find(image)
    assert found.confident_sides == ("left", "right")
    for side, path in kidneys.items():
        mask = canonical(read_volume(real_data / "ct" / path), is_label=True)
        box = found.box(side)
        assert box and box.share_of(mask.array > 0, mask.grid) >= 0.99
