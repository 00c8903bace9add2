"""The command line of the method: `python -m renalnet COMMAND`. Each command loads only what it needs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from renalnet.command import LOST_RESOURCE, USER_ERROR, num_cores, stage_progress, step_progress, stop_signals
from renalnet.presets import PREPARE_PRESETS, TRAIN_PRESETS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from renalnet.data.prepare import Checked
    from renalnet.data.request import Request
    from renalnet.nets.describe import NetDescription
    from renalnet.plan.files import Plan
    from renalnet.predict import Told
    from renalnet.workers import JobPool

app = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, help=__doc__
)
store_app = typer.Typer(no_args_is_help=True, help="Check a store, or show what is in it.")
app.add_typer(store_app, name="store")

Out = Annotated[Path, typer.Option(help="Folder to write.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="key.sub=value laid over the preset; repeatable.")]
NumWorkers = Annotated[int, typer.Option(min=1, help="Processes.")]
NUM_WORKERS = num_cores()


@app.command()
def phantom(
    out: Out,
    labels: Annotated[Path | None, typer.Option(help="Paint on the label maps (*.nii.gz) of this folder.")] = None,
    set_: Set = None,
    workers: NumWorkers = NUM_WORKERS,
) -> None:
    """Paint a cohort of synthetic contrast CTs in the KiTS layout, and say how hard it is."""
    from renalnet.config import PhantomConfig, override
    from renalnet.data.phantom import write_cohort
    from renalnet.metrics.intensity import fit_inside_rule_to_counts, fit_window_rule_to_counts, hu_counts

    config = override(PhantomConfig(), set_ or [])
    with stage_progress() as show:
        summary = write_cohort(
            out,
            config,
            labels_dir=labels,
            workers=workers,
            measure=hu_counts,
            progress=lambda done, total: show("paint", done, total),
        )
    console = Console()
    console.print(f"{len(summary.cases)} patients ({summary.source}) in {summary.path}")
    inside, window = fit_inside_rule_to_counts(summary.measures), fit_window_rule_to_counts(summary.measures)
    console.print(
        f"best single threshold inside the true kidney-and-tumor region: HU {'<' if inside.below else '>='} "
        f"{inside.threshold_hu}, mean tumor Dice {inside.tumor_dice:.3f}"
    )
    console.print(f"best HU windows over the whole image: mean tumor Dice {window.tumor_dice:.3f}")


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


@app.command()
def prepare(
    src: Source,
    out: StoreOut,
    test: TestSource = None,
    splits: SplitsFile = None,
    preset: GridPreset = "paper",
    set_: Set = None,
    label_map: LabelMap = None,
    series: Series = None,
    skip_bad: SkipBad = False,
    refit: Refit = False,
    workers: NumWorkers = NUM_WORKERS,
) -> None:
    """Read, check, localise and cut scans, and write them as a store of ROIs, or add them to one.

    Interrupted, it goes on where it stopped when it is repeated. What the checks find is in STORE/validation.csv.
    """
    from renalnet.data.prepare import local_pool

    request = prepare_request(src, out, test, splits, preset, set_, label_map, series, skip_bad=skip_bad, refit=refit)
    with local_pool(workers) as pool:
        run_prepare(request, pool)


def prepare_request(
    src: Path,
    out: str,
    test: Path | None,
    splits: Path | None,
    preset: str,
    assignments: list[str] | None,
    label_map: str | None,
    series: str | None,
    *,
    skip_bad: bool,
    refit: bool,
) -> "Request":
    """The options of `prepare` as what they ask for. Raises ConfigError."""
    from renalnet.config import override
    from renalnet.data.ingest import parse_label_map
    from renalnet.data.request import Request
    from renalnet.data.splits import read_splits_file
    from renalnet.presets import prepare_preset

    return Request(
        src=src,
        out=out,
        config=override(prepare_preset(preset), assignments or []),
        test_src=test,
        splits=read_splits_file(splits) if splits else None,
        label_map=parse_label_map(label_map) if label_map else None,
        series=series,
        skip_bad=skip_bad,
        refit=refit,
    )


def run_prepare(request: "Request", pool: "JobPool") -> None:
    """Prepare, and say what was found and done."""
    from renalnet.data.prepare import prepare as prepare_store

    with stage_progress() as show:
        summary = prepare_store(request, pool, show, _print_checked)
    console = Console()
    for skipped in summary.skipped:
        console.print(f"left out: {skipped}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"{summary.num_added} patients written, {sum(summary.num_cases.values())} in the store")
    describe_store(str(request.out))


def _print_checked(checked: "Checked") -> None:
    from renalnet.data.check.findings import group_findings

    console = Console()
    table = Table("", "this cohort", "the paper's", "remark", title="Cohort")
    for row in checked.rows:
        table.add_row(row.name, row.cohort, row.paper, row.remark)
    console.print(table)
    for group in group_findings(checked.findings):
        cases = ", ".join(group.cases) + (", …" if group.num_cases > len(group.cases) else "")
        words = f"{group.level}: {group.num_cases} × {group.code} ({cases}): {group.message}"
        console.print(words, highlight=False, markup=False, soft_wrap=True)
    if checked.findings:
        console.print(f"all findings: {checked.path}", highlight=False, markup=False, soft_wrap=True)


@store_app.command("verify")
def verify_store(path: Annotated[str, typer.Argument(help="The store.")]) -> None:
    """Compare every shard with its checksum."""
    from renalnet.data.store import open_store

    store = open_store(path)
    with stage_progress() as show:
        store.verify(lambda done, total: show("verify", done, total))
    Console().print(f"{len(store.manifest.shards)} shards, {len(store.cases())} cases: all as the manifest says")


@store_app.command("describe")
def describe_store(path: Annotated[str, typer.Argument(help="The store.")]) -> None:
    """Show the cases, sizes and class shares of a store."""
    from renalnet.data.store import open_store

    store = open_store(path)
    spacing = store.manifest.config.spacing_mm
    table = Table(title=f"{path}, {'×'.join(map(str, spacing)) + ' mm' if spacing else 'own spacing'}")
    rows = store.describe()
    for name in rows[0]:
        table.add_column(name.replace("_", " "))
    for row in rows:
        table.add_row(*(f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values()))
    console = Console()
    console.print(table)
    console.print(f"fingerprint {store.fingerprint}, training mean {store.normalisation.mean:.4f} of the 0-1 scale")


@app.command()
def train(
    store: Annotated[str, typer.Argument(help="A prepared store.")],
    out: Annotated[str, typer.Option(help="Folder of the run; the same command again resumes it.")],
    preset: Annotated[str, typer.Option(help=f"Start from: {', '.join(TRAIN_PRESETS)}.")] = "paper",
    set_: Set = None,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads.")] = NUM_WORKERS,
    stop_after: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many steps, and forecast the rest.")
    ] = None,
) -> None:
    """Train one network on a store, without Ray. Interrupted, it goes on when the command is repeated.

    SIGTERM and Ctrl-C write a checkpoint first (exit codes 143 and 130); a run that is killed loses at most
    `checkpoint_every_s` seconds. Loss and Dice are in OUT/epochs.jsonl and OUT/tensorboard.
    """
    import torch

    from renalnet.config import override
    from renalnet.data.atlas import ATLAS_FILE
    from renalnet.data.cohort import load_cohort
    from renalnet.data.store import open_store
    from renalnet.lease import Lease
    from renalnet.machine import keep_memory
    from renalnet.presets import train_preset
    from renalnet.storage import absolute, join, write_bytes
    from renalnet.train import TrainingRun
    from renalnet.train.watch import Watch

    torch.set_num_threads(threads)
    keep_memory()
    prepared = open_store(store)
    describe = {"roi": prepared.manifest.config.model_dump(mode="json"), "data": prepared.fingerprint}
    config = override(train_preset(preset), set_ or [])
    console = Console()
    folder = absolute(out)
    with Lease(join(folder, ".lease")), stop_signals() as stop, step_progress() as show:
        watch = Watch(console, show, lambda: stop.is_made, stop_after)
        run = TrainingRun(
            config,
            load_cohort(prepared, config.loader),
            folder,
            describe=describe,
            should_stop=watch.should_stop,
            on_step=watch.on_step,
        )
        watch.follow(run)
    if not run.is_finished:
        raise typer.Exit(stop.exit_code)
    best, failure = run.best, run.records[-1].failure
    if best and prepared.manifest.atlas:  # so that `predict` works with this folder alone
        write_bytes(join(out, ATLAS_FILE), prepared.read_beside(prepared.manifest.atlas))
    if best:
        console.print(f"best epoch {best.epoch}; model in {out}")
    if failure:
        console.print(f"{'the run ended early' if best else 'no epoch ended well'}: {failure}")
        raise typer.Exit(LOST_RESOURCE)


@app.command()
def describe(
    preset: Annotated[str, typer.Option(help=f"Start from: {', '.join(TRAIN_PRESETS)}.")] = "paper",
    set_: Set = None,
) -> None:
    """Show a network's layers, parameters, receptive field, cost, and what of it is reconstruction."""
    from renalnet.config import override
    from renalnet.nets.describe import describe as describe_net
    from renalnet.presets import train_preset

    config = override(train_preset(preset), set_ or [])
    network = describe_net(config.net, config.patch.shape)
    console = Console()
    console.print(_layer_table(network))
    batch, weights_mb = config.optim.batch_size, network.num_parameters * 4 / 2**20
    kept_mb, kept_bfloat16_mb = network.training_memory_mb, network.training_memory_bfloat16_mb
    facts = {
        "input (z, y, x)": network.shape,
        "parameters": f"{network.num_parameters:,}, {weights_mb:,.1f} MiB",
        "gradients and momentum": f"{2 * weights_mb:,.1f} MiB",
        "residual blocks, convolutions in them": f"{network.num_residual_blocks}, {network.num_block_convolutions}",
        "one forward pass of one input": f"{2 * network.multiply_adds / 1e9:,.1f} GFLOP, "
        f"{network.multiply_adds:,} multiply-adds",
        f"activations kept for training, batch {batch}": f"{batch * kept_mb:,.0f} MiB in float32, "
        f"{batch * kept_bfloat16_mb:,.0f} MiB in bfloat16",
        "receptive field": f"{network.receptive_field} voxels, with pyramid pooling {network.receptive_field_pooled}",
    }
    for name, value in facts.items():
        console.print(f"{name}: {value}")
    console.print("Decided here, because the paper does not say:")
    for assumption in network.assumptions:
        console.print(f"- {assumption}")


