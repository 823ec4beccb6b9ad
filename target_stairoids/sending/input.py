"""The reader: an input's messages, each to what takes it, with delivery in between.

Every protocol's face reads by this: what a message means is the face's business, what
happens between two of them and after a bad one is not.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import IO, TYPE_CHECKING, Any

from target_stairoids.sending.messages import discard, messages_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from target_stairoids.sending.run import Delivery


logger = logging.getLogger(__name__)


def read_messages(
    source: IO[Any],
    delivery: Delivery,
    takers: Mapping[str, Callable[[dict[str, Any]], None]],
    *,
    otherwise: Callable[[dict[str, Any]], None],
    begin: Callable[[], None] | None = None,
) -> Counter[str]:
    """Open a delivery and read to the input's end, or until it wants no more.

    Args:
        takers: Type of a message -> what takes it.
        otherwise: Takes a message of any other type.
        begin: Called once the delivery is open, before anything is read.

    Returns:
        How many messages there were of each type. `delivery.finish` is still to be
        called.

    Raises:
        Exception: What a message or its handling raised, after everything before it
            is settled and the delivery has ended.
    """
    counts: Counter[str] = Counter()
    try:
        delivery.open()
        if begin is not None:
            begin()
        for number, message in enumerate(messages_of(source, delivery.attend), start=1):
            kind = message["type"]
            if kind not in takers:
                kind = kind.upper()
            try:
                takers.get(kind, otherwise)(message)
            except Exception:
                logger.warning("Stopped at message %d of the input.", number)
                raise
            counts[kind] += 1
    except Exception as error:
        delivery.finish(error)
        raise
    if not counts and delivery.stop is None:
        logger.warning("The input was empty. Did the tap fail?")
    if delivery.discards_input:
        discard(source)
    return counts
