"""`renalnet train`: signals, a full disk, the forecast, and its output."""

import contextlib
import io
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rich.console import Console
from support import commands
from support.cysts import write_cyst_store
from support.label_sets import VESSELS, VESSELS_YAML

from renalnet.commands import line
from renalnet.config import KITS23, TrainConfig
from renalnet.data.batches.cohort import Cohort
from renalnet.data.store.reader import Store
from renalnet.runtime import log
from renalnet.runtime.durations import duration_words
from renalnet.train.board import open_board
from renalnet.train.checkpoint import load_checkpoint, save_checkpoint
from renalnet.train.epochs import EpochRecord
from renalnet.train.run import TrainingRun
from renalnet.train.watch import Watch, epoch_line, forecast, opening

ROOT = Path(__file__).parents[2]
SMALL = ("net.width=4", "optim.batch_size=1", "patch.shape=[8,16,16]", "precision=float32", "checkpoint_every_s=0")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def train_command(store: Store, out: Path, *settings: str, more: tuple[str, ...] = ()) -> list[str]:
    options = [word for setting in (*SMALL, *settings) for word in ("--set", setting)]
    train = ["train", store.path, "--out", str(out), "--preset", "quick", "--threads", "1"]
    return [sys.executable, "-m", "renalnet", *train, *options, *more]


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return commands.run(arguments, env=ENVIRONMENT)


def wait_for_checkpoint(folder: Path) -> None:
    deadline = time.monotonic() + 120
    while not list(folder.glob("checkpoint-*.json")):
        assert time.monotonic() < deadline, "no checkpoint in two minutes"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_writes_a_checkpoint_and_the_same_command_goes_on(
    number: signal.Signals, code: int, ball_store: Store, tmp_path: Path
) -> None:
    arguments = train_command(ball_store, tmp_path / "run", "epochs=1", "steps_per_epoch=400")
    child = commands.start(arguments, env=ENVIRONMENT)
    wait_for_checkpoint(tmp_path / "run")
    child.send_signal(number)
    output, errors = child.communicate()
    assert (child.returncode, errors) == (code, "")
    stopped = re.search(r"^stopped in epoch 1, step (\d+) of 400; the same command resumes from there$", output, re.M)
    assert stopped
    found = load_checkpoint(tmp_path / "run")
    assert found is not None and found.step == int(stopped[1])
    again = run([*arguments, "--stop-after", "2"])
    assert again.returncode == 0 and f"resumes after step {stopped[1]}" in again.stdout, again.stderr
    assert f"{int(stopped[1]) + 2} of 400 steps done" in again.stdout


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_command_goes_on_with_room(ball_store: Store, tmp_path: Path) -> None:
    arguments = train_command(ball_store, tmp_path / "run", "epochs=2", "steps_per_epoch=3")
    assert run([*arguments, "--stop-after", "2"]).returncode == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").glob("checkpoint-*")}
    limited = [
        "bash",
        "-c",
        'ulimit -f 50; exec "$@"',
        "bash",
        *arguments,
    ]  # largest size of a file, in KiB; a checkpoint has about 170
    done = subprocess.run(limited, capture_output=True, text=True, cwd=ROOT, env=ENVIRONMENT, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert "the disk or a quota is full; make room, then repeat the command" in done.stderr
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").glob("checkpoint-*")} == before
    assert not list((tmp_path / "run").glob(".*"))
    again = run(arguments)
    assert again.returncode == 0 and "resumes after step 2" in again.stdout, again.stderr
    undisturbed = run(train_command(ball_store, tmp_path / "other", "epochs=2", "steps_per_epoch=3"))
    assert undisturbed.returncode == 0
    first = load_checkpoint(tmp_path / "run")
    second = load_checkpoint(tmp_path / "other")
    assert first is not None and second is not None
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)


def test_messages_go_to_what_stderr_is_when_they_come() -> None:
    log.configure()
    above_the_bar = io.StringIO()
    with contextlib.redirect_stderr(above_the_bar):
        log.get_logger("renalnet.train").warning("memory ran out")
    assert above_the_bar.getvalue().endswith(" memory ran out\n")


def assert_other_labels_are_refused(done: subprocess.CompletedProcess[str], out: Path, *expected: str) -> None:
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert all(text in done.stderr for text in expected), done.stderr
    assert not out.exists()


