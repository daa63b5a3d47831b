"""Makes children of every kind, and tells what they were and how they ended; /slow and a WebSocket run meanwhile."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import json
import multiprocessing
import os
import pty
import resource
import signal
import subprocess
import sys
import time
import traceback
import urllib.request
from collections.abc import Awaitable, Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import anyio.to_thread
from asgiref.sync import sync_to_async

Message = dict[str, Any]

early_pool: Any = None
START_METHODS = ("fork", "forkserver", "spawn")
SHOW_LIMIT = "import resource; print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
SERVER = int(os.environ.setdefault("FORKING_SERVER", str(os.getpid())))

atexit.register(
    lambda: print(
        f"atexit in {'the server' if os.getpid() == SERVER else 'a child'}", file=sys.stderr
    )
)


# ---- what children do ----


def facts() -> dict[str, Any]:
    """What a child has."""
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    try:
        running = repr(asyncio.get_running_loop())
    except RuntimeError:
        running = ""
    return {
        "pid": os.getpid(),
        "wakeup": wakeup,
        "handlers": {
            name: repr(signal.getsignal(getattr(signal, name)))
            for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP")
        },
        "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
        "running": running,
        "sleeps": asyncio.run(asyncio.sleep(0.01, "slept")),
        "limit": resource.getrlimit(resource.RLIMIT_NOFILE),
        "open": descriptors(),
    }


def descriptors() -> list[str]:
    found = []
    for entry in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{entry}"))
        except FileNotFoundError:  # the listing's own
            continue
    return found


def sleep_long(*_: object) -> None:
    time.sleep(60)


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


def report(path: str) -> None:
    """What a child of os.fork() had to say, for its parent to read."""
    try:
        said = json.dumps(facts())
    except BaseException:  # noqa: BLE001 - the test reads it
        said = json.dumps({"error": traceback.format_exc()})
    Path(path).write_text(said)


# ---- children, by name; each is called in a thread or in the loop's, and returns what JSON takes ----


def process_facts(method: str) -> Any:
    context = multiprocessing.get_context(method)
    with context.Pool(1) as pool:
        return pool.apply(facts)


def terminated(method: str, times: str = "1") -> int | None:
    """The child is sent SIGTERM, as soon as it exists."""
    process = multiprocessing.get_context(method).Process(target=sleep_long)
    process.start()
    for _ in range(int(times)):
        process.terminate()
    process.join(20)
    return process.exitcode


def pool(method: str) -> list[int]:
    with multiprocessing.get_context(method).Pool(2) as workers:
        return workers.map(abs, [-1, -2, -3])


def broken_pool(method: str) -> str:
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
        future = executor.submit(kill_itself)
        try:
            future.result()
        except BrokenProcessPool:
            return "broken"
    return "whole"


def killed_pool_worker(method: str) -> list[int]:
    with multiprocessing.get_context(method).Pool(1) as workers:
        # Not by its pid: one that waits for work has a lock that nobody gives back.
        workers.apply_async(kill_itself)
        return workers.map(abs, [-1, -2])


def forked(end: str, path: str = "") -> int:
    """os.fork(); the child comes back to the view, which goes on as `end` says."""
    pid = os.fork()
    if pid == 0:
        if path:
            report(path)
        leave(end)
        return 0
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def leave(end: str) -> None:
    if end == "exit":
        print("printed by a child")
        sys.exit(7)
    if end == "message":
        sys.exit("said by a child")
    if end == "_exit":
        os._exit(7)
    if end == "raise":
        raise ZeroDivisionError("raised in a child")
    if end == "kill":
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    assert end == "return"


def on_a_terminal(end: str) -> int:
    pid, terminal = pty.fork()
    if pid == 0:
        leave(end)
        return 0
    try:
        while os.read(terminal, 1000):
            continue
    except OSError:  # EIO: the child has gone
        pass
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def daemon(path: str) -> int:
    """A double fork; the grandchild lives on its own for a while."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork() > 0:
            os._exit(0)
        report(path)
        time.sleep(60)
        sys.exit(3)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def limits() -> dict[str, list[int]]:
    """The limit of open files of programs, by how they were started."""
    command = [sys.executable, "-c", SHOW_LIMIT]
    said = {
        "subprocess": subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout,
        "preexec_fn": subprocess.run(
            command, stdout=subprocess.PIPE, preexec_fn=os.getpid, check=True
        ).stdout,
        "shell": subprocess.run(
            "ulimit -Sn; ulimit -Hn", shell=True, stdout=subprocess.PIPE, check=True
        ).stdout,
    }
    read, write = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, write, 1)]
    pid = os.posix_spawn(sys.executable, command, os.environ, file_actions=actions)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said["posix_spawn"] = pipe.read()
    os.waitpid(pid, 0)
    found = {name: [int(word) for word in text.split()] for name, text in said.items()}
    found["system"] = [os.waitstatus_to_exitcode(os.system("exit $(( $(ulimit -Sn) / 8 ))")) * 8]
    for method in START_METHODS:
        found[method] = list(process_facts(method)["limit"])
    found["own"] = list(resource.getrlimit(resource.RLIMIT_NOFILE))
    return found


