"""The steps of a run as a Mermaid gantt chart: which took how long, and what happened at the same time.

Source: https://mermaid.js.org/syntax/gantt.html
"""

from __future__ import annotations

from collections.abc import Sequence

from portico_server.db.steps import StepRow

MOST = 500
"""Bars of a chart that a person can still look at: the longest ones."""

_SIGNS = str.maketrans(dict.fromkeys(":;#,\n", " "))


def gantt(run_id: str, rows: Sequence[StepRow]) -> str:
    """The chart; its times begin with the first step. Skipped steps are left out, failed ones are marked."""
    shown = [row for row in rows if row.status != "skipped"]
    shown = sorted(shown, key=lambda row: -row.milliseconds)[:MOST]
    shown.sort(key=lambda row: (row.started_at, len(row.path)))
    first = min((row.started_at for row in shown), default=0.0)
    lines = ["gantt", f"    title {run_id}", "    dateFormat x", "    axisFormat %M:%S.%L"]
    section = ""
    for row in shown:
        outer = row.path.rpartition(".")[0] or row.path
        if outer != section:
            section = outer
            lines.append(f"    section {outer.translate(_SIGNS)}")
        begin = round((row.started_at - first) * 1e3)
        end = begin + max(1, round(row.milliseconds))
        mark = "crit, " if row.status == "failed" else "done, " if row.hit else ""
        name = row.path.rpartition(".")[2].translate(_SIGNS)
        lines.append(f"    {name} ({row.kind}) :{mark}{begin}, {end}")
    return "\n".join(lines) + "\n"
