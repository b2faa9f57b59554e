"""The page as text: one file, nothing from outside, and nothing that users wrote as markup."""

from __future__ import annotations

import re
import zipfile
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_tools import Book, data_of, many_branches, two_workers, used

from durapool.records import ErrorObject
from durapool.report import render
from durapool.report.page import MODULES, embedded, script_of_page

EVIL = [
    "</script><script>document.title='gone'</script>",
    "<!--",
    "<img src=x onerror=alert(1)>",
    "]]>",
    "&lt;",
    "\ud800",
]


class Outline(HTMLParser):
    """Counts elements, and collects what would be loaded."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]


def evil_book() -> Book:
    book = Book()
    book.batch(0, EVIL[0], 1)
    book.branch(0, EVIL[1], EVIL[0], 0)
    book.step(0, EVIL[2], EVIL[1])
    error = ErrorObject(EVIL[0], EVIL[2], stack_trace=(EVIL[0], EVIL[1]))
    book.fail(1, EVIL[2], error)
    book.fail(1, EVIL[1], error, used(1, 1))
    book.succeed(1, EVIL[0])
    book.step(1, EVIL[5])
    book.finish(2, error)
    return book


def test_a_page_loads_nothing():
    outline = Outline(render(two_workers().report()))
    assert outline.loaded == ["data:,"]
    assert (outline.tags.count("script"), outline.tags.count("style")) == (2, 1)
    assert not {"iframe", "img", "object", "embed", "base"} & set(outline.tags)


@pytest.mark.parametrize("execution_id", EVIL)
def test_nothing_that_users_wrote_becomes_markup(execution_id: str):
    page = render(evil_book().report(execution_id))
    plain = render(two_workers().report())
    assert Outline(page).tags == Outline(plain).tags
    assert page.count("</script>") == plain.count("</script>") == 2
    data = data_of(page)
    assert set(EVIL[:3]) <= set(data["operations"]["name"])
    assert data["execution"]["id"] == execution_id
    page.encode()


def test_data_is_ascii_without_a_character_that_html_knows():
    text = embedded({"x": ["</script>", "<!--", "&amp;", "é\u2028\ud800"]})
    assert text.isascii()
    assert not set("<>&") & set(text)


def test_the_policy_names_the_script_and_the_style_of_the_page():
    page = render(two_workers().report())
    policy = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[0]
    for tag in ('script type="module"', "style"):
        inside = re.findall(rf"<{tag}>(.*?)</{tag.split()[0]}>", page, re.DOTALL)[-1]
        digest = b64encode(sha256(inside.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_every_module_is_joined_and_none_is_forgotten():
    folder = Path(__file__).parents[2] / "src/durapool/report/template"
    assert {path.name for path in folder.glob("*.js")} == set(MODULES)
    script = script_of_page()
    assert not re.search(r"^(import|export)\b", script, re.MULTILINE)
    assert "innerHTML" not in script
    for name in MODULES:
        imported = re.findall(r'modules\["([\w.]+)"\];', script.split(f'modules["{name}"] = ')[1].split("})();")[0])
        assert all(MODULES.index(other) < MODULES.index(name) for other in imported)


def test_no_inputs_and_no_results_are_in_the_page():
    book = two_workers()
    book.records = [r._replace(update=r.update._replace(payload='"a secret of the user"')) for r in book.records]
    assert "a secret" not in render(book.report())


def test_ten_thousand_branches_are_a_page_of_a_few_megabytes():
    page = render(many_branches(10_000).report())
    assert len(page) < 5_000_000
    data = data_of(page)
    assert len(data["bars"]["lane"]) == 10_001
    assert len({len(column) for name, column in data["operations"].items() if name in ("id", "began", "cpu")}) == 1


@pytest.mark.parametrize("made", ["empty", "running", "failed"])
def test_there_is_a_page_at_every_stage(made: str):
    book = Book() if made == "empty" else evil_book()
    if made == "running":
        book.records = book.records[:3]
    data = data_of(render(book.report()))
    assert data["execution"]["ended"] == (made == "failed")


def test_the_wheel_holds_the_template(tmp_path: Path):
    from hatchling.builders.wheel import WheelBuilder

    root = Path(__file__).parents[2]
    [wheel] = WheelBuilder(str(root)).build(directory=str(tmp_path), versions=["standard"])
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"durapool/report/template/{name}" for name in (*MODULES, "report.html", "report.css")} <= names
