"""Tasks that Ray's memory monitor ends are repeated a few times only, and the error names the job and its memory."""

import re
from pathlib import Path

import pytest
from support.full_memory import REPEATS, messages

from study.config.sections import StudyConfig
from study.execution.own_ray import MEMORY_LOSSES, bound_memory_losses, num_memory_losses

REASON = (
    rf"its process was ended {REPEATS + 1} times, because its node ran out of memory \(\d+\.\d+ of \d+\.\d+ GB "
    r"in use, \d+\.\d+ GB by this task\); run fewer tasks at a time or use nodes with more memory, then repeat the "
    "command"
)


@pytest.mark.slow
def test_a_task_that_memory_ends_is_named_with_its_memory(tmp_path: Path, tiny_study: StudyConfig) -> None:
    said = messages(tmp_path, tiny_study)
    scan = tmp_path / "scans" / "case_0" / "imaging.nii.gz"
    expected = {
        "job": f"InputError: scan_1.nii.gz: {REASON}",
        "case": rf"LostError: case case_7 \(trial_a\): {REASON}",
        "network": f"LostError: measuring fcn_ppm: {REASON}",
        "scan to prepare": f"InputError: .*{scan}: {REASON}.*",
        "scan to segment": f"{scan}: {REASON}",
    }
    assert said.keys() == expected.keys()
    for kind, pattern in expected.items():
        assert re.fullmatch(pattern, said[kind]), (kind, said[kind])
    assert not list(tmp_path.glob("masks/*.nii.gz"))


def test_the_message_states_the_repeats_of_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_task_oom_retries", "7")
    bound_memory_losses()
    assert num_memory_losses() == 7
    monkeypatch.delenv("RAY_task_oom_retries")
    bound_memory_losses()
    assert num_memory_losses() == MEMORY_LOSSES
