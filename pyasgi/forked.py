"""What a forked child keeps of the server: nothing.

multiprocessing's workers, os.fork() in a view and Popen(preexec_fn=...) all run Python's hooks for forks
(os.register_at_fork()), and ours are here. In the child the parent's loops and servers are closed without a word
to anybody (_core.forsake), signals are as they were before the server took them, and asyncio knows of no loop. A
signal for the child that comes while it is not that far yet waits: until then the server's own handler and wake-up
descriptor stand there.

A child that comes back from the view ends at once, with the exit status of what it raised, as a worker of
multiprocessing does: the rest of the stack is the parent's.

Children that run no hooks (subprocess, os.posix_spawn) are another program at once, and all descriptors of ours are
closed on exec.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from types import CodeType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from .native import _core

if TYPE_CHECKING:
    import concurrent.futures


class Owner(Protocol):
    """Holds things that a forked child must not use."""

    def signals(self) -> Iterable[int]:
        """The signals that must wait while a process forks."""

    def forsake(self) -> None:
        """Is called in the child: forgets these things."""


class _Forking(threading.local):
    """What this thread restores after a fork that it has begun."""

    mask: set[Any] | None = None  # the signal mask before the fork
    task: asyncio.Task[Any] | None = None  # the context in which the fork happens


_owners: list[Owner] = []
_forking = _Forking()
_kept: list[
    Any
] = []  # the parent's, not to be freed in a child: that may run code of the application's


@contextlib.contextmanager
def owning(*owners: Owner) -> Iterator[None]:
    """While it is open, a child that is forked calls their forsake()."""
    _owners.extend(owners)
    try:
        yield
    finally:
        for owner in owners:
            _owners.remove(owner)


def _before() -> None:
    if not _owners:
        return
    signals = {number for owner in _owners for number in owner.signals()}
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            _flush(stream)  # else the child would write the same lines again
    try:
        _forking.task = asyncio.current_task()
    except RuntimeError:  # not in a loop's thread
        _forking.task = None
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)


def _after_in_parent() -> None:
    mask, _forking.mask, _forking.task = _forking.mask, None, None
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_in_child() -> None:
    for loop in _core.forsake(_end):
        _forget(loop)
    if _owners:
        _end_worker()
    for owner in _owners:
        owner.forsake()
    _owners.clear()
    mask, _forking.mask = _forking.mask, None
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _forget(loop: Any) -> None:
    """Clears asyncio's references to a loop of the parent's."""
    loop._thread_id = None  # the loop does not run
    for end in (getattr(loop, "_ssock", None), getattr(loop, "_csock", None)):
        if end is not None:
            end.close()
    if sys.version_info >= (3, 12) or threading.current_thread() is not threading.main_thread():
        return  # asyncio does the rest
    signal.set_wakeup_fd(-1)
    asyncio._set_running_loop(None)
    policy = asyncio.events._event_loop_policy  # type: ignore[attr-defined]
    if isinstance(policy, asyncio.events.BaseDefaultEventLoopPolicy):
        policy._local = type(policy)._Local()  # type: ignore[attr-defined]


class _EndOfWork:
    """An item of a thread pool's queue that ends the child, whose only thread takes it from there."""

    def __init__(self, future: concurrent.futures.Future[Any] | None) -> None:
        self._future = future  # the exception of the call that forked

    def run(self, *args: object) -> None:
        future = self._future
        _end(None if future is None or future.cancelled() else future.exception())


def _end_worker() -> None:
    """Sees to it that the child ends when the call is over that a worker thread was given.

    The thread would look for more work, and find what the parent's other requests have queued, or wait for ever.
    """
    thread: Any = threading.current_thread()
    pools = sys.modules.get("concurrent.futures.thread")
    # Out of it, too: at the exit of the child each of these is joined, and none can join itself.
    queue = None if pools is None else pools._threads_queues.pop(thread, None)
    if pools is not None and queue is not None:
        while not queue.empty():
            _kept.append(queue.get_nowait())
        queue.put(_EndOfWork(_running_call(pools._WorkItem.run.__code__)))
    anyio = sys.modules.get("anyio._backends._asyncio")
    if type(thread) is getattr(anyio, "WorkerThread", None):
        while not thread.queue.empty():
            _kept.append(thread.queue.get_nowait())
        thread.queue.put(None)


def _running_call(code: CodeType) -> concurrent.futures.Future[Any] | None:
    """The future of the call that this thread of a pool is running."""
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_code is not code:
        frame = frame.f_back
    return getattr(frame.f_locals.get("self"), "future", None)


def _end(error: BaseException | None) -> NoReturn:
    """Ends a child that has come back from the view in which it forked."""
    status = 1
    try:
        status = _status(error if error is not None else _outcome(_forking.task))
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        util = sys.modules.get("multiprocessing.util")
        if util is not None:
            util._run_finalizers()  # the functions that this process has registered
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                _flush(stream)
        os._exit(status)


def _outcome(task: asyncio.Task[Any] | None) -> BaseException | None:
    if task is None or not task.done() or task.cancelled():
        return None
    return task.exception()


def _status(error: BaseException | None) -> int:
    """The exit status that Python would give; it reports the error as Python does."""
    if error is None or isinstance(error, _core.ClientDisconnected):
        return 0  # what it has to say to the client is the parent's business
    if not isinstance(error, SystemExit):
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def _flush(stream: Any) -> None:
    try:
        stream.flush()
    except OSError:  # full, or nobody reads it: what is in the buffer stays there
        return


os.register_at_fork(
    before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
)
