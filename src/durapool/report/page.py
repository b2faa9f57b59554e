"""The page: one HTML file that needs nothing else. Its scripts, its style and its data are inside it.

The scripts in template/ are ES modules that import each other by relative paths. A page opened from a disk cannot
import by path, so they are joined into one here: each becomes a function with a scope of its own that returns what it
exports, and its imports become constants.

What came from users is in the data alone, and the page shows it as text. Should any of it become markup all the same,
the content security policy lets no script run but the one whose hash it names, and nothing be loaded or sent.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from html import escape
from importlib.resources import files

from durapool.report.data import page_data
from durapool.report.model import Report

MODULES = (
    "text.js",
    "data.js",
    "axis.js",
    "painting.js",
    "stage.js",
    "curves.js",
    "lanes.js",
    "timeline.js",
    "tree.js",
    "panels.js",
    "main.js",
)
"""In order of use: each imports only from those before it."""

_IMPORT = re.compile(r"^import (\{[^}]*\}) from \"\./([\w.]+)\";$", re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?(?:function|class|const) (\w+))", re.MULTILINE)


def render(report: Report) -> str:
    """The page of a report."""
    style, script = _read("report.css"), script_of_page()
    fields = {
        "title": escape(f"{report.id}: {report.log.execution.status.value.lower()}"),
        "policy": f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:",
        "style": style,
        "script": script,
        "data": embedded(page_data(report)),
    }
    text = re.sub(r"\{\{(\w+)\}\}", lambda found: fields[found[1]], _read("report.html"))
    return text.encode("utf-8", "backslashreplace").decode()  # an id may hold half a surrogate pair


def embedded(data: object) -> str:
    """The data as JSON that is safe inside a script element: pure ASCII, and without a character that HTML knows."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def script_of_page() -> str:
    """All modules as one."""
    return "\n".join(["const modules = {};", *map(_as_function, MODULES)])


def _as_function(name: str) -> str:
    text = _IMPORT.sub(r'const \1 = modules["\2"];', _read(name))
    exports = ", ".join(found[2] for found in _EXPORT.finditer(text))
    body = _EXPORT.sub(r"\1", text)
    return f'modules["{name}"] = (() => {{\n{body}return {{ {exports} }};\n}})();'


def _read(name: str) -> str:
    return (files("durapool.report") / "template" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + b64encode(sha256(text.encode()).digest()).decode()
