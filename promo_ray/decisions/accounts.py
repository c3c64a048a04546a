"""The ledger's rows and rules: budgets, reservations, frequency caps; plain SQL.

Every function runs inside one transaction of a connection that holds SQLite's write lock, so
that reading first and writing second cannot race. Money is int64 minor units. For each campaign
and budget, `confirmed + reserved <= total` holds after every transaction (a total that is cut
below what is used only stops further grants).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple

import apsw
import orjson

from promo_ray.errors import LedgerError

_SWEEP_ROWS = 1000  # expired reservations that one transaction gives back at most


class LedgerConflictError(LedgerError):
    """A key that must name one request or event came again with other contents."""


class LedgerMissingError(LedgerError):
    """A decision or campaign that is not in the ledger."""


class State(IntEnum):
    """Where the reservation of a decision stands."""

    NONE = 0  # the decision made no offer
    OPEN = 1  # its budget is held until it expires
    CONFIRMED = 2  # the offer was shown: its budget is spent
    RELEASED = 3  # expired or withdrawn: its budget is free again
    UNFUNDED = 4  # shown after its release, when the budget was gone; kept out of the budget


class Outcome(StrEnum):
    """What the ledger says to an entry."""

    GRANTED = "granted"
    NO_OFFER = "no_offer"
    PAUSED = "campaign_paused"
    CAP_REACHED = "cap_reached"
    BUDGET_EXHAUSTED = "budget_exhausted"


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One decision to enter.

    Attributes:
        decision_id: its id.
        campaign: its campaign.
        user_key: 64-bit key of the user as a signed integer; None = not a known person.
        has_offer: whether it wants an offer; without one it is only recorded.
        amounts: minor units to hold of each budget, >= 0.
        render: body to store and answer, given what the ledger said; called once.
        ttl_s: seconds for which an unconfirmed offer holds its budget.
        max_uses: offers that the user may hold in `window_s`; 0 = no cap.
        window_s: seconds back from now that the cap looks.
        answer_key: idempotency key of the request; empty = none.
        fingerprint: digest of the request, to be told from another one under the same key.
    """

    decision_id: str
    campaign: str
    user_key: int | None
    has_offer: bool
    render: Callable[[Outcome], bytes]
    amounts: Mapping[str, int] = field(default_factory=dict)
    ttl_s: float = 900.0
    max_uses: int = 0
    window_s: float = 0.0
    answer_key: str = ""
    fingerprint: bytes = b""


class Receipt(NamedTuple):
    """Answer to an entry: `body` is what is stored; `outcome` None = an earlier answer."""

    outcome: Outcome | None
    body: bytes


def rows_of(db: apsw.Connection, sql: str, *bindings: Any) -> list[tuple[Any, ...]]:
    """All rows of a query."""
    return list(db.execute(sql, bindings))


def row_of(db: apsw.Connection, sql: str, *bindings: Any) -> tuple[Any, ...] | None:
    """First row of a query; None if there is none."""
    row: tuple[Any, ...] | None = db.execute(sql, bindings).fetchone()
    return row


