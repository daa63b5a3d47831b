"""The end of the process, after the server's: Python waits for threads that are no daemons, then runs atexit's hooks.

Both may be the application's most important work: a mail that is being sent, telemetry that is flushed. They get
--exit-timeout; then, or at a signal, the process ends without them, and the log shows where they hang.

A thread that runs a synchronous view is another matter. The coroutine that waited for it has been cancelled, and
--graceful-timeout is what a request gets. Python would wait for it all the same, and the exit hooks with it.
"""

from __future__ import annotations

import atexit
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
import traceback
from types import FrameType

from .signals import is_default

logger = logging.getLogger("daphne.cli")

NOTICE_SECONDS = 2.0  # seconds until the log says what the exit waits for
WRITE_SECONDS = 2.0  # seconds for the last line of the log: logging itself may hang
LOOK_SECONDS = 0.02  # seconds between two looks at what still runs

Holding = list[tuple[str, FrameType]]  # what the exit waits for, and its innermost frame


def leave(status: int, limit: float, views_end: float = 0) -> None:
    """Watches the exit, which begins when this returns; after limit seconds it ends with status. 0 is no limit.

    views_end: when the time of synchronous views is over, by time.monotonic().
    """
    main = threading.current_thread() is threading.main_thread()
    if main:
        for number in (signal.SIGTERM, signal.SIGINT):
            if is_default(signal.getsignal(number)):
                signal.signal(number, _cut)
    threading.Thread(target=_watch, args=(status, limit), name="exit", daemon=True).start()
    if main:
        _leave_views(status, views_end)


def _watch(status: int, limit: float) -> None:
    if not limit or limit > NOTICE_SECONDS:
        time.sleep(NOTICE_SECONDS)
        seconds = f" up to {limit:g} s" if limit else ""
        logger.info("Waiting%s for the end of %s", seconds, _describe(_holding()))
    if not limit:
        return
    time.sleep(max(0.0, limit - NOTICE_SECONDS) if limit > NOTICE_SECONDS else limit)
    _end(status, f"The server ended {limit:g} s ago (--exit-timeout): exiting without the end of")


def _cut(number: int, frame: FrameType | None) -> None:
    name = signal.Signals(number).name
    _end(128 + number, f"Received {name}: exiting at once, without the end of")


def _end(status: int, why: str) -> None:
    if sys.__stderr__ is not None:
        faulthandler.dump_traceback_later(WRITE_SECONDS, exit=True, file=sys.__stderr__)
    holding = _holding()
    logger.error("%s %s\n%s", why, _describe(holding), _stacks(holding))
    _exit(status)


def _exit(status: int) -> None:
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(status)


# ---- synchronous views ----


def _leave_views(status: int, views_end: float) -> None:
    """Waits for threads as Python does, but for synchronous views only until their end.

    Returns when none of these is left: Python's own exit does the rest.
    """
    while True:
        threads = _threads()
        views = [thread for thread in threads if _is_view(thread[1])]
        if not views:
            return
        if time.monotonic() >= views_end and len(views) == len(threads):
            break
        time.sleep(LOOK_SECONDS)
    logger.warning(
        "Exiting without the end of %s, whose request was cut (--graceful-timeout)\n%s",
        _describe(views),
        _stacks(views),
    )
    _run_hooks()
    _exit(status)


def _run_hooks() -> None:
    atexit._run_exitfuncs()


def _is_view(frame: FrameType | None) -> bool:
    """Does the thread run a call that asgiref or anyio (for Django, Starlette, FastAPI) made for a coroutine?"""
    inner = ""
    while frame is not None:
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        if name == "thread_handler" and file.endswith("asgiref/sync.py"):
            return True
        if name == "run" and file.endswith("anyio/_backends/_asyncio.py"):
            return not inner.endswith("queue.py")  # else it is idle
        inner, frame = file, frame.f_back
    return False


# ---- what the exit waits for ----


def _holding() -> Holding:
    main = sys._current_frames().get(threading.main_thread().ident or 0)
    hook = _hook(main)
    if main is not None and hook is not None:
        return [(f"the exit hook {hook.f_code.co_qualname}()", main)]
    return _threads()


def _threads() -> Holding:
    """Threads that Python waits for, without those of executors that have nothing to do."""
    frames = sys._current_frames()
    return [
        (f"thread {thread.name}", frames[thread.ident])
        for thread in threading.enumerate()
        if not thread.daemon and thread is not threading.main_thread() and thread.ident in frames
        if frames[thread.ident].f_code.co_filename != EXECUTOR
    ]


EXECUTOR = os.path.join(os.path.dirname(threading.__file__), "concurrent", "futures", "thread.py")


def _hook(frame: FrameType | None) -> FrameType | None:
    """The outermost frame of the exit hook that the main thread runs, if it does."""
    inner = None
    while frame is not None:
        code = frame.f_code
        if code is _run_hooks.__code__:
            return inner
        waits = code.co_name == "_shutdown" and code.co_filename == threading.__file__
        if waits or code is _leave_views.__code__:
            return None
        inner, frame = frame, frame.f_back
    return inner


def _describe(holding: Holding) -> str:
    return ", ".join(name for name, _ in holding) or "the interpreter"


def _stacks(holding: Holding) -> str:
    return "\n".join(
        f"{name}, most recent call last:\n{''.join(traceback.format_stack(frame)).rstrip()}"
        for name, frame in holding
    )