def _layer_table(network: "NetDescription") -> Table:
    table = Table(title=network.config.name, box=None, padding=(0, 1, 0, 0))
    table.add_column("layer", overflow="fold")
    for name in ("kind", "kernel", "dilation", "width", "size", "weights", "10⁶ MAC"):
        table.add_column(name, justify="left" if name == "kind" else "right")
    for layer in network.layers:
        counts = (str(layer.kernel), str(layer.dilation), str(layer.channels), "×".join(map(str, layer.size)))
        costs = (f"{layer.num_parameters:,}", f"{layer.multiply_adds / 1e6:,.1f}")
        table.add_row(layer.name.removesuffix(".convolution"), layer.kind, *counts, *costs)
    return table


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


@app.command()
def predict(scans: Scans, model: Bundle, out: PredictOut, series: Series = None, set_: Inference = None) -> None:
    """Segment CTs: a mask on each CT's own grid, and a JSON file of volumes and confidence beside it.

    A DICOM series gives a DICOM segmentation (.dcm) too, which carries its patient and study so that a PACS files it.
    A kidney that is not found with confidence is left out, and named. A CT that fails does not stop the others; all
    that failed are named at the end, and the exit code is 2.
    """
    from renalnet.predict import load_predictor, lost_reader, plan_jobs, predict_scan, read_scan
    from renalnet.workers import Workers

    jobs = plan_jobs(scans, model, out, series=series, assignments=set_ or [])
    load_predictor(model, set_ or [])  # a wrong one is refused before any scan is read
    with Workers(1) as reader:  # a reader that crashes takes only its process with it; the next CT is read meanwhile
        tell_predictions(map(predict_scan, jobs, reader.map(read_scan, jobs, lost_reader)))


