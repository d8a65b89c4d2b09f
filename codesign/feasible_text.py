"""What is known of budgets, in words: one message for an error, a note for a run, lines for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable

from codesign.expressions import Budget
from codesign.feasible_result import Feasibility, Method, Verdict
from codesign.units import size_text

FORCE = "search.unproven_budgets=try"


def refusal(found: Feasibility) -> str:
    """Why a run cannot begin: who was looked at, what conflicts, what can be met instead."""
    parts = [f"budgets: {_nobody(found)}: {'; '.join(_conflict_texts(found))}"]
    parts += _relaxation_texts(found)
    advice = "relax a budget or widen the space"
    if found.verdict is Verdict.UNKNOWN:
        advice += f", or search all the same with {FORCE}"
    return "; ".join([*parts, advice])


def note(found: Feasibility) -> str:
    """What to know at the start of a run; "" if the job has no budgets."""
    unchecked = ""
    if found.unchecked:
        texts = join(budget.text for budget in found.unchecked)
        unchecked = f"{texts} cannot be checked before the run: only training or measuring tells"
    if not found.budgets:
        return unchecked
    if found.verdict is Verdict.FEASIBLE:
        first = share_text(found)
    else:
        near = [text for text in _relaxation_texts(found) if text]
        first = "; ".join([f"{_nobody(found)}: {'; '.join(_conflict_texts(found))}", *near, "it goes on all the same"])
    return f"{first}; {unchecked}" if unchecked else first


def share_text(found: Feasibility) -> str:
    """How much of a space is within the budgets."""
    if found.method is Method.LISTED:
        of = f"of {found.n_candidates:,} {_noun(found.n_candidates or 0)}"
        meet = "meets" if found.n_within == 1 else "meet"
        return f"{_percent(found.share)} {of} {meet} the budgets ({found.n_within:,})"
    low, high = found.interval
    drawn = f"{found.n_drawn:,} drawn"
    if found.n_within == 0:
        return (
            f"fewer than {_percent(high)} of the candidates meet the budgets (95 %: none of {drawn}); "
            "some were found by going downhill"
        )
    return (
        f"about {_percent(found.share)} of the candidates meet the budgets (95 %: {_percent(low)} to {_percent(high)}, "
        f"{drawn})"
    )


def lines(found: Feasibility) -> list[str]:
    """Everything that is known, for the terminal: one line a fact."""
    if not found.budgets and not found.unchecked:
        return ["no budgets"]
    result = [f"budgets: {', '.join(budget.text for budget in (*found.budgets, *found.unchecked))}"]
    if found.budgets:
        result.append(f"verdict: {found.verdict.value}, {_method_text(found)}, {found.seconds:.1f} s")
        result += [f"bound: {bound.budget.text}: {bound.text}" for bound in found.bounds]
    if found.budgets and found.verdict is Verdict.FEASIBLE:
        result.append(f"share: {share_text(found)}")
        values = ", ".join(f"{name} {number_text(value)}" for name, value in found.witness_metrics.items())
        result.append(f"a candidate within them: {values}")
    elif found.budgets:
        result += [f"conflict: {text}" for text in _conflict_texts(found)]
        for item in found.relaxations:
            known = item.text or ("nothing helps" if item.is_useless else "no candidate known, however wide")
            proven = "" if math.isnan(item.least) else f" (proven: not below {number_text(item.least)})"
            if not item.budget.upper:
                proven = proven.replace("below", "above")
            result.append(f"instead of {item.budget.text}, others kept: {known}{proven}")
        if found.together:
            texts = join(found.together.texts)
            result.append(f"all that conflict, wider by a factor of at most {found.together.factor:.4g}: {texts}")
    result += [f"not checked: {budget.text}: only training or measuring tells" for budget in found.unchecked]
    return result


def join(texts: Iterable[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    *rest, last = list(texts) or [""]
    return f"{', '.join(rest)} and {last}" if rest else last


def number_text(value: float) -> str:
    """A figure to be compared with a limit: whole numbers in full, others in six digits."""
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.6g}"


def _nobody(found: Feasibility) -> str:
    if found.method is Method.LISTED:
        return f"none of {found.n_candidates:,} {_noun(found.n_candidates or 0)} meets them (all were looked at)"
    if found.method is Method.BOUNDS:
        return f"none of {size_text(found.size)} candidates meets them (proven by bounds)"
    return (
        f"none of {found.n_seen:,} candidates meets them that were looked at (no proof: 95 % sure that fewer than "
        f"{_percent(found.interval[1])} do)"
    )


def _conflict_texts(found: Feasibility) -> list[str]:
    result = []
    for conflict in found.conflicts:
        if len(conflict) == 1:
            result.append(_single(found, conflict[0]))
            continue
        alone = "each alone" if len(conflict) == 2 else "any fewer"
        verb = "cannot be" if found.verdict is Verdict.PROVEN else "were never"
        can = "is not excluded" if found.method is Method.BOUNDS else "can"
        result.append(f"{join(budget.text for budget in conflict)} {verb} met together, {alone} {can}")
    return result


def _single(found: Feasibility, budget: Budget) -> str:
    bound = next((bound for bound in found.bounds if bound.budget == budget), None)
    if found.method is Method.BOUNDS and bound is not None:
        return f"{budget.text}: {bound.text}"
    value = found.nearest.get(budget.text, math.nan)
    return f"{budget.text}: " + (
        "no candidate works" if math.isnan(value) else f"the nearest of them has {number_text(value)}"
    )


def _relaxation_texts(found: Feasibility) -> list[str]:
    texts = [item.text for item in found.relaxations if item.text]
    others = " with the others kept" if len(found.budgets) > 1 else ""
    single = f"{' or '.join(texts)} can be met{others}" if texts else ""
    both = f"so can {join(found.together.texts)}" if found.together and texts else ""
    if found.together and not texts:
        both = f"{join(found.together.texts)} can be met"
    return [text for text in (single, both) if text]


def _method_text(found: Feasibility) -> str:
    if found.method is Method.LISTED:
        return f"all {found.n_candidates:,} {_noun(found.n_candidates or 0)} looked at"
    if found.method is Method.BOUNDS:
        return f"by bounds on all {size_text(found.size)} candidates ({found.n_seen:,} looked at for relaxations)"
    return f"{found.n_seen:,} candidates looked at, {found.n_drawn:,} of them drawn"


def _noun(n: int) -> str:
    return "candidate" if n == 1 else "candidates"


def _percent(share: float) -> str:
    """Two or three significant digits: "3.1 %", "0.015 %", "100 %"."""
    return f"{100 * share:.3g} %" if share >= 0.1 else f"{100 * share:.2g} %"
