# SPDX-License-Identifier: Apache-2.0
"""One headless Chromium for a play."""

import http.server
import os
import re
import shutil
import sys
import tempfile
import threading

from usherplay.stage import check, eventually

SKIPPED = 77  # ctest's SKIP_RETURN_CODE
PATIENCE = 30  # seconds: a slow machine is no fault of the console

try:
    from selenium import webdriver
    from selenium.common.exceptions import (
        ElementClickInterceptedException,
        ElementNotInteractableException,
        StaleElementReferenceException,
    )
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
except ImportError:
    webdriver = Keys = None

# Time that runs `%d` times faster, for what the page schedules and reads. What the browser does by
# itself, as fetch and its time limits, keeps the real one.
FASTER = """(() => {
    const speed = %d, date = Date.now(), tick = performance.now();
    const [later, often, real_now] = [setTimeout, setInterval, performance.now.bind(performance)];
    window.setTimeout = (work, ms, ...rest) => later(work, ms / speed, ...rest);
    window.setInterval = (work, ms, ...rest) => often(work, ms / speed, ...rest);
    performance.now = () => tick + (real_now() - tick) * speed;
    Date.now = () => Math.round(date + (real_now() - tick) * speed);
})()"""


def skip_without():
    """Ends the play when there is nothing to run it with."""
    missing = [name for name in ("chromium", "chromedriver") if not shutil.which(name)]
    if webdriver is None:
        missing.append("python3-selenium")
    if missing:
        print(f"skipped: {', '.join(missing)} is not installed; ./dev build installs it")
        sys.exit(SKIPPED)


class Browser:
    """Finds elements by CSS, and waits for what the page shows. arguments: more for Chromium."""

    def __init__(self, speed=1, arguments=()):
        self.profile = tempfile.mkdtemp(prefix="usher-chromium-")
        options = Options()
        options.binary_location = shutil.which("chromium")
        for argument in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-dev-shm-usage",
            "--disable-extensions",
            "--disable-background-networking",
            "--disable-component-update",
            "--hide-scrollbars",
            f"--user-data-dir={self.profile}",
            *arguments,
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(
            service=Service(shutil.which("chromedriver")), options=options
        )
        self.driver.set_script_timeout(PATIENCE)
        self.command("Page.addScriptToEvaluateOnNewDocument", source=FASTER % speed)
        self.size(1360, 900)

    def close(self):
        self.driver.quit()
        shutil.rmtree(self.profile, ignore_errors=True)

    def command(self, name, **parameters):
        return self.driver.execute_cdp_cmd(name, parameters)

    def size(self, width, height):
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def prefer(self, **features):
        self.command(
            "Emulation.setEmulatedMedia",
            features=[
                {"name": name.replace("_", "-"), "value": value} for name, value in features.items()
            ],
        )

    def open(self, url, page=""):
        """As in a new tab: nothing is left of another scene but what the cache holds."""
        self.driver.get(url + "icon.svg")
        self.script("sessionStorage.clear(); localStorage.clear()")
        self.driver.get(url + page)

    def go(self, page):
        self.script("location.hash = arguments[0]", page)

    def script(self, text, *arguments):
        return self.driver.execute_script(text, *arguments)

    def wait_script(self, text, *arguments):
        """The body of an async function, whose value is given."""
        return self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            f"(async () => {{ {text} }})().then(done, (error) => done(`failed: ${{error.stack}}`))",
            *arguments,
        )

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        found = eventually(lambda: self.all(selector), f"an element {selector}", PATIENCE)
        return found[0]

    def whichever(self, find, use):
        """An element may be drawn anew while it is used: then it is looked for once more."""

        def used():
            try:
                use(find())
            except (
                ElementClickInterceptedException,
                ElementNotInteractableException,
                StaleElementReferenceException,
            ):
                return False
            return True

        eventually(used, "an element that stays", 3 * PATIENCE)

    def click(self, selector):
        self.whichever(lambda: self.one(selector), lambda element: element.click())

    def keys_to(self, selector, *keys):
        self.whichever(lambda: self.one(selector), lambda element: element.send_keys(*keys))

    def text(self, selector):
        """What is shown there, all of it, at one moment."""
        return self.script(
            "return [...document.querySelectorAll(arguments[0])]"
            ".filter((node) => node.checkVisibility())"
            ".map((node) => node.innerText).join('\\n')",
            selector,
        )

    def until(self, selector, *words):
        """Waits until all words are shown there; gives the text."""

        def shown():
            text = self.text(selector)
            return text if all(word in text for word in words) else None

        try:
            return eventually(shown, f"{words} in {selector}", PATIENCE)
        except AssertionError as error:
            raise AssertionError(f"{error}; it shows {self.text(selector)!r}") from None

    def button(self, text, within=""):
        """In one step: a dialog that is just closing may take its buttons along."""
        return eventually(
            lambda: self.script(
                "return [...document.querySelectorAll(arguments[0])].find((button) =>"
                "button.checkVisibility() && button.innerText === arguments[1])",
                f"{within} button",
                text,
            ),
            f"a button {text!r}",
            PATIENCE,
        )

    def focused(self):
        return self.driver.switch_to.active_element

    def focused_text(self):
        return self.script("return document.activeElement.innerText")

    def keys(self, *keys):
        self.whichever(self.focused, lambda element: element.send_keys(*keys))

    def faults(self):
        """What the browser complained about since the last call, without refused requests and
        what follows from a build without uPlot."""
        return [
            line["message"]
            for line in self.driver.get_log("browser")
            if line["level"] in ("SEVERE", "WARNING")
            and "Failed to load resource" not in line["message"]
            and not re.search(r"Refused to .*uPlot.*MIME type", line["message"])
        ]

    def check_quiet(self):
        faults = self.faults()
        check(not faults, f"the browser complains: {faults}")

    def shoot(self, name, whole=False):
        """A picture in the folder that USHER_PLAY_PICTURES names."""
        folder = os.environ.get("USHER_PLAY_PICTURES")
        if not folder:
            return
        if whole:
            width, height = self.script(
                "return [innerWidth, document.documentElement.scrollHeight]"
            )
            self.size(width, height)
        os.makedirs(folder, exist_ok=True)
        self.driver.save_screenshot(os.path.join(folder, f"{name}.png"))


class PageServer(http.server.ThreadingHTTPServer):
    """Gives pages what find(path) says: (type, bytes). To be left by `with`."""

    def __init__(self, find):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                kind, body = find(self.path.partition("?")[0])
                self.send_response(200)
                self.send_header("Content-Type", f"{kind}; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://localhost:{self.server_address[1]}/"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *arguments):
        self.shutdown()
        super().__exit__(*arguments)
