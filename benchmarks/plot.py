"""Bar plots as SVG, written directly: a group of bars for each figure, one bar for each server.

Bars of a group are drawn relative to its longest, because the figures have nothing in common but their servers; the
number stands at the end of each bar.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from .results import OURS, Report, Result
from .tables import number

COLOURS = {
    "cdaphne": "#0b6e4f",
    "cdaphne+log": "#6fb98f",
    "granian": "#c8553d",
    "uvicorn": "#e0a030",
    "gunicorn": "#7a6ba8",
    "hypercorn": "#4c86b8",
    "daphne": "#8a8a8a",
    "nginx": "#c9c9c9",
}
OTHER = "#555555"
WIDTH, LEFT, RIGHT = 860, 300, 90
BAR, GAP, TOP = 11, 12, 70
FONT = "font-family='system-ui, sans-serif'"


def svg(report: Report, better: str, title: str, keys: Sequence[str] = ()) -> str:
    """The plot of all figures of which `better` ("more" or "less") is better, or of these keys; empty without any."""
    groups = [
        result
        for result in report.results
        if result.figure.better == better
        and good(result)
        and (not keys or result.figure.key in keys)
    ]
    if not groups:
        return ""
    parts: list[str] = []
    y = TOP
    for result in groups:
        y = draw_group(parts, result, y)
    names = servers(groups)
    head = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{y}' viewBox='0 0 {WIDTH} {y}' {FONT}>",
        f"<title>{escape(title)}</title>",
        f"<rect width='{WIDTH}' height='{y}' fill='#ffffff'/>",
        f"<text x='12' y='26' font-size='16' font-weight='600' fill='#222'>{escape(title)}</text>",
        *legend(names),
    ]
    return "\n".join([*head, *parts, "</svg>", ""])


def good(result: Result) -> list[str]:
    return [name for name, series in result.series.items() if series.good]


def servers(groups: list[Result]) -> list[str]:
    """In the order of COLOURS, so that a server has the same place everywhere; unknown ones last."""
    names = dict.fromkeys(name for result in groups for name in good(result))
    order = list(COLOURS)
    return sorted(names, key=lambda name: order.index(name) if name in order else len(order))


def legend(names: list[str]) -> list[str]:
    parts = []
    for place, name in enumerate(names):
        x = 12 + place * 100
        parts.append(
            f"<rect x='{x}' y='40' width='11' height='11' fill='{COLOURS.get(name, OTHER)}'/>"
            f"<text x='{x + 16}' y='50' font-size='12' fill='#222'>{escape(name)}</text>"
        )
    return parts


def draw_group(parts: list[str], result: Result, y: int) -> int:
    """Append the bars of one figure; the place where the next begins."""
    names = servers([result])
    longest = max(result.series[name].median for name in names)
    middle = y + len(names) * BAR / 2
    parts.append(
        f"<text x='{LEFT - 10}' y='{middle:.1f}' font-size='12' text-anchor='end' fill='#222'>"
        f"{escape(result.figure.title)}<tspan x='{LEFT - 10}' dy='13' font-size='10' fill='#666'>"
        f"{escape(result.figure.unit)}</tspan></text>"
    )
    for name in names:
        median = result.series[name].median
        width = max(1.0, (WIDTH - LEFT - RIGHT) * max(median, 0.0) / longest) if longest else 1.0
        weight = "600" if name == OURS else "400"
        parts.append(
            f"<rect x='{LEFT}' y='{y}' width='{width:.1f}' height='{BAR - 1}' fill='{COLOURS.get(name, OTHER)}'>"
            f"<title>{escape(name)}: {number(median)} {escape(result.figure.unit)}</title></rect>"
            f"<text x='{LEFT + width + 4:.1f}' y='{y + BAR - 2}' font-size='10' font-weight='{weight}' fill='#222'>"
            f"{number(median)}</text>"
        )
        y += BAR
    return y + GAP
