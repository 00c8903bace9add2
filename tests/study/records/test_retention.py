from pathlib import Path

from support.study_records import TRAIN, keep_checkpoint

from renalnet.train.epochs import EpochRecord
from study.records.results import Results
from study.records.retention import Retention
from study.records.trials import TrialRecord


def kept(folder: Path) -> set[str]:
    return {path.parent.name for path in folder.glob("trials/*/checkpoint-*.safetensors")}


def ended(network: str, number: int) -> TrialRecord:
    return TrialRecord(number, network, "complete", {}, {})


def curve(*objectives: float, failure: str = "") -> list[EpochRecord]:
    epochs = [EpochRecord(n, 1.0, {"kidney": v, "tumor": v}, v, 0.1, 1.0) for n, v in enumerate(objectives, start=1)]
    failed = EpochRecord(len(epochs) + 1, 0.0, {"kidney": 0.0, "tumor": 0.0}, 0.0, 0.1, 1.0, failure)
    return [*epochs, *([failed] if failure else [])]


def test_best_of_each_network_keep_their_weights(tmp_path: Path) -> None:
    retention = Retention(Results(str(tmp_path)), num_kept=2)
    ends = [("fcn_ppm", 0.3), ("fcn_ppm", 0.5), ("fcn_ppm", 0.4), ("fcn_ppm", 0.4), ("unet3d", 0.1)]
    for number, (network, objective) in enumerate(ends):
        keep_checkpoint(tmp_path, f"{network}-{number:04d}")
        retention.add(ended(network, number), curve(0.0, objective))
    keep_checkpoint(tmp_path, "fcn_ppm-0009")  # running
    assert kept(tmp_path) == {"fcn_ppm-0001", "fcn_ppm-0002", "unet3d-0004", "fcn_ppm-0009"}
    assert (tmp_path / "trials" / "fcn_ppm-0000" / "epochs.jsonl").exists()
    assert not (tmp_path / "trials" / "fcn_ppm-0000" / "model.safetensors").exists()


def test_the_papers_point_keeps_its_weights_however_bad_it_is(tmp_path: Path) -> None:
    paper = {**TRAIN, "optim": {"milestones": [3, 5, 7]}}
    for order in ((0, 1, 2), (2, 1, 0)):
        folder = tmp_path / str(order[0])
        retention = Retention(Results(str(folder)), num_kept=1)
        for number in order:
            keep_checkpoint(folder, f"fcn_ppm-{number:04d}")
            retention.add(TrialRecord(number, "fcn_ppm", "complete", {}, paper), curve(number / 10))
        assert kept(folder) == {"fcn_ppm-0000", "fcn_ppm-0002"}


def test_a_trial_that_failed_by_itself_is_let_go_however_good_it_was(tmp_path: Path) -> None:
    retention = Retention(Results(str(tmp_path)), num_kept=2)
    for number in range(2):
        keep_checkpoint(tmp_path, f"fcn_ppm-{number:04d}")
    retention.add(ended("fcn_ppm", 0), curve(0.9, failure="loss not finite"))
    retention.add(ended("fcn_ppm", 1), curve(0.1))
    assert kept(tmp_path) == {"fcn_ppm-0001"}


def test_of_equals_the_lower_number_stays_in_whatever_order_they_end(tmp_path: Path) -> None:
    for order in ((0, 1), (1, 0)):
        folder = tmp_path / str(order)
        retention = Retention(Results(str(folder)), num_kept=1)
        for number in order:
            keep_checkpoint(folder, f"fcn_ppm-{number:04d}")
            retention.add(ended("fcn_ppm", number), curve(0.5))
        assert kept(folder) == {"fcn_ppm-0000"}


def test_who_was_let_go_holds_no_place_later(tmp_path: Path) -> None:
    """The best of three has no weights, as after `kept_models` was raised; the other two keep theirs."""
    for number in (1, 2):
        keep_checkpoint(tmp_path, f"fcn_ppm-{number:04d}")
    retention = Retention(Results(str(tmp_path)), num_kept=2)
    retention.find((ended("fcn_ppm", number), curve(0.9 - number / 10)) for number in range(3))
    assert kept(tmp_path) == {"fcn_ppm-0001", "fcn_ppm-0002"}
