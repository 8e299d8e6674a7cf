"""Ceilings in USD: the worst case of a call is reserved before it, and its cost settled after it."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import cast

from flows.errors import BudgetExceeded

_MILLION = Decimal(1_000_000)
_ZERO = Decimal(0)
_CHAT_FRAME_TOKENS = 64
"""A generous bound on what a chat template adds to a message."""


@dataclass(frozen=True, eq=False)
class Reservation:
    """Money set aside for one call until it is settled or released.

    Parameters
    ----------
    llm_key
        Whose ceiling it counts against.
    usd
        The worst case of the call.
    """

    llm_key: str
    usd: Decimal


@dataclass(eq=False)
class _Ticket:
    llm_key: str
    usd: Decimal
    loop: asyncio.AbstractEventLoop
    is_served: asyncio.Event
    outcome: Reservation | BudgetExceeded | None = None


def worst_case_usd(
    prompt: str, *, max_tokens: int, input_usd_per_mtok: Decimal | None, output_usd_per_mtok: Decimal | None
) -> Decimal | None:
    """Return an upper bound on the cost of one call.

    A token of a byte-level vocabulary covers at least one byte, so the bytes of the prompt bound its tokens.

    Parameters
    ----------
    prompt
        The user message.
    max_tokens
        Longest answer requested, in tokens.
    input_usd_per_mtok, output_usd_per_mtok
        Prices in USD per million tokens; None where unknown.

    Returns
    -------
    Decimal or None
        USD; None when a price is unknown, which `Budget.reserve` refuses.
    """
    if input_usd_per_mtok is None or output_usd_per_mtok is None:
        return None
    return (most_input_tokens(prompt) * input_usd_per_mtok + max_tokens * output_usd_per_mtok) / _MILLION


def most_input_tokens(prompt: str) -> int:
    """Return an upper bound on the tokens of a user message and of what a chat template adds to it."""
    return len(prompt.encode("utf-8", "surrogatepass")) + _CHAT_FRAME_TOKENS


class Budget:
    """Keep the spend of a night under its ceilings, however many calls are in flight.

    Safe to use from several threads and event loops. A ceiling of None does not limit. A call that fits its ceilings
    but not on top of the reservations in flight waits for them; one that no longer fits on top of what is settled is
    refused.

    Parameters
    ----------
    call_usd, llm_usd, night_usd
        Ceilings per call, per LLM and for the whole night.
    already_spent
        What earlier attempts of the same night settled, by LLM key.
    """

    def __init__(
        self,
        *,
        call_usd: Decimal | None = None,
        llm_usd: Decimal | None = None,
        night_usd: Decimal | None = None,
        already_spent: Mapping[str, Decimal] | None = None,
    ) -> None:
        for name, ceiling in (("call_usd", call_usd), ("llm_usd", llm_usd), ("night_usd", night_usd)):
            if ceiling is not None and not (ceiling.is_finite() and ceiling >= 0):
                raise ValueError(f"{name} must be a finite amount of at least 0 USD, not {ceiling}")
        self.call_usd = call_usd
        self.llm_usd = llm_usd
        self.night_usd = night_usd
        self._lock = threading.Lock()
        self._settled: defaultdict[str, Decimal] = defaultdict(Decimal, already_spent or {})
        self._settled_usd = sum(self._settled.values(), _ZERO)
        self._elsewhere_settled_usd = self._elsewhere_reserved_usd = _ZERO
        self._in_flight: defaultdict[str, Decimal] = defaultdict(Decimal)
        self._in_flight_usd = _ZERO
        self._open: set[Reservation] = set()
        self._sent: dict[Reservation, Decimal] = {}
        self._waiting: list[_Ticket] = []

    @property
    def spent_usd(self) -> Decimal:
        """USD settled so far."""
        return self._settled_usd

    @property
    def reserved_usd(self) -> Decimal:
        """USD set aside for the calls in flight."""
        return self._in_flight_usd

    @property
    def is_waited_for(self) -> bool:
        """Whether a call waits for others to be settled."""
        return bool(self._waiting)

    def note_elsewhere(self, *, settled_usd: Decimal, reserved_usd: Decimal) -> None:
        """Count what other processes of the same night spend against the night's ceiling.

        Parameters
        ----------
        settled_usd, reserved_usd
            What they have settled, and what their calls in flight may still cost, in USD.
        """
        with self._lock:
            self._elsewhere_settled_usd, self._elsewhere_reserved_usd = settled_usd, reserved_usd
            self._serve_waiting()

    def spent_on(self, llm_key: str) -> Decimal:
        """Return what one LLM has cost so far, in USD."""
        with self._lock:
            return self._settled.get(llm_key, _ZERO)

    async def reserve(self, llm_key: str, usd: Decimal | None) -> Reservation:
        """Set aside the worst case of one call, after waiting for calls in flight if only they stand in the way.

        Parameters
        ----------
        llm_key
            Whose ceiling it counts against.
        usd
            The worst case of the call (`worst_case_usd`); None when the LLM has no price.

        Returns
        -------
        Reservation
            To be settled or released exactly once.

        Raises
        ------
        BudgetExceeded
            The call does not fit; ``scope`` says under which ceiling (``llm`` for an LLM without a price).
        """
        if usd is None:
            raise BudgetExceeded(
                f"{llm_key} has no price, so nothing limits what it may cost",
                scope="llm",
                unchanged="it was not called",
                hint="give it a price in a TOML catalog, or exclude it",
            )
        if not (usd.is_finite() and usd >= 0):
            raise ValueError(f"a reservation must be a finite amount of at least 0 USD, not {usd}")
        with self._lock:
            refusal = self._refusal(llm_key, usd)
            if refusal is not None:
                raise refusal
            if self._fits_with_reservations(llm_key, usd):
                return self._book(llm_key, usd)
            ticket = _Ticket(llm_key, usd, asyncio.get_running_loop(), asyncio.Event())
            self._waiting.append(ticket)
        try:
            await ticket.is_served.wait()
        except asyncio.CancelledError:
            self._give_up(ticket)
            raise
        if isinstance(ticket.outcome, BudgetExceeded):
            raise ticket.outcome
        return cast("Reservation", ticket.outcome)

    def may_send(self, reservation: Reservation, lost_usd: Decimal = _ZERO) -> bool:
        """Check a reservation again when its call is really sent, because calls sent before may have cost more.

        Parameters
        ----------
        reservation
            From `reserve`, and open; once it may be sent, it counts as spent for others that are about to be.
        lost_usd
            What earlier attempts at the call have cost without bringing an answer.

        Returns
        -------
        bool
            Whether it still fits on top of what is settled and sent; if not, it must be released and reserved anew.
        """
        with self._lock:
            sent = {one: usd for one, usd in self._sent.items() if one is not reservation}
            of_night = sum(sent.values(), _ZERO)
            of_llm = sum((usd for one, usd in sent.items() if one.llm_key == reservation.llm_key), _ZERO)
            if self._refusal(reservation.llm_key, reservation.usd, of_llm + lost_usd, of_night + lost_usd) is not None:
                return False
            self._sent[reservation] = reservation.usd + lost_usd
            return True

    def settle(self, reservation: Reservation, usd: Decimal) -> None:
        """Replace a reservation with what the call cost.

        Parameters
        ----------
        reservation
            From `reserve`; settling it a second time raises ValueError.
        usd
            The cost, finite and not negative; it exceeds the reservation when the answer is longer than ``max_tokens``.
        """
        if not (usd.is_finite() and usd >= 0):
            raise ValueError(f"a cost must be a finite amount of at least 0 USD, not {usd}")
        with self._lock:
            self._take_back(reservation)
            self._settled[reservation.llm_key] += usd
            self._settled_usd += usd
            self._serve_waiting()

    def release(self, reservation: Reservation) -> None:
        """Return a reservation, because the call brought no answer."""
        with self._lock:
            self._take_back(reservation)
            self._serve_waiting()

    def _refusal(
        self, llm_key: str, usd: Decimal, sent_of_llm: Decimal = _ZERO, sent_of_night: Decimal = _ZERO
    ) -> BudgetExceeded | None:
        for scope, ceiling, settled in (
            ("call", self.call_usd, _ZERO),
            ("llm", self.llm_usd, self._settled.get(llm_key, _ZERO) + sent_of_llm),
            ("night", self.night_usd, self._settled_usd + self._elsewhere_settled_usd + sent_of_night),
        ):
            if ceiling is not None and settled + usd > ceiling:
                return BudgetExceeded(
                    f"the ceiling of {ceiling} USD per {scope} is reached: {llm_key} may cost {usd:.6f} USD, "
                    f"{settled:.6f} USD are already spent",
                    scope=scope,
                    unchanged="the call was not made, and answers so far are kept",
                    hint=f"raise the budget per {scope}, or continue tomorrow",
                )
        return None

    def _fits_with_reservations(self, llm_key: str, usd: Decimal) -> bool:
        # What attempts without an answer have cost is settled only with their calls.
        lost = [(one.llm_key, total - one.usd) for one, total in self._sent.items()]
        of_llm = self._settled.get(llm_key, _ZERO) + self._in_flight.get(llm_key, _ZERO) + usd
        of_llm += sum((lost_usd for key, lost_usd in lost if key == llm_key), _ZERO)
        elsewhere_usd = self._elsewhere_settled_usd + self._elsewhere_reserved_usd
        of_night = self._settled_usd + self._in_flight_usd + elsewhere_usd + usd
        of_night += sum((lost_usd for _, lost_usd in lost), _ZERO)
        return (self.llm_usd is None or of_llm <= self.llm_usd) and (
            self.night_usd is None or of_night <= self.night_usd
        )

    def _book(self, llm_key: str, usd: Decimal) -> Reservation:
        reservation = Reservation(llm_key, usd)
        self._open.add(reservation)
        self._in_flight[llm_key] += usd
        self._in_flight_usd += usd
        return reservation

    def _take_back(self, reservation: Reservation) -> None:
        if reservation not in self._open:
            raise ValueError(f"the reservation of {reservation.usd} USD for {reservation.llm_key} is already closed")
        self._open.remove(reservation)
        self._sent.pop(reservation, None)
        self._in_flight[reservation.llm_key] -= reservation.usd
        self._in_flight_usd -= reservation.usd

    def _give_up(self, ticket: _Ticket) -> None:
        with self._lock:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            elif isinstance(ticket.outcome, Reservation):
                self._take_back(ticket.outcome)
                self._serve_waiting()

    def _serve_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for ticket in waiting:
            refusal = self._refusal(ticket.llm_key, ticket.usd)
            if refusal is None and not self._fits_with_reservations(ticket.llm_key, ticket.usd):
                self._waiting.append(ticket)
            elif not ticket.loop.is_closed():
                ticket.outcome = refusal or self._book(ticket.llm_key, ticket.usd)
                ticket.loop.call_soon_threadsafe(ticket.is_served.set)
