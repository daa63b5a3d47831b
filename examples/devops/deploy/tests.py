"""
Tests of the demonstration project without a server: the consumers are driven as ASGI
applications. channels.testing is avoided on purpose: importing it imports daphne.
"""

import asyncio
import contextlib
import io
import json
import os
import subprocess
import sys
import threading
from unittest import mock

from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
from channels.layers import get_channel_layer
from channels.routing import URLRouter
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.core.management import CommandError, call_command
from django.test import TestCase, TransactionTestCase, override_settings
from django.urls import reverse
from django.utils import timezone

from . import groups, pipeline
from .consumers import NO_SUCH_SERVICE, SIGNED_OUT
from .models import ABANDONED_AFTER, Notification, Service
from .routing import websocket_urlpatterns


def make_service(**values):
    return Service.objects.create(
        **{"uid": "search", "name": "Search", "version": "1.4.9"} | values
    )


def make_user(name="ann"):
    return get_user_model().objects.create_user(name, password="secret")


class Socket:
    """One WebSocket client of the routing, as the given user."""

    def __init__(self, path, user):
        scope = {"type": "websocket", "path": path, "headers": [], "user": user}
        self.app = ApplicationCommunicator(URLRouter(websocket_urlpatterns), scope)

    async def open(self):
        await self.app.send_input({"type": "websocket.connect"})
        answer = await self.app.receive_output(5)
        assert answer["type"] == "websocket.accept", answer
        return self

    async def send(self, data):
        text = data if isinstance(data, str) else json.dumps(data)
        await self.app.send_input({"type": "websocket.receive", "text": text})

    async def receive(self):
        return json.loads((await self.app.receive_output(5))["text"])

    async def receive_until(self, wanted):
        """All messages up to the first one for which wanted(message) holds."""
        seen = []
        while not seen or not wanted(seen[-1]):
            seen.append(await self.receive())
        return seen

    async def close_code(self):
        return (await self.app.receive_output(5))["code"]

    async def close(self):
        await self.app.send_input({"type": "websocket.disconnect", "code": 1000})
        await self.app.wait(5)


@contextlib.asynccontextmanager
async def opened(path, user):
    socket = await Socket(path, user).open()
    try:
        yield socket
    finally:
        await socket.close()


