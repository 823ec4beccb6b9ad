"""Respond with pages that load and run nothing else.

A page contains its style and its script, and the content security policy allows only
their hashes. Foreign text on a page cannot run.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from markupsafe import Markup
from starlette.responses import HTMLResponse, RedirectResponse, Response

from stairoids_pages.templating import asset, hash_of, template_environment

if TYPE_CHECKING:
    from starlette.requests import Request

_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Not `no-referrer`: browsers would then send forms with `Origin: null`.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Pages:
    """The pages of one package, from its folder `templates`.

    Templates extend `base.html`, which has the blocks `title`, `header` and `main`.

    Args:
        package: Its name.
        live_seconds: Seconds between the updates of an open page.
    """

    def __init__(self, package: str, *, live_seconds: float) -> None:
        style, script = asset("style.css"), asset("copy.js") + asset("live.js")
        self._environment = template_environment(package)
        self._environment.globals |= {
            "script": Markup(script),  # noqa: S704 -- a file of ours
            "live_seconds": live_seconds,
        }
        policy = (
            "default-src 'none'; connect-src 'self'; img-src data:; form-action 'self'"
            f"; base-uri 'none'; frame-ancestors 'none'; style-src {hash_of(style)}"
            f"; script-src {hash_of(script)}"
        )
        self._headers = {**_HEADERS, "Content-Security-Policy": policy}

    def page(
        self, request: Request, template: str, *, status: int = 200, **values: object
    ) -> Response:
        """Respond with a page, or with 304 if the browser has the same page."""
        text = self._environment.get_template(template).render(values)
        tag = f'"{hashlib.sha256(text.encode()).hexdigest()[:24]}"'
        headers = {**self._headers, "ETag": tag}
        if status == 200 and request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return HTMLResponse(text, status_code=status, headers=headers)

    def download(self, body: bytes, *, name: str) -> Response:
        """Respond with bytes that a browser saves and never shows.

        Args:
            body: The bytes.
            name: The file name, in ASCII.
        """
        headers = {
            **self._headers,
            "Content-Disposition": f'attachment; filename="{name}"',
        }
        return Response(body, media_type="application/octet-stream", headers=headers)

    def redirect(self, path: str) -> Response:
        """Respond to a handled form. The browser loads the path with GET."""
        return RedirectResponse(path, status_code=303, headers=self._headers)
