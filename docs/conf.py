"""Configures Sphinx, which builds the documentation site: see `make docs`."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "singer-stairoids"
extensions = ["myst_parser"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = project
html_copy_source = False
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_show_copyright = False
html_search_scorer = str(Path(__file__).with_name("search_ranking.js"))

#: Page -> words that readers type into the search box and that the page does not use.
SYNONYMS = {
    "concepts/outcomes": "skipped, status, superceded",
    "deploy/airflow": "orchestrator, operator",
    "deploy/docker": "webhook, container, image, server, compose",
    "deploy/kubernetes": "webhook, container, server, k8s, kubectl, cluster, helm, pod",
    "deploy/runbook": "crashes, recovery, restart, interrupted, process, died, halfway",
    "guides/environment": "env, vars, dotenv, password, credentials, prefix",
    "guides/find-a-signal": "why, got, missing, nothing, lookup, customer, complaint",
    "guides/first-run": "initial bulk load, sync, large, big table, million, existing",
    "guides/move-the-ledger": "location, path, restore, database, stored, state",
    "guides/nested-fields": "path, array, flatten, unnest, hyphen, name, column",
    "guides/replay": "retry, failure, error, again, resend, rejected, rows",
    "guides/rotate-a-secret": "rotation, rollover, replace, change, expired, leaked",
    "guides/runners-without-a-disk": "ephemeral, persistent, stateless, lambda",
    "guides/send-one": "single, sample, try, row, dry run",
    "guides/stop-sending": "everything, emergency, pause, kill, halt, abort, undo",
    "guides/send-only-changes": "incremental, skip, old, rows, already, avoid",
}


def setup(app: Sphinx) -> None:
    """Make the sidebar, add synonyms, and copy the pictures that HTML names."""
    app.connect("source-read", _with_sidebar)
    app.connect("doctree-read", _with_synonyms)
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


def _with_synonyms(app: Sphinx, doctree: nodes.document) -> None:
    words = SYNONYMS.get(app.env.docname)
    if words:
        doctree.append(nodes.meta(name="keywords", content=words))


def _copy_pictures(app: Sphinx, exception: Exception | None) -> None:
    if exception is None:
        shutil.copytree(
            Path(app.srcdir, "images"), Path(app.outdir, "images"), dirs_exist_ok=True
        )
