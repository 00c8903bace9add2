"""Wide cohorts: phases, kernels, builds and findings, and that narrow cohorts stay as they were."""

from typing import get_args

import numpy as np
import pytest

from renalnet.config import ContrastPhase, PhantomConfig, ReconstructionKernel, fingerprint
from renalnet.data.phantom import PaintedCase, paint_abdomen, paint_other_part
from renalnet.data.phantom.imaging.phases import PHASES
from renalnet.data.phantom.imaging.scanner import Acquisition, scan
from renalnet.data.phantom.variety import Variety, variety_of

WIDE = PhantomConfig(shape=(52, 84, 84), spacing_mm=(6.0, 4.2, 4.2), healthy_share=0.5)
PHASE_NAMES: tuple[ContrastPhase, ...] = get_args(ContrastPhase)


def in_phase(phase: ContrastPhase, index: int) -> PaintedCase:
    return paint_abdomen(WIDE.model_copy(update={"phases": (phase,)}), index)


def kidney_hu(case: PaintedCase) -> float:
    return float(np.median(case.image.array[case.label.array == 1]))


def test_shares_of_phases_sum_to_one() -> None:
    assert set(PHASES) == set(PHASE_NAMES)
    assert sum(phase.share for phase in PHASES.values()) == pytest.approx(1)


def test_a_patient_has_one_anatomy_in_every_phase() -> None:
    labels = [in_phase(phase, 3).label.array for phase in PHASE_NAMES]
    assert labels[0].any() and all(np.array_equal(labels[0], other) for other in labels[1:])


@pytest.mark.slow
def test_kidneys_enhance_by_phase() -> None:
    means = {phase: [kidney_hu(in_phase(phase, index)) for index in range(6)] for phase in PHASE_NAMES}
    assert all(5 <= value <= 60 for value in means["unenhanced"])
    assert min(means["nephrographic"]) > max(means["unenhanced"])
    assert np.mean(means["excretory"]) < np.mean(means["nephrographic"])


def test_the_cortex_is_brighter_than_the_medulla_only_early() -> None:
    drawn = {
        phase: [variety_of(WIDE.model_copy(update={"phases": (phase,)}), i) for i in range(40)] for phase in PHASES
    }
    contrast = {
        phase: [one.enhancement.cortex - one.enhancement.medulla for one in varieties if one.enhancement]
        for phase, varieties in drawn.items()
    }
    assert min(contrast["corticomedullary"]) > 15
    assert max(map(abs, contrast["unenhanced"])) == 0
    assert np.mean(contrast["excretory"]) < 0 < np.mean(contrast["nephrographic"])
    urine = [one.enhancement.urine for one in drawn["excretory"] if one.enhancement]
    assert min(urine) > 150 and max(urine) > 900


def test_drawn_phases_have_their_shares() -> None:
    phases = [variety_of(WIDE, index).phase for index in range(600)]
    for name, phase in PHASES.items():
        assert phases.count(name) / 600 == pytest.approx(phase.share, abs=0.06)


def test_a_case_depends_on_its_index_alone() -> None:
    first, again, other = (paint_abdomen(WIDE, index) for index in (2, 2, 4))
    assert np.array_equal(first.image.array, again.image.array) and np.array_equal(first.label.array, again.label.array)
    assert not np.array_equal(first.image.array, other.image.array)


def test_broad_builds_are_wider_and_noisier() -> None:
    def drawn(build: str) -> list[Variety]:
        return [variety_of(WIDE.model_copy(update={"builds": (build,)}), index) for index in range(60)]

    slim, broad = drawn("slim"), drawn("broad")
    width = [
        float(np.mean([one.habitus.half_width * one.size[2] for one in each if one.habitus])) for each in (slim, broad)
    ]
    noise = [np.mean([one.acquisition.noise_hu for one in each if one.acquisition]) for each in (slim, broad)]
    assert width[1] > 1.15 * width[0]
    assert noise[1] > 1.1 * noise[0]


def test_kernels_differ_in_sharpness_and_grain() -> None:
    def of(kernel: ReconstructionKernel) -> list[Acquisition]:
        drawn = (variety_of(WIDE.model_copy(update={"kernels": (kernel,)}), index) for index in range(30))
        return [one.acquisition for one in drawn if one.acquisition]

    smooth, sharp = of("smooth"), of("sharp")
    assert np.mean([one.blur_mm for one in smooth]) > 1.5 * np.mean([one.blur_mm for one in sharp])
    assert max(one.edge_enhancement for one in smooth) == 0 < min(one.edge_enhancement for one in sharp)
    assert np.mean([one.noise_hu for one in sharp]) > 2 * np.mean([one.noise_hu for one in smooth])


def test_thick_slices_blur_along_z_only() -> None:
    image = np.zeros((21, 21, 21), np.float32)
    image[10, 10, 10] = 1000
    seen = scan(image, (1.0, 1.0, 1.0), Acquisition(0.0, 0.5, thickness_mm=6.0), np.random.default_rng(0))
    assert seen[13, 10, 10] > 0 == seen[10, 13, 10] == seen[10, 10, 13]


def test_motion_shows_the_body_twice() -> None:
    image = np.zeros((20, 20, 20), np.float32)
    image[:, :10] = 100
    seen = scan(image, (1.0, 1.0, 1.0), Acquisition(0.0, 0.0, motion_mm=4.0), np.random.default_rng(0))
    assert set(np.unique(seen[10, :, 10])) == {0, 50, 100}


def test_some_patients_have_one_kidney() -> None:
    numbers = [variety_of(WIDE, index).has_one_kidney for index in range(200)]
    index = numbers.index(True)
    case = paint_abdomen(WIDE, index)
    x_mm = np.nonzero(case.label.array)[2] * 4.2 + case.label.grid.origin_mm[2]
    assert (x_mm > 0).all() or (x_mm < 0).all()
    assert 0.02 <= np.mean(numbers) <= 0.12


@pytest.mark.parametrize("part", ["head", "chest", "legs"])
def test_other_parts_fill_the_grid_of_an_abdomen(part: str) -> None:
    image = paint_other_part(part, WIDE, 0)  # type: ignore[arg-type]
    assert image.array.shape == WIDE.shape
    assert image.array.min() < -900 and (image.array > 0).mean() > 0.02


def test_a_narrow_cohort_has_the_fingerprint_of_earlier_versions() -> None:
    # Of the default configuration before there were wide cohorts.
    assert fingerprint(PhantomConfig(contrast="narrow")) == "1403312b8a781a43"
    assert fingerprint(PhantomConfig()) != "1403312b8a781a43"


@pytest.mark.parametrize(("index", "mean", "voxels"), [(0, -560.092, 2439), (1, -556.795, 2860), (2, -599.284, 3074)])
def test_a_narrow_cohort_is_painted_as_in_earlier_versions(index: int, mean: float, voxels: int) -> None:
    case = paint_abdomen(PhantomConfig(shape=(48, 84, 84), spacing_mm=(6.0, 4.2, 4.2), contrast="narrow"), index)
    # Not a checksum, because the last bit of a floating-point number differs between processors.
    assert case.image.array.mean() == pytest.approx(mean, abs=0.01)
    assert np.count_nonzero(case.label.array) == pytest.approx(voxels, abs=2)
