from pathlib import Path

from study_records import keep_checkpoint

from study.retention import Retention


def kept(folder: Path) -> set[str]:
    return {path.parent.name for path in folder.glob("trials/*/checkpoint-*.safetensors")}


def test_best_of_each_network_keep_their_weights(tmp_path: Path) -> None:
    retention = Retention(str(tmp_path), num_kept=2)
    ends = [("fcn_ppm", 0.3), ("fcn_ppm", 0.5), ("fcn_ppm", 0.4), ("fcn_ppm", 0.4), ("unet3d", 0.1)]
    for number, (network, objective) in enumerate(ends):
        keep_checkpoint(tmp_path, f"{network}-{number:04d}")
        retention.add(network, f"{network}-{number:04d}", objective)
    keep_checkpoint(tmp_path, "fcn_ppm-0009")  # running
    assert kept(tmp_path) == {"fcn_ppm-0001", "fcn_ppm-0002", "unet3d-0004", "fcn_ppm-0009"}
    assert (tmp_path / "trials" / "fcn_ppm-0000" / "epochs.jsonl").exists()
    assert not (tmp_path / "trials" / "fcn_ppm-0000" / "model.safetensors").exists()
