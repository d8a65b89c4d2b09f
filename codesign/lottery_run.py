"""Carries a lottery out: what is not in its folder yet is drawn, then everything is summarised."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console

from codesign.errors import CodesignError
from codesign.lottery import Outcome, Problem, draw_serial
from codesign.lottery_job import Lottery, Ticket
from codesign.lottery_progress import lottery_progress
from codesign.lottery_result import Result, summarise
from codesign.lottery_store import LotteryStore
from codesign.run import exclusive, write_text


def draw_lottery(
    lottery: Lottery,
    problem: Problem,
    tickets: Sequence[Ticket],
    fingerprint: str,
    folder: Path,
    address: str,
    console: Console,
) -> Result:
    """Draw the tickets that a folder lacks; returns what all of them say, which is written to `lottery.json` too.

    Raises:
        InputError: the folder cannot be used.
        CodesignError: a ticket failed; the others are kept.
    """
    store = LotteryStore(folder, fingerprint, problem.objectives.n)
    with exclusive(store.folder):
        store.begin(lottery)
        pending = [ticket for ticket in tickets if ticket not in store]
        failures: list[str] = []
        began = time.monotonic()
        if len(pending) < len(tickets):
            console.print(f"resuming: {len(tickets) - len(pending):,} of {len(tickets):,} tickets are done")
        with lottery_progress(pending, len(tickets) - len(pending), lottery.workers, console) as show:

            def finish(ticket: Ticket, found: Outcome | str) -> None:
                if isinstance(found, str):
                    failures.append(f"{ticket.agent} with {dict(ticket.options)}: {found}")
                    show(ticket.agent, 0.0)
                    return
                store.add(ticket, found)
                show(ticket.agent, found.strategy_seconds + found.evaluation_seconds)

            if pending and lottery.driver == "serial":
                draw_serial(problem, pending, finish)
            elif pending:
                ray_part: Any = import_module("codesign.lottery_ray")
                books = books_of(pending, lottery.seeds)
                ray_part.draw_tune(problem, books, finish, min(lottery.workers, len(books)), folder, address)
        store.compact()
        if failures:
            raise CodesignError(f"{len(failures)} of {len(tickets)} tickets failed; the first: {failures[0]}")
        if pending:
            console.print(f"{len(pending):,} tickets in {time.monotonic() - began:.1f} s")
        result = summarise(problem.objectives, tickets, [store.outcome(ticket) for ticket in tickets])
        write_text(folder / "lottery.json", result.to_json() + "\n")
    return result


def books_of(tickets: Sequence[Ticket], size: int) -> list[list[Ticket]]:
    """Tickets of one agent and setting together, at most `size` in a book, in order of first appearance."""
    books: dict[tuple[str, int, int], list[Ticket]] = {}
    for ticket in tickets:
        books.setdefault((ticket.agent, ticket.setting, ticket.repeat // size), []).append(ticket)
    return list(books.values())