class Consumers(TransactionTestCase):
    def setUp(self):
        self.user = make_user()
        self.service = make_service()
        async_to_sync(get_channel_layer().flush)()

    async def test_note_reaches_every_watcher(self):
        bob = await get_user_model().objects.acreate(username="bob")
        async with (
            opened("ws/deploy/search/", self.user) as first,
            opened("ws/deploy/search/", bob) as second,
        ):
            await first.send({"message": "  hello  "})
            for socket in (first, second):
                note = await socket.receive()
                self.assertEqual((note["level"], note["text"]), ("note", "hello"))
                self.assertEqual(note["author"], "ann")

    async def test_note_stays_with_its_service(self):
        await Service.objects.acreate(uid="other", name="Other")
        async with (
            opened("ws/deploy/search/", self.user) as first,
            opened("ws/deploy/other/", self.user) as second,
        ):
            await first.send({"message": "hello"})
            await first.receive()
            self.assertTrue(await second.app.receive_nothing(0.2))

    async def test_bad_notes_are_answered_to_their_sender_only(self):
        async with opened("ws/deploy/search/", self.user) as socket:
            for bad in (
                "not json",
                "[]",
                {},
                {"message": 5},
                {"message": " "},
                {"message": "x" * 501},
            ):
                await socket.send(bad)
                answer = await socket.receive()
                self.assertEqual(answer["level"], "error")
                self.assertIn("1 to 500 characters", answer["text"])

    async def test_leaves_the_group(self):
        async with opened("ws/deploy/search/", self.user):
            self.assertIn(groups.watchers("search"), get_channel_layer().groups)
        self.assertNotIn(groups.watchers("search"), get_channel_layer().groups)

    async def test_refusals(self):
        for path, user, code in (
            ("ws/deploy/search/", AnonymousUser(), SIGNED_OUT),
            ("ws/notifications/", AnonymousUser(), SIGNED_OUT),
            ("ws/deploy/nowhere/", self.user, NO_SUCH_SERVICE),
            ("ws/deploy/s\u00e9arch x/", self.user, NO_SUCH_SERVICE),
        ):
            async with opened(path, user) as socket:
                self.assertEqual(await socket.close_code(), code)

    async def test_first_message_is_the_state_of_everything(self):
        await Notification.objects.acreate(user=self.user, service=self.service, text="news")
        async with opened("ws/notifications/", self.user) as socket:
            first = await socket.receive()
            self.assertEqual(first["unread"], 1)
            self.assertEqual([s["uid"] for s in first["services"]], ["search"])
            self.assertEqual(first["http_version"], "1.1")

    async def test_ping(self):
        async with opened("ws/notifications/", self.user) as socket:
            await socket.receive()
            await socket.send({"action": "ping", "sent": 12.5})
            self.assertEqual(await socket.receive(), {"pong": 12.5})

    async def test_clear_reaches_all_tabs_of_this_user_only(self):
        bob = await get_user_model().objects.acreate(username="bob")
        for user in (self.user, bob):
            await Notification.objects.acreate(user=user, service=self.service, text="news")
        async with (
            opened("ws/notifications/", self.user) as first,
            opened("ws/notifications/", self.user) as second,
            opened("ws/notifications/", bob) as other,
        ):
            for socket in (first, second, other):
                self.assertEqual((await socket.receive())["unread"], 1)
            await first.send({"action": "clear"})
            self.assertEqual(await first.receive(), {"unread": 0})
            self.assertEqual(await second.receive(), {"unread": 0})
            self.assertTrue(await other.app.receive_nothing(0.2))


