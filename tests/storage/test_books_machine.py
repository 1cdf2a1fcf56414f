"""The books against a model of them: purchases, joins, leaves, crashes, expiry, repeats, settlement, in any order.

The model knows no SQL: a purchase is a state and some numbers, and what a limit, an Idempotency-Key or a repeat may do
follows from them. After every step the tables must say the same, and every rule that `darkroom doctor` checks holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import structs
from sqlalchemy.pool import StaticPool

from gateway.domain.limits import Metric
from gateway.domain.usage_row import UsageRow
from gateway.errors import LimitExceeded
from gateway.storage import generations, idempotency, invariants, orphans, repeats, settlement, tables
from gateway.storage.database import now_ms
from gateway.storage.generations import AlreadyStored, AlreadyUnderWay, Charge, Intent
from gateway.storage.idempotency import AlreadyClaimed, Claim
from gateway.storage.repeats import AlreadyLost, AlreadyYours
from tests.support.ledger import ANSWER, ERROR, PRICE, intent, limit, stored_answer

T = TypeVar("T")
BUDGET = limit(12 * PRICE)
PLACES = limit(6, Metric.CONCURRENCY)
UNDER_WAY = {"pending", "sent", "answered"}
COSTS = st.sampled_from([0, 1, PRICE, 3 * PRICE])
CALLERS = st.sampled_from(["ada", "bob"])
WISHES = st.sampled_from(["a lighthouse", "a harbour"])


@dataclass
class Purchase:
    """What the model knows of a generation."""

    id: str
    row: UsageRow
    caller: str
    repeat_key: str
    flight: str | None
    claim: Claim | None
    status: str = "pending"
    was_sent: bool = False
    late: bool = False
    cost: int | None = None
    adjusted: int = 0
    abandoned: bool = False
    delivered: int = 0

    @property
    def is_open(self) -> bool:
        return self.status in {"pending", "sent", "unknown"}

    @property
    def spent(self) -> int:
        return 0 if self.is_open else (self.cost or 0) + self.adjusted


class BooksMachine(RuleBasedStateMachine):
    @initialize()
    def open_books(self) -> None:
        self.engine = sa.create_engine("sqlite://", poolclass=StaticPool)
        tables.metadata.create_all(self.engine)
        self.purchases: list[Purchase] = []
        self.stored: set[str] = set()
        self.claims: dict[Claim, str] = {}

    def write(self, work: Callable[[sa.Connection], T]) -> T:
        with self.engine.begin() as conn:
            return work(conn)

    def one_of(self, data: st.DataObject, *statuses: str) -> Purchase | None:
        """Of these states."""
        chosen = [each for each in self.purchases if each.status in statuses]
        return data.draw(st.sampled_from(chosen)) if chosen else None

    def any_of(self, data: st.DataObject, *statuses: str) -> Purchase:
        """Mostly of these states, for which a step is meant; now and then of another, which must refuse it."""
        amiss = data.draw(st.integers(0, 5), label="a purchase that this step is not meant for?") == 0
        fitting = [each for each in self.purchases if each.status in statuses]
        return data.draw(st.sampled_from(self.purchases if amiss or not fitting else fitting))

    # -- a call ----------------------------------------------------------------------------------------------------

    @rule(caller=CALLERS, wish=WISHES, seeded=st.booleans(), retried=st.booleans())
    def ask(self, caller: str, wish: str, seeded: bool, retried: bool) -> None:
        self.call(caller, wish, seeded=seeded, retried=retried, claim=None)

    @rule(caller=CALLERS, wish=WISHES, key=st.sampled_from(["k1", "k2", "k3", "k4"]), seeded=st.booleans())
    def ask_with_a_key(self, caller: str, wish: str, key: str, seeded: bool) -> None:
        self.call(caller, wish, seeded=seeded, retried=False, claim=Claim(caller, key, f"{wish} {seeded}"))

    @rule(wishes=st.lists(WISHES, min_size=2, max_size=4), key=st.integers(10, 10**6))
    def ask_for_several(self, wishes: list[str], key: int) -> None:
        for place, wish in enumerate(wishes):
            self.call("ada", wish, seeded=False, retried=False, claim=Claim("ada", f"{key} {place}", wish))

    def call(self, caller: str, wish: str, *, seeded: bool, retried: bool, claim: Claim | None) -> None:
        flight = wish if seeded else None
        made = intent(
            fingerprint=wish, flight=flight, repeat_key=f"{caller} {wish} {seeded}", retried=retried, claim=claim
        )
        expected, those = self.expected(made.repeat_key, flight, claim, retried=retried)
        met = self.reserve(made)
        if expected is not None:
            assert isinstance(met, expected)
            assert not those or getattr(met, "generation_id", None) in those
            return
        assert met is None
        self.purchases.append(Purchase(made.id, made.usage, caller, made.repeat_key, flight, claim))
        if claim is not None:
            self.claims[claim] = made.id

    def reserve(self, made: Intent) -> Exception | None:
        """What stood in the way, if anything did."""
        try:
            self.write(
                lambda conn: generations.reserve(
                    conn, made, [BUDGET, PLACES], lease_owner="me", accepts=lambda _entry, _now: True
                )
            )
        except (AlreadyClaimed, AlreadyYours, AlreadyUnderWay, AlreadyStored, LimitExceeded) as found:
            return found
        return None

    def expected(
        self, repeat_key: str, flight: str | None, claim: Claim | None, *, retried: bool
    ) -> tuple[type[Exception] | None, set[str]]:
        """What a call of this kind must meet, and the purchases that it may be told of."""
        every = self.purchases
        if claim is not None and any(
            (c.key_id, c.idempotency_key) == (claim.key_id, claim.idempotency_key) for c in self.claims
        ):
            return AlreadyClaimed, set()
        if claim is None:
            wanted = {*UNDER_WAY, "succeeded"}
            mine = {p.id for p in every if p.repeat_key == repeat_key and p.abandoned and p.status in wanted}
            if mine:
                return AlreadyYours, mine
            lost = {
                p.id
                for p in every
                if p.status == "unknown" and (p.repeat_key == repeat_key or (flight is not None and p.flight == flight))
            }
            if retried and lost:
                return AlreadyLost, lost
        flying = {p.id for p in every if flight is not None and p.flight == flight and p.status in UNDER_WAY}
        if flying:
            return AlreadyUnderWay, flying
        if flight in self.stored:
            return AlreadyStored, set()
        spent, reserved = self.money()
        places = sum(p.status in {"pending", "sent"} for p in every)
        full = spent + reserved + PRICE > BUDGET.amount or places + 1 > PLACES.amount
        return (LimitExceeded, set()) if full else (None, set())

    def money(self) -> tuple[int, int]:
        return sum(p.spent for p in self.purchases), PRICE * sum(p.is_open for p in self.purchases)

    @rule(data=st.data())
    @precondition(lambda self: self.purchases)
    def leave(self, data: st.DataObject) -> None:
        purchase = data.draw(st.sampled_from(self.purchases))
        self.write(lambda conn: repeats.abandon(conn, purchase.id))
        purchase.abandoned = True

    @rule(data=st.data())
    @precondition(lambda self: self.purchases)
    def come_back(self, data: st.DataObject) -> None:
        purchase = self.any_of(data, "pending", "sent", "answered", "succeeded")
        may = purchase.abandoned and purchase.status in {*UNDER_WAY, "succeeded"}
        assert self.write(lambda conn: repeats.take(conn, purchase.id)) is may
        if may:
            purchase.abandoned = False

    # -- the steps of a purchase -----------------------------------------------------------------------------------

    @rule(data=st.data(), steps=st.integers(1, 4))
    @precondition(lambda self: self.purchases)
    def go_on(self, data: st.DataObject, steps: int) -> None:
        """Some purchases take the step that is next for them."""
        for _ in range(steps):
            purchase = self.one_of(data, "pending", "sent", "answered", "unknown") or self.purchases[-1]
            match purchase.status:
                case "pending":
                    self.send_one(purchase)
                case "sent" if data.draw(st.booleans(), label="the answer is lost"):
                    self.lose_one(purchase)
                case "unknown" if data.draw(st.booleans(), label="the books tell"):
                    self.settle_one(purchase, data.draw(COSTS), "books")
                case "sent" | "unknown":
                    self.answer_one(purchase, data.draw(COSTS))
                case "answered":
                    self.publish_one(purchase)

    @rule(data=st.data())
    @precondition(lambda self: self.purchases)
    def send(self, data: st.DataObject) -> None:
        purchase = self.any_of(data, "pending")
        self.send_one(purchase)

    def send_one(self, purchase: Purchase) -> None:
        sent = self.write(lambda conn: generations.mark_sent(conn, purchase.id, lease_owner="me", provider_key_id="k"))
        assert sent is (purchase.status in {"pending", "sent"})
        if sent:
            purchase.status, purchase.was_sent = "sent", True

    @rule(data=st.data(), cost=COSTS)
    @precondition(lambda self: self.purchases)
    def answer(self, data: st.DataObject, cost: int) -> None:
        """In time, late, or after it was settled by other means."""
        purchase = self.any_of(data, "sent", "unknown", "failed")
        self.answer_one(purchase, cost)

    def answer_one(self, purchase: Purchase, cost: int) -> None:
        charge = Charge(cost, 1, 1, overrun=cost > PRICE)
        settled_otherwise = purchase.status == "failed" and purchase.late
        takes = purchase.status in {"sent", "unknown"} or settled_otherwise
        assert (
            self.write(lambda conn: generations.record_answer(conn, purchase.id, ANSWER, charge, lease_owner="me"))
            is takes
        )
        if not takes:
            return
        if purchase.status != "sent":
            purchase.late, purchase.flight = True, None
        if settled_otherwise:
            purchase.adjusted = cost - (purchase.cost or 0)
        else:
            purchase.cost = cost
        purchase.status = "answered"

    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        purchase = self.one_of(data, "answered")
        if purchase is None:
            return
        self.publish_one(purchase)

    def publish_one(self, purchase: Purchase) -> None:
        storable = purchase.flight is not None
        self.write(
            lambda conn: generations.publish(
                conn,
                purchase.id,
                stored_answer(purchase.id),
                storable=storable,
                ttl_ms=None,
                usage=structs.replace(purchase.row, cost_micro_usd=purchase.cost),
            )
        )
        purchase.status = "succeeded"
        if purchase.flight is not None:
            self.stored.add(purchase.flight)

    @rule(data=st.data(), frees=st.booleans())
    @precondition(lambda self: self.purchases)
    def fail(self, data: st.DataObject, frees: bool) -> None:
        purchase = self.any_of(data, "pending", "sent", "answered")
        self.end_unbought(purchase, frees=frees)

    def end_unbought(self, purchase: Purchase, *, frees: bool) -> None:
        charged = purchase.status == "answered"
        cost = purchase.cost if charged else 0
        row = structs.replace(purchase.row, outcome="failed", status=502, cost_micro_usd=cost)
        failed = self.write(
            lambda conn: generations.fail(conn, purchase.id, error=ERROR, usage=row, frees_claims=frees)
        )
        assert failed is (purchase.status in UNDER_WAY)
        if failed:
            purchase.status, purchase.cost = "failed", purchase.cost if charged else 0
            if charged and purchase.late:
                purchase.late = True
            if frees:
                self.free(purchase)

    @rule(data=st.data())
    @precondition(lambda self: self.purchases)
    def lose(self, data: st.DataObject) -> None:
        purchase = self.any_of(data, "sent")
        self.lose_one(purchase)

    def lose_one(self, purchase: Purchase) -> None:
        row = structs.replace(purchase.row, outcome="failed", status=504, cost_micro_usd=None)
        lost = self.write(lambda conn: generations.lose(conn, purchase.id, error=ERROR, usage=row))
        assert lost is (purchase.status == "sent")
        if lost:
            purchase.status = "unknown"

    # -- crashes ---------------------------------------------------------------------------------------------------

    @rule(data=st.data())
    def crash_and_recover(self, data: st.DataObject) -> None:
        """All leases run out; whoever recovers does with each orphan what its state demands."""
        self.write(lambda conn: conn.execute(sa.update(tables.generations).values(lease_until_ms=0)))
        found = self.write(lambda conn: orphans.claim_orphans(conn, lease_owner="me"))
        assert {orphan.id for orphan in found} == {p.id for p in self.purchases if p.status in UNDER_WAY}
        for orphan in found:
            [purchase] = [p for p in self.purchases if p.id == orphan.id]
            purchase.abandoned = True
            if orphan.status == "pending":
                self.end_unbought(purchase, frees=True)
            elif orphan.status == "sent":
                self.lose_one(purchase)
            elif data.draw(st.booleans(), label="the picture can't be had now"):
                self.write(lambda conn, orphan=orphan: orphans.disown(conn, orphan.id, lease_owner="me"))  # type: ignore[misc]

    # -- settlement ------------------------------------------------------------------------------------------------

    @rule(data=st.data(), cost=COSTS, by=st.sampled_from(["books", "estimate", "administrator"]))
    @precondition(lambda self: self.purchases)
    def settle(self, data: st.DataObject, cost: int, by: Any) -> None:
        purchase = self.any_of(data, "unknown")
        self.settle_one(purchase, cost, by)

    def settle_one(self, purchase: Purchase, cost: int, by: Any) -> None:
        settled = self.write(lambda conn: settlement.settle(conn, purchase.id, cost, by=by, error=ERROR))
        assert settled is (purchase.status == "unknown")
        if settled:
            purchase.status, purchase.cost, purchase.late = "failed", cost, True
            if cost == 0:
                self.free(purchase)

    @rule(data=st.data(), cost=COSTS)
    def correct(self, data: st.DataObject, cost: int) -> None:
        purchase = self.one_of(data, "answered", "succeeded", "failed")
        if purchase is None:
            return

        def work(conn: sa.Connection) -> int:
            row = settlement.lock(conn, purchase.id)
            assert row is not None
            return settlement.correct(conn, row, cost, reason="the books differ", actor="a test")

        assert self.write(work) == cost - (purchase.cost or 0) - purchase.adjusted
        purchase.adjusted = cost - (purchase.cost or 0)

    def free(self, purchase: Purchase) -> None:
        self.claims = {claim: found for claim, found in self.claims.items() if found != purchase.id}

    # -- what must be true -----------------------------------------------------------------------------------------

    @invariant()
    def the_books_say_what_the_model_says(self) -> None:
        if not hasattr(self, "engine"):
            return
        with self.engine.connect() as conn:
            rows = {row["id"]: row for row in conn.execute(sa.select(tables.generations)).mappings()}
            assert {p.id: (p.status, p.adjusted, p.abandoned) for p in self.purchases} == {
                found: (row["status"], row["adjusted_micro_usd"], row["abandoned_ms"] is not None)
                for found, row in rows.items()
            }
            for p in self.purchases:
                assert rows[p.id]["cost_micro_usd"] == (None if p.is_open else p.cost)
            spent, reserved = self.money()
            c = tables.counters.c
            kept = conn.execute(sa.select(c.spent, c.reserved).where(c.metric == Metric.COST_USD.value)).one_or_none()
            assert kept is None or tuple(kept) == (spent, reserved)
            for claim, generation_id in self.claims.items():
                assert idempotency.find(conn, claim, now_ms=now_ms(conn)) == (claim.request_hash, generation_id)
            assert conn.execute(sa.select(sa.func.count()).select_from(tables.idempotency_keys)).scalar_one() == len(
                self.claims
            )

    @rule()
    def see_the_doctor(self) -> None:
        with self.engine.connect() as conn:
            assert [(found.rule, found.wrong) for found in invariants.examine(conn) if found.count] == []

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.see_the_doctor()
            self.engine.dispose()


TestBooksMachine = BooksMachine.TestCase
# The same lives each time, so that a failure is everybody's; `derandomize=False` and more of them look further.
TestBooksMachine.settings = settings(max_examples=100, stateful_step_count=50, deadline=None, derandomize=True)
