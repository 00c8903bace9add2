"""Arithmetic of the forecast, by hand."""

import re
from pathlib import Path
from typing import Any

import pytest

from renalnet.config import override
from renalnet.data.store.reader import Store
from renalnet.errors import ConfigError
from renalnet.precision import verdicts
from study.config.presets import paper
from study.config.sections import Cluster, Slots, StudyConfig
from study.execution.driver import network_widths
from study.progress import trial_cost
from study.progress.forecast import disk_bytes, forecast
from study.progress.forecast_text import forecast_lines
from study.progress.trial_cost import DataCost, Measured, MeasureJob, NetworkCost, measure_study

COST = NetworkCost(step_s=2.0, case_s=3.0, final_s=10.0, crf_s=0.5, model_bytes=1000, checkpoint_bytes=2000)
DATA = DataCost({"train": 4, "validation": 2, "test": 3}, 5_000_000, 0, mask_bytes=100, view_bytes=50)


def measured(*networks: str) -> Measured:
    return Measured(dict.fromkeys(networks, COST), DATA, "cpu")  # type: ignore[arg-type]


def changed(config: StudyConfig, **search: Any) -> StudyConfig:
    return config.model_copy(update={"search": config.search.model_copy(update=search)})


def test_hours_without_pruning(tiny_study: StudyConfig) -> None:
    config = changed(tiny_study, scheduler="none", baselines=())
    found = forecast(config, measured("fcn_ppm"), Slots(2, 0.0, 2))
    trial_s = 5 * (4 * 2 + 2 * 3)
    assert found.num_trials == {"fcn_ppm": 4}
    assert found.trial_s == {"fcn_ppm": trial_s}
    # The best two and the paper's point: three finalists, two validation cases, two sets of parameters.
    crf_s = 3 * 2 * 2 * 0.5
    final_s = 3 * (2 + 3) * 10 + crf_s
    assert found.most_hours == pytest.approx((4 * trial_s + final_s) * 2 / 3600)
    assert found.expected_hours == found.most_hours
    assert found.most_wall_s == 4 * trial_s / 2 + 3 * 10 * (1 + 2) + 3  # 2 cases take one round, 3 cases two


def test_no_wall_time_is_shorter_than_a_trial(tiny_study: StudyConfig) -> None:
    found = forecast(changed(tiny_study, baselines=()), measured("fcn_ppm"), Slots(1, 0.5, 100))
    assert found.expected_wall_s == 70 + 3 * 10 * 2 + 3


def test_gpu_hours_count_fractions(tiny_study: StudyConfig) -> None:
    config = changed(tiny_study, scheduler="none", baselines=())
    found = forecast(config, measured("fcn_ppm"), Slots(8, 0.25, 4))
    assert found.most_hours == pytest.approx((4 * 70 + 156) * 0.25 / 3600)


def test_the_median_rule_is_not_predicted(tiny_study: StudyConfig) -> None:
    config = changed(tiny_study, scheduler="median")
    found = forecast(config, measured("fcn_ppm", "unet3d", "pspnet2d"), Slots(1, 0.0, 2))
    assert found.expected_hours is None and found.expected_wall_s is None
    lines = "\n".join(
        forecast_lines(config, Cluster(1, 2, 0), Slots(1, 0.0, 2), measured("fcn_ppm", "unet3d", "pspnet2d"))
    )
    assert "below the median are pruned" in lines and "with pruning" not in lines


def test_repeats_of_finalists_are_whole_runs(tiny_study: StudyConfig) -> None:
    final = tiny_study.final.model_copy(update={"seeds": 3, "folds": 4})
    config = changed(tiny_study, scheduler="none").model_copy(update={"final": final})
    found = forecast(config, measured("fcn_ppm", "unet3d", "pspnet2d"), Slots(1, 1.0, 1))
    num_repeats = 3 * (2 + 4) + 2 + 2
    assert found.most_wall_s == (6 + num_repeats) * 70 + 5 * 3 * 10 * (2 + 3) + 10  # ensembles of three


