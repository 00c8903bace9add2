"""Surfaces for the page: their place, their size and their number of triangles."""

import base64

import numpy as np
import pytest

from renalnet.config import KIDNEY_TUMOR, KITS23
from study.records.content import View
from study.report.pictures.surfaces import smooth_surface, surfaces_of


def ball(radius_mm: float, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    half = radius_mm + 6
    axes = [np.arange(0, 2 * half, step) + step / 2 - half for step in spacing_mm]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    mask: np.ndarray = z**2 + y**2 + x**2 < radius_mm**2
    return mask


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (3.0, 0.8, 0.8)])
def test_a_ball_stays_a_ball(spacing_mm: tuple[float, float, float]) -> None:
    mask = ball(20, spacing_mm)
    corners_mm, triangles = smooth_surface(mask, spacing_mm)
    middle_mm = np.argwhere(mask).mean(axis=0) * spacing_mm + np.array(spacing_mm) / 2
    radii = np.linalg.norm(corners_mm - middle_mm, axis=1)
    assert abs(np.median(radii) - 20) < 0.6
    assert radii.min() > 17.5 and radii.max() < 22
    assert 1000 < len(triangles) < 5000
    assert triangles.max() == len(corners_mm) - 1


def test_a_single_voxel_is_drawn() -> None:
    mask = np.zeros((5, 5, 5), dtype=bool)
    mask[2, 3, 1] = True
    corners_mm, triangles = smooth_surface(mask, (2.0, 1.0, 1.0))
    assert len(triangles) >= 8
    np.testing.assert_allclose(corners_mm.mean(axis=0), [5.0, 3.5, 1.5], atol=0.3)


def test_bodies_are_those_of_the_labels() -> None:
    truth = ball(12, (2.0, 1.0, 1.0)).astype(np.uint8)
    truth[6:9, 14:18, 14:18] = 2
    view = View("case", truth * 100, truth, {"fcn_ppm": np.minimum(truth, 1)}, (2.0, 1.0, 1.0))
    found = surfaces_of(view, "fcn_ppm", KIDNEY_TUMOR)
    assert [body.name for body in found.truth] == ["kidney", "tumor"]
    assert [body.name for body in found.prediction] == ["kidney"]
    corners = np.frombuffer(base64.b64decode(found.truth[0].corners), "<u2").reshape(-1, 3)
    middle = np.array(found.extent_mm) / 2 / max(found.extent_mm) * 65535
    np.testing.assert_allclose((corners.min(axis=0) + corners.max(axis=0)) / 2, middle, rtol=0.03)
    assert surfaces_of(view, "nobody", KIDNEY_TUMOR).prediction == []


def test_a_cyst_is_a_body_of_its_own() -> None:
    truth = ball(12, (2.0, 1.0, 1.0)).astype(np.uint8)
    truth[6:9, 14:18, 14:18] = 2
    truth[9:12, 20:24, 22:26] = 3
    found = surfaces_of(View("case", truth * 60, truth, {}, (2.0, 1.0, 1.0)), "nobody", KITS23)
    assert [body.name for body in found.truth] == ["kidney", "tumor", "cyst"]
    corners = np.frombuffer(base64.b64decode(found.truth[2].corners), "<u2").reshape(-1, 3)
    # The cyst is centred at (24, 22, 21) mm; the ROI is a cube with sides of 36 mm.
    np.testing.assert_allclose(corners.mean(axis=0) / 65535 * 36, [24, 22, 21], atol=0.5)
