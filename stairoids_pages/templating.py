"""Looks: templates with one style, for pages that are served and for those in files."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from stairoids_pages.text import pretty, shown, size_of, visible


def looks_of(package: str) -> Environment:
    """Return the templates of a package, from its folder `templates`.

    They may use ours, have all values escaped, and know the `style` to put in.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("stairoids_pages")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "pretty": pretty,
        "shown": shown,
        "size": size_of,
        "visible": visible,
    }
    environment.globals["style"] = Markup(asset("style.css"))  # noqa: S704 -- a file of ours
    return environment


def asset(name: str) -> str:
    """Return the text of one of our files."""
    return (files("stairoids_pages") / "templates" / name).read_text(encoding="utf-8")
