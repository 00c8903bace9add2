"""Train nnU-Net for a given time on an exported store and segment its test cases.

It runs in nnU-Net's own environment (`pip install nnunetv2`), not in that of renalnet, of which it imports nothing.
nnU-Net plans, preprocesses, augments and trains in its own way. Only the number of epochs is set, so that its learning
rate falls to 0 within the given time instead of after 1 000 epochs.
"""

import argparse
import os
import shutil
import subprocess
import time
from pathlib import Path

FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
CONFIGURATION = "3d_fullres"
NUM_TIMED_STEPS = 5
STEPS_PER_EPOCH = 25
"""Steps of an epoch where the time allows fewer than 20 epochs of nnU-Net's 250 steps."""
VALIDATION_STEPS_PER_EPOCH = 5


def main() -> None:
    arguments = parse()
    work = arguments.work.resolve()
    # nnU-Net reads these variables when it is imported.
    os.environ.update({name: str(work / name) for name in FOLDERS})
    os.environ.setdefault("nnUNet_n_proc_DA", str(arguments.processors))
    (work / "nnUNet_preprocessed").mkdir(parents=True, exist_ok=True)
    data_set = next((work / "nnUNet_raw").glob(f"Dataset{arguments.number:03d}_*"))
    preprocessed = work / "nnUNet_preprocessed" / data_set.name
    if not (preprocessed / f"nnUNetPlans_{CONFIGURATION}").is_dir():
        command = ["nnUNetv2_plan_and_preprocess", "-d", str(arguments.number), "-c", CONFIGURATION]
        subprocess.run([*command, "-np", str(arguments.processors)], check=True)
    shutil.copy(data_set / "splits_final.json", preprocessed)
    train(arguments)
    predict(arguments, data_set)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder that holds nnUNet_raw, an exported store")
    parser.add_argument("--number", type=int, default=101, help="number of the data set")
    parser.add_argument("--hours", type=float, required=True, help="processor-hours, or GPU-hours, of training")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--processors", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, required=True, help="folder of the masks of the test cases")
    return parser.parse_args()


def train(arguments: argparse.Namespace) -> None:
    """Train fold 0, the split of the store, for the given time."""
    import torch

    if arguments.device == "cpu":
        torch.set_num_threads(arguments.processors)
    wall_s = arguments.hours * 3600 / (arguments.processors if arguments.device == "cpu" else 1)
    step_s = timed_step(arguments)
    num_steps = max(1, int(wall_s / step_s))
    trainer = new_trainer(arguments)
    if num_steps < 20 * trainer.num_iterations_per_epoch:
        trainer.num_iterations_per_epoch = min(STEPS_PER_EPOCH, num_steps)
        trainer.num_val_iterations_per_epoch = VALIDATION_STEPS_PER_EPOCH
    validation_share = trainer.num_val_iterations_per_epoch / (3 * trainer.num_iterations_per_epoch)
    # A validation step takes about a third of a training step: it has no backward pass.
    trainer.num_epochs = max(1, int(num_steps / trainer.num_iterations_per_epoch / (1 + validation_share)))
    print(f"{step_s:.2f} s a step: {trainer.num_epochs} epochs of {trainer.num_iterations_per_epoch} steps")
    began = time.monotonic()
    trainer.run_training()
    print(f"trained for {(time.monotonic() - began) / 3600:.3f} hours of wall time")


def timed_step(arguments: argparse.Namespace) -> float:
    """Return the seconds of a training step, without the first one."""
    trainer = new_trainer(arguments)
    trainer.on_train_start()
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    seconds = []
    for _ in range(1 + NUM_TIMED_STEPS):
        began = time.monotonic()
        trainer.train_step(next(trainer.dataloader_train))
        seconds.append(time.monotonic() - began)
    for loader in (trainer.dataloader_train, trainer.dataloader_val):
        if hasattr(loader, "_finish"):  # its processes would wait for ever
            loader._finish()
    return sum(seconds[1:]) / NUM_TIMED_STEPS


def new_trainer(arguments: argparse.Namespace):
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    device = torch.device(arguments.device)
    return get_trainer_from_args(str(arguments.number), CONFIGURATION, 0, device=device)


def predict(arguments: argparse.Namespace, data_set: Path) -> None:
    command = ["nnUNetv2_predict", "-i", str(data_set / "imagesTs"), "-o", str(arguments.out)]
    about = ["-d", str(arguments.number), "-c", CONFIGURATION, "-f", "0", "-device", arguments.device]
    # Two processes each, because more would hold a copy of the network each on a small machine.
    subprocess.run([*command, *about, "-npp", "2", "-nps", "2"], check=True)


if __name__ == "__main__":
    main()
