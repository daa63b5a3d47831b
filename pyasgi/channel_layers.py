"""What is known to go wrong with the channel layers that a Django project has in its settings.

channels_redis.core asks Redis for the next message with a command that waits brpop_timeout seconds, 5 as it comes. The
client, redis-py, waits socket_timeout seconds for the answer to any command: without an end up to version 7, 5 seconds
from version 8 on. When that is not longer than the command itself, the client gives up first, and the exception ends
every consumer that has had no message (https://github.com/django/channels_redis/issues/422). channels_redis.pubsub asks
with a time of its own and is not affected.

The versions are not looked at: the time is that of a connection made as the layer makes it, but not opened.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any

MARGIN = 10  # the proposed timeout is so many seconds longer than the command waits


def weaknesses() -> list[tuple[str, str]]:
    """Lists (what is wrong, what to write) for every layer in CHANNEL_LAYERS; [] without Channels or settings."""
    if "channels" not in sys.modules or "django.conf" not in sys.modules:
        return []
    settings: Any = sys.modules["django.conf"].settings
    layers = getattr(settings, "CHANNEL_LAYERS", None) if settings.configured else None
    if not isinstance(layers, Mapping):
        return []
    return [found for alias in layers for found in _of_layer(alias, layers[alias])]


def _of_layer(alias: str, config: Any) -> list[tuple[str, str]]:
    backend = str(config.get("BACKEND", "")) if isinstance(config, Mapping) else ""
    if not backend or backend.startswith("channels.layers."):
        return []
    name = f'CHANNEL_LAYERS["{alias}"]'
    try:
        layer = _redis_layer(alias, backend)
        return [] if layer is None else _of_redis(name, layer)
    except Exception as error:  # noqa: BLE001 - a project's own code, which must not keep the server from serving
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return [(f"{name} cannot be made: {reason}", "mend it in the settings")]


def _redis_layer(alias: str, backend: str) -> Any:
    """Makes a layer with this name, for the check only, if it is channels_redis.core's or a subclass."""
    module, _, attribute = backend.rpartition(".")
    made = getattr(importlib.import_module(module), attribute)
    core = sys.modules.get("channels_redis.core")
    if core is None or not issubclass(made, core.RedisChannelLayer):
        return None
    if not hasattr(made, "create_pool"):  # channels_redis 3 has its own client
        return None
    from channels.layers import channel_layers

    return channel_layers.make_backend(alias)


def _of_redis(name: str, layer: Any) -> list[tuple[str, str]]:
    found = []
    for index, host in enumerate(layer.hosts):
        waits = layer.brpop_timeout
        patience = layer.create_pool(index).make_connection().socket_timeout
        if patience is None or (waits and patience > waits):
            continue
        what = (
            f"{name}: channels_redis waits {waits:g} s for a message, and redis-py gives up after"
            f" {patience:g} s (socket_timeout of hosts[{index}]): idle consumers end with an exception, their"
            " WebSockets with 1011"
        )
        found.append((what, f"write {_remedy(host, waits + MARGIN)}"))
    return found


def _remedy(host: Mapping[str, Any], seconds: float) -> str:
    """The entry of hosts as it should be, without its secrets."""
    from urllib.parse import parse_qs, urlsplit

    if "socket_timeout" in parse_qs(urlsplit(str(host.get("address", ""))).query):
        return f"socket_timeout={seconds:g} in the URL"  # it overrides the key
    for keys in (("address",), ("host", "port"), ("path",), ("sentinels", "master_name")):
        if keys[0] in host:
            parts = "".join(f'"{key}": ..., ' for key in keys if key in host)
            return f'"hosts": [{{{parts}"socket_timeout": {seconds:g}}}]'
    return f'"socket_timeout": {seconds:g} in that entry'
