"""What the tests do in a browser, in the words of whoever sits before it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium.webdriver import ActionChains, Chrome, ChromeOptions, Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # it refuses to run as root with one
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,1000",
)


def started(chromium: str, driver: str, profile: Path) -> Chrome:
    """A browser that notes its console and its network requests."""
    options = ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return Chrome(options=options, service=Service(driver))


class Page:
    """A report that is open in the browser."""

    def __init__(self, browser: Chrome, path: Path) -> None:
        self.browser = browser
        self.url = path.as_uri()
        self.logs("browser")
        self.logs("performance")
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        browser.get(self.url)
        browser.execute_script("localStorage.clear()")
        browser.refresh()
        self.until(self._drawn)

    def _drawn(self) -> bool:
        """Whether the timeline was painted; a script that has failed is no reason to wait for it."""
        if self.find("#timeline").get_attribute("data-ended"):
            return True
        broken = [entry["message"] for entry in self.logs("browser") if entry["level"] == "SEVERE"]
        assert not broken, broken
        return False

    def find(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return self.find(selector).text

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def run_async(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_async_script(script, *arguments)

    def logs(self, kind: str) -> list[dict[str, Any]]:
        """What was logged since the last call."""
        return self.browser.get_log(kind)  # type: ignore[no-any-return]

    def requests(self) -> list[str]:
        """The addresses of all requests of the page since the last call; the start page makes some too."""
        events = [json.loads(entry["message"])["message"] for entry in self.logs("performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [each["request"]["url"] for each in sent if each["documentURL"] == self.url]

    def until(self, condition: Callable[[], Any]) -> Any:
        """Wait until the condition holds."""
        return WebDriverWait(self.browser, 20, poll_frequency=0.02).until(lambda _: condition())

    def span(self) -> tuple[float, float]:
        """The visible span of time, as it was painted last."""
        timeline = self.find("#timeline")
        return float(timeline.get_attribute("data-began")), float(timeline.get_attribute("data-ended"))

    def settled_span(self) -> tuple[float, float]:
        """The visible span when nothing moves any more."""
        self.run_async(
            """const done = arguments[0]; let before = "";
            const look = () => {
              const now = JSON.stringify([durapoolReport.view.began, durapoolReport.view.ended]);
              if (now === before) requestAnimationFrame(() => requestAnimationFrame(done));
              else { before = now; setTimeout(look, 60); }
            };
            look();"""
        )
        return self.span()

    def operation(self, name: str) -> int:
        """The place of an operation in the page's data."""
        return int(self.run("return durapoolReport.operations.name.indexOf(arguments[0])", name))

    def middle_of(self, name: str) -> tuple[int, int]:
        """The middle of an operation's bar, in the window."""
        self.run("document.getElementById('lanes-scroll').scrollIntoView({block: 'center', behavior: 'instant'})")
        box = self.run("return durapoolReport.boxOf(arguments[0])", self.operation(name))
        return round(box["left"] + box["width"] / 2), round(box["top"] + box["height"] / 2)

    def point_at(self, place: tuple[int, int]) -> None:
        builder = ActionBuilder(self.browser)
        builder.pointer_action.move_to_location(*place)
        builder.perform()

    def click_at(self, place: tuple[int, int]) -> None:
        builder = ActionBuilder(self.browser)
        builder.pointer_action.move_to_location(*place).click()
        builder.perform()

    def drag(self, selector: str, start: tuple[int, int], by: tuple[int, int]) -> None:
        """Drag on an element, from an offset of its top left corner."""
        self.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", self.find(selector))
        box = self.run("return arguments[0].getBoundingClientRect().toJSON()", self.find(selector))
        x, y = round(box["left"] + start[0]), round(box["top"] + start[1])
        builder = ActionBuilder(self.browser)
        pointer = builder.pointer_action
        pointer.move_to_location(x, y).pointer_down().move_to_location(x + by[0] // 2, y + by[1] // 2)
        pointer.move_to_location(x + by[0], y + by[1]).pointer_up()
        builder.perform()

    def zoom_by_wheel(self, place: tuple[int, int], amount: int) -> None:
        self.run(
            """const target = document.elementFromPoint(arguments[0], arguments[1]);
            target.dispatchEvent(new WheelEvent("wheel", {clientX: arguments[0], clientY: arguments[1],
              deltaY: arguments[2], ctrlKey: true, bubbles: true, cancelable: true}))""",
            *place,
            amount,
        )

    def keys(self, *keys: str) -> None:
        ActionChains(self.browser).send_keys(*keys).perform()

    def search(self, text: str) -> None:
        field = self.find("#search")
        field.clear()
        field.send_keys(text)

    def rows(self) -> list[str]:
        """The names in the tree that are in the document now."""
        self.run_async("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
        return list(self.run("return [...document.querySelectorAll('.row .label b')].map((each) => each.textContent)"))

    def colour(self, selector: str) -> str:
        return str(self.run("return getComputedStyle(arguments[0]).backgroundColor", self.find(selector)))

    def pixels(self, canvas: str) -> int:
        """A checksum of what a canvas shows."""
        return int(
            self.run(
                """const c = document.getElementById(arguments[0]);
                const all = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
                return all.reduce((sum, value, place) => (sum * 31 + value * (place % 97)) % 1000003, 7)""",
                canvas,
            )
        )


__all__ = ["Keys", "Page", "started"]
