import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shop_bundle import Clock

from promo_ray.decisions import (
    Entry,
    Feedback,
    FeedbackStatus,
    FeedbackType,
    Ledger,
    LedgerConflictError,
    LedgerMissingError,
    LedgerUnavailableError,
    Outcome,
    State,
)
from promo_ray.decisions.ledger import BudgetLine
from promo_ray.errors import LedgerError


def entry(name: str, amount: int = 10, user_key: int | None = 1, **fields: object) -> Entry:
    values: dict[str, object] = {
        "decision_id": name,
        "campaign": "c",
        "user_key": user_key,
        "has_offer": True,
        "amounts": {"main": amount},
        "render": lambda outcome: f'"{name} {outcome}"'.encode(),
    }
    return Entry(**(values | fields))  # type: ignore[arg-type]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db", clock=clock) as ledger:
        ledger.declare("c", {"main": 100})
        yield ledger


def line(ledger: Ledger) -> BudgetLine:
    return ledger.budgets("c")[0]


def test_grants_stop_exactly_at_the_budget_and_every_answer_is_on_record(ledger: Ledger) -> None:
    outcomes = [ledger.reserve(entry(f"d{i}", 30)).outcome for i in range(4)]
    assert outcomes == [Outcome.GRANTED] * 3 + [Outcome.BUDGET_EXHAUSTED]
    assert ledger.reserve(entry("d4", 10)).outcome is Outcome.GRANTED
    assert line(ledger) == BudgetLine("c", "main", 100, 0, 100)
    assert ledger.count_decisions() == 5
    record = ledger.find("d3")
    assert record is not None
    assert (record.body, record.state) == (b'"d3 budget_exhausted"', State.NONE)


def test_confirmed_stays_spent_and_released_comes_back(ledger: Ledger) -> None:
    for name in ("a", "b"):
        ledger.reserve(entry(name, 50))
    assert ledger.confirm("a") is State.CONFIRMED
    assert ledger.release("b") is State.RELEASED
    assert ledger.release("a") is State.CONFIRMED
    assert line(ledger) == BudgetLine("c", "main", 100, 50, 0)
    with pytest.raises(LedgerMissingError):
        ledger.confirm("nobody")


def test_an_unconfirmed_reservation_is_free_for_the_next_request_after_its_time(
    ledger: Ledger, clock: Clock
) -> None:
    ledger.reserve(entry("a", 100, ttl_s=60.0))
    clock.now_s += 59.9
    assert ledger.reserve(entry("b", 100)).outcome is Outcome.BUDGET_EXHAUSTED
    clock.now_s += 0.2
    assert ledger.reserve(entry("c", 100)).outcome is Outcome.GRANTED
    record = ledger.find("a")
    assert record is not None
    assert record.state is State.RELEASED


def test_a_late_showing_is_funded_only_from_what_is_left(ledger: Ledger, clock: Clock) -> None:
    for name in ("a", "b"):
        ledger.reserve(entry(name, 50, ttl_s=1.0))
    clock.now_s += 2
    ledger.reserve(entry("c", 60))
    shown = [Feedback(f"e{name}", name, FeedbackType.SHOWN) for name in ("a", "b")]
    ledger.record_feedback(shown)
    states = [ledger.find(name) for name in ("a", "b")]
    assert [r.state for r in states if r] == [State.UNFUNDED, State.UNFUNDED]
    assert line(ledger) == BudgetLine("c", "main", 100, 0, 60)
    assert ledger.counters()["c", "unfunded"] == (2, 0)
    ledger.release("c")
    ledger.record_feedback([Feedback("e2", "a", FeedbackType.REDEEM, 40)])
    assert line(ledger) == BudgetLine("c", "main", 100, 50, 0)


def test_all_budgets_or_none_are_held(ledger: Ledger) -> None:
    ledger.declare("c", {"main": 100, "mail": 5})
    granted = ledger.reserve(entry("a", amounts={"main": 10, "mail": 5}))
    refused = ledger.reserve(entry("b", amounts={"main": 10, "mail": 1}))
    assert (granted.outcome, refused.outcome) == (Outcome.GRANTED, Outcome.BUDGET_EXHAUSTED)
    assert {b.name: b.reserved for b in ledger.budgets("c")} == {"main": 10, "mail": 5}


def test_a_cut_total_stops_grants_and_keeps_what_was_granted(ledger: Ledger) -> None:
    ledger.reserve(entry("a", 80))
    ledger.declare("c", {"main": 50})
    assert ledger.reserve(entry("b", 1)).outcome is Outcome.BUDGET_EXHAUSTED
    assert line(ledger) == BudgetLine("c", "main", 50, 0, 80)


