"""The drift page: what a sidecar's /status says, in the order a person on call wants it."""

from seatrial.report.drift.merged import merge_snapshots
from seatrial.report.drift.page import render, render_sections, write_drift_report
from seatrial.report.drift.sources import of_player, read_status

__all__ = [
    "merge_snapshots",
    "of_player",
    "read_status",
    "render",
    "render_sections",
    "write_drift_report",
]
