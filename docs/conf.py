"""The documentation as a site: `make docs`. Markdown by MyST, the reference from the docstrings, no network."""

from __future__ import annotations

from importlib.metadata import version as version_of
from typing import Any

project = "durapool"
version = release = version_of("durapool")
project_copyright = "the authors of durapool, Apache-2.0"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
default_role = "code"  # docstrings put names in single backticks

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
add_module_names = False
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = "durapool"
html_static_path = ["_static"]
html_css_files = ["durapool.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "tango"
pygments_dark_style = "monokai"
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True


def setup(app: Any) -> None:
    """Leave the docstrings of modules out: they are for those who read the source, with pictures in plain text."""

    def drop(_app: Any, what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
        if what == "module":
            lines.clear()

    app.connect("autodoc-process-docstring", drop)
