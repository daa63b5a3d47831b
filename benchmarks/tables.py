"""The results as text: the table for the terminal, the short one of README, the long ones of the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .clients import CLIENT_LIMIT
from .results import Report, Result, Series

FAILED = "failed"
NONE = "—"  # a hyphen alone would be a bullet list to reStructuredText


def number(value: float) -> str:
    """Three significant digits, thousands separated."""
    if value >= 1000:
        digits = len(str(int(value))) - 3
        return f"{round(value, -digits):,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def value(series: Series | None) -> str:
    if series is None or series.unsupported:
        return NONE
    if not series.good:
        return FAILED
    limited = series.client is not None and series.client > CLIENT_LIMIT
    return number(series.median) + (" c" if limited else "")


def times(result: Result, other: str | None) -> str:
    ratio = result.ratio(other)
    return number(ratio.median) if ratio else NONE


def spread(result: Result, other: str | None) -> str:
    """The median of the ratios of the rounds, with the extremes where there are several."""
    ratio = result.ratio(other)
    if ratio is None:
        return NONE
    if ratio.low == ratio.high:
        return number(ratio.median)
    return f"{number(ratio.median)} ({number(ratio.low)} to {number(ratio.high)})"


def per_cpu(result: Result, other: str | None) -> str:
    ratio = result.ratio(other)
    return number(ratio.per_cpu) if ratio and ratio.per_cpu else NONE


HEADER = (
    "Work",
    "Unit",
    "cdaphne",
    "Best peer",
    "",
    "Ratio (rounds)",
    "Per CPU s",
    "Over daphne",
    "Over nginx",
)


def cells(result: Result) -> tuple[str, ...]:
    best = result.best_peer()
    unit = result.figure.unit + (" ↓" if result.figure.better == "less" else "")
    return (
        result.figure.title,
        unit,
        value(result.series.get(result.ours)),
        value(result.series.get(best)) if best else NONE,
        best or "",
        spread(result, best),
        per_cpu(result, best),
        times(result, "daphne"),
        times(result, "nginx"),
    )


def widths_of(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def columns(rows: Sequence[Sequence[str]], widths: Sequence[int] = ()) -> list[str]:
    widths = widths or widths_of(rows)
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def text(report: Report) -> str:
    """For the terminal: one line a figure, then every server's numbers, then what failed."""
    lines = columns([HEADER, *(cells(result) for result in report.results)])
    lines += ["", "Ratio: cdaphne over the other, ↓: less is better, c: the client was the limit."]
    lines += ["", *everybody(report)]
    lines += ["", *(f"FAILED {failure}" for failure in report.failures)] if report.failures else []
    return "\n".join(lines)


def everybody(report: Report) -> list[str]:
    """All servers side by side."""
    names: list[str] = []
    for result in report.results:
        names += [name for name in result.series if name not in names]
    rows = [["", *names]]
    for result in report.results:
        rows.append([result.figure.key, *(value(result.series.get(name)) for name in names)])
    return columns(rows)


def groups(report: Report) -> dict[str, list[Result]]:
    """{title: its results}, in the order of the first of each."""
    found: dict[str, list[Result]] = {}
    for result in report.results:
        found.setdefault(result.figure.group, []).append(result)
    return found


def rst_cells(result: Result) -> tuple[str, ...]:
    """Less columns than the terminal's: the best peer's name stands with its figure."""
    work, unit, ours, theirs, name, ratio, cpu, daphne, nginx = cells(result)
    return (work, unit, ours, f"{theirs} {name}".strip(), ratio, cpu, daphne, nginx)


def ruled(rows: Sequence[Sequence[str]], widths: Sequence[int]) -> list[str]:
    """A simple reStructuredText table; the first row is its head."""
    rule = "  ".join("=" * width for width in widths)
    head, *body = columns(rows, widths)
    return [rule, head, rule, *body, rule]


LOOP_HEADER = ("Work", "", "cdaphne", "uvloop", "Over uvloop", "Per CPU s", "Over asyncio")


def loop_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Of a row of micro/loop.py."""
    ratios = (f"{row[name]:.2f}" for name in ("uvloop-wall", "uvloop-cpu", "asyncio-wall"))
    return (row["work"], row["what"], number(row["cdaphne"]), number(row["uvloop"]), *ratios)


def loop_rst(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table of the event loop; every row was measured beside uvloop."""
    table = [LOOP_HEADER, *(loop_cells(row) for row in rows)]
    return ruled(table, widths_of(table))


def rst(report: Report) -> list[str]:
    """A simple reStructuredText table for each group, all of the same widths."""
    header = (*HEADER[:4], *HEADER[5:])
    grouped = {
        title: [rst_cells(result) for result in results]
        for title, results in groups(report).items()
    }
    widths = widths_of([header, *(row for each in grouped.values() for row in each)])
    lines: list[str] = []
    for title, each in grouped.items():
        lines += ["", f"**{title}**", ""] if title else []
        lines += ruled([header, *each], widths)
    return lines[1:] if lines and not lines[0] else lines


HEADLINE_HEADER = ("Work", "cdaphne", "daphne", "Best peer", "Over daphne", "Over best peer")


def headline_cells(result: Result) -> tuple[str, ...]:
    work, unit, ours, theirs, ratio, _, over_daphne, _ = rst_cells(result)
    daphne = value(result.series.get("daphne"))
    return (f"{work}, {unit}", ours, daphne, theirs, over_daphne, ratio.partition(" ")[0])


def headline(report: Report, keys: Sequence[str]) -> list[str]:
    """README's table: these rows, in this order."""
    found = {result.figure.key: result for result in report.results}
    rows = [HEADLINE_HEADER, *(headline_cells(found[key]) for key in keys if key in found)]
    return ruled(rows, widths_of(rows))
