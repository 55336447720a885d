"""Where a new detector's weights come from: ImageNet, a file, a snapshot, or nowhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from detection.models.retinanet import RetinaNet
from detection.models.snapshots import snapshot_settings
from inspection.errors import InputError
from inspection.models import backbones


def resolve_weights(backbone: str, choice: str, say: Callable[[str], None]) -> str:
    """Settles `auto` before the model is built, since its norm depends on the outcome.

    Args:
        backbone: A name of `inspection.models.backbones.NAMES`.
        choice: `auto`, `imagenet`, `none` or a path.
        say: Told when training will start from scratch.

    Returns:
        `imagenet`, `none` or the path.

    Raises:
        InputError: `imagenet` for a backbone without published weights, or a missing file.
    """
    if choice in ("imagenet", "auto") and backbone not in backbones.IMAGENET_NAMES:
        if choice == "imagenet":
            raise InputError(
                f"--weights imagenet: {backbone} has no published Keras weights; take none, a "
                f"snapshot, or one of {', '.join(backbones.IMAGENET_NAMES)}."
            )
        say(f"TRAINING FROM SCRATCH: {backbone} has no published ImageNet weights.")
        return "none"
    if choice == "auto":
        try:
            backbones.fetch_imagenet(backbone, backbones.AUTO_SECONDS)
        except InputError as error:
            say(f"TRAINING FROM SCRATCH: {error}")
            return "none"
        return "imagenet"
    if choice not in ("imagenet", "none") and not Path(choice).is_file():
        raise InputError(f"--weights {choice}: there is no such file.")
    return choice


def apply_weights(model: RetinaNet, choice: str, say: Callable[[str], None]) -> None:
    """Fills a new model.

    Args:
        model: Freshly built.
        choice: From `resolve_weights`.
        say: Told how much of a snapshot fitted.

    Raises:
        InputError: The weights cannot be reached or do not fit.
    """
    if choice == "none":
        return
    if choice == "imagenet":
        path = backbones.fetch_imagenet(model.settings["backbone"])
        backbones.load_weights_file(model.backbone, path)
    elif Path(choice).suffix == ".keras":
        _from_snapshot(model, Path(choice), say)
    else:
        backbones.load_weights_file(model.backbone, choice)


def _from_snapshot(model: RetinaNet, path: Path, say: Callable[[str], None]) -> None:
    from detection.models.detector import Detector

    theirs = snapshot_settings(path)
    for key in ("backbone", "channels"):
        if theirs[key] != model.settings[key]:
            raise InputError(
                f"{path}: was trained with {key} {theirs[key]}, this run has "
                f"{model.settings[key]}; give --{key} {theirs[key]}."
            )
    if (theirs["norm"] == "group") != (model.settings["norm"] == "group"):
        raise InputError(
            f"{path}: was trained with norm {theirs['norm']}, this run has "
            f"{model.settings['norm']}; give --norm {theirs['norm']}."
        )
    source = Detector.load(path).model
    available = {weight.path: weight for weight in source.weights}
    same_classes = theirs["classes"] == list(model.classes)
    taken = 0
    for weight in model.weights:
        name = weight.path
        other = available.get(name)
        is_class_output = "classification_head/prediction" in name
        if other is None or other.shape != weight.shape or (is_class_output and not same_classes):
            continue
        weight.assign(other)
        taken += 1
    say(f"{path}: took {taken} of {len(model.weights)} weights.")
