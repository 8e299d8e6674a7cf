"""Money: what each run spent on each LLM, and what is reserved for calls under way."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import func, select, type_coerce
from sqlalchemy.types import BigInteger

from registry.db.columns import from_pico_usd, to_pico_usd
from registry.db.database import Database, Unit, ids_of
from registry.db.tables import charge, llm
from registry.errors import NotFound
from registry.runs import Run, Runs

JUDGING = "judge"
"""The purpose under which the calls of a grading LLM are booked."""


@dataclass(frozen=True)
class GradingCost:
    """What having one completion graded by another LLM cost.

    Attributes
    ----------
    llm_key
        The LLM that graded.
    calls
        How often it was asked.
    cost_usd
        What that cost.
    """

    llm_key: str
    calls: int
    cost_usd: Decimal


@dataclass(frozen=True)
class EndpointSpend:
    """What one run spent at one endpoint."""

    endpoint: str
    calls: int
    cost_usd: Decimal


@dataclass(frozen=True)
class PurposeSpend:
    """What one run spent on one purpose: ``profile``, ``canary`` or ``hidden``."""

    purpose: str
    calls: int
    cost_usd: Decimal


@dataclass(frozen=True)
class LLMSpend:
    """What one run spent on some LLMs, and what is reserved for their calls without an outcome, in USD."""

    settled_usd: Decimal
    reserved_usd: Decimal


@dataclass(frozen=True)
class Spend:
    """What one run spent: settled costs, and what is reserved for calls whose answer never came back."""

    total_usd: Decimal
    reserved_usd: Decimal
    calls: int
    by_endpoint: tuple[EndpointSpend, ...]
    by_purpose: tuple[PurposeSpend, ...]
    by_llm: Mapping[str, Decimal]
    reserved_by_llm: Mapping[str, Decimal]

    @property
    def worst_by_llm(self) -> Mapping[str, Decimal]:
        """What each LLM cost at most: what is reserved and was never settled counts as spent."""
        return {key: cost + self.reserved_by_llm[key] for key, cost in self.by_llm.items()}

    def usd_on(self, llm_key: str) -> Decimal:
        """Return what one LLM has cost so far, in USD."""
        return self.by_llm.get(llm_key, Decimal(0))

    def of(self, llm_keys: Collection[str]) -> LLMSpend:
        """Return what was spent on some LLMs together."""
        return LLMSpend(
            settled_usd=sum((usd for key, usd in self.by_llm.items() if key in llm_keys), Decimal(0)),
            reserved_usd=sum((usd for key, usd in self.reserved_by_llm.items() if key in llm_keys), Decimal(0)),
        )


class Charges:
    """Book costs and reservations; report what was spent."""

    def __init__(self, database: Database, runs: Runs) -> None:
        self._database = database
        self._runs = runs

    def add(
        self,
        unit: Unit,
        run_id: int,
        llm_number: int,
        purpose: str,
        *,
        calls: int = 0,
        cost: Decimal = Decimal(0),
        reserved: Decimal = Decimal(0),
    ) -> None:
        """Add calls, cost and reservation to what one run spent on one LLM for one purpose."""
        key = {"run_id": run_id, "llm_id": llm_number, "purpose": purpose}
        empty = {"calls": 0, "cost_picousd": Decimal(0), "reserved_picousd": Decimal(0)}
        unit.execute(self._database.insert_missing(charge, list(charge.primary_key)), {**key, **empty})
        unit.execute(
            charge.update()
            .filter_by(**key)
            .values(
                calls=charge.c.calls + calls,
                cost_picousd=type_coerce(charge.c.cost_picousd, BigInteger) + to_pico_usd(cost),
                reserved_picousd=type_coerce(charge.c.reserved_picousd, BigInteger) + _signed_pico_usd(reserved),
            )
        )

    def reserve(
        self,
        run: Run | int,
        llm_key: str,
        usd: Decimal,
        *,
        purpose: str = "profile",
        ceiling_usd: Decimal | None = None,
    ) -> bool:
        """Book the worst cost of calls before they are made; what is never settled counts as spent.

        Parameters
        ----------
        run
            The run that will call.
        llm_key
            The LLM that will be called.
        usd
            The worst the calls can cost.
        purpose
            As in `record`.
        ceiling_usd
            Most that the run's costs and reservations together may amount to; None sets no limit.

        Returns
        -------
        bool
            Whether it was booked; False when it does not fit below the ceiling.
        """

        def reserve(unit: Unit) -> bool:
            held = self._runs.require_lease(run, unit)
            if ceiling_usd is not None and _worst_usd(unit, held.id) + usd > ceiling_usd:
                return False
            self.add(unit, held.id, self._number(unit, llm_key), purpose, reserved=usd)
            return True

        return self._database.repeated(reserve)

    def settle(
        self,
        run: Run | int,
        llm_key: str,
        usd: Decimal,
        *,
        purpose: str = "profile",
        unit: Unit | None = None,
    ) -> None:
        """Cancel a reservation once its calls are recorded.

        Raises
        ------
        RegistryError
            When more is settled than was reserved.
        """

        def settle(opened: Unit) -> None:
            held = self._runs.require_lease(run, opened)
            self.add(opened, held.id, self._number(opened, llm_key), purpose, reserved=-usd)

        self._database.repeated(settle, unit)

    def book(self, run: Run | int, llm_key: str, usd: Decimal, *, calls: int, reserved: Decimal, purpose: str) -> None:
        """Book calls that leave no outcome behind, and cancel their reservation, in one transaction.

        Parameters
        ----------
        run
            The run that called.
        llm_key
            The LLM that was called.
        usd, calls
            What the calls cost, and how many there were.
        reserved
            What `reserve` booked for them.
        purpose
            As in `record`.
        """

        def book(unit: Unit) -> None:
            held = self._runs.require_lease(run, unit)
            number = self._number(unit, llm_key)
            self.add(unit, held.id, number, purpose, calls=calls, cost=usd, reserved=-reserved)

        self._database.repeated(book)

    @staticmethod
    def _number(unit: Unit, llm_key: str) -> int:
        numbers = ids_of(unit, llm.c.key, llm.c.id, [llm_key])
        if not numbers:
            raise NotFound(f"there is no LLM {llm_key!r}", unchanged="Nothing was written.")
        return numbers[llm_key]

    def spend(self, run: Run | int) -> Spend:
        """Return what a run spent, in all its attempts."""
        run_id = run if isinstance(run, int) else run.id
        with self._database.read() as unit:
            rows = unit.execute(
                select(
                    llm.c.endpoint,
                    llm.c.key,
                    func.sum(charge.c.calls),
                    func.sum(type_coerce(charge.c.cost_picousd, BigInteger)),
                    func.sum(type_coerce(charge.c.reserved_picousd, BigInteger)),
                )
                .join_from(charge, llm)
                .where(charge.c.run_id == run_id)
                .group_by(llm.c.endpoint, llm.c.key)
            ).fetchall()
            rows.sort(key=lambda row: (row.endpoint, row.key))  # a server sorts text by the rules of its own language
            purposes = unit.execute(
                select(
                    charge.c.purpose,
                    func.sum(charge.c.calls),
                    func.sum(type_coerce(charge.c.cost_picousd, BigInteger)),
                )
                .where(charge.c.run_id == run_id)
                .group_by(charge.c.purpose)
                .order_by(charge.c.purpose)
            ).fetchall()
        by_endpoint: dict[str, EndpointSpend] = {}
        for endpoint, _, calls, cost, _ in rows:
            before = by_endpoint.get(endpoint, EndpointSpend(endpoint, 0, Decimal(0)))
            by_endpoint[endpoint] = EndpointSpend(
                endpoint, before.calls + int(calls), before.cost_usd + from_pico_usd(cost)
            )
        return Spend(
            total_usd=sum((one.cost_usd for one in by_endpoint.values()), Decimal(0)),
            reserved_usd=sum((from_pico_usd(row[4]) for row in rows), Decimal(0)),
            calls=sum(one.calls for one in by_endpoint.values()),
            by_endpoint=tuple(by_endpoint.values()),
            by_purpose=tuple(PurposeSpend(row[0], int(row[1]), from_pico_usd(row[2])) for row in purposes),
            by_llm={row[1]: from_pico_usd(row[3]) for row in rows},
            reserved_by_llm={row[1]: from_pico_usd(row[4]) for row in rows},
        )


def _worst_usd(unit: Unit, run_id: int) -> Decimal:
    """Return the most a run can have cost: settled and reserved."""
    costs = func.sum(type_coerce(charge.c.cost_picousd, BigInteger))
    reserved = func.sum(type_coerce(charge.c.reserved_picousd, BigInteger))
    row = unit.execute(select(costs, reserved).where(charge.c.run_id == run_id)).one()
    return sum((from_pico_usd(amount) for amount in row if amount is not None), Decimal(0))


def _signed_pico_usd(amount: Decimal) -> int:
    return -to_pico_usd(-amount) if amount < 0 else to_pico_usd(amount)
