"""Make the first-run check of a run with Stairoids, and write nothing."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing

from target_stairoids.api.client import UNDECIDED, Client, ResponseKind
from target_stairoids.checks import first_run
from target_stairoids.ledger import lookup, queries
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.reporting.next_steps import with_configs
from target_stairoids.settings import Settings


def comparison(settings: Settings, pairs: Collection[first_run.Pair]) -> str:
    """Return why a run with these pairs would stop or hold signals back; else ""."""
    return with_configs(_comparison(settings, pairs))


def _comparison(settings: Settings, pairs: Collection[first_run.Pair]) -> str:
    url, scope = settings.ledger_url, settings.scope
    with (
        Ledger.open_read_only(url, scope, missing_ok=True) as ledger,
        closing(Client.of(settings)) as client,
    ):
        is_known = queries.knows_key(ledger, ledger.key_digest(settings.api_key))
        must_read = settings.first_run == "guard"
        ids = [] if is_known else queries.newest_signals(ledger)
        if error := first_run.key_error(
            map(client.read_signal, ids), must_read=must_read
        ):
            return str(error)
        is_on = settings.first_run != "send"
        check = first_run.FirstRunCheck(is_on, queries.sources_of_others(ledger))
        for pair in sorted(pairs):
            while check.is_on and (query := check.question(pair)) is not None:
                response = client.list_signals(query)
                if response.kind in UNDECIDED:
                    return f"not checked: {response.reason} at {settings.api_url}"
                is_trusted = is_known or not must_read
                if error := first_run.list_error(response, is_trusted=is_trusted):
                    return str(error)
                if response.kind is not ResponseKind.ACCEPTED:
                    return ""
                with ledger.reading() as connection:
                    facts = lookup.facts(connection, scope, first_run.ids_in(response))
                    check.learn(query, response, facts, pairs)
        return first_run.refusal(check.refused) if check.refused and must_read else ""


def literal_pairs(settings: Settings) -> set[first_run.Pair]:
    """Return the source and type of the mappings that name them without a template."""
    pairs = set()
    for item in settings.signals:
        type_ = item.type if isinstance(item.type, str) else item.stream
        source = (
            item.source if isinstance(item.source, str) else settings.default_source
        )
        if not any(mark in f"{source}{type_}" for mark in "{*?["):
            pairs.add((source, type_))
    return pairs
