"""What a connection needs from inside Ray, on Ray itself: the test names the attribute, and what breaks without it."""

import logging

import pytest
from ray._private import worker

from study.execution.ray_private import log_messages


def test_messages_of_ray_are_logged_and_not_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """`worker.print_to_stdstream`, which the listener calls; a lost node would otherwise print 50 lines to stdout."""
    assert "print_to_stdstream" in worker.listen_error_messages.__code__.co_names
    monkeypatch.setattr(worker, "print_to_stdstream", worker.print_to_stdstream)
    log_messages()
    message = {"lines": ["Raylet is terminated."], "pid": "raylet", "is_err": False}
    with caplog.at_level(logging.DEBUG, logger="study.execution.ray_private"):
        worker.print_to_stdstream(message, ignore_prefix=False)
    assert caplog.messages == ["Ray: Raylet is terminated."] and capsys.readouterr().out == ""
