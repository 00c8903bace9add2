"""Options and arguments that several commands share. Each has one help text."""

from pathlib import Path
from typing import Annotated

import typer

from renalnet.config import InferenceConfig
from renalnet.config.inference import BackendName
from renalnet.config.labels import LABEL_SETS
from renalnet.config.presets import DEFAULT_PRESET, PREPARE_PRESETS, TRAIN_PRESETS
from renalnet.config.training import PACKAGED
from renalnet.runtime.machine import num_cores

Out = Annotated[Path, typer.Option(help="Output folder.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Configuration value to change, as key.sub=value. The key may be written as for a study, such as "
        "train.epochs. Can be repeated.",
    ),
]
PRESET_DEFAULT = f"The default is that of the store, or {DEFAULT_PRESET} without a store."
"""What all commands do without `--preset`."""
TrainPreset = Annotated[
    str | None,
    typer.Option("--preset", help=f"Preset to start from: {', '.join(TRAIN_PRESETS)}. {PRESET_DEFAULT}"),
]
NumWorkers = Annotated[int, typer.Option(min=1, help="Number of worker processes.")]
NUM_WORKERS = num_cores()
"""Default number of worker processes: one per processor core."""
Source = Annotated[
    Path,
    typer.Argument(
        help="Folder of cases in the KiTS, Decathlon or nnU-Net layout, or with one folder of DICOM files and labels "
        "per case."
    ),
]
StorePath = Annotated[str, typer.Argument(help="Store that `prepare` wrote: a path or a URI.")]
StoreOut = Annotated[
    str, typer.Option("--out", help="Store to write, or to add cases to: a path, or a URI such as s3://BUCKET/store.")
]
TestSource = Annotated[
    Path | None, typer.Option("--test", help="Second folder of cases, which all become the test split.")
]
SplitsFile = Annotated[
    Path | None,
    typer.Option("--splits", help="YAML or JSON file with a list of cases for each of train, validation and test."),
]
GridPreset = Annotated[
    str | None,
    typer.Option(
        "--preset", help=f"Preset to start from, which sets the grid: {', '.join(PREPARE_PRESETS)}. {PRESET_DEFAULT}"
    ),
]
LabelMap = Annotated[
    str | None,
    typer.Option(
        "--label-map",
        help="New labels of the files' labels, such as 3=1,4=0. Labels are 0 background and those of the label set, "
        "by default 1 kidney and 2 tumor; with 3=1, the cysts of KiTS21 become kidney.",
    ),
]
LabelSetName = Annotated[
    str,
    typer.Option(
        "--labels", help=f"Label set of the masks: {', '.join(LABEL_SETS)}, or a YAML file that states another one."
    ),
]
Series = Annotated[
    str | None, typer.Option(help="DICOM series to read if a folder holds several: its number or its UID.")
]
Phase = Annotated[
    str | None,
    typer.Option(help="Phase to read if a DICOM series holds several: the number or the time of its acquisition."),
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out scans that have errors, and list them.")]
Refit = Annotated[
    bool,
    typer.Option("--refit", help="Compute the store's mean intensity again, and make its atlases again from SRC."),
]
Scans = Annotated[
    list[Path],
    typer.Argument(help="Scans: NIfTI, NRRD or MetaImage files, DICOM folders, or folders of these."),
]
MODEL_HELP = "Model bundle: the `best` folder of a study, or the folder of a training run."
Bundle = Annotated[
    str,
    typer.Option(
        "--model",
        help=f"{MODEL_HELP} `{PACKAGED}` is the bundle that ships with renalnet, trained on painted phantoms alone.",
    ),
]
BundleArgument = Annotated[str, typer.Argument(help=MODEL_HELP)]
Formats = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="Formats of the masks besides NIfTI, with commas: dicom-seg and rtstruct (DICOM series only), stl. "
        "Default: dicom-seg for a DICOM series.",
    ),
]
BackendOption = Annotated[
    BackendName,
    typer.Option(
        "--backend",
        help="Library that computes the networks. `auto` takes OpenVINO where it is installed, there is no GPU, and it "
        "is measured to be faster than PyTorch.",
    ),
]
PredictOut = Annotated[str, typer.Option("--out", help="Output folder: a path or a URI.")]
Inference = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Setting of the bundle to change, as key.sub=value. Keys: "
        f"{', '.join(InferenceConfig.model_fields)}, localise. Can be repeated.",
    ),
]


def require_json(out: Path) -> None:
    """Raise InputError if `out` does not end in .json, because a CSV file of the same name is written beside it."""
    from renalnet.errors import InputError

    if out.suffix != ".json":
        raise InputError(
            f"--out {out}: must end in .json, because a CSV file of the same name is written beside it; rename it"
        )
