"""Deciding on new images, as every room's `predict` does it once its model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inspection.cli.console import counted, progress, say
from inspection.errors import InputError
from inspection.models.card import ModelCard, model_line
from inspection.prediction.folder import Predictor, predict_folder
from inspection.prediction.journal import NOT_DECIDED, Owner


def predict_and_say(
    predictor: Predictor[Any, Any],
    card: ModelCard,
    paths: Sequence[Path],
    output: Path,
    owner: Owner,
    restart: bool,
    batch_size: int,
) -> None:
    """Says what decides, predicts, and says what was done and decided.

    Args:
        predictor: As for `inspection.prediction.folder.predict_folder`.
        card: The model's.
        paths: As for `predict_folder`.
        output: As for `predict_folder`.
        owner: As for `predict_folder`.
        restart: As for `predict_folder`.
        batch_size: As for `predict_folder`.

    Raises:
        InputError: As `predict_folder`; or some images could not be decided, the others are.
    """
    say(model_line(card))
    with progress("predicting") as on_progress:
        result = predict_folder(
            *(predictor, paths, output, owner),
            restart=restart,
            batch_size=batch_size,
            on_progress=on_progress,
        )
    decisions = result.decisions
    first, last = ("OK", "review", "NG"), (NOT_DECIDED,)
    names = [*first, *sorted(decisions.keys() - {*first, *last}), *last]
    counts = ", ".join(f"{decisions[name]} {name}" for name in names if decisions[name])
    say(
        f"{counted(result.done, 'image')} done, {result.skipped} were done before; {counts}; "
        f"results in {output}."
    )
    for remark in (*result.notes, *predictor.remarks(result.lines)):
        say(remark)
    if result.problems:
        raise InputError(result.problems)