def test_undeclared_names_and_negative_amounts_are_errors_that_change_nothing(
    ledger: Ledger,
) -> None:
    for bad in (entry("a", campaign="x"), entry("b", amounts={"x": 1}), entry("c", -1)):
        with pytest.raises(LedgerError):
            ledger.reserve(bad)
    ledger.reserve(entry("d"))
    with pytest.raises(LedgerError, match="consistent"):
        ledger.reserve(entry("d"))
    assert (ledger.count_decisions(), line(ledger).reserved) == (1, 10)


def test_a_caller_s_fault_does_not_touch_the_others_of_its_transaction(ledger: Ledger) -> None:
    def fail(_: Outcome) -> bytes:
        raise ZeroDivisionError

    futures = [ledger.submit([entry(f"d{i}", 1)]) for i in range(20)]
    bad = ledger.submit([entry("x", 1), entry("y", 1, render=fail)])
    futures += [ledger.submit([entry(f"f{i}", 1)]) for i in range(20)]
    assert all(f.result()[0].outcome is Outcome.GRANTED for f in futures)
    with pytest.raises(ZeroDivisionError):
        bad.result()
    assert (ledger.count_decisions(), line(ledger).reserved) == (40, 40)


def test_cap_counts_offers_of_a_user_in_the_window(ledger: Ledger, clock: Clock) -> None:
    caps = {"max_uses": 2, "window_s": 100.0}
    outcomes = [ledger.reserve(entry(f"a{i}", 1, **caps)).outcome for i in range(3)]
    assert outcomes == [Outcome.GRANTED, Outcome.GRANTED, Outcome.CAP_REACHED]
    assert ledger.reserve(entry("b", 1, user_key=2, **caps)).outcome is Outcome.GRANTED
    ledger.release("a0")
    assert ledger.reserve(entry("a3", 1, **caps)).outcome is Outcome.GRANTED
    clock.now_s -= 300  # a clock that steps back must not open the window anew
    assert ledger.reserve(entry("a4", 1, **caps)).outcome is Outcome.CAP_REACHED
    clock.now_s += 300 + 101
    assert ledger.reserve(entry("a5", 1, **caps)).outcome is Outcome.GRANTED


def test_no_offer_is_granted_after_pause_returned(ledger: Ledger, tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as other:
        ledger.pause("c")
        assert other.reserve(entry("a")).outcome is Outcome.PAUSED
        assert other.room("c", [1]).is_paused
        other.resume("c")
        assert ledger.reserve(entry("b")).outcome is Outcome.GRANTED
    with pytest.raises(LedgerMissingError):
        ledger.pause("x")


def test_the_same_key_gives_the_stored_answer_and_another_request_is_refused(
    ledger: Ledger,
) -> None:
    keyed = {"answer_key": "k", "fingerprint": b"one"}
    first = ledger.reserve(entry("a", **keyed))
    again = ledger.reserve(entry("b", **keyed))
    assert (again.outcome, again.body) == (None, first.body)
    both = [entry("c"), entry("d", answer_key="k", fingerprint=b"two")]
    with pytest.raises(LedgerConflictError):
        ledger.submit(both).result()
    assert (ledger.count_decisions(), line(ledger).reserved) == (1, 10)


def test_racing_requests_with_one_key_get_one_grant(ledger: Ledger) -> None:
    futures = [ledger.submit([entry(f"d{i}", answer_key="k", fingerprint=b"")]) for i in range(50)]
    assert len({f.result()[0].body for f in futures}) == 1
    assert line(ledger).reserved == 10


def test_an_event_counts_once_and_a_changed_one_is_a_conflict(ledger: Ledger) -> None:
    ledger.reserve(entry("a"))
    event = Feedback("e", "a", FeedbackType.REDEEM, 7)
    statuses = ledger.record_feedback([event, event, event._replace(value=8)])
    assert statuses == [
        FeedbackStatus.RECORDED,
        FeedbackStatus.DUPLICATE,
        FeedbackStatus.CONFLICT,
    ]
    assert ledger.counters()["c", "redeem"] == (1, 7)


def test_events_without_a_decision_wait_and_are_dropped_with_a_count(
    ledger: Ledger, clock: Clock
) -> None:
    event = Feedback("e", "later", FeedbackType.SHOWN)
    assert ledger.record_feedback([event]) == [FeedbackStatus.PENDING]
    ledger.record_feedback([Feedback("f", "never", FeedbackType.SHOWN)])
    ledger.reserve(entry("later"))
    record = ledger.find("later")
    assert record is not None
    assert (record.state, dict(record.feedback)) == (State.CONFIRMED, {"shown": 1})
    clock.now_s += 8 * 86400
    ledger._drop_at = 0.0
    ledger.reserve(entry("b"))
    assert ledger.counters()["", "dead_letter"] == (1, 0)


EVENTS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(list(FeedbackType)), st.integers(-5, 50)),
    max_size=8,
)


