"""The rules by which pages are read: what is run, and which output is the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from doc_pages import ROOT, Command, File, Script, doings, levelled, pages, pattern

PAGE = """# A page

```python
# job.py
print(1)
```

```python
print(2)
```

```text
2
```

```console
$ python job.py
1
$ python job.py > found.txt
```

```sh
pip install durapool
```

```toml
# settings.toml
[tool]
```
"""


def test_a_page_is_read_from_the_top_to_the_bottom(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert list(doings(page)) == [
        File("job.py", "# job.py\nprint(1)\n"),
        Script(9, "print(2)\n", "2\n"),
        Command(17, "python job.py", "1\n"),
        Command(17, "python job.py > found.txt", ""),
        File("settings.toml", "# settings.toml\n[tool]\n"),
    ]


@pytest.mark.parametrize(
    ("said", "printed"),
    [
        ("a\n...\nb\n", "a\nb\n"),
        ("a\n...\nb\n", "a\nx\ny\nb\n"),
        ("took ... s\n", "took 1.5 s\n"),
        ("ID   TOOK\n", "ID TOOK   \n"),
        ("(1 + 1)\n", "(1 + 1)\n"),
    ],
)
def test_outputs_that_are_the_same(said: str, printed: str) -> None:
    assert pattern(said).fullmatch(levelled(printed))


@pytest.mark.parametrize(("said", "printed"), [("a\n", "a\nb\n"), ("a\n", "A\n"), ("1...2\n", "1\n2\n"), ("", "a\n")])
def test_outputs_that_differ(said: str, printed: str) -> None:
    assert not pattern(said).fullmatch(levelled(printed))


def test_the_pages_with_code_are_found() -> None:
    names = {str(page.relative_to(ROOT)) for page in pages()}
    assert {"README.md", "docs/tutorial.md", "docs/index.md", "docs/how-to/crashes.md"} <= names
    assert "docs/parallel-operations.md" not in names
