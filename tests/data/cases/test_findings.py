"""Findings: errors by case, and groups in the order of their importance."""

from renalnet.data.cases.findings import Finding, FindingGroup, errors_by_case, group_findings, unreadable_case
from renalnet.errors import InputError

FINDINGS = [
    Finding("a", "warning", "tumor-volume", "small"),
    Finding("b", "error", "label-empty", "empty"),
    Finding("c", "warning", "label-cut", "cut"),
    Finding("b", "error", "spacing-range", "wide"),
    Finding("d", "warning", "label-cut", "cut too"),
]


def test_a_case_that_cannot_be_read_is_an_error_of_one_line() -> None:
    found = unreadable_case("a", InputError("a.nii: broken\n  at byte 7; replace it"))
    assert found == Finding("a", "error", "unreadable", "a.nii: broken at byte 7; replace it")
    assert str(found) == "a: a.nii: broken at byte 7; replace it"


def test_bad_cases_are_those_with_errors() -> None:
    assert errors_by_case(FINDINGS) == {"b": "empty; wide"}
    assert errors_by_case(FINDINGS[:1]) == {}


def test_groups_are_counted_errors_first() -> None:
    groups = group_findings(FINDINGS, num_named=1)
    assert groups == [
        FindingGroup("error", "label-empty", 1, ("b",), "empty"),
        FindingGroup("error", "spacing-range", 1, ("b",), "wide"),
        FindingGroup("warning", "label-cut", 2, ("c",), "cut"),
        FindingGroup("warning", "tumor-volume", 1, ("a",), "small"),
    ]
