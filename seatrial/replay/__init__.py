"""Client-side load: replays a table through the gateway and counts every answer."""

from seatrial.replay.answers import (
    by_arm,
    by_second,
    failed_by_move,
    percentiles,
    read_answers,
    traffic_facts,
)
from seatrial.replay.measure import measure
from seatrial.replay.rows import Requests, read_rows
from seatrial.replay.wires import Answer

__all__ = [
    "Answer",
    "Requests",
    "by_arm",
    "by_second",
    "failed_by_move",
    "measure",
    "percentiles",
    "read_answers",
    "read_rows",
    "traffic_facts",
]
