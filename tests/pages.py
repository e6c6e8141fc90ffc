"""A page in a browser, and what a person does with it."""

import json
import os
import time
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

SCREENSHOTS = os.environ.get("CONVEYOR_SCREENSHOTS")  # a folder that keeps the pictures; without it pytest's does
READY = "document.documentElement.dataset.ready"
RESTED = "!document.querySelector('#time output').textContent.includes('run to')"
ZOOMED = "document.querySelector('#depths [data-now]').dataset.depth === '{}'"


class Page:
    """A page of the browser, and what a person does with it."""

    def __init__(self, browser):
        self.browser, self.driver, self.run = browser, browser.driver, browser.run

    def open(self, file, address=""):
        self.browser.open("about:blank")  # so that another address is another page
        self.browser.open(f"{file.as_uri()}#{address}")
        self.wait(READY)

    def wait(self, condition):
        """Until the script is true."""
        give_up = time.monotonic() + 20
        while not self.run(f"return Boolean({condition})"):
            assert time.monotonic() < give_up, condition
            time.sleep(0.02)
        return self

    def rest(self):
        """Until everything has run and has been drawn."""
        self.run("return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return self.wait(RESTED)

    def find(self, selector):
        """The first such element that can be seen, as soon as there is one."""
        self.wait(f"[...document.querySelectorAll({json.dumps(selector)})].some((one) => one.checkVisibility())")
        return next(one for one in self.driver.find_elements(By.CSS_SELECTOR, selector) if one.is_displayed())

    def text(self, selector):
        return self.find(selector).text

    def click(self, selector):
        self.run("arguments[0].scrollIntoView({block: 'center'})", element := self.find(selector))
        element.click()
        return self.rest()

    def press(self, *keys):
        ActionChains(self.driver).send_keys(*keys).perform()
        return self.rest()

    def type(self, text):
        """Into the box, in place of what is there."""
        script = "const box = document.getElementById('text'); box.value = arguments[0];"
        self.run(script + "box.dispatchEvent(new Event('input', {bubbles: true}))", text)
        return self.rest()

    def slide(self, selector, value):
        script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))"
        self.run(script, self.find(selector), str(value))
        return self.rest()

    def bars(self, column=0, place="#sequence .next-card"):
        """The candidates and their percentages, as they are shown."""
        rows = self.run(
            "const [place, column] = arguments;"
            "const table = [...document.querySelectorAll(`${place} table`)][column];"
            "return [...table.rows].map((row) => [row.querySelector('th').textContent,"
            "row.querySelector('.figure').textContent])",
            place,
            column,
        )
        return [(name, percentage) for name, percentage in rows]

    def address(self):
        self.wait("true")
        time.sleep(0.4)  # it is written a little later
        return self.run("return location.hash.slice(1)")

    def shot(self, name, folder):
        folder = Path(SCREENSHOTS or folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(folder / f"{name}.png"))

    @contextmanager
    def screen(self, width, height=900, scheme="light", motion="no-preference"):
        media = [{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": motion}]
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
        try:
            yield
        finally:
            self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
            self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
