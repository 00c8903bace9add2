"""The report of a study: reads a results folder's files, and neither torch nor ray."""

from study.report.contents import Report
from study.report.terminal import print_report
from study.report.write import write_report

__all__ = ["Report", "print_report", "write_report"]
