"""Configures Sphinx, which builds the documentation site: see `make docs`."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "singer-stairoids"
extensions = ["myst_parser"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = project
html_copy_source = False
html_show_copyright = False


def setup(app: Sphinx) -> None:
    """Make the sidebar, and copy the pictures that pages name in HTML."""
    app.connect("source-read", _with_sidebar)
    app.connect("build-finished", _copy_pictures)


def _with_sidebar(_: Sphinx, page: str, source: list[str]) -> None:
    """Make a part of the sidebar of each list of links in index.md."""
    if page == "index":
        section = r"^## (.*)\n(?:(?!## ).*\n)*"
        source[0] = re.sub(section, _with_toctree, source[0], flags=re.MULTILINE)


def _with_toctree(section: re.Match[str]) -> str:
    pages = re.findall(r"^\* \[.*?\]\((.*?)\.md\)", section[0], re.MULTILINE)
    toctree = ["```{toctree}", ":hidden:", f":caption: {section[1]}", "", *pages, "```"]
    return "\n".join([section[0], *toctree, ""]) if pages else section[0]


def _copy_pictures(app: Sphinx, exception: Exception | None) -> None:
    if exception is None:
        shutil.copytree(
            Path(app.srcdir, "images"), Path(app.outdir, "images"), dirs_exist_ok=True
        )
