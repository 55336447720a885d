"""An answer file in exactly the form of a sample, such as `ImageId,answer`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from classification.models.classifier import Decider
from classification.prediction.files import LabelPredictor
from classification.settings import DECIDED_AT_ONCE
from inspection.cli.console import counted
from inspection.data.labelled import LabelledImage, find_images
from inspection.errors import InputError, few
from inspection.files.tables import read_rows, table_text
from inspection.files.writing import write_text_atomic
from inspection.prediction.folder import decide_images
from inspection.progress import Progress, silent


@dataclass(frozen=True)
class Sample:
    """A sample answer file.

    Args:
        path: Its file.
        header: Its two column names.
        names: What it calls the images, in its order.
        answers: What it holds as answers.
    """

    path: Path
    header: tuple[str, str]
    names: tuple[str, ...]
    answers: tuple[str, ...]


def read_sample(path: Path) -> Sample:
    """Reads a sample file.

    Raises:
        InputError: It cannot be read, has not two columns, or a name occurs twice.
    """
    rows = read_rows(path)
    if not rows or len(rows[0][1]) != 2:
        raise InputError(f"{path}, line 1: must name two columns, such as ImageId,answer")
    problems = [
        f"{path}, line {line}: must hold an image's name and an answer; complete the line"
        for line, cells in rows[1:]
        if len(cells) != 2 or not cells[0].strip()
    ]
    names = [cells[0].strip() for _, cells in rows[1:] if cells]
    problems += [
        f"{path}: {name} occurs {count} times; keep one line"
        for name, count in Counter(names).items()
        if count > 1
    ]
    if not names:
        problems.append(f"{path}: holds no line; give the sample file that came with the images")
    if problems:
        raise InputError(problems)
    return Sample(
        path,
        (rows[0][1][0], rows[0][1][1]),
        tuple(names),
        tuple(cells[1].strip() for _, cells in rows[1:]),
    )


def open_sample(path: Path, images: Path | None) -> tuple[Sample, Path]:
    """The sample and the folder of its images; as for `submit`.

    Raises:
        InputError: With what is wrong of both.
    """
    folder = images or path.parent / "images"
    problems: list[str] = []
    if not folder.exists():
        where = f"--images {images}" if images else f"--images: left out, and {folder}"
        problems.append(f"{where}: there is no such folder; name the folder of the images")
    try:
        sample = read_sample(path)
    except InputError as error:
        raise InputError([*error.problems, *problems]) from error
    if problems:
        raise InputError(problems)
    return sample, folder


def submit(
    model: Decider,
    sample_path: Path,
    images: Path | None = None,
    output: Path = Path("submission.csv"),
    answers: Sequence[str] | None = None,
    on_progress: Progress = silent,
    say: Callable[[str], None] = print,
) -> tuple[Counter[str], dict[str, str]]:
    """Writes the answers: the sample's names, order and number of rows, or nothing.

    Images that the sample does not name are left out, and said.

    Args:
        model: The classifier.
        sample_path: The sample file.
        images: The images; `images/` beside the sample where left out.
        output: The file to write.
        answers: What to write for each of the model's classes, in their order. Where left out:
            class names where the sample holds some, else, of two classes, 0 for the first
            (the normal one) and 1 for the other.
        on_progress: Called with images done and in all.
        say: Receives lines about what is left out.

    Returns:
        How often each answer was given, and what stands for which class.

    Raises:
        InputError: The sample cannot be read, a name has no image or more than one, or an image
            cannot be read.
    """
    sample, folder = open_sample(sample_path, images)
    pictures, extra = _paired(sample, find_images(folder, model.classes), folder)
    if extra:
        say(
            f"{folder}: {counted(len(extra), 'image')} more than {sample_path} names "
            f"({few(extra)}); left out."
        )
    words = _words(model, sample, answers)
    labels, problems = [], []
    found = decide_images(LabelPredictor(model), [one.path for one in pictures], DECIDED_AT_ONCE)
    for count, (_, _, answer) in enumerate(found, 1):
        if answer.problem:
            problems.append(answer.problem)
        else:
            labels.append(answer.values["label"])
        on_progress(count, len(pictures))
    if problems:
        raise InputError(problems)
    given = [words[label] for label in labels]
    rows = zip(sample.names, given, strict=True)
    write_text_atomic(output, table_text([sample.header, *rows]))
    return Counter(given), words


def _paired(
    sample: Sample, found: list[LabelledImage], folder: Path
) -> tuple[list[LabelledImage], list[str]]:
    """The image of each name, in the sample's order, and the images that it does not name."""
    by_name: dict[str, list[LabelledImage]] = {}
    for one in found:
        # A sample may leave out folders, or the suffix.
        for name in {one.image, PurePosixPath(one.image).name, PurePosixPath(one.image).stem}:
            by_name.setdefault(name, []).append(one)
    problems, chosen, used = [], [], set()
    missing = [name for name in sample.names if name not in by_name]
    if missing:
        problems.append(
            f"{sample.path}: {len(missing)} of its names have no image in {folder} "
            f"({few(missing)}); add the images, or correct --images"
        )
    for name in sample.names:
        candidates = by_name.get(name, [])
        if len(candidates) > 1:
            problems.append(
                f"{sample.path}: {name} could be {few([c.image for c in candidates])}; give the "
                "images different names"
            )
        if candidates:
            chosen.append(candidates[0])
            used.add(candidates[0].image)
    if problems:
        raise InputError(problems)
    return chosen, [one.image for one in found if one.image not in used]


def _words(model: Decider, sample: Sample, answers: Sequence[str] | None) -> dict[str, str]:
    if answers is not None:
        if len(answers) != len(model.classes):
            raise InputError(
                f"--answers {','.join(answers)}: the model has {len(model.classes)} classes "
                f"({', '.join(model.classes)}); give one answer for each, in this order"
            )
        return dict(zip(model.classes, answers, strict=True))
    if any(answer in model.classes for answer in sample.answers):
        return {name: name for name in model.classes}
    if len(model.classes) > 2:
        raise InputError(
            f"{sample.path}: its answers ({few(sorted({*sample.answers}))}) are no class names, "
            f"and the model has {len(model.classes)} classes ({', '.join(model.classes)}); say "
            "what to write for each, in this order, by --answers, such as --answers 0,1,1"
        )
    return {name: str(number) for number, name in enumerate(model.classes)}