def serve_hello(pipe: Any) -> None:
    """A child's own server."""
    from pyasgi.server import Server

    async def hello(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello of a child"})

    server = Server(
        hello,
        ["tcp:0:interface=127.0.0.1"],
        lifespan="off",
        ready_callable=lambda: pipe.send(server.listening_addresses[0]),
    )
    server.run()


def own_server(method: str) -> list[Any]:
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    process = context.Process(target=serve_hello, args=(theirs,))
    process.start()
    host, port = ours.recv()
    with urllib.request.urlopen(f"http://{host}:{port}/", timeout=20) as response:
        said = response.read().decode()
    process.terminate()
    process.join(20)
    return [said, process.exitcode]


def preexec(end: str) -> int:
    """The child leaves before the program runs."""
    try:
        done = subprocess.run([sys.executable, "-c", ""], preexec_fn=lambda: leave(end))
    except subprocess.SubprocessError:
        return -1
    return done.returncode


CHILDREN: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        process_facts,
        terminated,
        pool,
        broken_pool,
        killed_pool_worker,
        forked,
        on_a_terminal,
        daemon,
        limits,
        own_server,
        preexec,
    )
}


# ---- the application ----

Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]


async def answer(send: Send, status: int, body: Any) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


async def subprocess_limit() -> list[int]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SHOW_LIMIT, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return [int(word) for word in out.split()]


async def work(kind: str, arguments: list[str], where: str) -> Any:
    if kind == "asyncio":
        return await subprocess_limit()
    if where == "asgiref":
        return await sync_to_async(CHILDREN[kind])(*arguments)
    if where == "anyio":
        return await anyio.to_thread.run_sync(CHILDREN[kind], *arguments)
    if where == "thread":
        return await asyncio.to_thread(CHILDREN[kind], *arguments)
    if where == "task":  # of the view's own, and not in its first step

        async def later() -> Any:
            await asyncio.sleep(0.01)
            return CHILDREN[kind](*arguments)

        return await asyncio.create_task(later())
    return CHILDREN[kind](*arguments)


async def slow(send: Send, pieces: int) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for number in range(pieces):
        await send(
            {"type": "http.response.body", "body": b"%07d\n" % number * 1000, "more_body": True}
        )
        await asyncio.sleep(0.02)
    await send({"type": "http.response.body", "body": b""})


async def echo(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        elif message["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        else:
            return


async def lifespan(receive: Receive, send: Send) -> None:
    """Has a pool from the startup to the shutdown."""
    global early_pool
    await receive()
    with multiprocessing.get_context("fork").Pool(1) as early_pool:
        await send({"type": "lifespan.startup.complete"})
        await receive()
    early_pool.join()
    early_pool = None
    await send({"type": "lifespan.shutdown.complete"})


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """/CHILD?a=ARGUMENT&a=...&where=loop|thread|task makes one; /slow?a=N sends N pieces; /ready answers."""
    if scope["type"] == "websocket":
        await echo(receive, send)
        return
    if scope["type"] == "lifespan" and "FORKING_POOL" in os.environ:
        await lifespan(receive, send)
        return
    if scope["type"] != "http":
        raise ValueError(f"no {scope['type']} here")
    query = parse_qs(scope["query_string"].decode())
    kind, arguments = scope["path"][1:], query.get("a", [])
    if kind == "slow":
        await slow(send, int(arguments[0]))
    elif kind == "early":
        await answer(send, 200, early_pool.apply(facts))
    elif kind == "ready":
        await answer(send, 200, os.getpid())
    else:
        await answer(send, 200, await work(kind, arguments, query.get("where", ["loop"])[0]))
