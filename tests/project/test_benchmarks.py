"""The benchmark suite: its clients notice every fault, its arithmetic is right, what it writes can be read."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import clients, plot, readme, rows, run, servers, tables
from benchmarks.clients import LoadError, Unsupported
from benchmarks.processes import choose_cores
from benchmarks.results import Figure, Report, Result, Sample, Series, read
from benchmarks.rows import Bench, Row
from benchmarks.servers import Launch, Server

TOY = Path(__file__).parents[1] / "apps" / "echo_server.py"
BENCH = Bench(choose_cores(), seconds=0.1, warmup=0.0, idle=100)
MORE = Figure("plaintext", "Speed <of> it", "requests/s")
LESS = Figure("cost", "Cost", "KB", "less")
NO_ERRORS = dict.fromkeys(("connect", "read", "write", "status", "timeout"), 0)
CLEAN = {"requests": 10, "bytes": 1000, **NO_ERRORS}


H2LOAD_SAYS = """Application protocol: h2
finished in 500.00ms, 20.00 req/s, 1.05KB/s
requests: 10 total, 12 started, 10 done, 10 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 10 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 537B (537) total, 180B (180) headers (space savings 79.78%), 130B (130) data
"""


def toy(fault: str = "") -> Server:
    def command(launch: Launch) -> list[str]:
        secure = servers.certificate() if launch.secure else ()
        return [sys.executable, str(TOY), str(launch.port), fault, *secure]

    return Server("toy", command)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "WORK", tmp_path)


def measure(key: str, fault: str = "", bench: Bench = BENCH) -> dict[str, Sample]:
    row = next(row for row in rows.ROWS if row.key == key)
    return row.measure(bench, toy(fault))


class TestClients:
    """Rows against a real, small server."""

    def test_real_row(self) -> None:
        half_a_second = Bench(choose_cores(), seconds=0.5, warmup=0.1)
        sample = measure("ws-echo-32", bench=half_a_second)["ws-echo-32"]
        assert sample.value > 50
        assert sample.per_cpu is not None and sample.per_cpu >= sample.value * 0.5
        # 0 when its core was shared: what polls that found nothing took is left out.
        assert sample.client is not None and 0 <= sample.client < 1.1

    def test_longer_messages(self) -> None:
        assert measure("ws-echo-4k")["ws-echo-4k"].value > 1

    @pytest.mark.parametrize("row", ["ws-broadcast-1000", "ws-talk-1000"])
    def test_broadcasts(self, row: str) -> None:
        assert measure(row, bench=replace(BENCH, many=20))[row].value > 20

    def test_chunked_body(self) -> None:
        assert measure("large")["large"].value > 1

    def test_handshakes(self) -> None:
        assert measure("connect-ws")["connect-ws"].value > 1

    def test_connection_per_request(self) -> None:
        assert measure("connect-http")["connect-http"].value > 1

    def test_idle_connections_are_held(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rows, "SETTLE_SECONDS", 0.05)
        sample = measure("idle-ws")["idle-ws"]
        # A server that holds nothing for them may also shrink by a few KB: pages that it shared.
        assert -20 < sample.value < 200 and sample.note == "100 connections"

    def test_start_up(self) -> None:
        assert 10 < measure("start-up")["start-up"].value < 20_000

    @pytest.mark.parametrize(
        ("row", "fault", "message"),
        [
            ("ws-echo-32", "byte", "wrong byte in a message"),
            ("ws-echo-32", "close", "closed the WebSocket with code 1000"),
            ("ws-broadcast-32", "twice", "out of order|nobody sent"),
            ("ws-talk-1000", "twice", "out of order|nobody sent"),
            ("latency", "status", "answer: HTTP/1.1 500"),
            ("latency", "body", "wrong byte in the body"),
            ("events", "", "wrong event|the stream of events ended"),
        ],
    )
    def test_faults_void_the_figure(self, row: str, fault: str, message: str) -> None:
        with pytest.raises(LoadError, match=message):
            measure(row, fault, replace(BENCH, many=20))

    def test_tls_handshakes(self) -> None:
        assert measure("tls-full")["tls-full"].value > 1

    def test_resumed_handshakes(self) -> None:
        assert measure("tls-resumed")["tls-resumed"].value > 1

    def test_no_resumption_is_no_fault(self) -> None:
        with pytest.raises(Unsupported, match="resumes no session"):
            measure("tls-resumed", "tickets")

    def test_upload_over_tls(self) -> None:
        sample = measure("tls-upload", bench=replace(BENCH, upload=300_000))
        assert sample["tls-upload"].value > 0

    def test_declined_compression_is_no_fault(self) -> None:
        with pytest.raises(Unsupported, match="declines permessage-deflate"):
            measure("ws-deflate-4k")

    def test_server_that_does_not_start(self) -> None:
        broken = Server("broken", lambda launch: [sys.executable, "-c", "print('no'); exit(3)"])
        with (
            pytest.raises(LoadError, match=r"ended with status 3 .* \[its log ends: no\]"),
            servers.running(broken, BENCH.cores),
        ):
            pass


class TestChecks:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"status": 1}, "counts errors"),
            ({"requests": 0, "bytes": 0}, "no answer"),
            ({"bytes": 999}, "read 999 bytes in 10 answers"),
            ({"bytes": 1201}, "read 1201 bytes"),
        ],
    )
    def test_wrk(self, change: dict[str, int], message: str) -> None:
        clients.check_wrk(CLEAN, 100, 2)
        with pytest.raises(LoadError, match=message):
            clients.check_wrk({**CLEAN, **change}, 100, 2)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"failed": 1}, "counts errors"),
            ({"done": 0}, "no answer"),
            ({"good": 9}, "not 2xx"),
            ({"data": 129}, "read 129 bytes in 10 bodies"),
            ({"data": 157}, "read 157 bytes"),
        ],
    )
    def test_h2load(self, change: dict[str, int], message: str) -> None:
        report = clients.parse_h2load(H2LOAD_SAYS)
        assert report["seconds"] == 0.5 and report["done"] == 10 and report["data"] == 130
        clients.check_h2load(report, 13, 2)
        with pytest.raises(LoadError, match=message):
            clients.check_h2load({**report, **change}, 13, 2)

    def test_h2load_over_another_protocol(self) -> None:
        with pytest.raises(LoadError, match="did not speak h2; it says: traffic"):
            clients.parse_h2load(H2LOAD_SAYS.replace("protocol: h2", "protocol: http/1.1"))

    def test_strace(self) -> None:
        table = """% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000600           3       200           sendto
 40.00    0.000400           2       201         1 recvfrom