@given(events=EVENTS, data=st.data())
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_order_and_repetition_of_events_gives_the_same_accounts(
    tmp_path: Path, events: list[tuple[int, FeedbackType, int]], data: st.DataObject
) -> None:
    deliveries: list[object] = [
        Feedback(f"e{i}", f"d{d}", kind, value) for i, (d, kind, value) in enumerate(events)
    ]
    deliveries += [entry(f"d{d}", 20 + d) for d in range(4)]
    repeats = data.draw(st.lists(st.sampled_from(deliveries), max_size=4))
    repeats = [r for r in repeats if isinstance(r, Feedback)]
    orders = [deliveries, data.draw(st.permutations(deliveries + repeats))]
    outcomes = []
    for k, order in enumerate(orders):
        path = tmp_path / f"{time.monotonic_ns()}-{k}.db"
        with Ledger(path, clock=Clock()) as ledger:
            ledger.declare("c", {"main": 10_000})
            for step in order:
                if isinstance(step, Entry):
                    ledger.reserve(step)
                else:
                    ledger.record_feedback([step])  # type: ignore[list-item]
            records = [ledger.find(f"d{d}") for d in range(4)]
            outcomes.append((ledger.counters(), ledger.budgets(), records))
    assert outcomes[0] == outcomes[1]


def _invariant(path: Path) -> tuple[int, int, int]:
    """Used by budget row, used by decision rows, total: read from the file itself."""
    db = apsw.Connection(str(path))
    total, confirmed, reserved = db.execute(
        "SELECT total, confirmed, reserved FROM budgets"
    ).fetchone()
    held = db.execute(
        "SELECT coalesce(sum(json_extract(CAST(amounts AS TEXT), '$.main')), 0) "
        "FROM decisions WHERE state IN (1, 2)"
    ).fetchone()[0]
    db.close()
    return confirmed + reserved, held, total


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["reserve", "confirm", "release", "late", "show"]),
            st.integers(0, 7),
            st.integers(0, 60),
        ),
        max_size=25,
    )
)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_accounts_agree_with_decisions_and_stay_within_the_total(
    tmp_path: Path, steps: list[tuple[str, int, int]]
) -> None:
    path = tmp_path / f"{time.monotonic_ns()}.db"
    clock = Clock()
    made: set[str] = set()
    with Ledger(path, clock=clock) as ledger:
        ledger.declare("c", {"main": 100})
        for i, (what, which, amount) in enumerate(steps):
            name = f"d{which}"
            if what == "reserve" and name not in made:
                made.add(name)
                left = ledger.room("c", []).left["main"]
                receipt = ledger.reserve(entry(name, amount, ttl_s=50.0))
                assert receipt.outcome is Outcome.GRANTED or amount > left
            elif what == "late":
                clock.now_s += amount
            elif what == "show":
                ledger.record_feedback([Feedback(f"e{i}", name, FeedbackType.SHOWN)])
            elif name in made and what in ("confirm", "release"):
                getattr(ledger, what)(name)
            used, held, total = _invariant(path)
            assert used == held <= total