@override_settings(DEPLOY_PAUSE=0.01)
class DeployButton(TransactionTestCase):
    def setUp(self):
        self.user = make_user()
        self.service = make_service()
        async_to_sync(get_channel_layer().flush)()

    async def press(self, **headers):
        return await self.async_client.post(reverse("deploy", args=["search"]), headers=headers)

    async def settle(self):
        while pipeline.running:
            await asyncio.wait(set(pipeline.running), timeout=5)

    async def test_reports_to_the_log_and_counts_up_the_badge(self):
        await self.async_client.aforce_login(self.user)
        async with (
            opened("ws/deploy/search/", self.user) as log,
            opened("ws/notifications/", self.user) as news,
        ):
            self.assertEqual((await news.receive())["unread"], 0)
            response = await self.press(accept="application/json")
            self.assertEqual(response.status_code, 202)
            lines = await log.receive_until(lambda line: line.get("done"))
            self.assertEqual([s["step"] for s in lines if "step" in s], [1, 2, 3, 4, 5, 6, 7])
            self.assertEqual(lines[0]["text"], "ann deploys Search 1.4.10")
            self.assertEqual(lines[-1]["text"], "Search 1.4.10 is live")
            events = await news.receive_until(lambda event: "notification" in event)
            states = [event["services"][0]["state"] for event in events[:-1]]
            self.assertEqual(states, ["deploying", "live"])
            self.assertEqual(events[-1]["unread"], 1)
            await self.settle()
        await self.service.arefresh_from_db()
        self.assertEqual((self.service.state, self.service.version), ("live", "1.4.10"))

    async def test_a_page_opened_later_gets_the_lines_of_the_last_deployment(self):
        await self.async_client.aforce_login(self.user)
        async with opened("ws/deploy/search/", self.user) as log:
            await self.press(accept="application/json")
            live = await log.receive_until(lambda line: line.get("done"))
            await self.settle()
        async with opened("ws/deploy/search/", self.user) as log:
            kept = (await log.receive())["lines"]
        self.assertEqual(kept, live)
        self.assertEqual([line["number"] for line in kept], list(range(1, len(kept) + 1)))
        self.assertEqual(len({line["run"] for line in kept}), 1)

    async def test_the_next_deployment_replaces_them(self):
        await self.async_client.aforce_login(self.user)
        runs = []
        for _ in range(2):
            await self.press()
            await self.settle()
            await self.service.arefresh_from_db()
            runs.append({line["run"] for line in self.service.lines})
        self.assertEqual([len(run) for run in runs], [1, 1])
        self.assertLess(max(runs[0]), min(runs[1]), "a page orders runs by their text")

    async def test_a_service_that_breaks(self):
        await Service.objects.aupdate(breaks=True)
        await self.async_client.aforce_login(self.user)
        with self.assertLogs("deploy", "INFO") as logged:
            async with opened("ws/deploy/search/", self.user) as log:
                await self.press(accept="application/json")
                lines = await log.receive_until(lambda line: line.get("done"))
                await self.settle()
        self.assertEqual(lines[-1]["level"], "error")
        self.assertEqual(lines[-1]["text"], "Deployment failed: step 3, run the tests")
        self.assertNotIn("Traceback", "\n".join(logged.output))
        await self.service.arefresh_from_db()
        self.assertEqual((self.service.state, self.service.version), ("failed", "1.4.9"))
        note = await Notification.objects.aget(user=self.user)
        self.assertEqual(note.text, "Search was not deployed")

    async def test_failure_is_told(self):
        await self.async_client.aforce_login(self.user)
        with (
            mock.patch.object(pipeline, "STEPS", [("Break", ["{nothing}"])]),
            self.assertLogs("deploy", "ERROR"),
        ):
            async with opened("ws/deploy/search/", self.user) as log:
                await self.press(accept="application/json")
                lines = await log.receive_until(lambda line: line.get("done"))
                await self.settle()
        self.assertEqual(lines[-1]["level"], "error")
        await self.service.arefresh_from_db()
        self.assertEqual(self.service.state, "failed")

    async def test_second_press_is_refused(self):
        await self.async_client.aforce_login(self.user)
        await Service.objects.aupdate(state="deploying", started_at=timezone.now())
        response = await self.press(accept="application/json")
        self.assertEqual(response.status_code, 409)
        self.assertEqual(response.json(), {"error": "Search is already being deployed"})
        self.assertFalse(pipeline.running)

    async def test_without_script_comes_back_to_the_page(self):
        await self.async_client.aforce_login(self.user)
        response = await self.press()
        self.assertRedirects(response, "/services/search/", fetch_redirect_response=False)
        await self.settle()

    async def test_needs_a_login_and_a_post(self):
        response = await self.press(accept="application/json")
        self.assertRedirects(
            response, "/login/?next=/services/search/deploy/", fetch_redirect_response=False
        )
        await self.async_client.aforce_login(self.user)
        response = await self.async_client.get("/services/search/deploy/")
        self.assertEqual(response.status_code, 405)

    def test_stops_when_the_server_stops(self):
        stop = threading.Event()
        stop.set()
        self.assertTrue(self.service.claim())
        with self.assertRaises(pipeline.Interrupted):
            pipeline.Deployment(self.service, "ann", 60, stop).run()
        self.service.refresh_from_db()
        self.assertEqual(self.service.state, "failed")
        self.assertIn("Interrupted", self.service.lines[-1]["text"])


class Claim(TestCase):
    def test_one_at_a_time(self):
        service = make_service()
        self.assertTrue(service.claim())
        self.assertFalse(Service.objects.get(uid="search").claim())
        service.finish("1.4.10")
        self.assertTrue(Service.objects.get(uid="search").claim())

    def test_an_abandoned_one_does_not_block_for_ever(self):
        service = make_service(state="deploying", started_at=timezone.now() - ABANDONED_AFTER)
        self.assertTrue(service.claim())


