"""An answer file in the form of a sample."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from classification.cli.shared import AnyModel
from inspection.cli.console import progress, reports_errors, say


@reports_errors
def submit(
    model: AnyModel,
    sample: Annotated[Path, typer.Option(help="The sample answer file.")],
    images: Annotated[
        Path | None, typer.Option(help="The images.", show_default="images/ beside the sample")
    ] = None,
    output: Annotated[Path, typer.Option(help="File to write.")] = Path("submission.csv"),
    answers: Annotated[
        str | None,
        typer.Option(
            help="What to write for each class, with commas.",
            show_default="names where the sample has them; of two classes 0, 1",
        ),
    ] = None,
) -> None:
    """Writes answers in exactly the sample's header, names, order and number of rows."""
    from classification.cli.arguments import found_images
    from classification.prediction.submission import open_sample

    _, folder = open_sample(sample, images)
    found_images(model, folder)
    import classification
    from classification.prediction.submission import submit as write

    words = [word.strip() for word in answers.split(",")] if answers else None
    with progress("deciding") as on_progress:
        loaded = classification.load(model)
        given, meaning = write(loaded, sample, images, output, words, on_progress, say)
    text = ", ".join(f"{count} x {word}" for word, count in sorted(given.items()))
    meant = ", ".join(f"{word} is {name}" for name, word in meaning.items())
    say(f"{output}: {sum(given.values())} rows, {text} ({meant}).")
