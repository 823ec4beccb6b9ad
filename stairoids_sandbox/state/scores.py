"""Scores: the documented default weight of a signal's type, without decay."""

from __future__ import annotations

_WEIGHTS = {
    "meeting_booked": 25,
    "deal_created": 20,
    "form_submit": 18,
    "crm_stage_change": 12,
    "linkedin_connection": 8,
    "email_click": 6,
    "email_open": 3,
    "page_visit": 2,
}
_CUSTOM_WEIGHT = 5  # the weight of a type of one's own is not documented


def score_of(signal_type: str) -> int:
    """Say what one signal of this type adds to its account and contact."""
    return _WEIGHTS.get(signal_type, _CUSTOM_WEIGHT)
