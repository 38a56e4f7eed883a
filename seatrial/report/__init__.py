"""What a run's facts look like: a page for people, a summary for the terminal."""

from seatrial.report.page import write_report
from seatrial.report.terminal import print_summary

__all__ = ["print_summary", "write_report"]
