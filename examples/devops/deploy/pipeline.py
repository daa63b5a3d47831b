"""
A simulated deployment, told step by step to everybody who watches.

All of it is ordinary blocking code, the way a real deployment script would be. It talks to
the browsers with async_to_sync(channel_layer.group_send), so it runs equally well in a
thread of the server (start) and in a process of its own (manage.py deploy_demo).
"""

import asyncio
import atexit
import logging
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future

from asgiref.sync import async_to_sync, sync_to_async
from channels.layers import get_channel_layer
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import connections
from django.utils import timezone

from . import groups
from .models import Notification, Service

logger = logging.getLogger(__name__)

STEPS = [
    ("Check out the source", ["fetching origin", "HEAD is now at {commit}"]),
    ("Install dependencies", ["resolving 48 packages", "48 packages, 0 changed"]),
    ("Run the tests", ["collected 312 items", "312 passed"]),
    ("Build the image", ["layer 1/3 cached", "layer 2/3 cached", "layer 3/3 built"]),
    ("Push the image", ["registry.internal/{uid}:{version}"]),
    ("Roll out", ["replica 1 of 3 ready", "replica 2 of 3 ready", "replica 3 of 3 ready"]),
    ("Check health", ["GET /healthz 200", "traffic switched to {version}"]),
]


# Where a service that breaks stops, and what its tests say there.
BREAKS_AT = "Run the tests"
BREAKAGE = ["collected 312 items", "FAILED test_rounding", "1 failed, 311 passed"]


class StepFailed(Exception):
    """The deployment has come to an end that its service is to blame for."""


class Interrupted(Exception):
    """The server is shutting down in the middle of a deployment."""


class Deployment:
    """
    One run for a service that has been claimed. `pause` is the time in seconds between
    two lines; `stop`, once set, ends the run at the next line.
    """

    def __init__(
        self,
        service: Service,
        by: str,
        pause: float,
        stop: threading.Event | None = None,
        echo: Callable[[str], object] | None = None,
    ):
        self.service = service
        self.by = by
        self.pause = pause
        self.stop = stop or threading.Event()
        self.echo = echo
        self.layer = get_channel_layer()

    def run(self) -> None:
        try:
            self.play()
        except BaseException as error:
            self.service.fail()
            if isinstance(error, Interrupted):
                # Nobody can be reached any more; who opens the page later reads it.
                self.kept("error", "Interrupted: the server was stopped", done=True)
            else:
                reason = str(error) or type(error).__name__
                self.report("error", f"Deployment failed: {reason}", done=True)
                self.announce()
            if isinstance(error, StepFailed):
                notify_everybody(self.service, f"{self.service.name} was not deployed")
            raise

    def play(self) -> None:
        version = self.service.next_version
        facts = {
            "uid": self.service.uid,
            "version": version,
            "commit": secrets.token_hex(4)[:7],
        }
        self.service.lines = []
        self.announce()
        self.report("start", f"{self.by} deploys {self.service.name} {version}")
        for number, (title, lines) in enumerate(STEPS, 1):
            self.report("step", title, step=number, steps=len(STEPS))
            breaks = self.service.breaks and title == BREAKS_AT
            for line in BREAKAGE if breaks else lines:
                self.wait()
                self.report("info", line.format(**facts))
            if breaks:
                raise StepFailed(f"step {number}, {title.lower()}")
        self.wait()
        self.service.finish(version)
        self.report("ok", f"{self.service.name} {version} is live", done=True)
        self.announce()
        notify_everybody(self.service, f"{self.service.name} {version} is live")

    def wait(self) -> None:
        if self.stop.wait(self.pause):
            raise Interrupted

    def report(self, level: str, text: str, **more: object) -> None:
        message = self.kept(level, text, **more)
        async_to_sync(self.layer.group_send)(
            groups.watchers(self.service.uid), {"type": "client.message", "message": message}
        )
        if self.echo:
            self.echo(text if level != "info" else f"  {text}")

    def kept(self, level: str, text: str, **more: object) -> dict:
        """A line of the log, which the service remembers. Run and number tell a page whether it has it."""
        line = {
            "level": level,
            "text": text,
            "at": timezone.now().isoformat(),
            "run": self.service.started_at.isoformat(),
            "number": len(self.service.lines) + 1,
            **more,
        }
        self.service.keep(line)
        return line

    def announce(self) -> None:
        """Tell every page the service's state, for the list at the side."""
        async_to_sync(self.layer.group_send)(
            groups.SERVICES, {"type": "service.changed", "service": self.service.as_dict()}
        )


def notify_everybody(service: Service, text: str) -> None:
    layer = get_channel_layer()
    for user in get_user_model().objects.filter(is_active=True):
        note = Notification.objects.create(user=user, service=service, text=text)
        async_to_sync(layer.group_send)(
            groups.tabs(user.pk), {"type": "notification.new", "notification": note.as_dict()}
        )


# --- in a thread of the server -----------------------------------------------------------


class DaemonThread(Executor):
    """
    A thread per call, as a daemon: a thread of the usual pool is joined at exit, and a
    deployment that waits for a loop which has already stopped would never end.
    """

    def submit(self, fn, /, *args, **kwargs):
        future: Future = Future()

        def work():
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - the future carries it on
                future.set_exception(error)
            else:
                future.set_result(result)

        threading.Thread(target=work, name="deployment", daemon=True).start()
        return future


# The loop keeps only weak references to its tasks.
running: set[asyncio.Task] = set()
# Deployments whose thread is at work, and what tells them to stop.
active: dict[threading.Thread, threading.Event] = {}


@atexit.register
def interrupt_all() -> None:
    """Let each deployment write down that it failed, instead of dying in the middle."""
    threads = dict(active)
    for stop in threads.values():
        stop.set()
    for thread in threads:
        thread.join(timeout=2)  # one that waits for a loop that is gone cannot be helped


def start(service: Service, by: str) -> None:
    """
    Run a deployment in the background; returns at once. To be called from a sync view.

    Why not simply threading.Thread: async_to_sync in a thread that knows no event loop
    makes a new one for every call, and the in-memory channel layer is not made for two
    loops. A thread started by sync_to_async knows the server's loop, and uses that.
    """

    async def begin():
        task = asyncio.create_task(supervise(service, by))
        running.add(task)
        task.add_done_callback(running.discard)

    async_to_sync(begin)()


async def supervise(service: Service, by: str) -> None:
    stop = threading.Event()
    try:
        await sync_to_async(in_thread, thread_sensitive=False, executor=DaemonThread())(
            service, by, stop
        )
    finally:
        stop.set()


def in_thread(service: Service, by: str, stop: threading.Event) -> None:
    active[threading.current_thread()] = stop
    try:
        Deployment(service, by, settings.DEPLOY_PAUSE, stop).run()
    except StepFailed as error:
        logger.info("deployment of %s failed: %s", service.uid, error)
    except Interrupted:
        logger.warning("deployment of %s interrupted: the server is stopping", service.uid)
    except Exception:
        logger.exception("deployment of %s failed", service.uid)
    finally:
        connections.close_all()
        del active[threading.current_thread()]
