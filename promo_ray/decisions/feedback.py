"""Events about decisions: recorded once each, with the same effect in any order; plain SQL."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import apsw

from promo_ray.decisions.accounts import State, digest_of, microseconds, row_of, rows_of, settle


class FeedbackType(StrEnum):
    """What can happen to a decision."""

    SHOWN = "shown"
    CLICK = "click"
    REDEEM = "redeem"
    RETURN = "return"
    EXPIRE = "expire"


_CONFIRMS = frozenset({FeedbackType.SHOWN, FeedbackType.REDEEM})


class Feedback(NamedTuple):
    """One event about a decision; `value` in minor units, `occurred_at` seconds since 1970."""

    event_id: str
    decision_id: str
    type: FeedbackType
    value: int = 0
    occurred_at: float = 0.0


class FeedbackStatus(StrEnum):
    """What became of an event."""

    RECORDED = "recorded"
    DUPLICATE = "duplicate"
    PENDING = "pending"  # its decision is not known yet
    CONFLICT = "conflict"  # its id came before with other contents


def book(db: apsw.Connection, event: Feedback, now_s: float) -> FeedbackStatus:
    """Record an event once; what it does to counters and budget is the same in any order."""
    key = digest_of(event.event_id)
    occurred_us = microseconds(event.occurred_at)
    contents = (event.decision_id, str(event.type), event.value, occurred_us)
    sql = "SELECT decision_id, type, value, occurred_us FROM feedback WHERE event_key = ?"
    row = row_of(db, sql, key)
    if row is not None:
        return FeedbackStatus.DUPLICATE if row == contents else FeedbackStatus.CONFLICT
    sql = "SELECT campaign FROM decisions WHERE decision_id = ?"
    decision = row_of(db, sql, event.decision_id)
    db.execute(
        "INSERT INTO feedback VALUES (?, ?, ?, ?, ?, ?, ?)",
        (key, *contents, microseconds(now_s), int(decision is None)),
    )
    if decision is None:
        return FeedbackStatus.PENDING
    _apply(db, decision[0], event.decision_id, event.type, event.value)
    return FeedbackStatus.RECORDED


def _apply(db: apsw.Connection, campaign: str, decision_id: str, kind: str, value: int) -> None:
    count(db, campaign, kind, value)
    if kind in _CONFIRMS:
        settle(db, decision_id, State.CONFIRMED)
    elif kind == FeedbackType.EXPIRE:
        settle(db, decision_id, State.RELEASED)


def count(db: apsw.Connection, campaign: str, name: str, value: int = 0) -> None:
    """Add one event of `value` minor units to a counter."""
    db.execute(
        "INSERT INTO counters VALUES (?, ?, 1, ?) "
        "ON CONFLICT DO UPDATE SET n = n + 1, total = total + excluded.total",
        (campaign, name, value),
    )


def adopt_pending(db: apsw.Connection, decision_id: str, campaign: str) -> None:
    """Book the events that came before their decision."""
    sql = "SELECT event_key, type, value FROM feedback WHERE decision_id = ? AND is_pending = 1"
    for key, kind, value in rows_of(db, sql, decision_id):
        db.execute("UPDATE feedback SET is_pending = 0 WHERE event_key = ?", (key,))
        _apply(db, campaign, decision_id, kind, value)


def drop_old(db: apsw.Connection, now_s: float, answers_s: float, pending_s: float) -> None:
    """Forget idempotency keys and events without a decision that are older than so many seconds.

    Dropped events are counted under the campaign "" as `dead_letter`.
    """
    db.execute("DELETE FROM answers WHERE made_us < ?", (microseconds(now_s - answers_s),))
    before_us = microseconds(now_s - pending_s)
    db.execute("DELETE FROM feedback WHERE is_pending = 1 AND received_us < ?", (before_us,))
    if db.changes():
        db.execute(
            "INSERT INTO counters VALUES ('', 'dead_letter', ?, 0) "
            "ON CONFLICT DO UPDATE SET n = n + excluded.n",
            (db.changes(),),
        )
