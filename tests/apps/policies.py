"""An application that sets another event-loop policy: POLICY says which, POLICY_AT at import or in a request."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from typing import Any

import uvloop


class Bare(asyncio.AbstractEventLoopPolicy):
    """One that knows nothing at all."""

    def get_event_loop(self) -> Any:
        raise RuntimeError("this policy has no loop")

    def set_event_loop(self, loop: Any) -> None:
        """Nothing is kept."""

    def new_event_loop(self) -> Any:
        raise NotImplementedError


def install() -> None:
    policy = uvloop.EventLoopPolicy if os.environ["POLICY"] == "uvloop" else Bare
    asyncio.set_event_loop_policy(policy())


if os.environ.get("POLICY_AT") == "import":
    install()


async def exec_and_shell() -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "print(6 * 7)", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    shell = await asyncio.create_subprocess_shell("exit 7")
    return f"{output.decode().strip()} {process.returncode} {await shell.wait()}"


async def view_spawn() -> str:
    return await exec_and_shell()


async def view_current() -> str:
    """Within a coroutine get_event_loop() is the running loop, whatever the policy says."""
    with contextlib.suppress(NotImplementedError):
        asyncio.set_event_loop(None)
    same = asyncio.get_event_loop() is asyncio.get_running_loop()
    return f"{same} {type(asyncio.get_running_loop()).__name__}"


async def view_thread() -> str:
    """A loop of another library in another thread, meanwhile."""

    def run() -> str:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return str(runner.run(other()))

    async def other() -> str:
        await asyncio.sleep(0.001)
        elsewhere = threading.current_thread() is not threading.main_thread()
        return f"{type(asyncio.get_running_loop()).__module__} {elsewhere}"

    return await asyncio.to_thread(run)


VIEWS = {name[5:]: view for name, view in list(globals().items()) if name.startswith("view_")}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if os.environ["POLICY_AT"] == "request":
        install()
    body = (await VIEWS[scope["path"][1:]]()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
