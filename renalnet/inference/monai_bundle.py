"""Export of a model bundle as a MONAI bundle, which MONAI runs without renalnet.

    OUT/configs/metadata.json     what the networks expect and return
    OUT/configs/inference.json    the segmentation of a folder of ROI images, made of MONAI's own parts
    OUT/models/model.ts           the networks as TorchScript; both files above are stored in it, too
    OUT/docs/README.md, LICENSE

MONAI segments images that are already cut to one kidney: the localiser, the dense CRF and connectivity are not part of
the export. The format is that of https://docs.monai.io/en/stable/mb_specification.html.
"""

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from renalnet.config import StitchConfig
from renalnet.inference.export import about_bundle
from renalnet.inference.pipeline import network_of, require_alike
from renalnet.inference.torchscript import tie_weight, to_torchscript
from renalnet.nets import SegmentationNet
from renalnet.nets.bundle import BundleConfig, load_model, member_folders, model_digest
from renalnet.runtime import storage
from renalnet.types import Triple

_SCHEMA: Final = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
)
_MONAI: Final = "1.6.1"
"""Release of MONAI with which exported bundles are tested."""
_NIBABEL: Final = "5.2.0"
_AXES: Final = "SPL"
"""Directions in which the axes (z, y, x) of our arrays grow, in MONAI's letters: head, back, left."""
_LICENSE: Final = """\
The code of the network is that of renalnet, under the Apache License, Version 2.0:
https://www.apache.org/licenses/LICENSE-2.0

Whoever trained the weights decides on their use. State that license here before you pass the bundle on.
"""
_README: Final = """\
# {name}

Segments {labels} in contrast CT. Research software, not a medical device.

The bundle was exported by renalnet {version} and needs MONAI alone: `pip install "monai[nibabel,fire]"`.

```
python -m monai.bundle run --config_file configs/inference.json --bundle_root . --dataset_dir IMAGES --output_dir MASKS
```

IMAGES is a folder of `.nii.gz` files in HU. Each shows one kidney with little around it: a region of interest (ROI), as
`renalnet store export` writes it. Finding the kidney in a whole scan is not part of this bundle, nor are the dense CRF
and the connectivity that follow in renalnet. A mask is on the grid of its image: {values}.

`models/model.ts` takes normalised sub-volumes (batch, 1, {shape}), float32. Their axes grow to the head, the back and
the left. It returns a score for each class. The class with the highest mean score over all sub-volumes that cover a
voxel is its label. `configs/metadata.json` has all parameters.
"""


def export_monai(folder: str | Path, out: str | Path) -> str:
    """Write a bundle as the MONAI bundle `out`. All networks of an ensemble are in one TorchScript file.

    Args:
        folder: folder of the bundle.
        out: local folder, which must not exist.

    Returns:
        Path of the folder.

    Raises:
        CheckpointError: the folder is not a bundle or is damaged, or its networks differ in labels or normalisation.
        InputError: `out` exists or is on an object store.
        OSError: a file cannot be written.
    """
    members = member_folders(folder)
    nets, config = _load(members)
    digests = [model_digest(member) for member in members]
    texts = {"metadata.json": metadata(config, digests), "inference.json": inference(config)}
    with storage.new_folder(out) as staged:
        for name, values in texts.items():
            storage.write_json(staged / "configs" / name, values)
        files = {name: json.dumps(values) for name, values in texts.items()}
        storage.write_bytes(staged / "models" / "model.ts", to_torchscript(nets, config.inference.stitch, files))
        storage.write_bytes(staged / "docs" / "README.md", _readme(config, Path(out).name).encode())
        storage.write_bytes(staged / "LICENSE", _LICENSE.encode())
    return str(out)


def _load(members: Sequence[str]) -> tuple[list[SegmentationNet], BundleConfig]:
    """Return the networks of an ensemble, and the configuration of the first, which says how they are used."""
    loaded = [load_model(member) for member in members]
    configs = [config for _, config in loaded]
    require_alike(members, configs)
    parts = zip(members, loaded, strict=True)
    return [network_of(member, weights, config.train) for member, (weights, config) in parts], configs[0]


def metadata(config: BundleConfig, digests: Sequence[str]) -> dict[str, Any]:
    """Return the content of `metadata.json` by MONAI's schema. The key `renalnet` has what MONAI does not use."""
    classes = {str(value): name for value, name in enumerate(config.train.labels.class_names)}
    found = f"{', '.join(config.train.labels.names)} in CT of one kidney"
    return {
        "schema": _SCHEMA,
        "version": version("renalnet"),
        "monai_version": _MONAI,
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {"nibabel": _NIBABEL},
        "task": f"segmentation of {found}",
        "description": f"{found}, cut to an ROI, by {config.train.net.name} of renalnet; networks: {len(digests)}",
        "authors": "stated by whoever trained the weights",
        "copyright": "stated by whoever trained the weights",
        "intended_use": "research; not a medical device",
        "data_type": "nibabel",
        "image_classes": "CT numbers, clipped and scaled",
        "pred_classes": ", ".join(f"{value} {name}" for value, name in classes.items()),
        "eval_metrics": config.validation,
        "network_data_format": _data_format(config, classes, len(digests)),
        "renalnet": about_bundle(config, digests),
    }


