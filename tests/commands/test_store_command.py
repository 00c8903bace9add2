"""`renalnet store export` as a command line."""

import subprocess
import sys
from pathlib import Path

import pytest
from support import commands
from support.commands import ROOT

from renalnet.data.store.reader import Store


def arguments(store: Store, out: Path, number: int = 101) -> list[str]:
    words = ["store", "export", store.path, "--out", str(out), "--number", str(number), "--name", "Kidney"]
    return [sys.executable, "-m", "renalnet", *words]


def test_the_command_says_what_it_wrote_and_what_to_do(ball_store: Store, tmp_path: Path) -> None:
    out = tmp_path / "old[/raw]"  # rich would read the brackets as the end of a style
    done = commands.run(arguments(ball_store, out))
    assert done.returncode == 0, done.stderr
    folder = out / "Dataset101_Kidney"
    counts, copy = done.stdout.splitlines()
    assert counts == f"{folder}: cases 4 train, 2 validation, 2 test"
    assert copy.endswith(f"copy {folder}/splits_final.json to $nnUNet_preprocessed/Dataset101_Kidney")
    assert (folder / "splits_final.json").is_file()
    again = commands.run(arguments(ball_store, out))
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "holds Dataset101_Kidney, and nnU-Net knows a data set by its number" in again.stderr


def test_a_wrong_number_is_one_line(ball_store: Store, tmp_path: Path) -> None:
    done = commands.run(arguments(ball_store, tmp_path / "raw", number=1000))
    assert done.returncode == 2
    assert done.stderr == "error: number 1000 of the data set: must be 1 to 999; choose another --number\n"
    assert not (tmp_path / "raw").exists()


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_no_data_set(ball_store: Store, tmp_path: Path) -> None:
    limited = ["bash", "-c", 'ulimit -f 4; exec "$@"', "bash", *arguments(ball_store, tmp_path)]  # KiB of a file
    done = subprocess.run(limited, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert "the disk or a quota is full; make room" in done.stderr
    assert list(tmp_path.iterdir()) == []