class Pages(TestCase):
    def test_anonymous_is_asked_to_log_in(self):
        make_service()
        for address in ("/", "/services/search/"):
            self.assertRedirects(self.client.get(address), f"/login/?next={address}")

    def test_log_in_and_see_the_service(self):
        make_user()
        make_service(description="Finds <things>")
        response = self.client.post(
            "/login/", {"username": "ann", "password": "secret"}, follow=True
        )
        self.assertEqual(response.request["PATH_INFO"], "/services/search/")
        self.assertContains(response, 'id="deploy-res"')
        self.assertContains(response, "Finds &lt;things&gt;")

    def test_wrong_password(self):
        make_user()
        response = self.client.post("/login/", {"username": "ann", "password": "wrong"})
        self.assertContains(response, "do not match")

    def test_no_services(self):
        self.client.force_login(make_user())
        self.assertContains(self.client.get("/"), "demo_data")

    def test_the_login_page_says_who_may_log_in_while_it_is_no_secret(self):
        hint = "password <code>demo</code>"
        self.assertNotContains(self.client.get("/login/"), hint)
        call_command("demo_data", stdout=io.StringIO())
        self.assertContains(self.client.get("/login/"), hint)
        self.assertContains(self.client.get("/login/"), "demonstration of <strong>cdaphne")
        call_command("demo_data", password="other", stdout=io.StringIO())
        self.assertNotContains(self.client.get("/login/"), hint)

    def test_unknown_pages_have_the_face_of_the_others(self):
        self.client.force_login(make_user())
        for address in ("/services/nowhere/", "/nowhere/"):
            response = self.client.get(address)
            self.assertContains(response, "To the services", status_code=404)
            self.assertContains(response, "deploy/style.css", status_code=404)

    def test_unknown_pages_in_a_process_with_debug(self):
        question = (
            "import django; django.setup()\n"
            "from django.test import Client\n"
            "client = Client(headers={'host': 'localhost'})\n"
            "for address in ('/nowhere/', '/no/where'):\n"
            "    answer = client.get(address, follow=True)\n"
            "    print(answer.status_code, b'To the services' in answer.content)"
        )
        environment = {
            **os.environ,
            "DEVOPS_DEBUG": "1",
            "DJANGO_SETTINGS_MODULE": "devops.settings",
        }
        done = subprocess.run(
            [sys.executable, "-c", question],
            cwd=settings.BASE_DIR,
            env=environment,
            capture_output=True,
            text=True,
        )
        self.assertEqual(done.stdout, "404 True\n404 True\n", done.stderr)

    async def test_static_files_without_debug(self):
        response = await self.async_client.get("/static/deploy/page.js")
        self.assertEqual(response.status_code, 200)
        self.assertIn("text/javascript", response["Content-Type"])
        body = b"".join([part async for part in response.streaming_content])
        self.assertIn(b"LiveSocket", body)


class Commands(TestCase):
    def test_demo_data_twice(self):
        out = io.StringIO()
        for _ in range(2):
            call_command("demo_data", stdout=out)
        self.assertEqual(Service.objects.count(), 6)
        self.assertEqual(out.getvalue().count("password: demo"), 2)
        self.assertTrue(self.client.login(username="demo", password="demo"))

    def test_deploy_demo_refuses_the_in_memory_layer(self):
        make_service()
        with self.assertRaisesMessage(CommandError, "Set REDIS_URL"):
            call_command("deploy_demo", "search")
        self.assertEqual(Service.objects.get().state, "idle")

    @mock.patch("deploy.management.commands.deploy_demo.InMemoryChannelLayer", ())
    def test_deploy_demo(self):
        make_service()
        out = io.StringIO()
        call_command("deploy_demo", "search", pause=0, stdout=out)
        self.assertIn("Search 1.4.10 is live", out.getvalue())
        with self.assertRaisesMessage(CommandError, "no service 'nowhere'; there are: search"):
            call_command("deploy_demo", "nowhere")
        Service.objects.update(breaks=True)
        with self.assertRaisesMessage(CommandError, "not deployed: step 3, run the tests"):
            call_command("deploy_demo", "search", pause=0, stdout=out)
        Service.objects.update(state="deploying", started_at=timezone.now())
        with self.assertRaisesMessage(CommandError, "already being deployed"):
            call_command("deploy_demo", "search")
