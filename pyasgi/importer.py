"""Finding the application: ``package.module:attribute.path`` to an object, or one line that says why not."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import FunctionType
from typing import Any

from .words import a

VARIADIC = 0x04 | 0x08  # inspect.CO_VARARGS and CO_VARKEYWORDS


class ApplicationError(Exception):
    """The application cannot be loaded; the message is one line for the operator."""


def import_by_path(path: str) -> Any:
    """Imports the module left of the first ``:`` and follows the dotted attributes right of it.

    ValueError without a ``:``; ImportError and AttributeError as Python raises them.
    """
    module_path, colon, object_path = path.partition(":")
    if not colon or not module_path.strip(".") or module_path[0] == "." or not object_path:
        raise ValueError(f"{path!r} is not of the form MODULE:ATTRIBUTE")
    target: Any = importlib.import_module(module_path)
    for name in object_path.split("."):
        target = getattr(target, name)
    return target


def load(path: str, loader: Callable[[str], Any] = import_by_path) -> Any:
    """import_by_path with the operator's mistakes turned into ApplicationError.

    Exceptions that the application's own modules raise while they are imported pass through.
    """
    module_path, _, object_path = path.partition(":")
    try:
        return loader(path)
    except ValueError as error:
        if _raised_inside(error):
            raise
        raise ApplicationError(_no_colon(path)) from error
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_path}.".startswith(f"{error.name}."):
            raise
        raise ApplicationError(
            f"cannot import the application {path!r}: no module named {error.name!r};"
            " give MODULE:ATTRIBUTE as seen from the current directory or PYTHONPATH"
        ) from error
    except AttributeError as error:
        if _raised_inside(error):
            raise
        raise ApplicationError(
            f"cannot find the application {path!r}: {error};"
            f" give the name of the ASGI application in place of {object_path!r}"
        ) from error


def _raised_inside(error: BaseException) -> bool:
    """Was the exception raised while the application's module ran, rather than by this file?"""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__") not in (
        __name__,
        "importlib",
    )


def _no_colon(path: str) -> str:
    if path.endswith(".py") or "/" in path:
        guess = path.removesuffix(".py").strip("./").replace("/", ".")
        return (
            f"the application {path!r} is a file name; give MODULE:ATTRIBUTE: {guess}:application?"
        )
    module = path.strip(":.") or "project.asgi"
    return (
        f"the application {path!r} names no attribute; give MODULE:ATTRIBUTE: {module}:application?"
    )


def single_callable(app: Any) -> Callable[..., Any]:
    """The application as an ASGI 3 callable, ASGI 2 ones wrapped; ApplicationError for the rest."""
    if not callable(app):
        raise ApplicationError(
            f"the application is {_kind(app)}, which is not callable; name an ASGI application:"
            " async def app(scope, receive, send)"
        )
    takes_three, takes_one = _accepts(app, 3), _accepts(app, 1)
    if (takes_three and takes_one) or _marked(app):  # with *args only the kind of callable can tell
        from asgiref.compatibility import is_double_callable

        double = is_double_callable(app)  # type: ignore[no-untyped-call]
        return _wrapped(app) if double else app
    if takes_three:
        return app  # type: ignore[no-any-return]
    if takes_one:
        return _wrapped(app)
    hint = "; is it a factory? name what it returns" if _accepts(app, 0) else ""
    raise ApplicationError(
        f"the application {_kind(app)} takes neither (scope, receive, send) nor (scope){hint}"
    )


def _accepts(app: Callable[..., Any], count: int) -> bool:
    """Can app be called with count positional arguments? True when its signature is not known."""
    if _is_plain(app):
        return bool(app.__code__.co_argcount == count)
    import inspect  # 5 ms, of a start's 50

    try:
        signature = inspect.signature(app)
    except (ValueError, TypeError):
        return True
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _is_plain(app: Any) -> bool:
    """A function whose arguments are all positional and required, with nothing that says otherwise?"""
    return (
        type(app) is FunctionType
        and not app.__dict__
        and not app.__defaults__
        and not app.__code__.co_kwonlyargcount
        and not app.__code__.co_flags & VARIADIC
    )


def _marked(app: object) -> bool:
    """Does the application itself say which style it has?"""
    return hasattr(app, "_asgi_single_callable") or hasattr(app, "_asgi_double_callable")


def _wrapped(app: Callable[..., Any]) -> Callable[..., Any]:
    from asgiref.compatibility import double_to_single_callable

    wrapped: Callable[..., Any] = double_to_single_callable(app)  # type: ignore[no-untyped-call]
    return wrapped


def _kind(app: object) -> str:
    name = getattr(app, "__qualname__", None)
    return f"{name!r}" if name else f"{a(type(app).__name__)} ({app!r:.60})"
