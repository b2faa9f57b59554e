"""A headless Chromium, and the page of a report in it. Without a Chromium the tests that need one are skipped."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser_tools import Page, started
from report_tools import Book
from selenium.webdriver import Chrome

from durapool.report import render


@pytest.fixture(scope="session")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """One browser for all tests."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium and chromedriver here: apt-get install chromium chromium-driver")
    browser = started(chromium, driver, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.quit()


@pytest.fixture
def opened(chrome: Chrome, tmp_path: Path) -> Callable[[Book], Page]:
    """Open the report of a book in the browser."""

    def open_page(book: Book) -> Page:
        path = tmp_path / "report.html"
        path.write_text(render(book.report()), encoding="utf-8")
        return Page(chrome, path)

    return open_page
