"""Stores as earlier versions made them; never changed."""

from __future__ import annotations

VERSION_1 = {
    "sqlite": """
CREATE TABLE webhook_events (
    sequence INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    dedupe_key TEXT NOT NULL,
    variant TEXT NOT NULL,
    event TEXT,
    event_id TEXT,
    malformed TEXT,
    "conflict" BOOLEAN NOT NULL,
    received_at TEXT NOT NULL,
    body BLOB NOT NULL,
    body_sha256 TEXT NOT NULL,
    signature TEXT NOT NULL,
    headers TEXT NOT NULL,
    key_id TEXT NOT NULL,
    UNIQUE (dedupe_key, variant)
);
""",
    "postgresql": """
CREATE TABLE webhook_events (
    sequence BIGSERIAL NOT NULL,
    dedupe_key TEXT NOT NULL,
    variant TEXT NOT NULL,
    event TEXT,
    event_id TEXT,
    malformed TEXT,
    conflict BOOLEAN NOT NULL,
    received_at TEXT NOT NULL,
    body BYTEA NOT NULL,
    body_sha256 TEXT NOT NULL,
    signature TEXT NOT NULL,
    headers TEXT NOT NULL,
    key_id TEXT NOT NULL,
    PRIMARY KEY (sequence),
    UNIQUE (dedupe_key, variant)
);
""",
}
VERSION_1_REST = """
CREATE INDEX webhook_events_malformed ON webhook_events (sequence)
    WHERE malformed IS NOT NULL;
CREATE INDEX webhook_events_by_type ON webhook_events (event, sequence);
CREATE TABLE webhook_store (
    store_id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    schema_version INTEGER NOT NULL,
    pruned_through BIGINT NOT NULL,
    PRIMARY KEY (store_id)
);
INSERT INTO webhook_store VALUES ('a-store', 1, 1, 0);
INSERT INTO webhook_events (dedupe_key, variant, event, event_id, malformed, conflict,
    received_at, body, body_sha256, signature, headers, key_id) VALUES
    ('id:evt_1', 'v', 'signal.created', 'evt_1', NULL, FALSE,
    '2024-10-15T09:30:01.000000Z', BODY, 'v', 'sha256=', '{}', 'k');
"""
