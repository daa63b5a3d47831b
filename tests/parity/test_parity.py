"""Every row of the behaviour table, on the real daphne and on cdaphne."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.parity import table, target
from tests.parity.row import Row
from tests.parity.rows import ROWS
from tests.parity.target import NoDaphneError, Target, targets

# The whole of daphne's installation, and on a busy machine the rows that wait for each other's servers.
pytestmark = pytest.mark.timeout(300)
AHEAD = 6  # rows that wait, begun before their turn: not all, other workers of xdist have theirs

Results = Callable[[Row], dict[str, str]]


@pytest.fixture(scope="session")
def both() -> Iterator[tuple[Target, Target]]:
    try:
        pair = targets()
    except NoDaphneError as error:
        pytest.fail(str(error), pytrace=False)
    yield pair
    for server in pair:
        server.close()


@pytest.fixture(scope="session")
def results(both: tuple[Target, Target], request: pytest.FixtureRequest) -> Iterator[Results]:
    """Runs a row on both; the next few that wait begin together with it."""
    pool = ThreadPoolExecutor(2 * (AHEAD + 1))
    waiting = selected(request.session.items)
    started: dict[str, list[Future[str]]] = {}

    def run(row: Row) -> dict[str, str]:
        if not row.waits:
            return {server.name: row.probe(server) for server in both}
        turn = waiting.index(row)
        for other in waiting[turn : turn + AHEAD + 1]:
            if other.name not in started:
                started[other.name] = [pool.submit(other.probe, server) for server in both]
        answers = [future.result() for future in started[row.name]]
        return {server.name: answer for server, answer in zip(both, answers, strict=True)}

    yield run
    pool.shutdown(cancel_futures=True)


def selected(items: list[pytest.Item]) -> list[Row]:
    names = {item.name for item in items}
    return [row for row in ROWS if row.waits and f"test_row[{row.name}]" in names]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row(row: Row, results: Results) -> None:
    assert results(row) == row.expected


def test_names_are_unique() -> None:
    assert len({row.name for row in ROWS}) == len({row.behaviour for row in ROWS}) == len(ROWS)


def test_the_committed_tables_are_the_generated_ones() -> None:
    assert table.stale() == [], "python -m tests.parity.table --write"


def test_a_cell_keeps_its_text_and_its_literals() -> None:
    assert table.cell("a*b ``c*d`` e_") == ["a\\*b ``c*d`` e\\_"]


@pytest.mark.parametrize(("ours", "why"), [("b", ""), ("", "better"), ("a", "better")])
def test_a_deviation_must_differ_and_say_why(ours: str, why: str) -> None:
    with pytest.raises(ValueError, match="deviation"):
        Row("name", "behaviour", lambda _: "", "a", ours, why)


def test_without_pypi_there_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, "VENV", tmp_path / "venv")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(
        NoDaphneError, match=r"^no daphne to compare with, PyPI is needed once: .*$"
    ):
        target.install_daphne()
