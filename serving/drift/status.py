"""What GET /status answers: one JSON object, its shape in STATUS_FORMAT, for people and reports.

    format        "seatrial.drift.status/1"
    time          when it was made, RFC 3339 UTC, as all times here
    replica       name of the process's host
    bundle        null before an introduction, else {digest, arm, model}
    input         {kind: "tee" | "kserve", rows, events, duplicates, waiting, lag_seconds,
                   dropped: {reason: rows}, refused: {reason: requests}}
    problems      [sentence, ...]: what someone should look at; empty when all is well
    open          true while an episode is open
    events        {delivered, pending, lost, set_aside, heartbeats}

With a bundle also:

    detector      {ready, name, problem}: the window tests; name null when they are off
    watch         null when off, else {evidence, threshold, average_run_length, rows}: evidence and
                  threshold in nats (log), rows since the watch began or began again
    reference     {digest, rows}
    rows          watched so far, those before a restart included
    columns       [name, ...] that are compared
    window        {size, seconds, pending, tested, waiting, from}: size or seconds is null;
                  `from` is the time of the first pending row
    episode       null before the first, else the last one: {number, state: "open" | "resolved",
                  severity: "warning" | "critical", opened_by: "watch" | "windows", confirmed,
                  opened, onset, resolved, rows, first: [{name, aspect, time}, ...]}: opened, onset
                  (when evidence began to grow) and resolved are times or null, rows were seen
                  since it opened, `first` lists what moved in the order in which it moved
    last          null, else the last tested window: {window, threshold, drifted, smallest_p_value}
    features      [{name, kind, role, psi, js, missing_ratio, reference_missing_ratio, p_value,
                   effect, evidence: {aspect: nats}, direction: {aspect: word},
                   bins: [{label, reference, window}, ...],
                   violations: {kind: {rows, share, raised}}}, ...]: columns in their order; bins
                  are shares (0 to 1) of the reference's rows and of the recent window's (the last
                  whole one and the one being filled); p_value and effect are null without a
                  tested window
    timeline      [{time, rows, evidence, threshold, open, severity, top: [{name, aspect,
                   evidence}, ...]}, ...]: oldest first, at most TIMELINE entries, thinned
                  out evenly as it grows; rows counts all rows so far
    quality       {raised: [{feature, kind, rows, share, since}, ...]}: violations that stand now
    labels        null, or what the label book says about itself
    state         {folder, snapshot_age_seconds, restored, set_aside, problem}: folder null: off
"""

from __future__ import annotations

STATUS_FORMAT = "seatrial.drift.status/1"
TIMELINE = 512
