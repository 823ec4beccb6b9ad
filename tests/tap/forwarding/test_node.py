"""A handler in Node verifies forwarded events, as Stairoids documents it."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.webhook_builders import SECRET
from tests.tap.forwarding.test_forward import fill, forward, totals

if TYPE_CHECKING:
    from tap_stairoids_webhooks.store.store import EventStore

HANDLER = """
const crypto = require("crypto");
require("http").createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const body = Buffer.concat(chunks);
    const hmac = crypto.createHmac("sha256", process.argv[1]).update(body);
    const expected = Buffer.from("sha256=" + hmac.digest("hex"));
    const given = Buffer.from(request.headers["x-stairoids-signature"]);
    response.statusCode = crypto.timingSafeEqual(expected, given) ? 200 : 401;
    response.end("OK");
  });
}).listen(0, "127.0.0.1", function () { console.log(this.address().port); });
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node on this machine")
def test_handler_in_node_verifies_events(store: EventStore, store_url: str) -> None:
    ids = fill(store)
    command = ["node", "-e", HANDLER, SECRET]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as node:
        try:
            assert node.stdout is not None
            port = json.loads(node.stdout.readline())
            done = forward(store_url, f"http://127.0.0.1:{port}/", "--once")
        finally:
            node.kill()

    assert totals(done) == {"delivered": len(ids), "failed": 0}