def tell_predictions(told: "Iterable[Told]") -> None:
    """Say what became of each scan, then which failed. Raises typer.Exit with code 2 where one did."""
    console, errors = Console(soft_wrap=True, highlight=False), Console(stderr=True, soft_wrap=True, highlight=False)
    failures = []
    for one in told:
        if one.failure:
            failures.append(one.failure)
        else:
            console.print(one.line, markup=False)
        for warning in one.warnings:
            errors.print(f"warning: {warning}", markup=False)
    for failure in failures:
        errors.print(f"error: {failure}", markup=False)
    if failures:
        raise typer.Exit(USER_ERROR)


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="The `best` folder of a study, or a run's.")],
    out: Annotated[
        str | None, typer.Option("--out", help="Path of the files without ending; default: MODEL/model.")
    ] = None,
) -> None:
    """Write a model bundle's networks as ONNX, with a JSON file of how they are used."""
    from renalnet.export import export_bundle
    from renalnet.storage import join

    for path in export_bundle(model, out or join(model, "model")):
        Console(soft_wrap=True, highlight=False).print(path, markup=False)


@app.command()
def plan(
    masks: Annotated[list[Path], typer.Argument(help="Masks (1 kidney, 2 tumor) as files, or folders of them.")],
    out: Annotated[Path | None, typer.Option(help="JSON file to write; a CSV file goes beside it.")] = None,
    member: Annotated[
        list[Path] | None, typer.Option(help="Another mask of the same scan, for the spread of measures; repeatable.")
    ] = None,
    margin_mm: Annotated[float, typer.Option(min=0, help="Kidney nearer to the tumor than this is taken with it.")] = 5,
) -> None:
    """The planning sheet of masks: volumes, diameters, contact, exophytic share, place, what of R.E.N.A.L. is known.

    Research software, not a medical device. An empty mask has no kidney and gives no sheet.
    """
    from renalnet.errors import InputError
    from renalnet.plan.files import masks_of, plan_mask
    from renalnet.plan.words import STATEMENT
    from renalnet.storage import write_bytes, write_json
    from renalnet.tabular import to_csv

    if out:
        _require_json(out)
    found = masks_of(masks)
    if member and len(found) > 1:
        raise InputError(f"--member goes with one mask, and {len(found)} are named; name the masks one by one")
    plans = [plan_mask(path, member or [], margin_mm) for path in found]
    console = Console(highlight=False)
    for one in plans:
        console.print(_plan_table(one))
    console.print(STATEMENT)
    if out:
        rows = [row for one in plans for row in one.rows()]
        write_json(out, {"statement": STATEMENT, "sheets": rows})
        write_bytes(out.with_suffix(".csv"), to_csv(rows))


