"""The ledger: a database, its tables, its transactions and the leases of its runs."""

from __future__ import annotations
