"""Every error that codesign raises on purpose.

    CodesignError
    ├── InputError (also ValueError)   what the user gave is wrong; exit status 2
    │   ├── DataError                  a data set is missing, corrupt, empty or too small
    │   └── BudgetError                no candidate meets the budgets
    ├── TrialError                     a candidate could not be evaluated; its trial is FAILED
    ├── ExternalError                  a published simulator that was called is missing or failed
    ├── StoreError                     a run folder or database cannot be used as asked
    └── VerificationError              a model file does not compute what its manifest says; exit status 1

`InputError.about` writes the one sentence that every wrong input gets: the key, the value, what is
allowed and the nearest valid name.
"""

from __future__ import annotations

from collections.abc import Iterable


class CodesignError(Exception):
    """Base of every deliberate error; its text is a message for the user."""


class InputError(CodesignError, ValueError):
    """Something the user gave is wrong. The command line prints the message and exits with status 2."""

    @classmethod
    def about(cls, key: str, value: object, allowed: Iterable[str] | str) -> InputError:
        """The message for a wrong value.

        Args:
            key: where it stands, for example `search.strategy`.
            value: what was given.
            allowed: the valid names (the nearest is suggested), or a phrase that says what is allowed.
        """
        if isinstance(allowed, str):
            return cls(f"{key}: {value!r} is not allowed; use {allowed}")
        names = [str(name) for name in allowed]
        hint = nearest(str(value), names)
        suggestion = f"; did you mean {hint!r}?" if hint else ""
        return cls(f"{key}: {value!r} is not one of {', '.join(names) or 'nothing'}{suggestion}")


class DataError(InputError):
    """A data set is missing, corrupt, empty, mislabelled or too small."""


class BudgetError(InputError):
    """No candidate that could be found meets the budgets."""


class TrialError(CodesignError):
    """A candidate could not be evaluated; the reason becomes its trial's `error`."""


class ExternalError(CodesignError):
    """A published simulator that was called is not installed, or failed."""


class StoreError(CodesignError):
    """A run folder or a database cannot be used as asked."""


class VerificationError(CodesignError):
    """A model file does not match its manifest or does not compute what it says."""


def nearest(word: str, names: Iterable[str]) -> str | None:
    """The name most like `word`, or None if none is close."""
    from difflib import get_close_matches

    folded = {name.lower().replace("_", "-"): name for name in names}
    close = get_close_matches(word.lower().replace("_", "-"), folded, n=1, cutoff=0.5)
    return folded[close[0]] if close else None
