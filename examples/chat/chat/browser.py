"""A Chromium with two tabs in rooms of the chat. ``python -m chat.browser http://127.0.0.1:8000`` has one say
something to the other on a server that runs already."""

import shutil
import sys
import tempfile

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

PATIENCE = 20  # seconds for anything that a page should show
FLAGS = "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run".split()


class Tabs:
    """Context manager; each tab is entered by the name of its room and talks through the page's own script."""

    def __init__(self, url):
        self.url = url

    def __enter__(self):
        self.profile = tempfile.TemporaryDirectory(
            prefix="chat-chromium-", ignore_cleanup_errors=True
        )
        options = ChromeOptions()
        options.binary_location = shutil.which("chromium") or shutil.which("chromium-browser")
        for flag in (*FLAGS, f"--user-data-dir={self.profile.name}"):
            options.add_argument(flag)
        self.driver = Chrome(options=options, service=Service(shutil.which("chromedriver")))
        return self

    def __exit__(self, *exc):
        self.driver.quit()
        self.profile.cleanup()

    def enter(self, room):
        """Enters the room through the first page, in a new tab; returns the tab."""
        self.driver.switch_to.new_window("tab")
        self.driver.get(f"{self.url}/chat/")
        self.driver.find_element(By.ID, "room-name-input").send_keys(f"{room}\n")
        self.wait(lambda: self.driver.current_url.endswith(f"/chat/{room}/"))
        self.wait(lambda: self.script("return document.body.dataset.state") == "open")
        return self.driver.current_window_handle

    def say(self, tab, text):
        self.driver.switch_to.window(tab)
        self.driver.find_element(By.ID, "chat-message-input").send_keys(f"{text}\n")

    def log(self, tab):
        """The messages that a tab shows."""
        self.driver.switch_to.window(tab)
        return self.script("return document.getElementById('chat-log').value").split("\n")[:-1]

    def wait_for(self, tab, *messages):
        """Until the tab shows exactly these messages."""
        self.wait(lambda: self.log(tab) == list(messages))

    def wait(self, condition):
        WebDriverWait(self.driver, PATIENCE, 0.05).until(lambda _: condition())

    def script(self, code):
        return self.driver.execute_script(code)


def main(url):
    with Tabs(url) as tabs:
        one, two = tabs.enter("lobby"), tabs.enter("lobby")
        tabs.say(one, "hello from one")
        tabs.wait_for(two, "hello from one")
        tabs.say(two, "hello from two")
        for tab in (one, two):
            tabs.wait_for(tab, "hello from one", "hello from two")
    print(f"two tabs talked through {url}")


if __name__ == "__main__":
    main(sys.argv[1])
