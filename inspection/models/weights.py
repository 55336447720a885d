"""`--weights`: published ImageNet weights, a file, another run's snapshot, or none."""

from __future__ import annotations

import importlib
import re
import threading
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
from keras import layers, ops

from inspection.cli.arguments import refuse
from inspection.errors import InputError, first_line
from inspection.files.archives import check_hdf5
from inspection.models.published import PUBLISHED, file_problems, weights_problems

_IMAGENET_RGB_STDDEV = (0.229, 0.224, 0.225)
AUTO_SECONDS = 8.0
"""How long `auto` waits for a download."""


def resolve_weights(
    name: str, choice: str, offered: Iterable[str], say: Callable[[str], None]
) -> str:
    """Settles `auto`: ImageNet weights where they can be had within a few seconds, else none.

    Before the model is built, since its settings depend on the outcome.

    Args:
        name: Of the architecture.
        choice: `auto`, `imagenet`, `none` or a path.
        offered: Names of the architectures that there are to choose from.
        say: Receives a line when training will start from scratch.

    Returns:
        `imagenet`, `none` or the path.

    Raises:
        InputError: `imagenet` for an architecture without published weights, or a missing file.
    """
    refuse(weights_problems(choice, ("auto", "none"), name, offered))
    if choice == "auto":
        if name not in PUBLISHED:
            say(f"TRAINING FROM SCRATCH: {name} has no published ImageNet weights.")
            return "none"
        try:
            fetch_imagenet(name, AUTO_SECONDS)
        except InputError as error:
            say(f"TRAINING FROM SCRATCH: {error}")
            return "none"
        return "imagenet"
    return choice


def fetch_imagenet(name: str, timeout: float | None = None) -> Path:
    """The file of keras.applications' ImageNet weights, from its cache or the internet.

    Args:
        name: Of the architecture.
        timeout: Seconds to wait for the download; None waits until it ends.

    Returns:
        Path of the `.h5` file.

    Raises:
        InputError: The architecture has no published weights, or they cannot be reached.
    """
    refuse(weights_problems("imagenet", (), name))
    outcome: list[Path | Exception] = []

    def fetch() -> None:
        try:
            outcome.append(Path(_download(name)))
        except Exception as error:  # whatever the network stack raises, it means: not reachable
            outcome.append(error)

    # A daemon thread, so that a connection that hangs cannot keep the program from going on.
    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    thread.join(timeout)
    found = outcome[0] if outcome else None
    if isinstance(found, Path):
        return found
    reason = f"no answer within {timeout:.0f} s" if found is None else first_line(found)
    raise InputError(
        f"ImageNet weights for {name} cannot be reached ({reason}). Offline, copy "
        f"{PUBLISHED[name].file} from a machine with internet and give its path as --weights."
    )


def _download(name: str) -> str:
    one = PUBLISHED[name]
    module = importlib.import_module(f"keras.src.applications.{one.module}")
    base = getattr(module, "BASE_WEIGHTS_PATH", None) or module.BASE_WEIGHT_PATH
    digest = None if one.hashed is None else module.WEIGHTS_HASHES[one.hashed][1]
    return keras.utils.get_file(one.file, base + one.file, cache_subdir="models", file_hash=digest)


def fill_backbone(model: keras.Model, choice: str, name: str | None = None) -> None:
    """Fills a backbone with what `--weights` names.

    Args:
        model: A backbone.
        choice: `imagenet`, `none`, or the path of a keras.applications `.h5` file.
        name: Of the architecture; the model's own where left out.

    Raises:
        InputError: The weights cannot be reached or do not fit.
    """
    if choice == "imagenet":
        load_weights_file(model, fetch_imagenet(name or model.name), name)
    elif choice != "none":
        load_weights_file(model, choice, name)