def _require_json(out: Path) -> None:
    """Raises InputError for a name that the CSV file beside it would have too."""
    from renalnet.errors import InputError

    if out.suffix != ".json":
        raise InputError(f"--out {out}: names the JSON file, beside which a CSV file goes; end it in .json")


def _plan_table(plan: "Plan") -> Table:
    from rich.text import Text

    from renalnet.plan import ROWS, in_words, measures_of

    table = Table("", *(sheet.side for sheet in plan.sheets), title=Text(str(plan.mask)), title_justify="left")
    if not plan.sheets:
        table.add_row("no kidney in this mask")
    for line in ROWS if plan.sheets else ():
        values = zip(plan.sheets, plan.spreads, strict=True)
        table.add_row(line.title, *(in_words(line, measures_of(sheet), spread) for sheet, spread in values))
    return table


@app.command()
def evaluate(
    truth: Annotated[Path, typer.Option(help="Folder of true masks.")],
    pred: Annotated[Path, typer.Option(help="Folder of predicted masks of the same names.")],
    out: Annotated[Path, typer.Option(help="JSON file to write; a CSV file of the cases goes beside it.")],
    workers: NumWorkers = NUM_WORKERS,
) -> None:
    """All metrics between two folders of masks.

    Of kidney and tumor, and of the KiTS challenge's kidney_and_mass and mass. Empty masks: both empty is Dice 1 and
    distance 0, one empty Dice 0 and the diagonal of the volume; they are counted and stay in the means.
    """
    from renalnet.evaluate import as_csv, evaluate_folders
    from renalnet.storage import write_bytes, write_json
    from renalnet.workers import Workers

    _require_json(out)
    with Workers(workers) as pool:
        result = evaluate_folders(truth, pred, pool)
    write_json(out, result)
    write_bytes(out.with_suffix(".csv"), as_csv(result))
    columns = {
        "dice": "Dice",
        "surface_dice": "surface Dice",
        "surface_distance_mm": "surface distance (mm)",
        "hd95_mm": "HD95 (mm)",
        "volume_error_ml": "volume error (ml)",
    }
    table = Table("label", *columns.values(), title=f"{len(result['cases'])} cases")
    for label, summary in result["summary"].items():
        mean, sd = summary["mean"], summary["sd"]
        table.add_row(label.replace("_", " "), *(f"{mean[name]:.3f} ± {sd[name] or 0:.3f}" for name in columns))
    Console().print(table)
