from django.urls import re_path

from . import consumers

websocket_urlpatterns = [
    re_path(r"^ws/deploy/(?P<service_uid>[^/]+)/$", consumers.DeployConsumer.as_asgi()),
    re_path(r"^ws/notifications/$", consumers.NotificationConsumer.as_asgi()),
]
