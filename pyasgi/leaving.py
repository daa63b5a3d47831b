"""The end of the process, after the server's: Python waits for threads that are no daemons, then runs atexit's hooks.

Both may be the application's most important work: a mail that is being sent, telemetry that is flushed. They get
--exit-timeout; then, or at a signal, the process ends without them, and the log shows where they hang.
"""

from __future__ import annotations

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

NOTICE_SECONDS = 2.0  # until the log tells what the exit waits for
WRITE_SECONDS = 2.0  # for the last line of the log: a hook of logging may be what hangs


def leave(status: int, limit: float) -> None:
    """Watches the exit, which begins when this returns; after limit seconds it ends with status. 0 is no limit."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            if is_default(signal.getsignal(number)):
                signal.signal(number, _cut)
    threading.Thread(target=_watch, args=(status, limit), name="exit", daemon=True).start()


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
    _end(
        128 + number, f"Received {signal.Signals(number).name}: exiting at once, without the end of"
    )


def _end(status: int, why: str) -> None:
    if sys.__stderr__ is not None:
        faulthandler.dump_traceback_later(WRITE_SECONDS, exit=True, file=sys.__stderr__)
    holding = _holding()
    logger.error("%s %s\n%s", why, _describe(holding), _stacks(holding))
    logging.shutdown()
    os._exit(status)


Holding = list[tuple[str, FrameType]]  # what the exit waits for, with its innermost frame


def _holding() -> Holding:
    frames = sys._current_frames()
    main = frames.get(threading.main_thread().ident or 0)
    if main is not None and not _waits_for_threads(main):
        return [(f"the exit hook {_outermost(main).f_code.co_qualname}()", main)]
    return [
        (f"thread {thread.name}", frames[thread.ident])
        for thread in threading.enumerate()
        if not thread.daemon and thread is not threading.main_thread() and thread.ident in frames
    ]


def _waits_for_threads(main: FrameType) -> bool:
    code = _outermost(main).f_code
    return code.co_name == "_shutdown" and code.co_filename == threading.__file__


def _outermost(frame: FrameType) -> FrameType:
    while frame.f_back is not None:
        frame = frame.f_back
    return frame


def _describe(holding: Holding) -> str:
    return ", ".join(name for name, _ in holding) or "the interpreter"


def _stacks(holding: Holding) -> str:
    return "\n".join(
        f"{name}, most recent call last:\n{''.join(traceback.format_stack(frame)).rstrip()}"
        for name, frame in holding
    )