def load_weights_file(model: keras.Model, path: str | Path, name: str | None = None) -> None:
    """Loads a keras.applications `.h5` file into a backbone.

    Args:
        model: A backbone.
        path: The file.
        name: Of the architecture; the model's own where left out.

    Raises:
        InputError: The file is missing, damaged, or of another architecture.
    """
    path, name = Path(path), name or model.name
    published = PUBLISHED.get(name)
    wanted = published.file if published else "of the same architecture"
    refuse(file_problems(path))
    try:
        with warnings.catch_warnings():
            # Keras warns, and goes on with random weights, where a file holds other layers.
            warnings.filterwarnings("error", category=UserWarning)
            check_hdf5(path, path.stat().st_size)
            if name.startswith("resnet"):
                # Our own, by the names of its layers: a file that still has its classifier fits as
                # well. A layer that is missing would be skipped in silence, hence the check.
                _check_layers(model, path)
                model.load_weights(str(path), by_name=True)
            else:
                model.load_weights(str(path))
    except Exception as error:  # HDF5 and Keras raise nearly every exception on damaged files
        raise InputError(
            f"--weights {path}: cannot be read as weights of {name} ({first_line(error)}); give "
            f"the keras.applications file {wanted}, or a snapshot of the same architecture"
        ) from error
    match_imagenet_inputs(model)


def _check_layers(model: keras.Model, path: Path) -> None:
    import h5py

    with h5py.File(path, "r") as file:
        group = file.get("model_weights", file)
        there = {key for key in group if len(group[key])}
    missing = [layer.name for layer in model.layers if layer.weights and layer.name not in there]
    if missing:
        raise ValueError(f"{len(missing)} layers are not in it, the first is {missing[0]}")
    extra = there - {layer.name for layer in model.layers} - {"predictions", "probs", "fc1000"}
    extra = {name for name in extra if name.startswith("conv")}
    if extra:
        raise ValueError(f"it is of a deeper network: {sorted(extra)[0]}")


def match_imagenet_inputs(model: keras.Model) -> None:
    """Makes an EfficientNet with published weights see inputs of the size that they expect.

    For `weights="imagenet"`, and for nothing else, keras.applications divides the normalised inputs
    by the root of the standard deviation once more. Without that the same file, given by its path,
    sees inputs of about half the size. The factor goes into the variance of the normalisation, so
    layers stay as they are; a model that has it already, or is no EfficientNet, is left alone.

    Args:
        model: Changed in place.
    """
    found = [layer for layer in model.layers if isinstance(layer, layers.Normalization)]
    rescalings = [layer for layer in model.layers if isinstance(layer, layers.Rescaling)]
    if len(found) != 1 or len(rescalings) != 1:
        return
    (layer,) = found
    layer.adapt_variance.assign(ops.convert_to_numpy(layer.adapt_variance) * _IMAGENET_RGB_STDDEV)
    layer.finalize_state()


def check_alike(path: str | Path, **settings: tuple[Any, Any]) -> None:
    """Refuses a snapshot of another network than the one that is to be filled.

    Args:
        path: The snapshot.
        **settings: By the name of its flag, what the snapshot has and what this run has.

    Raises:
        InputError: Names every setting that differs.
    """
    problems = [
        f"--weights {path}: was trained with --{flag} {theirs}, this run has {ours}; give --{flag} "
        f"{theirs}"
        for flag, (theirs, ours) in settings.items()
        if theirs != ours
    ]
    if problems:
        raise InputError(problems)


def copy_weights(
    model: keras.Model,
    source: keras.Model,
    path: str | Path,
    say: Callable[[str], None],
    outputs: str = "",
) -> None:
    """Takes over every weight of a snapshot's network that has its place and shape in another one.

    Args:
        model: Filled.
        source: The snapshot's.
        path: Of the snapshot, for the sentence.
        say: Receives a line on how much fitted.
        outputs: Part of the paths of weights that stay as they are, empty for none: another set of
            classes has another meaning, whatever their number.
    """
    available = {_place(weight): weight for weight in source.weights}
    taken = 0
    for weight in model.weights:
        other = available.get(_place(weight))
        if other is None or other.shape != weight.shape or (outputs and outputs in weight.path):
            continue
        weight.assign(other)
        taken += 1
    for layer in model.layers:
        if isinstance(layer, layers.Normalization):  # works with what follows from its weights
            layer.finalize_state()
    if sum(isinstance(layer, layers.Rescaling) for layer in source.layers) > 1:
        match_imagenet_inputs(model)
    say(f"{path}: took {taken} of {len(model.weights)} weights.")


def _place(weight: Any) -> str:
    # The one layer with weights that keras.applications leaves to Keras to name, by a count.
    return re.sub(r"^normalization_\d+/", "normalization/", weight.path)
