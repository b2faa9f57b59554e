"""The page in a real browser: what it shows, and what it does when somebody works with it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from browser_tools import Keys, Page
from report_tools import Book, many_branches, two_workers, used

from durapool.records import ErrorObject

Open = Callable[[Book], Page]
LONGEST_FRAME = 50  # milliseconds, on average, on a busy machine without a GPU


def resumed() -> Book:
    """Killed, and taken up an hour later."""
    book = Book()
    book.batch(0, "m", 3)
    for index in range(3):
        at = index if index < 2 else 3600
        book.branch(at, f"m-{index}", "m", index)
        book.succeed(at + 1, f"m-{index}", used(1, 1))
    book.succeed(3601, "m")
    book.invocation(3600, 3601, used(1, 0.1, pid=1))
    book.finish(3601)
    return book


@pytest.mark.parametrize("book", [Book, two_workers, resumed, lambda: many_branches(3)])
def test_a_page_loads_without_a_word_on_the_console_and_without_a_request(opened: Open, book):
    page = opened(book())
    assert page.logs("browser") == []
    assert {url for url in page.requests() if not url.startswith("data:")} == {page.url}
    assert page.run("return performance.getEntriesByType('resource').length") == 0


def test_the_numbers_are_shown(opened: Open):
    page = opened(two_workers())
    assert page.browser.title == "nightly: succeeded"
    assert page.text("#execution-id") == "nightly"
    tiles = page.text("#tiles")
    for part in ("10.0 s", "1 failed", "77 %", "of 2 CPUs", "150 MB"):
        assert part in tiles
    assert "score" in page.text("#batches")
    assert page.text("#slowest tbody tr:first-child").startswith("score-1")
    assert "KeyError" in page.text("#errors")
    assert 'File "jobs.py", line 3, in work' in page.text("#errors")
    assert "to the end" in page.text("#invocations")


def test_pointing_at_a_bar_tells_of_it(opened: Open):
    page = opened(two_workers())
    assert not page.find("#tooltip").is_displayed()
    page.point_at(page.middle_of("score-2"))
    page.until(lambda: page.find("#tooltip").is_displayed())
    text = page.text("#tooltip")
    for part in ("score-2", "failed", "2.0 s", "CPU 1.8 s (90 %)", "KeyError: no such item"):
        assert part in text
    box = page.run("return document.getElementById('curves').getBoundingClientRect().toJSON()")
    page.point_at((round(box["left"] + 500), round(box["top"] + 60)))
    page.until(lambda: "CPUs" in page.text("#tooltip"))


def test_zooming_keeps_what_is_under_the_pointer(opened: Open):
    page = opened(two_workers())
    before = page.settled_span()
    assert before == (0, pytest.approx(10, abs=1e-3))
    x, y = page.middle_of("score-2")
    page.zoom_by_wheel((x, y), -400)
    after = page.settled_span()
    assert after[1] - after[0] < 0.7 * (before[1] - before[0])
    assert abs(page.middle_of("score-2")[0] - x) <= 2
    page.zoom_by_wheel((x, y), 400)
    page.zoom_by_wheel((x, y), 400)
    assert page.settled_span() == pytest.approx(before, abs=1e-3)


def test_buttons_keys_drags_and_the_overview_move_the_span(opened: Open):
    page = opened(two_workers())
    page.find("#zoom-in").click()
    began, ended = page.settled_span()
    assert ended - began == pytest.approx(5, abs=0.01)
    page.drag("#curves", (700, 80), (200, 0))
    moved = page.settled_span()
    assert moved[0] < began
    page.run("document.getElementById('timeline').focus()")
    page.keys(Keys.ARROW_RIGHT)
    assert page.settled_span()[0] > moved[0]
    page.keys("+")
    assert page.settled_span()[1] - page.settled_span()[0] == pytest.approx(3.5, abs=0.01)
    page.keys("0")
    assert page.settled_span() == (0, pytest.approx(10, abs=1e-3))
    page.drag("#overview", (400, 20), (300, 0))
    began, ended = page.settled_span()
    assert 1 < began < 4
    assert 1.5 < ended - began < 3.5


def test_a_pause_is_folded_and_named(opened: Open):
    page = opened(resumed())
    assert page.settled_span()[1] < 4
    tiles = page.text("#tiles")
    assert "Not done again" in tiles
    assert "2 results taken from the record" in tiles
    assert "killed" in page.text("#invocations")


def test_a_search_finds_a_branch_everywhere(opened: Open):
    page = opened(two_workers())
    before = page.pixels("lanes")
    page.search("work-2")
    page.until(lambda: page.text("#matches") == "1 match")
    assert page.rows() == ["EXECUTION", "score", "score-2", "work-2"]
    assert page.text(".row mark") == "work-2"
    page.until(lambda: page.pixels("lanes") != before)  # the others have faded
    page.keys(Keys.ENTER)
    page.until(lambda: page.text("#matches") == "1 of 1")
    began, ended = page.settled_span()
    assert 2.5 < began < ended < 7.5
    page.search("keyerror such")
    page.until(lambda: page.text("#matches") == "2 matches")
    page.search("nothing of the kind")
    page.until(lambda: page.text("#matches") == "0 matches")
    page.find("#search").send_keys(Keys.ESCAPE)
    page.until(lambda: page.text("#matches") == "")
    assert page.rows()[:2] == ["EXECUTION", "score"]


def test_the_tree_opens_and_closes(opened: Open):
    page = opened(two_workers())
    assert page.rows() == ["EXECUTION", "score", "summary"]
    page.all(".row .twist")[1].click()
    assert page.rows() == ["EXECUTION", "score", "score-0", "score-1", "score-2", "score-3", "summary"]
    assert page.all(".row")[1].get_attribute("aria-expanded") == "true"
    page.all(".row .twist")[1].click()
    assert page.rows() == ["EXECUTION", "score", "summary"]
    page.find("#expand").click()
    assert len(page.rows()) == 11
    page.find("#collapse").click()
    assert page.rows() == ["EXECUTION", "score", "summary"]


def test_the_tree_is_worked_by_keys_too(opened: Open):
    page = opened(two_workers())
    page.run("document.getElementById('tree').focus()")
    page.keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    assert page.rows() == ["EXECUTION", "score", "score-0", "score-1", "score-2", "score-3", "summary"]
    assert page.text(".row.selected b") == "score-0"
    page.keys(Keys.ENTER)
    assert page.text("#details h2") == "score-0"


def test_a_click_on_a_bar_shows_its_details(opened: Open):
    page = opened(two_workers())
    page.click_at(page.middle_of("score-2"))
    page.until(lambda: page.find("#details").is_displayed())
    text = page.text("#details")
    for part in ("failed", "score-2", "1.8 s (90 %)", "60.0 MB", "process 11", "no such item", "work-2"):
        assert part in text
    assert "score-2" in page.rows()
    page.keys(Keys.ESCAPE)
    page.until(lambda: not page.find("#details").is_displayed())


def test_attempts_are_listed(opened: Open):
    book = Book()
    book.step(0, "flaky")
    book.retry(1, "flaky", ErrorObject("once more", "TimeoutError"))
    book.step(2, "flaky", attempt=2)
    book.succeed(4, "flaky")
    book.invocation(0, 4)
    book.finish(4)
    page = opened(book)
    page.all(".row")[1].click()
    page.until(lambda: page.find("#details").is_displayed())
    text = page.text("#details")
    for part in ("Attempts", "TimeoutError: once more", "1.0 s", "succeeded", "2.0 s"):
        assert part in text
    assert "1 tried again" in page.text("#errors")


def test_the_theme_follows_the_system_until_it_is_switched(opened: Open):
    page = opened(two_workers())
    light, picture = page.colour("body"), page.pixels("lanes")
    page.browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    page.until(lambda: page.colour("body") != light)
    dark = page.colour("body")
    page.until(lambda: page.pixels("lanes") != picture)
    page.find("#theme").click()
    page.until(lambda: page.colour("body") == light)
    page.until(lambda: page.pixels("lanes") == picture)
    page.browser.refresh()
    page.until(lambda: page.find("#timeline").get_attribute("data-ended"))
    assert page.colour("body") == light
    page.find("#theme").click()
    page.until(lambda: page.colour("body") == dark)


@pytest.mark.parametrize(("book", "status", "part"), [
    (Book, "not ended", "has not ended"),
    (lambda: _failed(), "failed", "The execution failed. ValueError: <b>no</b>"),
])  # fmt: skip
def test_what_has_not_ended_or_failed_says_so(opened: Open, book, status: str, part: str):
    page = opened(book())
    assert page.text("#status") == status
    assert part in page.text("#note")


def _failed() -> Book:
    book = Book()
    book.invocation(0, 1)
    book.finish(1, ErrorObject("<b>no</b>", "ValueError"))
    return book


def test_markup_in_names_is_text_and_runs_nothing(opened: Open):
    evil = "</script><img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    book = Book()
    book.batch(0, evil, 1)
    book.branch(0, f"0{evil}", evil, 0)
    book.fail(1, f"0{evil}", ErrorObject(evil, evil, stack_trace=(evil,)), used(1, 1))
    book.succeed(1, evil)
    book.finish(1, ErrorObject(evil, evil))
    page = opened(book)
    page.find("#expand").click()
    assert page.rows()[1:] == [evil, f"0{evil}"]
    page.all(".row")[2].click()
    page.until(lambda: page.find("#details").is_displayed())
    page.search("<img")
    page.until(lambda: page.text("#matches") == "2 matches")
    assert evil in page.text("#details")
    assert page.all("img") == []
    assert page.browser.title == "nightly: failed"
    assert page.logs("browser") == []


def test_a_narrow_window_does_not_overflow(opened: Open):
    page = opened(two_workers())
    size = page.browser.get_window_size()
    try:
        page.browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 420, "height": 800, "deviceScaleFactor": 2, "mobile": False},
        )
        page.until(lambda: page.run("return innerWidth") == 420)
        assert page.run("return document.documentElement.scrollWidth") <= 420
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.browser.set_window_size(size["width"], size["height"])


class TestTenThousandBranches:
    """Nothing slows down with the number of branches."""

    @pytest.fixture(scope="class")
    @classmethod
    def book(cls) -> Book:
        return many_branches(10_000)

    def test_the_document_stays_small(self, opened: Open, book: Book):
        page = opened(book)
        page.find("#expand").click()
        page.until(lambda: page.find("#tree-size").get_attribute("data-rows") == "20002")
        assert len(page.rows()) < 60
        assert page.run("return document.querySelectorAll('*').length") < 1500
        page.run("document.getElementById('tree').scrollTop = 1e9")
        page.until(lambda: "work-9999" in page.rows())

    def test_a_branch_among_all_is_found(self, opened: Open, book: Book):
        page = opened(book)
        page.search("score-7777")
        page.until(lambda: page.text("#matches") == "1 match")
        assert page.rows() == ["EXECUTION", "score", "score-7777"]
        page.keys(Keys.ENTER)
        began, ended = page.settled_span()
        assert ended - began < 0.01
        page.point_at(page.middle_of("score-7777"))
        page.until(lambda: "score-7777" in page.text("#tooltip"))

    def test_zooming_and_moving_stay_fluid(self, opened: Open, book: Book):
        page = opened(book)
        frames, painting = page.run_async(
            """const done = arguments[0], { view } = durapoolReport;
            const frames = [], spent = [];
            const whole = view.ended;
            let before = performance.now(), n = 0;
            const step = (now) => {
              frames.push(now - before);
              before = now;
              if (n === 120) return done([frames.slice(1), spent]);
              n += 1;
              const began = performance.now();
              if (n <= 50) view.zoom(0.88, whole * 0.37);
              else if (n <= 70) view.move((view.ended - view.began) * 0.1);
              else view.zoom(1 / 0.88, whole * 0.5);
              // painted by the page itself in this frame, after this callback
              requestAnimationFrame(() => spent.push(performance.now() - began));
              requestAnimationFrame(step);
            };
            requestAnimationFrame(step);"""
        )
        assert len(frames) == 120
        assert sum(frames) / len(frames) < LONGEST_FRAME
        assert sum(painting) / len(painting) < LONGEST_FRAME

    def test_pointing_stays_fluid(self, opened: Open, book: Book):
        page = opened(book)
        spent = page.run(
            """const lanes = document.getElementById("lanes"), box = lanes.getBoundingClientRect();
            const began = performance.now();
            for (let n = 0; n < 200; n += 1) {
              lanes.dispatchEvent(new PointerEvent("pointermove",
                {clientX: box.left + 100 + n * 5, clientY: box.top + 40, bubbles: true}));
            }
            return (performance.now() - began) / 200"""
        )
        assert spent < 5
