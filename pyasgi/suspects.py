"""Which extension's event an application was handling when it failed.

Frameworks use an extension as soon as the scope offers it, and middleware that has never heard of it fails with
whatever its next step is: KeyError: 'body', an AssertionError, a ValueError of its own. So no exception is
recognised by its kind: an event of that type must be in the hands of a frame that the exception came through, or
the exception must name it.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator

MOST = 50  # the most exceptions to look at


def suspected(offered: Iterable[str], error: BaseException) -> list[str]:
    """Lists the offered extensions whose events may have caused the error, by their short names."""
    types = {f"http.response.{name}": name for name in offered}
    if not types:
        return []
    found = {kind for each in _family(error) for kind in types if _handles(each, kind)}
    return sorted(types[kind] for kind in found)


def _family(error: BaseException) -> Iterator[BaseException]:
    """The exception with its causes, contexts and, of a group, members."""
    waiting = [error]
    seen: set[int] = set()
    while waiting and len(seen) < MOST:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [other for other in (each.__cause__, each.__context__) if other is not None]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions


def _handles(error: BaseException, kind: str) -> bool:
    # An OSError is the file's, not the middleware's.
    if isinstance(error, OSError):
        return False
    return kind in str(error) or any(
        type(value) is dict and value.get("type") == kind
        for frame, _ in traceback.walk_tb(error.__traceback__)
        for value in list(frame.f_locals.values())
    )
