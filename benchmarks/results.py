"""Figures, their rounds, and the ratios between them. No measuring here: made-up numbers do as well."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

FORMAT = 1
OURS = "cdaphne"


@dataclass(frozen=True)
class Figure:
    """What one number of a row is."""

    key: str
    title: str
    unit: str
    better: Literal["more", "less"] = "more"
    group: str = ""


@dataclass(frozen=True)
class Sample:
    """One server's number in one round. `per_cpu` is the same per CPU second of the server, where that has a sense.

    `client` is the share of its core that the client used.
    """

    value: float
    per_cpu: float | None = None
    client: float | None = None
    note: str = ""


@dataclass
class Series:
    """The samples of one server for one figure, round by round. With a failure there is no figure.

    Nor is there one where the server turns out not to do what is measured; that is no failure.
    """

    samples: list[Sample] = field(default_factory=list)
    failure: str = ""
    unsupported: str = ""

    @property
    def good(self) -> bool:
        return bool(self.samples) and not (self.failure or self.unsupported)

    @property
    def median(self) -> float:
        return median(sample.value for sample in self.samples)

    @property
    def per_cpu(self) -> float | None:
        values = [sample.per_cpu for sample in self.samples if sample.per_cpu is not None]
        return median(values) if values else None

    @property
    def client(self) -> float | None:
        values = [sample.client for sample in self.samples if sample.client is not None]
        return median(values) if values else None


@dataclass(frozen=True)
class Ratio:
    """cdaphne's number over the other's, taken in each round: the median and the extremes."""

    other: str
    median: float
    low: float
    high: float
    per_cpu: float | None


@dataclass
class Result:
    """One figure with the series of every server that took part. `peers` are those that count for "the best peer"."""

    figure: Figure
    peers: tuple[str, ...]
    ours: str = OURS
    series: dict[str, Series] = field(default_factory=dict)

    def best_peer(self) -> str | None:
        known = [name for name in self.peers if name in self.series and self.series[name].good]
        if not known:
            return None
        choose = max if self.figure.better == "more" else min
        return choose(known, key=lambda name: self.series[name].median)

    def ratio(self, other: str | None) -> Ratio | None:
        """None where one of the two has no figure."""
        if other is None or other not in self.series or self.ours not in self.series:
            return None
        mine, theirs = self.series[self.ours], self.series[other]
        if not mine.good or not theirs.good:
            return None
        pairs = list(zip(mine.samples, theirs.samples, strict=False))
        rounds = [a.value / b.value for a, b in pairs if b.value]
        if not rounds:
            return None
        per_cpu = [a.per_cpu / b.per_cpu for a, b in pairs if a.per_cpu and b.per_cpu]
        return Ratio(
            other, median(rounds), min(rounds), max(rounds), median(per_cpu) if per_cpu else None
        )


@dataclass
class Report:
    """Everything of one run: what is written as JSON and read back for the README."""

    facts: dict[str, str]
    method: list[str]
    results: list[Result] = field(default_factory=list)

    def result(self, figure: Figure, peers: Sequence[str], ours: str = OURS) -> Result:
        """The result of that figure, made when it is asked for the first time."""
        for result in self.results:
            if result.figure.key == figure.key:
                return result
        self.results.append(Result(figure, tuple(peers), ours))
        return self.results[-1]

    @property
    def failures(self) -> list[str]:
        return [
            f"{result.figure.key}, {name}: {series.failure}"
            for result in self.results
            for name, series in result.series.items()
            if series.failure
        ]

    def save(self, path: Path) -> None:
        document = {"format": FORMAT, **asdict(self)}
        for result, stored in zip(self.results, document["results"], strict=True):
            stored["medians"] = {
                name: {"value": series.median, "per_cpu": series.per_cpu, "client": series.client}
                for name, series in result.series.items()
                if series.good
            }
            others = [name for name in result.series if name != result.ours]
            ratios = {name: result.ratio(name) for name in others}
            stored["ratios"] = {
                name: asdict(ratio) for name, ratio in ratios.items() if ratio is not None
            }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=1) + "\n")


def read(path: Path) -> Report:
    """The report that save() wrote; ends the program with one line when it is none."""
    try:
        document = json.loads(path.read_text())
        if document["format"] != FORMAT:
            raise ValueError(f"its format is {document['format']}, not {FORMAT}")
        return Report(
            dict(document["facts"]),
            list(document["method"]),
            [read_result(stored) for stored in document["results"]],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"{path} holds no results of `python -m benchmarks`: {error!r}") from error


def read_result(stored: dict[str, Any]) -> Result:
    series = {
        name: Series(
            [Sample(**sample) for sample in each["samples"]],
            each["failure"],
            each.get("unsupported", ""),
        )
        for name, each in stored["series"].items()
    }
    return Result(Figure(**stored["figure"]), tuple(stored["peers"]), stored["ours"], series)
