"""
The two sockets of a page: the log of one service, and the user's notifications.

A browser cannot see the status of a refused handshake, so a socket that is refused is
accepted and closed with a code of our own: the page then knows that trying again is useless.
"""

import json

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.utils import timezone

from . import groups
from .models import Notification, Service

SIGNED_OUT = 4401
NO_SUCH_SERVICE = 4404
MAX_NOTE = 500


def decode(text_data: str | None) -> dict:
    """The JSON object a browser sent; an empty one for anything else."""
    try:
        data = json.loads(text_data or "")
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


class DeployConsumer(AsyncWebsocketConsumer):
    room_group_name: str | None = None

    async def connect(self):
        self.service_uid = self.scope["url_route"]["kwargs"]["service_uid"]
        self.user = self.scope["user"]
        if not self.user.is_authenticated:
            await self.refuse(SIGNED_OUT)
        elif not await Service.objects.filter(uid=self.service_uid).aexists():
            await self.refuse(NO_SUCH_SERVICE)
        else:
            self.room_group_name = groups.watchers(self.service_uid)
            await self.channel_layer.group_add(self.room_group_name, self.channel_name)
            await self.accept()
            # Joined first, then read: a line may come twice, and the page knows it by its number.
            service = await Service.objects.aget(uid=self.service_uid)
            if service.lines:
                await self.send(text_data=json.dumps({"lines": service.lines}))

    async def refuse(self, code):
        await self.accept()
        await self.close(code=code)

    async def disconnect(self, close_code):
        if self.room_group_name:
            await self.channel_layer.group_discard(self.room_group_name, self.channel_name)

    # From the browser: a note for everybody who watches this service.
    async def receive(self, text_data=None, bytes_data=None):
        note = decode(text_data).get("message")
        if self.room_group_name is None:
            return
        if not isinstance(note, str) or not 0 < len(note.strip()) <= MAX_NOTE:
            problem = f'expected {{"message": text of 1 to {MAX_NOTE} characters}}'
            await self.send(text_data=json.dumps({"level": "error", "text": problem}))
            return
        message = {
            "level": "note",
            "text": note.strip(),
            "author": self.user.get_username(),
            "at": timezone.now().isoformat(),
        }
        await self.channel_layer.group_send(
            self.room_group_name, {"type": "client.message", "message": message}
        )

    # From the group: a note, or a step of a deployment.
    async def client_message(self, event):
        await self.send(text_data=json.dumps(event["message"]))


class NotificationConsumer(AsyncWebsocketConsumer):
    joined: tuple[str, ...] = ()

    async def connect(self):
        self.user = self.scope["user"]
        await self.accept()
        if not self.user.is_authenticated:
            await self.close(code=SIGNED_OUT)
            return
        # Join first, then read: what changes in between arrives as an event.
        self.joined = (groups.tabs(self.user.pk), groups.SERVICES)
        for group in self.joined:
            await self.channel_layer.group_add(group, self.channel_name)
        await self.send_json(
            {
                "unread": await self.unread(),
                "services": await self.services(),
                # "2" for a WebSocket inside an HTTP/2 connection.
                "http_version": self.scope.get("http_version", "1.1"),
            }
        )

    async def disconnect(self, close_code):
        for group in self.joined:
            await self.channel_layer.group_discard(group, self.channel_name)

    async def receive(self, text_data=None, bytes_data=None):
        request = decode(text_data)
        if request.get("action") == "ping":
            # A page cannot send the pings of the protocol, nor see the server's.
            await self.send_json({"pong": request.get("sent")})
        elif self.joined and request.get("action") == "clear":
            await Notification.objects.filter(user=self.user, read_at=None).aupdate(
                read_at=timezone.now()
            )
            # Through the group, so that the badge goes out in all tabs of this user.
            await self.channel_layer.group_send(self.joined[0], {"type": "notification.cleared"})

    async def notification_new(self, event):
        await self.send_json({"unread": await self.unread(), "notification": event["notification"]})

    async def notification_cleared(self, event):
        await self.send_json({"unread": await self.unread()})

    async def service_changed(self, event):
        await self.send_json({"services": [event["service"]]})

    async def unread(self):
        return await Notification.objects.filter(user=self.user, read_at=None).acount()

    @database_sync_to_async
    def services(self):
        return [service.as_dict() for service in Service.objects.defer("lines")]

    async def send_json(self, data):
        await self.send(text_data=json.dumps(data))
