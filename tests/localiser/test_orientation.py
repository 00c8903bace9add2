"""Wrong axes of painted scans are named by the packaged localiser."""

import numpy as np
import pytest

from renalnet.config import PhantomConfig
from renalnet.data.images.volume import Grid, Volume
from renalnet.data.phantom import paint_abdomen
from renalnet.localiser.coarse_scan import CoarseScan, coarse_scan
from renalnet.localiser.network import CoarseNetwork, packaged_network
from renalnet.localiser.orientation import TURNS, find_in, is_mirrored, labelled_share, wrong_axes

PHANTOM = PhantomConfig(shape=(100, 124, 124), spacing_mm=(3.0, 3.0, 3.0), seed=77)


@pytest.fixture(scope="module")
def network() -> CoarseNetwork:
    return packaged_network()


def painted(index: int) -> tuple[Volume, Volume]:
    case = paint_abdomen(PHANTOM, index)
    return case.image, Volume((case.label.array > 0).astype(np.uint8), case.label.grid)


def turned(problem: str, index: int, spacing_mm: tuple[float, float, float] = (3.0, 3.0, 3.0)) -> CoarseScan:
    """A scan whose correction is the turn of this name; every turn but one is its own inverse."""
    turn = {**TURNS, "mirrored": lambda array: array[:, :, ::-1], "right": lambda array: array}[problem]
    arrays = [np.ascontiguousarray(turn(volume.array)) for volume in painted(index)]
    grid = Grid.axis_aligned((arrays[0].shape[0], arrays[0].shape[1], arrays[0].shape[2]), spacing_mm)
    return coarse_scan(problem, *(Volume(array, grid) for array in arrays))


@pytest.mark.slow
@pytest.mark.parametrize("index", [1, 2])
def test_a_scan_with_right_axes_is_found_as_it_is(network: CoarseNetwork, index: int) -> None:
    scan = turned("right", index)
    kidneys = find_in(network, scan)
    assert labelled_share(kidneys, scan) > 0.99
    assert wrong_axes(network, scan, 1.0) is None
    assert not is_mirrored(kidneys, scan)


@pytest.mark.slow
@pytest.mark.parametrize("problem", ["back to front", "upside down and back to front", "on its side"])
def test_wrong_axes_are_named(network: CoarseNetwork, problem: str) -> None:
    scan = turned(problem, 2)
    assert wrong_axes(network, scan, labelled_share(find_in(network, scan), scan)) == problem


@pytest.mark.slow
@pytest.mark.parametrize("index", [1, 2])
def test_a_mirrored_scan_is_noticed(network: CoarseNetwork, index: int) -> None:
    scan = turned("mirrored", index)
    assert is_mirrored(find_in(network, scan), scan)


@pytest.mark.slow
def test_a_scan_without_a_label_has_no_share(network: CoarseNetwork) -> None:
    image, label = painted(2)
    scan = coarse_scan("empty", image, Volume(np.zeros_like(label.array), label.grid))
    assert labelled_share(find_in(network, scan), scan) == 0.0


def test_without_kidneys_nothing_is_mirrored(network: CoarseNetwork) -> None:
    assert not is_mirrored({}, turned("right", 1))
