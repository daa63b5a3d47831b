"""An application that uses Twisted: REACTOR_AT says whether it is imported with the application or in a request."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from typing import Any

AT = os.environ.get("REACTOR_AT", "import")

if AT == "import":
    import twisted.internet.reactor  # noqa: F401
elif AT == "epoll":
    from twisted.internet import epollreactor

    epollreactor.install()
elif AT == "own":
    from twisted.internet import asyncioreactor

    from pyasgi.server import twisted_loop

    asyncioreactor.install(twisted_loop)

seen: list[str] = []


def the_reactor() -> Any:
    from twisted.internet import reactor

    return reactor


async def view_later(scope: Any) -> str:
    from twisted.internet.defer import Deferred

    deferred: Any = Deferred()
    the_reactor().callLater(0.001, deferred.callback, "later")
    return str(await deferred.asFuture(asyncio.get_running_loop()))


async def view_thread(scope: Any) -> str:
    from twisted.internet.threads import blockingCallFromThread, deferToThread

    def work() -> bool:
        """In a thread of Twisted's; what it asks of the reactor is done in the loop's."""
        here = threading.current_thread()
        there = blockingCallFromThread(the_reactor(), threading.current_thread)
        return here is not there and there is threading.main_thread()

    return str(await deferToThread(work).asFuture(asyncio.get_running_loop()))


async def view_looping(scope: Any) -> str:
    from twisted.internet.task import LoopingCall

    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        if count == 3:
            call.stop()

    call = LoopingCall(step)
    await call.start(0.001).asFuture(asyncio.get_running_loop())
    return str(count)


async def view_client(scope: Any) -> str:
    """A client of Twisted's, of this very server."""
    from twisted.internet.defer import Deferred
    from twisted.internet.protocol import ClientFactory, Protocol

    class Get(Protocol):
        def connectionMade(self) -> None:
            self.transport.write(b"GET /later HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")

        def dataReceived(self, data: bytes) -> None:
            received.append(data)

        def connectionLost(self, reason: Any = None) -> None:
            done.callback(b"".join(received).decode())

    received: list[bytes] = []
    done: Any = Deferred()
    factory = ClientFactory()
    factory.protocol = Get
    the_reactor().connectTCP("127.0.0.1", scope["server"][1], factory)
    answer: str = await done.asFuture(asyncio.get_running_loop())
    return answer.rpartition("\r\n\r\n")[2]


async def view_process(scope: Any) -> str:
    from twisted.internet.utils import getProcessOutput

    output = getProcessOutput(sys.executable, ["-c", "print(6 * 7)"], reactor=the_reactor())
    return str((await output.asFuture(asyncio.get_running_loop())).decode().strip())


async def view_from_a_thread(scope: Any) -> str:
    """The first import may be a sync view's."""
    done = asyncio.get_running_loop().create_future()

    def work() -> None:
        the_reactor().callFromThread(done.set_result, "from a thread")

    await asyncio.to_thread(work)
    return str(await done)


async def view_busy(scope: Any) -> str:
    """A function that runs for a while in Twisted's thread when the server stops."""

    def work() -> None:
        seen.append("working")
        time.sleep(0.3)
        print("the thread has ended", file=sys.stderr, flush=True)

    the_reactor().callInThread(work)
    the_reactor().addSystemEventTrigger(
        "before", "shutdown", lambda: print("shutdown", file=sys.stderr, flush=True)
    )
    return "busy"


async def view_stop(scope: Any) -> str:
    the_reactor().callLater(0.01, the_reactor().stop)
    return "stopping"


async def view_untouched(scope: Any) -> str:
    return str("twisted.internet" in sys.modules)


VIEWS = {name[5:]: view for name, view in list(globals().items()) if name.startswith("view_")}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    body = (await VIEWS[scope["path"][1:]](scope)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
