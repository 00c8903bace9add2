"""Train a network of MONAI for a given time on an exported store and segment its test cases.

It needs MONAI, nibabel and PyTorch (`pip install monai nibabel`), and imports nothing of renalnet. The recipe follows
MONAI's tutorials for small data sets: crops by label, flips and shifts of intensity, Dice with cross-entropy, AdamW
with a cosine schedule. The validation cases choose the best weights.
"""

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset, DataLoader, list_data_collate
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from monai.networks.nets import DynUNet, SegResNet
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    RandCropByLabelClassesd,
    RandFlipd,
    RandScaleIntensityd,
    RandShiftIntensityd,
    ScaleIntensityRanged,
    SpatialPadd,
)

HU_RANGE = (-200, 500)
BATCH_SIZE = 2
BASE_RATE = 1e-3
NUM_TIMED_STEPS = 5
NUM_VALIDATIONS = 5
"""Times that the validation cases are segmented, evenly over the training."""


def main() -> None:
    arguments = parse()
    torch.manual_seed(arguments.seed)
    random.seed(arguments.seed)
    if arguments.device == "cpu":
        torch.set_num_threads(arguments.processors)
    about = json.loads((arguments.data / "dataset.json").read_text())
    num_classes = len(about["labels"])
    network = build(arguments.network, num_classes).to(arguments.device)
    crop = tuple(arguments.crop)
    splits = json.loads((arguments.data / "splits_final.json").read_text())[0]
    train_set = CacheDataset(
        [files_of(arguments.data, "Tr", case) for case in splits["train"]],
        transforms(crop, num_classes),
        cache_rate=1.0,
        num_workers=0,
        progress=False,
    )
    read = reading()
    validation = [read(files_of(arguments.data, "Tr", case)) for case in splits["val"]]
    train(network, train_set, validation, crop, arguments)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for image in sorted((arguments.data / "imagesTs").glob("*_0000.nii.gz")):
        case = image.name.removesuffix("_0000.nii.gz")
        write(image, segment(network, read_image(image), crop, arguments.device), arguments.out / f"{case}.nii.gz")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder DatasetNNN_NAME of an exported store")
    parser.add_argument("--network", choices=("segresnet", "dynunet"), default="segresnet")
    parser.add_argument("--hours", type=float, required=True, help="processor-hours, or GPU-hours, of training")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--processors", type=int, default=torch.get_num_threads())
    parser.add_argument("--crop", type=int, nargs=3, default=(48, 48, 32), help="voxels of a crop (x, y, z)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder of the masks of the test cases")
    return parser.parse_args()


def build(name: str, num_classes: int) -> torch.nn.Module:
    """Return a network with the widths of MONAI's examples."""
    if name == "segresnet":
        return SegResNet(
            spatial_dims=3,
            init_filters=16,
            in_channels=1,
            out_channels=num_classes,
            blocks_down=(1, 2, 2, 4),
            blocks_up=(1, 1, 1),
            dropout_prob=0.2,
        )
    return DynUNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=num_classes,
        kernel_size=(3, 3, 3, 3),
        strides=(1, 2, 2, 2),
        upsample_kernel_size=(2, 2, 2),
        filters=(16, 32, 64, 128),
        norm_name="instance",
    )


def files_of(data: Path, part: str, case: str) -> dict[str, str]:
    image = data / f"images{part}" / f"{case}_0000.nii.gz"
    return {"image": str(image), "label": str(data / f"labels{part}" / f"{case}.nii.gz")}


def reading() -> Compose:
    """Return the transforms that training and validation share."""
    low, high = HU_RANGE
    keys = ("image", "label")
    return Compose(
        [
            LoadImaged(keys),
            EnsureChannelFirstd(keys),
            ScaleIntensityRanged("image", low, high, 0.0, 1.0, clip=True),
        ]
    )


def transforms(crop: tuple[int, ...], num_classes: int) -> Compose:
    keys = ("image", "label")
    # As often near a lesion as near the kidney, and now and then elsewhere.
    ratios = [1, 3, *[3] * (num_classes - 2)]
    flips = [RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in range(3)]
    return Compose(
        [
            *reading().transforms,
            SpatialPadd(keys, crop),
            RandCropByLabelClassesd(
                keys, "label", crop, ratios=ratios, num_classes=num_classes, num_samples=1, warn=False
            ),
            *flips,
            RandScaleIntensityd("image", 0.1, prob=0.5),
            RandShiftIntensityd("image", 0.1, prob=0.5),
        ]
    )