def test_threads_never_overspend_and_use_all_of_the_budget(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l.db") as ledger:
        ledger.declare("c", {"main": 1000})
        granted: list[int] = []

        def work(worker: int) -> None:
            for i in range(50):
                receipt = ledger.reserve(entry(f"{worker}-{i}", 1 + i % 7))
                if receipt.outcome is Outcome.GRANTED:
                    granted.append(1 + i % 7)

        threads = [threading.Thread(target=work, args=(w,)) for w in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        used = line(ledger).reserved
        assert used == sum(granted) <= 1000
        assert used >= 1000 - 7


WORKER = textwrap.dedent(
    """
    import sys
    from promo_ray.decisions import Entry, Ledger, Outcome
    path, name, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with Ledger(path) as ledger:
        print("ready", flush=True)
        sys.stdin.readline()
        futures = []
        for i in range(n):
            one = Entry(decision_id=f"{name}-{i}", campaign="c", user_key=None, has_offer=True,
                        amounts={"main": 3}, render=lambda outcome: b"{}")
            futures.append((one.decision_id, ledger.submit([one])))
            if len(futures) == 8:
                for key, future in futures:
                    outcome = future.result()[0].outcome
                    print(key, outcome, flush=True)
                futures = []
    """
)


def _start(path: Path, name: str, n: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, str(path), name, str(n)]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "ready\n"
    return worker


def _go(worker: subprocess.Popen[str]) -> None:
    assert worker.stdin is not None
    worker.stdin.write("\n")
    worker.stdin.flush()


def test_two_processes_share_one_budget_exactly(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    with Ledger(path) as ledger:
        ledger.declare("c", {"main": 1000})
        workers = [_start(path, name, 400) for name in ("a", "b")]
        for worker in workers:
            _go(worker)
        answers = [w.communicate(timeout=60)[0].split("\n") for w in workers]
        assert [w.returncode for w in workers] == [0, 0]
        granted = [sum(text.endswith(" granted") for text in lines) for lines in answers]
        assert sum(granted) == 333
        assert line(ledger).reserved == 999
    assert _invariant(path) == (999, 999, 1000)


def test_a_killed_process_loses_no_answered_grant_and_breaks_no_account(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    with Ledger(path) as ledger:
        ledger.declare("c", {"main": 10**6})
        worker = _start(path, "w", 10**6)
        _go(worker)
        assert worker.stdout is not None
        answered = [worker.stdout.readline().split()[0] for _ in range(200)]
        os.kill(worker.pid, signal.SIGKILL)
        answered += [text.split()[0] for text in worker.stdout.read().split("\n") if " " in text]
        worker.wait()
        assert ledger.reserve(entry("after", 1)).outcome is Outcome.GRANTED
    with Ledger(path) as ledger:
        assert all(ledger.find(name) for name in answered)
        assert ledger.count_decisions() >= len(answered) + 1
    used, held, total = _invariant(path)
    assert used == held <= total


def test_erasure_leaves_no_key_and_no_body_in_any_file_but_keeps_the_accounts(
    ledger: Ledger, tmp_path: Path
) -> None:
    body = b'"a very personal body"'
    key = 0x1122334455667788
    ledger.reserve(
        entry("a", 30, key, render=lambda _: body, answer_key="kk", fingerprint=b"fingerprinted")
    )
    ledger.record_feedback([Feedback("user@example.com/1", "a", FeedbackType.SHOWN)])
    before = line(ledger)
    assert ledger.erase(key) == 1
    raw = b"".join(f.read_bytes() for f in tmp_path.iterdir())
    assert not any(trace in raw for trace in (body, b"fingerprinted", b"user@example.com"))
    assert ledger.find("a") is None
    assert line(ledger) == before
    assert ledger.room("c", [key, 1]).is_erased.tolist() == [True, False]


def test_it_grants_nothing_while_another_process_holds_the_file(
    ledger: Ledger, tmp_path: Path
) -> None:
    with Ledger(tmp_path / "ledger.db", busy_timeout_s=0.1) as impatient:
        other = apsw.Connection(str(tmp_path / "ledger.db"))
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailableError):
            impatient.reserve(entry("b", 1))
        other.execute("ROLLBACK")
        other.close()
        assert impatient.reserve(entry("c", 1)).outcome is Outcome.GRANTED
    assert ledger.find("b") is None
    assert line(ledger).reserved == 1


FULL_DISK = textwrap.dedent(
    """
    import resource, sys
    from promo_ray.decisions import Entry, Ledger, LedgerUnavailableError, Outcome
    def one(name):
        return Entry(decision_id=name, campaign="c", user_key=None, has_offer=True,
                     amounts={"main": 1}, render=lambda outcome: b"x" * 3000)
    with Ledger(sys.argv[1]) as ledger:
        ledger.declare("c", {"main": 10**6})
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
        granted = 0
        try:
            for i in range(10**4):
                ledger.reserve(one(f"d{i}"))
                granted += 1
        except LedgerUnavailableError as error:
            print(error)
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        ledger.reserve(one("last"))
        print(granted + 1, ledger.count_decisions(), ledger.budgets("c")[0].reserved)
    """
)


def test_it_fails_closed_on_a_full_disk_and_recovers_when_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=True
    )
    error, counts = run.stdout.splitlines()
    assert "ledger must be writable" in error
    granted, on_record, reserved = map(int, counts.split())
    assert 1 < granted < 10**4
    assert granted == on_record == reserved
    used, held, _ = _invariant(path)
    assert used == held == granted


def test_files_that_are_no_ledger_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello, this is no database at all\n" * 100)
    newer = apsw.Connection(str(tmp_path / "newer"))
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    for name in ("text", "newer", "no/such/directory"):
        with pytest.raises(LedgerUnavailableError, match="ledger") as caught:
            Ledger(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_closed_ledger_refuses_and_closing_finishes_what_is_queued(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.db")
    ledger.declare("c", {"main": 10**6})
    futures = [ledger.submit([entry(f"d{i}", 1)]) for i in range(500)]
    ledger.close()
    assert all(f.result()[0].outcome is Outcome.GRANTED for f in futures)
    for call in (lambda: ledger.reserve(entry("x")), lambda: ledger.find("d1")):
        with pytest.raises(LedgerUnavailableError):
            call()
    ledger.close()


def test_settings_are_shared_between_processes_on_one_file(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l.db") as one, Ledger(tmp_path / "l.db") as two:
        assert two.setting("x") is None
        one.put_setting("x", {"a": [1, "ü"]})
        assert two.setting("x") == {"a": [1, "ü"]}
