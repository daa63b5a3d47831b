"""EventLoop: asyncio's event loop with libev underneath, the one cdaphne's servers run on.

It is ``asyncio.SelectorEventLoop`` with another selector, so executors, subprocesses, signals,
streams and whatever else asyncio has is asyncio's own code.  It can be used without a server::

    asyncio.run(main(), loop_factory=pyasgi.loop.EventLoop)  # Python 3.12 and newer

    with asyncio.Runner(loop_factory=pyasgi.loop.EventLoop) as runner:  # Python 3.11 and newer
        runner.run(main())

Nothing is made when this module is imported: a loop belongs to the process and thread that make it.
"""

from __future__ import annotations

import asyncio

from pyasgi import _core

__all__ = ["EventLoop"]


class EventLoop(_core.LoopBase, asyncio.SelectorEventLoop):
    """An asyncio event loop on libev.

    Any thread of any process may make one and run it; after a fork the child makes its own.
    ``close()`` frees everything and raises ``RuntimeError`` while a server on the loop is open.
    ``OSError`` when the system has no descriptor left.
    """

    def __init__(self) -> None:
        super().__init__(_core.Poller(self))
