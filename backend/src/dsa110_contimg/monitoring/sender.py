"""Send what is in the outbox: at least once, recorded exactly once.

Each alert is claimed, sent and recorded in turn, in short transactions with the network between them. What fails is
tried again after 30 s, 60 s, 120 s ... at most an hour, and given up after a day, with the reason in the history.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence

from dsa110_contimg.database import get_session
from dsa110_contimg.database.alert_outbox import (
    QUIET_S,
    Alert,
    Delivery,
    address_alerts,
    claim_delivery,
    free_dead,
    give_up_unaddressable,
    postpone_delivery,
    record_delivery,
)
from dsa110_contimg.database.ownership import this_process
from dsa110_contimg.monitoring.channels import SEND_TIMEOUT_S, Channel, deliver

logger = logging.getLogger(__name__)
FIRST_PAUSE_S = 30.0
LONGEST_PAUSE_S = QUIET_S
MAX_FAILURES = 30
"""With the pauses above this is 24 hours."""
GIVE_UP_S = 24 * 3600.0

Deliver = Callable[[Channel, Alert, float], str | None]


def pause_after(failures: int) -> float:
    """Return how long to wait after so many failures in a row."""
    return min(FIRST_PAUSE_S * 2.0 ** min(failures - 1, 20), LONGEST_PAUSE_S)


def send_due(
    channels: Sequence[Channel],
    *,
    limit: int = 10,
    clock: Callable[[], float] = time.time,
    send: Deliver = deliver,
) -> Counter[str]:
    """Send the alerts that are due, at most `limit` of them, and record what became of each.

    Several processes may do this at once: each alert is held by one of them. Without channels alerts are recorded as
    sent to nobody.

    Returns
    -------
    Counter
        How many were sent, failed (to be tried again), given up, or lost (another process has them).
    """
    by_name = {channel.name: channel for channel in channels}
    now = clock()
    with get_session("products") as session:
        free_dead(session)
        address_alerts(session, {channel.name: channel.least for channel in channels}, now=now)
        give_up_unaddressable(session, by_name, older_than=now - GIVE_UP_S, now=now)
    outcomes: Counter[str] = Counter()
    owner = this_process()
    for _ in range(limit if channels else 0):
        with get_session("products") as session:
            delivery = claim_delivery(session, by_name, owner, SEND_TIMEOUT_S, now=clock())
        if delivery is None:
            break
        error = send(by_name[delivery.channel], delivery.alert, delivery.created_at)
        outcomes[_close(delivery, error, clock())] += 1
    return outcomes


def _close(delivery: Delivery, error: str | None, now: float) -> str:
    failures = delivery.failures + 1
    with get_session("products") as session:
        if error is not None and failures < MAX_FAILURES:
            kept = postpone_delivery(session, delivery, error=error, not_before=now + pause_after(failures))
            outcome = "failed"
        else:
            kept = record_delivery(session, delivery, error=error, now=now)
            outcome = "sent" if error is None else "given up"
    if error is not None:
        logger.warning("alert %s to %s: %s (%s)", delivery.alert.kind, delivery.channel, outcome, error)
    return outcome if kept else "lost"