def _data_format(config: BundleConfig, classes: dict[str, str], num_networks: int) -> dict[str, Any]:
    stitch = config.inference.stitch
    mean = config.normalisation.mean
    shared = {"type": "image", "spatial_shape": list(stitch.tile), "dtype": "float32", "is_patch_data": True}
    image = {
        **shared,
        "format": "hounsfield",
        "modality": "CT",
        "num_channels": 1,
        "value_range": [-mean, 1 - mean],
        "channel_def": {"0": "CT"},
    }
    scores = {
        **shared,
        "format": "labels",
        "num_channels": len(classes),
        "value_range": [0, 1 + tie_weight(stitch, num_networks)],
        "channel_def": classes,
    }
    return {"inputs": {"image": image}, "outputs": {"pred": scores}}


def inference(config: BundleConfig) -> dict[str, Any]:
    """Return the content of `inference.json`: a configuration for `monai.bundle`.

    `run` needs MONAI and nibabel alone. `evaluator` does the same by pytorch-ignite, for programs that look for it.
    """
    return {
        "imports": ["$import glob", "$import os"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/eval'",
        "datalist": "$sorted(glob.glob(os.path.join(@dataset_dir, '*.nii.gz')))",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": "$torch.jit.load(@bundle_root + '/models/model.ts', map_location=@device)",
        "network": "$@network_def.eval()",
        "preprocessing": _part("Compose", transforms=_preprocessing(config)),
        "dataset": _part("Dataset", data="$[{'image': path} for path in @datalist]", transform="@preprocessing"),
        "dataloader": _part("DataLoader", dataset="@dataset", batch_size=1, num_workers=0),
        "inferer": _inferer(config.inference.stitch),
        "postprocessing": _part("Compose", transforms=_postprocessing()),
        "evaluator": _part(
            "SupervisedEvaluator",
            device="@device",
            val_data_loader="@dataloader",
            network="@network",
            inferer="@inferer",
            postprocessing="@postprocessing",
        ),
        "segment": "$lambda item: {**item, 'pred': @inferer(item['image'][None].to(@device), @network)[0]}",
        # A generator, so that only one image is in memory.
        "run": ["$sum(1 for item in @dataset if @postprocessing(@segment(item)))"],
    }


def _part(target: str, **arguments: Any) -> dict[str, Any]:
    """Return the configuration of an object of MONAI."""
    return {"_target_": target, **arguments}


def _preprocessing(config: BundleConfig) -> list[dict[str, Any]]:
    scale = config.normalisation
    spacing = config.roi.spacing_mm if config.roi else None
    return [
        _part("LoadImaged", keys="image"),
        _part("EnsureChannelFirstd", keys="image"),
        # The letters are stated, since MONAI warns where they are not.
        _part("Orientationd", keys="image", axcodes=_AXES, labels=[["L", "R"], ["P", "A"], ["I", "S"]]),
        *_resampling(spacing),
        _part(
            "ScaleIntensityRanged",
            keys="image",
            a_min=scale.hu_min,
            a_max=scale.hu_max,
            b_min=-scale.mean,
            b_max=1 - scale.mean,
            clip=True,
        ),
        _part("EnsureTyped", keys="image", dtype="$torch.float32"),
    ]


def _resampling(spacing_mm: Triple | None) -> list[dict[str, Any]]:
    """Return the resampling to the grid of the training; none where each scan keeps its own spacing."""
    return [_part("Spacingd", keys="image", pixdim=list(spacing_mm), mode="bilinear")] if spacing_mm else []


def _inferer(stitch: StitchConfig) -> dict[str, Any]:
    return _part(
        "SlidingWindowInferer",
        roi_size=list(stitch.tile),
        sw_batch_size=1,
        overlap=[_overlap(size, step) for size, step in zip(stitch.tile, stitch.stride, strict=True)],
        mode="constant",  # the scores are weighted already
        padding_mode="replicate",
    )


def _overlap(size: int, stride: int) -> float:
    """Return the overlap of which MONAI makes this stride: the size times one minus the overlap, cut to an integer."""
    # A little less, because the product is rounded, and cut one voxel too low where it falls below an integer.
    return max(0.0, round(1 - stride / size, 6) - 1e-6)


def _postprocessing() -> list[dict[str, Any]]:
    return [
        _part("AsDiscreted", keys="pred", argmax=True),
        _part("Invertd", keys="pred", transform="@preprocessing", orig_keys="image", nearest_interp=True),
        _part(
            "SaveImaged",
            keys="pred",
            output_dir="@output_dir",
            output_postfix="",
            output_dtype="$numpy.uint8",
            separate_folder=False,
            resample=False,
        ),
    ]


def _readme(config: BundleConfig, name: str) -> str:
    labels = config.train.labels
    return _README.format(
        name=name,
        labels=" and ".join(labels.names),
        version=version("renalnet"),
        values=", ".join(f"{value} {name}" for value, name in enumerate(labels.class_names)),
        shape=", ".join(map(str, config.inference.stitch.tile)),
    )