def test_a_store_of_other_labels_is_refused(ball_store: Store, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = run(train_command(ball_store, out, "labels=kits23"))
    assert_other_labels_are_refused(done, out, ball_store.path, "1 kidney, 2 tumor", "kits23", "3 cyst")
    cysts = write_cyst_store(tmp_path / "store", KITS23)
    assert_other_labels_are_refused(run(train_command(cysts, out)), out, cysts.path, "--set labels=kits23")


def test_a_store_with_the_labels_of_a_file_is_trained(tmp_path: Path) -> None:
    (tmp_path / "vessels.yaml").write_text(VESSELS_YAML)
    store = write_cyst_store(tmp_path / "store", VESSELS)
    labels = f"labels={tmp_path / 'vessels.yaml'}"
    done = run(train_command(store, tmp_path / "run", labels, "epochs=1", "steps_per_epoch=2", "loss.renal_vein=4"))
    assert done.returncode == 0, done.stderr
    dice = "  ".join(rf"{name} \d\.\d{{3}}" for name in VESSELS.names)
    assert re.search(rf"^epoch  1 of 1 .* Dice {dice}  learning rate", done.stdout, re.MULTILINE), done.stdout
    config = json.loads((tmp_path / "run" / "config.json").read_text())["train"]
    assert (config["loss"]["renal_vein"], config["patch"]["cyst_share"]) == (4, 0.1)


@pytest.mark.slow
def test_a_run_that_ended_early_keeps_its_best_model_and_says_so_each_time(ball_store: Store, tmp_path: Path) -> None:
    assert run(train_command(ball_store, tmp_path / "run", "epochs=1")).returncode == 0
    found = load_checkpoint(tmp_path / "run")
    assert found is not None
    failed = {**found.meta["records"][0], "epoch": 2, "failure": "the loss is not finite"}
    found.meta["records"].append(failed)
    save_checkpoint(tmp_path / "run", found)
    done = run(train_command(ball_store, tmp_path / "run", "epochs=3"))
    assert done.returncode == 1
    assert "best epoch 1; model in" in done.stdout and "the run ended early: the loss is not finite" in done.stdout


@pytest.mark.slow
def test_a_terminal_shows_a_bar_with_loss_and_rate(ball_store: Store, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    arguments = train_command(ball_store, tmp_path / "run", "epochs=1", "steps_per_epoch=30")
    environment = {**ENVIRONMENT, "TERM": "xterm", "COLUMNS": "120"}
    child = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=theirs, text=True, cwd=ROOT, env=environment)
    os.close(theirs)
    shown = b"".join(_chunks(ours)).decode()
    output, _ = child.communicate()
    assert child.returncode == 0
    assert re.search(r"epoch 1.*/30.*loss \d\.\d{4}  \d+\.\d\d Mvoxel/s", shown)
    assert re.match(r"fcn_ppm, [\d ]+ parameters; .*\nepoch  1 of 1 .*\nbest epoch 1; ", output), output


def _chunks(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # no process has the other end open
            return
        if not chunk:
            return
        yield chunk


def test_the_first_line_describes_the_run(tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path) -> None:
    run = TrainingRun(tiny_train.model_copy(update={"max_validation_cases": 1}), ball_cohort, str(tmp_path))
    num_parameters = sum(p.numel() for p in run.net.parameters())
    # 16 slices in sub-volumes of 8 at 0, 4 and 8. In-plane, 20×20 pixels are one sub-volume.
    assert opening(run) == (
        f"fcn_ppm, {num_parameters // 1000} {num_parameters % 1000:03d} parameters; cpu, float32, "
        f"{torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}; 3 epochs of 3 steps of "
        "2 crops; validation: 1 of 2 cases, 3 sub-volumes of 8×20×20"
    )


def test_an_epoch_in_a_line(tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path) -> None:
    run = TrainingRun(tiny_train, ball_cohort, str(tmp_path))
    record = EpochRecord(1, 0.5, {"kidney": 0.8, "tumor": 0.4}, 0.6, 0.05, 70.0, "", 0.031, 1.25e6)
    run.records = [record]
    assert epoch_line(record, run) == (
        "epoch  1 of 3  loss 0.5000  Dice kidney 0.800  tumor 0.400  learning rate 0.05  1.25 Mvoxel/s  "
        "waiting for data 3%  1 min 10 s  2 min 20 s left"
    )
    failed = EpochRecord(2, 0.0, {"kidney": 0.0, "tumor": 0.0}, 0.0, 0.05, 1.0, "the loss is not finite")
    assert epoch_line(failed, run) == "epoch  2 of 3  the loss is not finite"


def test_a_forecast_leaves_the_first_steps_out(tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path) -> None:
    config = tiny_train.model_copy(update={"epochs": 9, "steps_per_epoch": 14000})
    run = TrainingRun(config, ball_cohort, str(tmp_path))
    run.partial.steps = 50
    assert forecast(run, [60.0] * 5 + [8.1] * 45) == (
        "50 of 126 000 steps done; 8.1 s per step (without the first 5); the rest takes about 11 d 19 h "
        "on this machine, without validation; the same command resumes"
    )
    # An epoch has 14 000 steps of 4096 voxels at 4096 voxels per second, and 1000 s of validation. 8 epochs are left.
    run.records = [EpochRecord(1, 0.5, {"kidney": 0.8, "tumor": 0.4}, 0.6, 0.05, 15000.0, "", 0.0, 4096.0)]
    run.partial.steps = 0
    assert run.voxels_per_step == 2 * 8 * 16 * 16 == 4096
    assert "; 1.0 s per step; the rest takes about 1 d 9 h on this machine, with validation" in forecast(run, [1.0])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (60, "1 min"), (250, "4 min 10 s"), (12000, "3 h 20 min"), (1019250, "11 d 19 h"), (86430, "1 d")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_words(seconds) == text


@pytest.mark.usefixtures("interruptible")
def test_the_first_signal_asks_and_the_second_has_its_usual_effect() -> None:
    with line.stop_signals() as stop:
        assert (stop.is_made, stop.exit_code) == (False, 0)
        signal.raise_signal(signal.SIGINT)
        assert (stop.is_made, stop.exit_code) == (True, 130)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def read_events(folder: Path) -> list[tuple[int, dict[str, float]]]:
    """Return the steps and values of the only event file of a folder, in TensorFlow's record format."""
    from tensorboardX.proto.event_pb2 import Event

    (path,) = folder.glob("*.tfevents.*")
    content = path.read_bytes()
    events = []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        events.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    assert events[0].file_version == "brain.Event:2"
    return [(event.step, {value.tag: value.simple_value for value in event.summary.value}) for event in events[1:]]


@pytest.mark.slow
def test_curves_for_tensorboard_hold_each_epoch_once(
    tiny_train: TrainConfig, ball_cohort: Cohort, tmp_path: Path
) -> None:
    for _ in range(3):  # stopped after each epoch
        watch = Watch(Console(quiet=True), lambda *_: None, lambda: False, stop_after=tiny_train.steps_per_epoch)
        run = TrainingRun(tiny_train, ball_cohort, str(tmp_path), should_stop=watch.should_stop, on_step=watch.on_step)
        watch.follow(run)
    while not run.is_finished:
        run = TrainingRun(tiny_train, ball_cohort, str(tmp_path))
        Watch(Console(quiet=True), lambda *_: None, lambda: False).follow(run)
    points = read_events(tmp_path / "tensorboard")
    assert [step for step, _ in points] == [1, 2, 3]
    for (_, values), record in zip(points, run.records, strict=True):
        for name in ("loss", "dice_kidney", "dice_tumor", "objective", "learning_rate", "voxels_per_s"):
            assert values[name] == pytest.approx(record.to_json()[name], rel=1e-6)


def test_a_failed_epoch_has_no_point(tmp_path: Path) -> None:
    with open_board(str(tmp_path), []) as add:
        add(EpochRecord(1, 0.0, {"kidney": 0.0, "tumor": 0.0}, 0.0, 0.1, 1.0, "the loss is not finite"))
    assert read_events(tmp_path / "tensorboard") == []


def test_curves_that_cannot_be_written_are_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "renalnet")
    record = EpochRecord(1, 0.5, {"kidney": 0.8, "tumor": 0.4}, 0.6, 0.05, 70.0)
    with open_board("s3://bucket/run", []) as add:
        add(record)
    assert "s3://bucket/run is not a local folder" in caplog.text
    monkeypatch.setattr("renalnet.train.board.find_spec", lambda name: None)
    with open_board(str(tmp_path), []) as add:
        add(record)
    assert caplog.text.count("tensorboardX is not installed") == 1
    assert list(tmp_path.iterdir()) == []


def test_records_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    line = '{"epoch": 1, "loss": 1.0, "dice_kidney": 0.5, "dice_tumor": 0.5, "objective": 0.5, "learning_rate": 0.1, '
    assert EpochRecord.from_json(json.loads(line + '"seconds": 3.0}')).voxels_per_s == 0.0


def test_curves_have_the_dice_of_each_label(tmp_path: Path) -> None:
    with open_board(str(tmp_path), []) as add:
        add(EpochRecord(1, 0.5, {"kidney": 0.75, "tumor": 0.5, "cyst": 0.25}, 0.5, 0.05, 70.0))
    ((step, values),) = read_events(tmp_path / "tensorboard")
    assert (step, {name: value for name, value in values.items() if "dice" in name}) == (
        1,
        {"dice_kidney": 0.75, "dice_tumor": 0.5, "dice_cyst": 0.25},
    )
