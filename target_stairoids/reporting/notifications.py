"""Notify people when the state of a pipeline changes: figures only, no record's data.

A pipeline is a namespace and a default source. The ledger keeps the state that people
know, so that the next run sends the notification of a killed run.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from stairoids_common.http import session_of_whole_responses, within
from stairoids_common.text import counted
from stairoids_common.time import parse_time
from target_stairoids.exceptions import LedgerError
from target_stairoids.ledger import queries
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.ledger.structs import NotifiedState, PipelineFacts
from target_stairoids.settings import Settings

logger = logging.getLogger(__name__)

_LONG = timedelta(hours=24)  # without a whole run, after which incomplete runs matter
_SECONDS = 10  # for one URL
_WORDS = {
    "failing": "fails",
    "incomplete": "has left signals pending for a day",
    "recovered": "works again",
    "dead_letters": "has new dead letters",
}


class Ending(NamedTuple):
    """The end of a run; without an exit code it was killed."""

    run: int
    exit_code: int | None
    is_whole: bool
    report: Mapping[str, Any]


def state_after(known: str, end: Ending, facts: PipelineFacts, now: datetime) -> str:
    """Return the state of a pipeline: `ok`, `failing` or `incomplete`.

    Incomplete runs change it only after a day without a whole one.
    """
    if end.is_whole:
        return "ok"
    code = end.exit_code
    if code is None or (0 < code < 128 and code != 75):
        return "failing"
    since = facts.last_success or facts.first_start
    is_long = since is not None and now - parse_time(since) >= _LONG
    return "incomplete" if is_long and known == "ok" else known


def event_of(known: NotifiedState, state: str, newest_dead_letter: int) -> str | None:
    """Return the change that people do not know yet; None if there is none."""
    if state != known.state:
        return "recovered" if state == "ok" else state
    return "dead_letters" if newest_dead_letter > known.newest_dead_letter else None


class Notifier:
    """Notifies the URLs of the setting `notify`, if there are any."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger
        self._source = settings.default_source

    def begin(self) -> None:
        """Send the change of the run before, if that was killed or found no URL."""
        row = queries.run_before(self._ledger, self._source)
        if row is None or (row.exit_code is None and self._ledger.lives(row.run)):
            if queries.notified_state(self._ledger, self._source) is None:
                self._keep("ok")  # older dead letters are no news
            return
        is_whole = row.exit_code == 0 and row.end_reason is None
        report = json.loads(row.report or "{}")
        self.end(Ending(row.run, row.exit_code, is_whole, report))

    def end(self, end: Ending) -> None:
        """Send the change of the state after a run, if there is one. It never fails."""
        try:
            facts = queries.pipeline_facts(self._ledger, self._source)
            known = queries.notified_state(self._ledger, self._source)
            known = known or NotifiedState("ok", facts.newest_dead_letter)
            state = state_after(known.state, end, facts, datetime.now(UTC))
            event = event_of(known, state, facts.newest_dead_letter)
            message = event and self._message(event, known, end, facts)
            if not message or _send(self._settings, message):
                self._keep(state)
        except LedgerError as error:
            logger.warning("No notification was sent. %s", error)

    def _keep(self, state: str) -> None:
        """Keep the state that people know, with the dead letters so far."""
        facts = queries.pipeline_facts(self._ledger, self._source)
        notified = NotifiedState(state, facts.newest_dead_letter)
        if notified != queries.notified_state(self._ledger, self._source):
            with self._ledger.transaction() as transaction:
                transaction.note_notified(self._source, notified)

    def _message(
        self, event: str, known: NotifiedState, end: Ending, facts: PipelineFacts
    ) -> dict[str, Any]:
        outcomes = end.report.get("outcomes", {})
        new = queries.dead_letters_after(self._ledger, known.newest_dead_letter)
        code = "it was killed" if end.exit_code is None else f"exit {end.exit_code}"
        message = _message(self._settings, event, code, end.run, end.exit_code)
        if new:
            message["text"] += f" {counted(new, 'new dead letter')}."
        return {
            **message,
            "ended_at": end.report.get("ended_at"),
            "last_success": facts.last_success,
            "outcomes": {name: count for name, count in outcomes.items() if count},
            "dead_letters": facts.dead_letters,
            "new_dead_letters": new,
        }


def notify_without_ledger(settings: Settings) -> None:
    """Notify of a ledger that cannot be opened, at each run: no state is known."""
    why = "its ledger cannot be opened"
    _send(settings, _message(settings, "failing", why, run=None, exit_code=1))


def _message(
    settings: Settings, event: str, why: str, run: int | None, exit_code: int | None
) -> dict[str, Any]:
    namespace, source = settings.namespace, settings.default_source
    name = " ".join(filter(None, (namespace, source)))
    return {
        "event": event,
        "text": f"Stairoids signals of {name}: the pipeline {_WORDS[event]} ({why}).",
        "namespace": namespace,
        "source": source,
        "run": run,
        "exit_code": exit_code,
    }


def _send(settings: Settings, message: Mapping[str, Any]) -> bool:
    """Send a message to each URL; return whether one of them took it."""
    is_taken = False
    for number, url in enumerate(settings.notify):
        is_plain = url.lower().startswith(("https://", "http://"))
        send = _post if is_plain else _apprise
        try:
            failure = within(2 * _SECONDS, partial(send, url, message))
        except Exception as error:  # noqa: BLE001 - it must not fail a run
            failure = type(error).__name__
        if failure is None:
            is_taken = True
        else:
            logger.warning("`notify[%d]` got no notification: %s.", number, failure)
    return is_taken


def _post(url: str, message: Mapping[str, Any]) -> str | None:
    """Post a message as JSON; return why it was not taken, without the URL."""
    with session_of_whole_responses() as session:
        response = session.post(
            url,
            json=message,
            timeout=_SECONDS,
            allow_redirects=False,
            stream=True,  # a body may take for ever
            auth=lambda request: request,  # no password of a `.netrc` file
        )
        response.close()
    is_taken = 200 <= response.status_code < 300
    return None if is_taken else f"the response was {response.status_code}"


def _apprise(url: str, message: Mapping[str, Any]) -> str | None:
    from apprise import Apprise  # noqa: PLC0415 - an extra, and slow to import

    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its lines may have URLs
    service = Apprise()
    is_taken = service.add(url) and service.notify(body=message["text"])
    return None if is_taken else "Apprise could not deliver it"
