"""Channel layers whose idle consumers die, seen before the start: real Channels, channels_redis, redis-py and Redis."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import redis
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from tests.support import redis_server
from tests.support.programs import ROOT, python
from tests.support.servers import Servers

redis_url = redis_server.redis_url
CORE = "channels_redis.core.RedisChannelLayer"
APP = "tests.apps.layers:app"


def layer(hosts: Any = None, backend: str = CORE) -> dict[str, Any]:
    return {"BACKEND": backend, "CONFIG": {} if hosts is None else {"hosts": hosts}}


def found(**layers: dict[str, Any]) -> list[list[str]]:
    """What is said of these settings, in a process of its own with warnings for errors."""
    code = (
        "import json, sys, os\nos.environ['LAYERS'] = sys.stdin.read()\n"
        "import tests.apps.layers\n"
        "from pyasgi.channel_layers import weaknesses\nprint(json.dumps(weaknesses()))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        input=json.dumps(layers),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    result: list[list[str]] = json.loads(done.stdout)
    return result


# ---- the fault and the remedy ----


def test_an_idle_consumer_dies_of_it_and_the_remedy_keeps_it(
    server: Servers,
    redis_url: str,
) -> None:
    assert int(redis.__version__.split(".")[0]) >= 8, "older ones wait without an end"
    layers = {
        "default": layer([redis_url]),
        "mended": layer([{"address": redis_url, "socket_timeout": 15}]),
    }
    handle = server.start(APP, env={"LAYERS": json.dumps(layers)})
    handle.expect_errors()  # the consumer's exception
    warning = handle.wait_for_log(r"WARNING +CHANNEL_LAYERS.*").group()
    assert 'CHANNEL_LAYERS["default"]: channels_redis waits 5 s for a message' in warning
    assert 'write "hosts": [{"address": ..., "socket_timeout": 15}]' in warning
    assert handle.stderr().count("CHANNEL_LAYERS") == 1
    with connect(f"{handle.ws_url}/mended") as mended, connect(f"{handle.ws_url}/default") as dies:
        with pytest.raises(ConnectionClosedError) as caught:
            dies.recv(timeout=30)
        assert caught.value.rcvd is not None and caught.value.rcvd.code == 1011
        mended.ping().wait(10)
        with pytest.raises(TimeoutError):
            mended.recv(timeout=1)


# ---- who is told ----

BAD = [
    (None, '"hosts": [{"address": ..., "socket_timeout": 15}]'),
    (["redis://:secret@127.0.0.1:1/0"], '"hosts": [{"address": ..., "socket_timeout": 15}]'),
    (["rediss://127.0.0.1:1"], '"hosts": [{"address": ..., "socket_timeout": 15}]'),
    (["unix:///run/redis.sock?db=1"], '"hosts": [{"address": ..., "socket_timeout": 15}]'),
    (["redis://127.0.0.1/0?socket_timeout=5"], "socket_timeout=15 in the URL"),
    (
        [{"address": "redis://127.0.0.1/0?socket_timeout=5", "socket_timeout": 60}],
        "socket_timeout=15 in the URL",
    ),
    ([["127.0.0.1", 1]], '"hosts": [{"host": ..., "port": ..., "socket_timeout": 15}]'),
    (
        [{"host": "127.0.0.1", "port": 1, "socket_timeout": 0}],
        '"hosts": [{"host": ..., "port": ..., "socket_timeout": 15}]',
    ),
    (
        [{"sentinels": [["127.0.0.1", 1]], "master_name": "m"}],
        '"hosts": [{"sentinels": ..., "master_name": ..., "socket_timeout": 15}]',
    ),
]
GOOD = [
    [{"address": "redis://127.0.0.1:1", "socket_timeout": 15}],
    [{"address": "redis://127.0.0.1:1", "socket_timeout": None}],
    ["redis://127.0.0.1:1/0?socket_timeout=5.5"],
    [{"host": "127.0.0.1", "port": 1, "socket_timeout": 6}],
    [{"sentinels": [["127.0.0.1", 1]], "master_name": "m", "socket_timeout": 20}],
]


def test_every_form_of_hosts() -> None:
    said = found(**{f"bad{i}": layer(hosts) for i, (hosts, _) in enumerate(BAD)})
    assert [remedy for _, remedy in said] == [f"write {remedy}" for _, remedy in BAD]
    assert all(f'CHANNEL_LAYERS["bad{i}"]' in what for i, (what, _) in enumerate(said))
    assert "secret" not in str(said)


def test_silence_where_nothing_is_wrong() -> None:
    others = {
        "pubsub": layer(["redis://127.0.0.1:1"], "channels_redis.pubsub.RedisPubSubChannelLayer"),
        "memory": {"BACKEND": "channels.layers.InMemoryChannelLayer"},
    }
    assert found(**{f"good{i}": layer(hosts) for i, hosts in enumerate(GOOD)}, **others) == []


def test_the_host_that_is_wrong_is_named() -> None:
    hosts = [{"host": "a", "port": 1, "socket_timeout": 9}, ["b", 2]]
    (said,) = found(default=layer(hosts))
    assert "socket_timeout of hosts[1]" in said[0]


def test_subclasses() -> None:
    """One that waits for longer, and one that makes its connections itself."""
    said = found(
        patient=layer(
            [{"address": "redis://a", "socket_timeout": 15}], "tests.apps.layers_redis.Patient"
        ),
        own=layer(["redis://a"], "tests.apps.layers_redis.Own"),
    )
    ((what, remedy),) = said
    assert 'CHANNEL_LAYERS["patient"]: channels_redis waits 30 s' in what
    assert "gives up after 15 s" in what
    assert '"socket_timeout": 40' in remedy


def test_layers_that_cannot_be_made() -> None:
    said = found(
        text=layer("redis://a"),
        nowhere=layer([], "nowhere.Layer"),
        url=layer(["http://a"]),
        broken=layer(["redis://a"], "tests.apps.layers_redis.Broken"),
    )
    assert [what.partition(": ")[0] for what, _ in said] == [
        f'CHANNEL_LAYERS["{alias}"] cannot be made'
        for alias in ("text", "nowhere", "url", "broken")
    ]


def test_nothing_is_looked_at_without_channels_or_settings() -> None:
    code = (
        "from pyasgi.channel_layers import weaknesses; import sys\n"
        "print(weaknesses(), 'django' in sys.modules)\n"
        "import channels, django.conf; print(weaknesses(), django.conf.settings.configured)"
    )
    assert python(code) == "[] False\n[] False"


def test_check_and_djangos_check() -> None:
    layers = json.dumps({"default": layer(["redis://a"])})
    done = subprocess.run(
        [sys.executable, "-m", "pyasgi", "--check", APP],
        cwd=ROOT,
        env={**os.environ, "LAYERS": layers},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith('cdaphne: warning: CHANNEL_LAYERS["default"]: channels_redis')
    assert done.stderr.count("\n") == 1
    code = (
        f"import os; os.environ['LAYERS'] = {layers!r}\nimport tests.apps.layers\n"
        "from django.core.checks import run_checks\n"
        "print(*[(found.id, found.hint) for found in run_checks() if 'W0' in found.id])"
    )
    hint = 'Write "hosts": [{"address": ..., "socket_timeout": 15}]'
    assert python(code) == str(("cdaphne.W001", hint))
