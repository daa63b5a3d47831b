"""One row of the behaviour table."""

from __future__ import annotations

from dataclasses import dataclass

from tests.parity.client import Probe


@dataclass(frozen=True)
class Row:
    """name: of the test; behaviour: the first column; daphne, ours: what the probe must return for each.

    ours stays empty where cdaphne does the same; where it does not, why says what is better.
    waits: the probe mostly sleeps, so it runs beside the others.
    """

    name: str
    behaviour: str
    probe: Probe
    daphne: str
    ours: str = ""
    why: str = ""
    waits: bool = False

    def __post_init__(self) -> None:
        if bool(self.ours) != bool(self.why) or self.ours == self.daphne:
            raise ValueError(f"{self.name}: a deviation has an outcome of its own and a reason")

    @property
    def expected(self) -> dict[str, str]:
        return {"daphne": self.daphne, "cdaphne": self.ours or self.daphne}
