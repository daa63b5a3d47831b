"""The project's tests. None names a server: INSTALLED_APPS says which one is behind channels.testing."""

from channels.testing import ChannelsLiveServerTestCase, WebsocketCommunicator
from django.test import TestCase

from mysite.asgi import application

from .browser import Tabs


class Pages(TestCase):
    def test_room_names_itself(self):
        self.assertContains(self.client.get("/chat/lobby/"), '"lobby"')


class Consumer(TestCase):
    async def test_what_is_said_comes_back(self):
        headers = [(b"origin", b"http://localhost"), (b"host", b"localhost")]
        tab = WebsocketCommunicator(application, "/ws/chat/lobby/", headers)
        connected, _ = await tab.connect()
        self.assertTrue(connected)
        await tab.send_json_to({"message": "hello"})
        self.assertEqual(await tab.receive_json_from(), {"message": "hello"})
        await tab.disconnect()


class Rooms(ChannelsLiveServerTestCase):
    serve_static = True

    def test_a_room_hears_what_is_said_in_it(self):
        with Tabs(self.live_server_url) as tabs:
            one, two = tabs.enter("room_1"), tabs.enter("room_1")
            tabs.say(one, "hello")
            for tab in (one, two):
                tabs.wait_for(tab, "hello")

    def test_another_room_does_not(self):
        with Tabs(self.live_server_url) as tabs:
            one, other = tabs.enter("room_1"), tabs.enter("room_2")
            tabs.say(one, "hello")
            tabs.wait_for(one, "hello")
            tabs.say(other, "world")
            tabs.wait_for(other, "world")
