"""The report of a study. It reads the files of a results folder and needs neither torch nor ray."""

from study.report.analysis.contents import Report
from study.report.pages.terminal import print_report
from study.report.pages.write import write_report

__all__ = ["Report", "print_report", "write_report"]
