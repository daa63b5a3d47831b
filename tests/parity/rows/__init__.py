"""The rows of the behaviour table, by subject."""

from tests.parity.row import Row
from tests.parity.rows import (
    cli,
    failures,
    logs,
    parsing,
    requests,
    responses,
    scope,
    tls,
    websocket,
)

SECTIONS: dict[str, list[Row]] = {
    "Applications that fail": failures.ROWS,
    "Command line": cli.ROWS,
    "The HTTP scope": scope.ROWS,
    "Requests that are wrong, large or slow": parsing.ROWS,
    "Request events": requests.ROWS,
    "Responses": responses.ROWS,
    "WebSocket": websocket.ROWS,
    "TLS": tls.ROWS,
    "Logs": logs.ROWS,
}
ROWS = [row for rows in SECTIONS.values() for row in rows]