------ ----------- ----------- --------- --------- ----------------
100.00    0.001000           2       401         1 total
"""
        assert clients.parse_strace(table) == {"sendto": 200, "recvfrom": 201}
        with pytest.raises(LoadError, match="nothing"):
            clients.parse_strace("strace: Process 7 detached\n")


def series(*values: float) -> Series:
    return Series([Sample(value, value * 2, 0.5) for value in values])


def made_up() -> Report:
    speed = Result(MORE, ("slow", "fast", "broken"))
    speed.series = {
        "cdaphne": series(100, 220, 330),
        "slow": series(10, 20, 30),
        "fast": series(50, 100, 110),
        "broken": Series([Sample(9999)], "wrong byte"),
    }
    cost = Result(LESS, ("slow", "fast"))
    cost.series = {"cdaphne": series(2, 2, 2), "slow": series(4, 4, 4), "fast": series(8, 8, 8)}
    return Report({"processor": "made up", "cdaphne": "0"}, ["No method."], [speed, cost])


class TestResults:
    def test_ratio_is_taken_round_by_round(self) -> None:
        speed = made_up().results[0]
        ratio = speed.ratio(speed.best_peer())
        assert ratio is not None
        # 100/50, 220/100, 330/110: not the ratio of the medians, which would be 2.2 as well as 220/100.
        assert (ratio.other, ratio.median, ratio.low, ratio.high) == ("fast", 2.2, 2.0, 3.0)
        assert ratio.per_cpu == 2.2

    def test_best_peer(self) -> None:
        speed, cost = made_up().results
        assert speed.best_peer() == "fast", "one with a failure has no figure"
        assert cost.best_peer() == "slow", "less is better"
        assert speed.ratio("broken") is None and speed.ratio("absent") is None

    def test_json_round_trip(self, tmp_path: Path) -> None:
        report = made_up()
        report.save(tmp_path / "results.json")
        assert read(tmp_path / "results.json") == report

    def test_foreign_json(self, tmp_path: Path) -> None:
        (tmp_path / "other.json").write_text("{}")
        with pytest.raises(SystemExit, match=r"other\.json holds no results"):
            read(tmp_path / "other.json")


class TestWritten:
    def test_plot(self) -> None:
        drawn = plot.svg(made_up(), "more", "Title & more")
        root = ElementTree.fromstring(drawn)
        titles = [node.text for node in root.iter("{http://www.w3.org/2000/svg}title")]
        assert titles == [
            "Title & more",
            "cdaphne: 220 requests/s",
            "slow: 20.0 requests/s",
            "fast: 100 requests/s",
        ]
        assert plot.svg(Report({}, []), "more", "") == ""

    def test_table_fits_its_rules(self) -> None:
        rule, *lines = tables.rst(made_up())
        gaps = [match.start() for match in re.finditer(r" +", rule)]
        for line in lines:
            assert all(line[gap : gap + 2].strip() == "" for gap in gaps), line
        assert "2.20 (2.00 to 3.00)" in "\n".join(lines)

    def test_groups_are_tables_of_one_width(self) -> None:
        report = made_up()
        report.results[1].figure = replace(LESS, group="Costs")
        lines = tables.rst(report)
        assert "**Costs**" in lines and lines[0].startswith("===")
        assert len({line for line in lines if line.startswith("===")}) == 1

    def pages(self, folder: Path, text: str) -> list[Path]:
        """README and the page of the documentation with this text."""
        found = [folder / readme.README, folder / readme.PAGE]
        for path in found:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return found

    def test_pages(self, tmp_path: Path) -> None:
        made_up().save(tmp_path / "new.json")
        pages = self.pages(tmp_path, f"Before\n\n{readme.BEGIN}\n\nold\n\n{readme.END}\n\nAfter\n")
        readme.write(tmp_path / "new.json", tmp_path)
        first, page = (path.read_text() for path in pages)
        for text in (first, page):
            assert text.startswith("Before\n") and text.endswith("\nAfter\n") and "old" not in text
        assert "Speed <of> it" in page and "* plaintext, broken: wrong byte" in page
        kept = tmp_path / "benchmarks" / "results"
        assert {path.name for path in kept.iterdir()} == {
            "results.json",
            "headline.svg",
            "speed.svg",
            "cost.svg",
        }
        assert ".. image:: benchmarks/results/headline.svg" in first
        assert ".. image:: ../benchmarks/results/speed.svg" in page
        readme.write(kept / "results.json", tmp_path)
        assert [path.read_text() for path in pages] == [first, page], (
            "writing twice changes nothing"
        )

    def test_headline_is_short(self) -> None:
        report = made_up()
        report.results[0].figure = replace(MORE, key="plaintext")
        lines = tables.headline(report, readme.README_ROWS)
        assert len(lines) == 5, "one row: the other figure is none of the eight"
        assert lines[3].split() == "Speed <of> it, requests/s 220 — 100 fast — 2.20".split()
        assert len(readme.README_ROWS) == 8

    def test_pages_take_the_loop_along(self, tmp_path: Path) -> None:
        row = {"work": "tasks", "what": "Tasks that end.", "cdaphne": 123_456.0, "uvloop": 100.0}
        row |= {"uvloop-wall": 1.3, "uvloop-cpu": 1.25, "asyncio": 50.0, "asyncio-wall": 2.6}
        alone = {"work": "gather", "what": "x", "cdaphne": 1.0, "asyncio": 1.0, "asyncio-wall": 1.0}
        (tmp_path / "loop.json").write_text(json.dumps({"rows": [row, alone]}))
        made_up().save(tmp_path / "results.json")
        first, page = self.pages(tmp_path, f"{readme.BEGIN}\n{readme.END}\n")
        readme.write(tmp_path / "results.json", tmp_path)
        (line,) = [line for line in page.read_text().splitlines() if line.startswith("tasks")]
        assert line.split() == "tasks Tasks that end. 123,000 100 1.30 1.25 2.60".split()
        assert "gather" not in page.read_text() and "tasks" not in first.read_text()
        readme.write(tmp_path / "benchmarks" / "results" / "results.json", tmp_path)
        assert line in page.read_text()

    def test_pages_without_markers(self, tmp_path: Path) -> None:
        made_up().save(tmp_path / "results.json")
        self.pages(tmp_path, "nothing\n")
        with pytest.raises(SystemExit, match="lacks the lines"):
            readme.write(tmp_path / "results.json", tmp_path)

    def test_projects_pages_are_what_the_results_say(self, tmp_path: Path) -> None:
        """The markers are there, and nothing between them was typed."""
        shutil.copytree(readme.ROOT / readme.FOLDER, tmp_path / readme.FOLDER)
        for name in (readme.README, readme.PAGE):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            shutil.copy(readme.ROOT / name, tmp_path / name)
        readme.write(tmp_path / readme.FOLDER / readme.RESULTS, tmp_path)
        for name in (readme.README, readme.PAGE):
            assert (tmp_path / name).read_text() == (readme.ROOT / name).read_text(), name

    def test_counters_in_words(self) -> None:
        report = {"done": 32_896.0, "failed": 128.0, "timeout": 0.0}
        assert clients.in_words(report) == "done 32,896, failed 128"

    @pytest.mark.parametrize(
        ("value", "shown"),
        [(107_345, "107,000"), (9_876.5, "9,880"), (999.6, "1000"), (47.11, "47.1"), (0.5, "0.50")],
    )
    def test_numbers(self, value: float, shown: str) -> None:
        assert tables.number(value) == shown


class TestOrder:
    def test_servers_in_turn_and_failures(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        seen = []

        def measure(bench: Bench, server: Server) -> dict[str, Sample]:
            seen.append(server.name)
            if server.name == "daphne":
                raise LoadError("early close")
            return {"plaintext": Sample(float(len(seen)))}

        report = Report({}, [])
        chosen = ["cdaphne", "daphne", "uvicorn"]
        run.measure_all(
            report, [Row("speed", measure, (MORE,))], chosen, BENCH, 2, tmp_path / "r.json"
        )
        assert seen == ["cdaphne", "daphne", "uvicorn", "uvicorn", "cdaphne"]
        assert report.failures == ["plaintext, daphne: early close"]
        assert "FAILED early close" in capsys.readouterr().out
        assert read(tmp_path / "r.json").results[0].series["cdaphne"] == Series(
            [Sample(1.0), Sample(5.0)]
        )

    def test_server_that_lacks_what_is_measured(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def measure(bench: Bench, server: Server) -> dict[str, Sample]:
            if server.name == "uvicorn":
                raise Unsupported("resumes no session")
            return {"plaintext": Sample(2.0)}

        report = Report({}, [])
        row = Row("speed", measure, (MORE,), needs="deflate")
        chosen = ["cdaphne", "daphne", "uvicorn"]
        run.measure_all(report, [row], chosen, BENCH, 1, tmp_path / "r.json")
        assert list(report.results[0].series) == ["cdaphne", "uvicorn"], "daphne never compresses"
        assert report.failures == [] and "resumes no session" in capsys.readouterr().out
        assert tables.value(report.results[0].series["uvicorn"]) == tables.NONE
        assert read(tmp_path / "r.json") == report

    def test_nginx_only_where_no_application_is_needed(self) -> None:
        by_key = {row.key: row for row in rows.ROWS}
        chosen = ["cdaphne", "nginx"]
        assert [s.name for s in run.taking_part(by_key["plaintext"], chosen)] == chosen
        assert [s.name for s in run.taking_part(by_key["json"], chosen)] == ["cdaphne"]
        both = [s.name for s in run.taking_part(by_key["access-log"], chosen)]
        assert both == ["cdaphne+log", "cdaphne"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--only", "plaintxt"], "--only: no 'plaintxt'; there are plaintext"),
            (["--servers", "apache"], "--servers: no 'apache'; there are cdaphne"),
            (["--rounds", "0"], "--rounds takes a number above 0"),
            (["--seconds", "0"], "--seconds takes a number above 0"),
            (["--cores", "one"], "--cores takes two numbers"),
        ],
    )
    def test_wrong_flags(self, arguments: list[str], message: str) -> None:
        with pytest.raises(SystemExit, match=re.escape(message)):
            run.main(arguments)
