"""The workspace: everything one Stairoids customer has here.

Only the server's thread changes it, so nothing in it is locked; other threads
read copies.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from stairoids_sandbox.exceptions import ApiError
from stairoids_sandbox.ids import new_id
from stairoids_sandbox.state.accounts import Directory, domain_of
from stairoids_sandbox.state.models import Signal
from stairoids_sandbox.state.scores import score_of
from stairoids_sandbox.state.signal_index import SignalIndex
from stairoids_sandbox.state.signal_log import Entry
from stairoids_sandbox.state.signal_request import draft_from
from stairoids_sandbox.timestamps import now, rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stairoids_sandbox.state.keys import ApiKey
    from stairoids_sandbox.state.signal_log import Journal
    from stairoids_sandbox.state.signal_request import Draft


class Workspace:
    """Accept signals and match them to accounts and contacts.

    Args:
        journal: Where accepted signals are kept; None keeps them in memory only.
        announce: Called with each signal once it is kept, never for one of an
            earlier run.
        excluded_domains: Domains whose signals are refused.
    """

    def __init__(
        self,
        *,
        journal: Journal | None,
        announce: Callable[[Signal], None],
        excluded_domains: Iterable[str] = (),
    ) -> None:
        self.signals = SignalIndex()
        self.directory = Directory()
        self._journal = journal
        self._announce = announce
        self._excluded = frozenset(domain.lower() for domain in excluded_domains)
        if journal is not None:
            for entry in journal.entries():
                self._recall(entry)

    def accept(
        self, draft: Draft, *, body: dict[str, Any], raw: bytes, key: ApiKey
    ) -> Signal:
        """Take in a signal; once this returns it is kept and scored.

        Raises:
            ApiError: 422 if its domain is excluded, 503 if it could not be kept.
        """
        if self._excluded and domain_of(draft) in self._excluded:
            msg = "The account's domain is on the list of excluded domains."
            raise ApiError(422, "domain_excluded", msg)
        created_at = now()
        entry = Entry(
            sequence=len(self.signals) + 1,
            id=new_id("sig"),
            created_at=rfc3339(created_at),
            key_name=key.name,
            key_scope=key.scope,
            body=raw,
        )
        if self._journal is not None:
            self._journal.append(entry)
        signal = self._take_in(draft, entry, body, created_at)
        self._announce(signal)
        return signal

    def _recall(self, entry: Entry) -> None:
        body = msgspec.json.decode(entry.body)
        created_at = datetime.fromisoformat(entry.created_at)
        self._take_in(draft_from(body), entry, body, created_at)

    def _take_in(
        self, draft: Draft, entry: Entry, body: dict[str, Any], created_at: datetime
    ) -> Signal:
        signal = Signal(
            id=entry.id,
            sequence=entry.sequence,
            type=draft.type,
            source=draft.source,
            account=self.directory.account_for(draft),
            contact=self.directory.contact_for(draft),
            properties=draft.properties,
            score=score_of(draft.type),
            occurred_at=draft.occurred_at or created_at,
            created_at=created_at,
            body=body,
            raw=entry.body,
            key_name=entry.key_name,
            key_scope=entry.key_scope,
        )
        for scored in (signal.account, signal.contact):
            if scored is not None:
                scored.score += signal.score
        self.signals.add(signal)
        return signal