def digest_of(text: str) -> bytes:
    """Digest under which keys from outside are stored; they may name a person themselves."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def microseconds(at_s: float) -> int:
    """Whole microseconds of an instant in seconds."""
    return round(at_s * 1e6)


def declare(db: apsw.Connection, campaign: str, totals: Mapping[str, int]) -> None:
    """Enter a campaign, or set the totals of one that is there."""
    db.execute("INSERT OR IGNORE INTO campaigns(campaign) VALUES (?)", (campaign,))
    db.executemany(
        "INSERT INTO budgets(campaign, name, total) VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET total = excluded.total",
        [(campaign, name, total) for name, total in totals.items()],
    )


def find_answers(db: apsw.Connection, entries: list[Entry]) -> dict[str, bytes]:
    """Stored bodies by idempotency key.

    Raises:
        LedgerConflictError: a key was used before for another request.
    """
    found = {}
    for entry in entries:
        if not entry.answer_key:
            continue
        row = row_of(
            db,
            "SELECT a.fingerprint, d.body FROM answers a JOIN decisions d USING (decision_id) "
            "WHERE a.key = ?",
            digest_of(entry.answer_key),
        )
        if row is not None:
            if row[0] != entry.fingerprint:
                raise LedgerConflictError(
                    "idempotency key must name one request; it came before with another body"
                )
            found[entry.answer_key] = row[1]
    return found


def enter(db: apsw.Connection, entry: Entry, now_s: float) -> Receipt:
    """Decide on an entry, hold its budget and store its row."""
    now_us = microseconds(now_s)
    outcome = _judge(db, entry, now_us) if entry.has_offer else Outcome.NO_OFFER
    is_granted = outcome is Outcome.GRANTED
    body = entry.render(outcome)
    amounts = dict(entry.amounts) if is_granted else {}
    state = State.OPEN if is_granted else State.NONE
    expires_us = now_us + microseconds(entry.ttl_s) if is_granted else 0
    _move(db, entry.campaign, amounts, reserved=1)
    db.execute(
        "INSERT INTO decisions VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            entry.decision_id, entry.campaign, entry.user_key, now_us, expires_us, int(state),
            orjson.dumps(amounts), body,
        ),
    )  # fmt: skip
    if entry.answer_key:
        db.execute(
            "INSERT INTO answers VALUES (?, ?, ?, ?)",
            (digest_of(entry.answer_key), entry.fingerprint, entry.decision_id, now_us),
        )
    return Receipt(outcome, body)


def _judge(db: apsw.Connection, entry: Entry, now_us: int) -> Outcome:
    row = row_of(db, "SELECT is_paused FROM campaigns WHERE campaign = ?", entry.campaign)
    if row is None:
        raise LedgerMissingError(
            f"campaign {entry.campaign!r} must be declared before it makes offers"
        )
    if row[0]:
        return Outcome.PAUSED
    if entry.max_uses and entry.user_key is not None:
        since_us = now_us - microseconds(entry.window_s)
        if count_uses(db, entry.campaign, entry.user_key, since_us) >= entry.max_uses:
            return Outcome.CAP_REACHED
    return Outcome.GRANTED if _fits(db, entry.campaign, entry.amounts) else Outcome.BUDGET_EXHAUSTED


def count_uses(db: apsw.Connection, campaign: str, user_key: int, since_us: int) -> int:
    """Offers that a user holds or was shown since an instant."""
    sql = (
        "SELECT count(*) FROM decisions WHERE user_key = ? AND campaign = ? AND decided_us > ? "
        "AND state IN (1, 2, 4)"
    )
    return int(rows_of(db, sql, user_key, campaign, since_us)[0][0])


def _fits(db: apsw.Connection, campaign: str, amounts: Mapping[str, int]) -> bool:
    for name, amount in amounts.items():
        sql = "SELECT total - confirmed - reserved FROM budgets WHERE campaign = ? AND name = ?"
        row = row_of(db, sql, campaign, name)
        if row is None or amount < 0:
            raise LedgerError(f"amount must be >= 0 of a declared budget; got {amount} of {name!r}")
        if amount > row[0]:
            return False
    return True


def _move(
    db: apsw.Connection,
    campaign: str,
    amounts: Mapping[str, int],
    *,
    reserved: int = 0,
    confirmed: int = 0,
) -> None:
    for name, amount in amounts.items():
        if amount:
            db.execute(
                "UPDATE budgets SET reserved = reserved + ?, confirmed = confirmed + ? "
                "WHERE campaign = ? AND name = ?",
                (reserved * amount, confirmed * amount, campaign, name),
            )


def settle(db: apsw.Connection, decision_id: str, wanted: State) -> State | None:
    """Confirm or release a reservation; the state after it, None for an unknown decision.

    A confirmation wins over a release whatever their order. One that comes after the budget was
    given to others leaves the decision `UNFUNDED`; the budget is never overdrawn.
    """
    row = row_of(
        db, "SELECT campaign, state, amounts FROM decisions WHERE decision_id = ?", decision_id
    )
    if row is None:
        return None
    campaign, state, amounts = row[0], State(row[1]), orjson.loads(row[2])
    after = state
    if wanted is State.RELEASED and state is State.OPEN:
        _move(db, campaign, amounts, reserved=-1)
        after = State.RELEASED
    elif wanted is State.CONFIRMED and state is State.OPEN:
        _move(db, campaign, amounts, reserved=-1, confirmed=1)
        after = State.CONFIRMED
    elif wanted is State.CONFIRMED and state in (State.RELEASED, State.UNFUNDED):
        after = State.CONFIRMED if _fits(db, campaign, amounts) else State.UNFUNDED
        _move(db, campaign, amounts, confirmed=int(after is State.CONFIRMED))
    if after is not state:
        db.execute(
            "UPDATE decisions SET state = ? WHERE decision_id = ?", (int(after), decision_id)
        )
    return after


def release_expired(db: apsw.Connection, now_s: float) -> None:
    """Give back the budget of reservations that nobody confirmed in time."""
    sql = "SELECT decision_id FROM decisions WHERE state = 1 AND expires_us <= ? LIMIT ?"
    for (decision_id,) in rows_of(db, sql, microseconds(now_s), _SWEEP_ROWS):
        settle(db, decision_id, State.RELEASED)


def erase(db: apsw.Connection, user_key: int) -> int:
    """Cut the ties between a user and the accounts; amounts and counters stay.

    The key itself goes to a list of users whose profile must not be used any more, though a
    bundle may still hold it.

    Returns:
        Decisions that were cut loose.
    """
    owned = "(SELECT decision_id FROM decisions WHERE user_key = ?)"
    db.execute(f"DELETE FROM answers WHERE decision_id IN {owned}", (user_key,))
    db.execute("UPDATE decisions SET body = NULL, user_key = NULL WHERE user_key = ?", (user_key,))
    n_cut = db.changes()
    db.execute("INSERT OR IGNORE INTO erased VALUES (?)", (user_key,))
    return n_cut
