"""The serial driver: one process, one batch at a time."""

from __future__ import annotations

from codesign.guard import guarded
from codesign.study import Study
from codesign.trial import Evaluator


def drive_serial(study: Study, evaluator: Evaluator) -> None:
    """Extend the study until it is done."""
    evaluator.prepare()
    while (batch := study.ask()) is not None:
        study.finish(batch.numbers, guarded(evaluator, batch.codes))