def train(
    network: torch.nn.Module,
    train_set: CacheDataset,
    validation: list[dict[str, Any]],
    crop: tuple[int, ...],
    arguments: argparse.Namespace,
) -> None:
    """Train for the given time, and leave the network with the weights that are best on the validation cases."""
    batches = endless(DataLoader(train_set, BATCH_SIZE, shuffle=True, drop_last=True, collate_fn=list_data_collate))
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False)
    optimizer = torch.optim.AdamW(network.parameters(), BASE_RATE, weight_decay=1e-5)
    wall_s = arguments.hours * 3600 / (arguments.processors if arguments.device == "cpu" else 1)
    began = time.monotonic()
    best, best_dice, num_validated, num_steps = None, -1.0, 0, 0
    while (share := (time.monotonic() - began) / wall_s) < 1:
        # By time and not by steps, whose number is not known before.
        rate = BASE_RATE * 0.5 * (1 + float(np.cos(np.pi * share)))
        step(network, next(batches), loss_of, optimizer, rate, arguments.device)
        num_steps += 1
        if share > (num_validated + 1) / (NUM_VALIDATIONS + 1):
            num_validated += 1
            best, best_dice = better(network, validation, crop, arguments.device, best, best_dice)
    best, best_dice = better(network, validation, crop, arguments.device, best, best_dice)
    network.load_state_dict(best)
    seconds = time.monotonic() - began
    print(f"{num_steps} steps in {seconds / 3600:.3f} hours of wall time, validation Dice {best_dice:.3f}")


def endless(loader: DataLoader):
    while True:
        yield from loader


def step(
    network: torch.nn.Module,
    batch: dict[str, torch.Tensor],
    loss_of: DiceCELoss,
    optimizer: torch.optim.Optimizer,
    rate: float,
    device: str,
) -> None:
    network.train()
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    # MONAI's tensors with metadata would slow each operation down.
    image, label = (torch.as_tensor(batch[key]).as_subclass(torch.Tensor).to(device) for key in ("image", "label"))
    loss_of(network(image), label).backward()
    optimizer.step()


def better(
    network: torch.nn.Module,
    validation: list[dict[str, Any]],
    crop: tuple[int, ...],
    device: str,
    best: dict[str, torch.Tensor] | None,
    best_dice: float,
) -> tuple[dict[str, torch.Tensor], float]:
    """Return the better of the given and the current weights, and their mean Dice of the labels."""
    found = [
        dice(segment(network, case["image"][None], crop, device), np.asarray(case["label"][0])) for case in validation
    ]
    mean = float(np.mean(found))
    if best is not None and mean <= best_dice:
        return best, best_dice
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}, mean


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean Dice of the labels of one case; 1 for a label that neither has."""
    values = []
    for label in range(1, int(max(mask.max(), truth.max(), 2)) + 1):
        sizes = int((mask == label).sum() + (truth == label).sum())
        values.append(2 * int(((mask == label) & (truth == label)).sum()) / sizes if sizes else 1.0)
    return float(np.mean(values))


@torch.no_grad()
def segment(network: torch.nn.Module, image: torch.Tensor, crop: tuple[int, ...], device: str) -> np.ndarray:
    """Return the label map (x, y, z) of an image (1, 1, x, y, z)."""
    network.eval()
    logits = sliding_window_inference(
        torch.as_tensor(image).as_subclass(torch.Tensor).to(device), crop, 2, network, overlap=0.5
    )
    return logits.argmax(dim=1)[0].cpu().numpy().astype(np.uint8)


def read_image(path: Path) -> torch.Tensor:
    import nibabel

    low, high = HU_RANGE
    values = np.asarray(nibabel.load(path).dataobj, dtype=np.float32)
    return torch.from_numpy((np.clip(values, low, high) - low) / (high - low))[None, None]


def write(image: Path, mask: np.ndarray, path: Path) -> None:
    import nibabel

    nibabel.save(nibabel.Nifti1Image(mask, nibabel.load(image).affine), path)


if __name__ == "__main__":
    main()