def test_weights_are_those_kept_and_those_that_run(tiny_study: StudyConfig) -> None:
    config = changed(tiny_study, kept_models=3)
    disk = disk_bytes(config, measured("fcn_ppm", "unet3d", "pspnet2d"), num_slots=4)
    assert disk.weights == (3 + 1 + 1 + 4) * (2 * 2000 + 1000) + 1000
    assert disk.masks == (3 + 2) * (2 + 3) * 100 + 3 * (50 + 3 * 50)
    assert disk.data == 0


def test_the_forecast_as_text(tiny_study: StudyConfig) -> None:
    networks = measured("fcn_ppm", "unet3d", "pspnet2d")
    lines = list(forecast_lines(tiny_study, Cluster(3, 12, 3), Slots(4, 1.0, 3), networks))
    text = "\n".join(lines)
    for words in (
        "fcn_ppm 4, unet3d 1, pspnet2d 1 trials",
        "3 sets of pooling kernels (1-2, 1, none)",
        "tumor_weight 1 to 4 on a log scale",
        "first_step 1 to 3",
        "5 epochs of 4 steps of 2 crops of 8×16×16 on 1 GPU and 4 processors",
        "1, 3 epochs after a trial's first milestone the best 1/3 of a network's trials continue",
        "nodes 3, GPUs 3, processors 12: 3 trials at once",
        "fcn_ppm on cpu: 2 s per step, 3 s per validation case, 10 s per case of the final stage",
        "6; one that is not pruned takes fcn_ppm 1 min 10 s",
        "memory      5 MB of decoded cases per node",
    ):
        assert words in text
    assert all("\n" not in line for line in lines)


def test_a_network_that_cannot_be_measured_is_named(tiny_study: StudyConfig, ball_store: Store) -> None:
    """The weight of a class makes the loss of the first step larger than float32 can hold."""
    config = override(tiny_study, ["train.loss.tumor=3e38"])
    rule = r"^fcn_ppm of width 4 cannot be measured: the loss is not finite .*net\.width=4"
    with pytest.raises(ConfigError, match=rule):
        measure_study(MeasureJob(config, {"fcn_ppm": 4}, ball_store.path, num_threads=1))


def test_slow_inference_is_not_repeated(
    tiny_study: StudyConfig, ball_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def repeated(*_: object) -> None:
        raise AssertionError("the ROI is segmented again")

    monkeypatch.setattr(trial_cost, "MEASURE_S", 0.0)
    monkeypatch.setattr(trial_cost, "segment_roi", repeated)
    cost = measure_study(MeasureJob(tiny_study, {"fcn_ppm": 4}, ball_store.path, num_threads=1)).networks["fcn_ppm"]
    assert cost.final_s > cost.crf_s > 0


@pytest.mark.slow
def test_all_networks_of_the_paper_are_forecast(
    ball_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With and without bfloat16, with small crops, and the widths of the preset.

    There, 2D PSPNet has dilated layers of 20 and 40 channels.
    """
    widths = {name: own[16] for name, own in network_widths(paper()).items()}
    assert widths["pspnet2d"] == 10
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(verdicts, "_LIMIT_S", 1.0)
    monkeypatch.setattr(trial_cost, "MAX_STEPS", 2)
    small = ["optim.batch_size=1", "patch.shape=[12,32,32]", "stitch.tile=[12,32,32]", "stitch.stride=[12,32,32]"]
    final = ["final.stitch.tile=[12,32,32]", "final.stitch.stride=[12,32,32]", "final.crf.iterations=0"]
    for precision in ("float32", "bfloat16"):
        values = [f"train.{value}" for value in (*small, "steps_per_epoch=4", f"precision={precision}")]
        config = override(paper(), [*values, *final])
        found = measure_study(MeasureJob(config, widths, ball_store.path, num_threads=1))
        text = "\n".join(forecast_lines(config, Cluster(1, 2, 0), Slots(1, 0.0, 2), found))
        for name in ("fcn_ppm", "unet3d", "pspnet2d"):
            assert found.networks[name].step_s > 0
            assert re.search(rf"\nmeasured    {name} on cpu, (emulated )?{precision}: ", text)
        assert "\nwall time" in text
