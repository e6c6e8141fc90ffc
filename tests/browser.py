"""A real browser without a window, for pages: what they compute and show, and what goes wrong in them."""

import base64
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

BROWSER, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"  # where Debian has them
MISSING = "no Chromium here: scripts/test installs it (Debian: apt-get install chromium chromium-driver)"
ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,900")


class Browser:
    """`open` a page, `run` JavaScript in it; whatever goes wrong in a page fails the test.

    with started() as browser:
        browser.open(path)
        assert browser.run("return document.title") == "conveyor"
    """

    def __init__(self, driver):
        self.driver = driver

    def open(self, page):
        """A file, or an address. Fails if the page, as it loads, writes an error to the console."""
        self.driver.get(page if isinstance(page, str) else page.resolve().as_uri())
        self.check()

    def run(self, script, *given):
        """What the script returns, where it is a promise what that gives. Fails if anything writes an error."""
        result = self.driver.execute_script(script, *given)
        self.check()
        return result

    def numbers(self, script, *given):
        """What the script returns, a Float32Array or Float64Array, as an array; quicker than a list."""
        kind, text = self.run(f"{PACK} return pack((() => {{ {script} }})());", *given)
        return np.frombuffer(base64.b64decode(text), {4: np.float32, 8: np.float64}[kind])

    def errors(self):
        """What pages have written to the console since one last looked that is an error."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def check(self):
        found = self.errors()
        assert not found, "in the page: " + "\n".join(found)


PACK = """
const pack = (numbers) => {
  const bytes = new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
  const pieces = [];
  for (let i = 0; i < bytes.length; i += 32768) pieces.push(String.fromCharCode(...bytes.subarray(i, i + 32768)));
  return [numbers.BYTES_PER_ELEMENT, btoa(pieces.join(""))];
};
"""


@contextmanager
def started():
    """A browser, for as long as one needs it."""
    assert all(Path(program).exists() for program in (BROWSER, DRIVER)), MISSING
    options = Options()
    options.binary_location = BROWSER
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.set_script_timeout(120)
        driver.set_page_load_timeout(120)
        yield Browser(driver)
    finally:
        driver.quit()
