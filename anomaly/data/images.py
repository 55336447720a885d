"""Labelled images of one product: normal ones, and what is known of defects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from inspection.data.images import IMAGE_SUFFIXES
from inspection.data.labelled import (
    NORMAL_FOLDER,
    LabelledImage,
    LabelledImages,
    find_labelled,
)
from inspection.data.masks import NORMAL_NAMES, header_problems
from inspection.errors import InputError

NORMAL = "normal"
_NOT_TRAINED = frozenset({"val", "test"})


def open_images(source: str | Path) -> LabelledImages:
    """Finds a product's images; the layouts are those of `find_labelled`.

    Classes named as in `inspection.data.masks.NORMAL_NAMES` are `normal`, all others are
    defects, which are never trained on. Where no image is set aside for calibration, what stands
    in `test` may serve for it.

    Args:
        source: The folder or the CSV file.

    Raises:
        InputError: There is no normal image, or images, masks or lines cannot be used; all of
            them are named.
    """
    source = Path(source)
    found = find_labelled(source)
    if refused := _defects_in_train(source, found):
        raise InputError(refused)
    set_aside = any(item.parts == {"val"} for item in found.items)
    items = tuple(_as_product(item, set_aside) for item in found.items)
    if problems := header_problems(items):
        raise InputError(problems)
    if not any(item.is_normal for item in items):
        here = ", ".join(sorted(found.kinds)[:5]) or "none"
        raise InputError(
            f"{source}: holds no normal image ({', '.join(sorted(IMAGE_SUFFIXES))}; classes with "
            f"images: {here}); put images of good parts into a folder `normal`, and those of each "
            "defect, if any, into a folder of the defect's name"
        )
    return replace(found, items=items, normal=NORMAL)


def is_normal(kind: str) -> bool:
    """Whether a class is one of good parts."""
    return kind.casefold() in NORMAL_NAMES


def _as_product(item: LabelledImage, set_aside: bool) -> LabelledImage:
    parts = _NOT_TRAINED if item.parts == {"test"} and not set_aside else item.parts
    if is_normal(item.kind):
        return replace(item, kind=NORMAL, parts=parts, is_normal=True)
    return replace(item, parts=parts & _NOT_TRAINED)


def _defects_in_train(source: Path, found: LabelledImages) -> list[str]:
    """A sentence for each folder or line that would have defects learnt as normal."""
    defects = [item for item in found.items if not is_normal(item.kind)]
    if source.is_file():
        return [
            f"{source}: {item.image} is a defect and would be learnt as normal in the part "
            "`train`; write val or test"
            for item in defects
            if item.parts == {"train"}
        ]
    train = source / "train"
    if (train / NORMAL_FOLDER).is_dir():
        return []
    folders = {train / item.kind for item in defects if train in item.path.parents}
    return [
        f"{folder}: defects in `train` would be learnt as normal; move the folder to `test`"
        for folder in sorted(folders)
    ]
