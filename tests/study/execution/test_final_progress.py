"""The final stage says how far it is."""

import logging

import pytest

from study.execution import tasks


@pytest.mark.parametrize(("every_s", "lines"), [(-1.0, ["1 of 3", "2 of 3", "3 of 3"]), (60.0, [])])
def test_cases_are_counted_in_the_log(
    every_s: float, lines: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tasks, "LOG_EVERY_S", every_s)
    with caplog.at_level(logging.INFO, logger="study"):
        assert list(tasks._logged(iter("abc"), "fcn_ppm-0001, segmented", 3)) == ["a", "b", "c"]
    assert caplog.messages == [f"final stage: fcn_ppm-0001, segmented: {line} cases" for line in lines]
