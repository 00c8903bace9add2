"""Options and arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from renalnet.config.presets import PREPARE_PRESETS
from renalnet.runtime.machine import num_cores

Out = Annotated[Path, typer.Option(help="Folder to write.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="key.sub=value laid over the preset; repeatable.")]
NumWorkers = Annotated[int, typer.Option(min=1, help="Processes.")]
NUM_WORKERS = num_cores()
Source = Annotated[
    Path, typer.Argument(help="Scans in the KiTS, Decathlon or nnU-Net layout, or a folder a case of DICOM and labels.")
]
StoreOut = Annotated[str, typer.Option("--out", help="Store to write or add to: a path, or a URI such as s3://….")]
TestSource = Annotated[Path | None, typer.Option("--test", help="A second folder, whose patients are all held out.")]
SplitsFile = Annotated[Path | None, typer.Option("--splits", help="YAML or JSON: train, validation, test: [case, …].")]
GridPreset = Annotated[str, typer.Option("--preset", help=f"Grid of the ROIs: {', '.join(PREPARE_PRESETS)}.")]
LabelMap = Annotated[
    str | None, typer.Option("--label-map", help="Labels of the files as ours, such as 3=1 (KiTS21 cysts as kidney).")
]
Series = Annotated[str | None, typer.Option(help="Which DICOM series, where a folder holds several: number or UID.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Go on without scans that have errors, and list them.")]
Refit = Annotated[bool, typer.Option("--refit", help="Take the store's mean anew, and its atlases from SRC.")]
Scans = Annotated[
    list[Path],
    typer.Argument(help="CTs: NIfTI, NRRD, MetaImage files, DICOM folders, or folders of several of these."),
]
Bundle = Annotated[str, typer.Option("--model", help="The `best` folder of a study, or a run's.")]
PredictOut = Annotated[str, typer.Option("--out", help="Folder to write.")]
Inference = Annotated[
    list[str] | None,
    typer.Option("--set", help="stitch.*, crf.* or components.* = value over the bundle's own; repeatable."),
]


def require_json(out: Path) -> None:
    """Raises InputError for a name that the CSV file beside it would have too."""
    from renalnet.errors import InputError

    if out.suffix != ".json":
        raise InputError(f"--out {out}: names the JSON file, beside which a CSV file goes; end it in .json")
