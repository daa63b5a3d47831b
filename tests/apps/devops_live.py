"""Django tests of examples/devops on a live server, run by ``manage.py test``: see tests/django/test_django_live.py.

START_METHOD chooses how the server's process is made. Module names that unittest discovers are avoided: pytest
has no Django settings.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import urllib.request
from typing import Any

from channels.testing import ChannelsLiveServerTestCase
from deploy.models import Notification, Service
from django.contrib.auth import get_user_model
from django.db import connection

from pyasgi.testing import DaphneProcess

if method := os.environ.get("START_METHOD"):
    multiprocessing.set_start_method(method, force=True)


class Pages:
    """The server sees what the test wrote, and nothing else: its database is this test's."""

    def test_pages_come_from_the_database_of_this_test(self: Any) -> None:
        names = {str(connection.settings_dict["NAME"]), type(self).__name__}
        user = get_user_model().objects.create_user("ann", password="secret")
        own = Service.objects.create(uid="own", name=f"Only in {sorted(names)}")
        self.client.force_login(user)
        request = urllib.request.Request(f"{self.live_server_url}/services/own/")
        request.add_header("Cookie", f"sessionid={self.client.cookies['sessionid'].value}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            page = answer.read().decode()
        assert "Live log" in page
        assert page.count("data-service=") == 2, "this service, in the list and at its head"
        assert type(self).__name__ in page
        own.delete()

    def test_static_files(self: Any) -> None:
        with urllib.request.urlopen(f"{self.live_server_url}/static/deploy/style.css") as answer:
            assert answer.headers["content-type"].split(";")[0] == "text/css"


class First(Pages, ChannelsLiveServerTestCase):
    """channels' own class as it is: what it imports from daphne.testing is ours."""


class Second(Pages, ChannelsLiveServerTestCase):
    ProtocolServerProcess = DaphneProcess


class Third(Pages, ChannelsLiveServerTestCase):
    host = "127.0.0.1"


class Deployment:
    """Two tabs of a Chromium, and what the server wrote meanwhile."""

    def test_deploy_fills_two_tabs(self: Any) -> None:
        from tests.support.chromium import Browser, start_chromium

        user = get_user_model().objects.create_user("demo", password="demo")
        Service.objects.create(uid="search", name="Search", version="1.4.9")
        with tempfile.TemporaryDirectory(prefix="cdaphne-chromium-") as profile:
            driver = start_chromium(profile)
            try:
                browser = Browser(driver)
                browser.log_in(self.live_server_url)
                tabs = browser.open_tabs(f"{self.live_server_url}/services/search/")
                browser.find("#deploy-button").click()
                for _ in browser.each(tabs):
                    browser.wait_for_text("#deploy-res .ok", "Search 1.4.10 is live")
                    browser.wait_for_text("#unread", "1")
                assert browser.complaints() == []
            finally:
                driver.quit()
        assert Service.objects.get().version == "1.4.10"
        assert Notification.objects.filter(user=user).count() == 1


class UnchangedBrowser(Deployment, ChannelsLiveServerTestCase):
    """As First."""


class NamedBrowser(Deployment, ChannelsLiveServerTestCase):
    ProtocolServerProcess = DaphneProcess
