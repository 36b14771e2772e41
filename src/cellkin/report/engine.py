"""What an atlas looks by, and what that changed, in lines for a person."""

from __future__ import annotations

from typing import Any

from cellkin.core.numbers import number, percent

PROPOSED = "cellkin compile ATLAS DATA --precision quickest"


def engine_lines(told: dict[str, Any] | None) -> list[str]:
    """Of an atlas's fact "engine"; without one, how the quickest engine is found."""
    if told is None:
        return [f"engine      torch; {PROPOSED} takes the quickest whose calls hold"]
    found, evidence = told["changes"], told["evidence"]
    calls, right = found["calls"], found["right"]
    kept = "" if told["limits"] == "measured anew" else "; limits are those of the atlas before"
    lines = [
        f"engine      {told['name']} {told['precision']}: a look is {told['times']:.1f} times as "
        f"quick as in torch{kept}",
        f"changed     {calls['count']} of {calls['n']} calls ({told['part']}; at most "
        f"{percent(calls['high'])}), allowed {percent(told['most'])}; right "
        f"{right['only_second']} more and {right['only_first']} fewer, "
        f"p = {number(right['p_value'], 2)} ({right['test']})",
        f"            {found['sets']} prediction sets, {found['states']} states; distances by at "
        f"most {number(100 * found['distance'], 2)} %, {_percentile(found['percentile'])}; "
        f"{percent(found['kin'])} of the kin are the same",
        f"            maps of {evidence['cells']} cells add up to "
        f"{number(evidence['completeness'], 2)} (before {number(evidence['before'], 2)})",
    ]
    for row in told["refused"]:
        other = row["changes"]["calls"]
        change = f"{other['count']} of {other['n']} calls change"
        lines.append(f"refused     {row['precision']}: {change}")
    return lines


def _percentile(largest: float | None) -> str:
    if largest is None:
        return "no percentile is known"
    return f"percentiles by at most {number(largest, 2)}"
