"""Writing a model as a graph that runs without Keras and TensorFlow, once it is proved."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inspection.cli.arguments import choice_problems, refuse
from inspection.data.images import list_images, path_problems
from inspection.errors import InputError, first_line
from inspection.export.parity import Parity, Verdict, prove_parity
from inspection.export.runtimes import PACKAGES
from inspection.files.graphs import CARD_KEY, SUFFIXES, exported_files
from inspection.files.writing import atomic_path
from inspection.models.card import ModelCard, Room, read_card
from inspection.progress import Progress, silent

if TYPE_CHECKING:
    import onnx

OPSET = 17
INPUT = "views"


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how it compares.

    Args:
        path: The file; OpenVINO's weights are beside it in a `.bin`.
        megabytes: Size of all its files in 10^6 bytes.
        parity: With the original.
    """

    path: Path
    megabytes: float
    parity: Parity

    def lines(self) -> list[str]:
        """The report as sentences."""
        return [f"{self.path}: {self.megabytes:.1f} MB.", str(self.parity)]


def output_path(output: Path | None, model: Path, format: str) -> Path:
    """The file to write: the one named, or beside the model under its name.

    Args:
        output: As given; its suffix may be left out.
        model: The model's file.
        format: `openvino` or `onnx`.

    Raises:
        InputError: There is no such format, or the suffix is another one's.
    """
    refuse(choice_problems("--format", format, SUFFIXES))
    suffix = SUFFIXES[format]
    if output is None:
        return model.with_suffix(suffix)
    if output.suffix.lower() not in ("", suffix):
        raise InputError(f"--output {output}: an {format} export must end in {suffix}")
    return output.with_suffix(output.suffix or suffix)


def export_problems(output: Path, room: Room, *packages: str) -> list[str]:
    """What stands in the way of an export, without importing any of the packages.

    Args:
        output: The file to write; its suffix is the format.
        room: Whose exports it may replace.
        *packages: What else is needed.
    """
    if output.suffix.lower() not in PACKAGES:
        return [f"{output}: an exported model ends in .xml (OpenVINO) or .onnx"]
    there = next((file for file in exported_files(output) if file.exists()), None)
    if there:
        try:
            read_card(output, room)
        except InputError:  # an .xml may be somebody's labels, a .bin without one anything
            return [
                f"{there}: is there already and is no export of this room; give another --output, "
                "or remove it"
            ]
    return [
        f"this export needs the package {package}: pip install {package}"
        for package in dict.fromkeys(("onnx", PACKAGES[output.suffix.lower()], *packages))
        if find_spec(package) is None
    ]


def keras_graph(
    outputs: Callable[[Any], Mapping[str, Any]], size: int, name: str
) -> onnx.ModelProto:
    """What Keras computes, as an ONNX graph.

    Args:
        outputs: From (B, size, size, 3) float32, RGB 0 to 255, to tensors by name.
        size: Side of the images in pixels.
        name: Of the model, for messages.

    Returns:
        A graph from `INPUT` (B, size, size, 3) uint8 to these outputs.

    Raises:
        InputError: The backend is not TensorFlow, or there is no such graph.
    """
    import keras
    import onnx

    if keras.backend.backend() != "tensorflow":
        raise InputError("export: runs with KERAS_BACKEND=tensorflow only; set it and try again")
    import tensorflow as tf
    import tf2onnx

    spec = tf.TensorSpec((None, size, size, 3), tf.uint8, name=INPUT)
    function = tf.function(lambda views: dict(outputs(tf.cast(views, tf.float32))), [spec])
    # Keras compiles grouped convolutions, and what is compiled cannot be converted.
    before = tf.config.functions_run_eagerly()
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)  # the check below says it, too
    try:
        tf.config.run_functions_eagerly(True)
        proto, _ = tf2onnx.convert.from_function(
            function, [spec], OPSET, custom_op_handlers={"Erfc": (_write_erfc, [])}
        )
        _fill_in(proto.graph, function.get_concrete_function(spec).graph.captures)
        onnx.checker.check_model(proto)
    except Exception as error:  # the converter raises many kinds
        raise InputError(f"{name}: cannot be written as ONNX ({first_line(error)})") from error
    finally:
        tf.config.run_functions_eagerly(before)
    return proto


def _fill_in(graph: onnx.GraphProto, captures: Sequence[tuple[Any, Any]]) -> None:
    """Arrays that a Keras layer holds beside its weights come out as inputs, without values."""
    from onnx import numpy_helper

    values = {inside.name: outside for outside, inside in captures}
    used = {name for node in graph.node for name in node.input}
    for item in graph.input[1:]:
        if item.name in used:
            array = values[item.name].numpy()
            graph.initializer.append(numpy_helper.from_array(array, item.name))
    del graph.input[1:]


def _write_erfc(context: Any, node: Any, _name: str, _arguments: list[Any]) -> None:
    """Erfc, of which TensorFlow's GELU is made and which ONNX lacks, as 1 - Erf."""
    shapes, types = node.output_shapes, node.output_dtypes
    context.remove_node(node.name)
    erf = context.make_node("Erf", node.input, shapes=shapes, dtypes=types)
    one = context.make_const(f"{node.name}/one", np.ones((), np.float32))
    context.make_node(
        "Sub",
        [one.output[0], erf.output[0]],
        name=node.name,
        outputs=node.output,
        shapes=shapes,
        dtypes=types,
    )


def write_graph(graph: onnx.ModelProto, path: Path, card: ModelCard) -> None:
    """Writes a graph in the format that the suffix names; not atomic.

    Args:
        graph: From `keras_graph`, or made by hand.
        path: `.xml` or `.onnx`.
        card: What the file must say of itself.
    """
    import onnx

    if path.suffix.lower() == ".onnx":
        onnx.helper.set_model_props(graph, {CARD_KEY: card.to_json()})
        path.write_bytes(graph.SerializeToString())
        return
    import openvino

    write_openvino(openvino.convert_model(io.BytesIO(graph.SerializeToString())), path, card)


def write_openvino(model: Any, path: Path, card: ModelCard) -> None:
    """Writes an `openvino.Model` with float32 weights; as `write_graph`."""
    import openvino

    model.set_rt_info(card.to_json(), [CARD_KEY])
    # Half-precision weights, the default, would move scores by more than the parity allows.
    openvino.save_model(model, path, compress_to_fp16=False)


def size_mb(path: Path) -> float:
    """Size of an exported file, weights included, in 10^6 bytes."""
    return sum(file.stat().st_size for file in exported_files(path)) / 1e6


def check_export(
    model: Path,
    room: Room,
    format: str,
    output: Path | None,
    images: Path | None,
    test_part: Callable[[], list[Path]],
) -> tuple[Path, list[Path]]:
    """Format, file and images of an export, before anything slow is imported.

    Args:
        model: The model's file.
        room: Whose export it is.
        format: `openvino` or `onnx`.
        output: As `output_path` takes it.
        images: An image or a folder to compare on.
        test_part: Gives the images to compare on where none are named.

    Returns:
        The file to write, and the images to compare on.

    Raises:
        InputError: One of them cannot be used.
    """
    file = output_path(output, model, format)
    refuse(path_problems([images] if images else []))
    refuse(export_problems(file, room, "tf2onnx"))
    if images is not None and images.is_dir():
        found = list_images(images)
    else:
        found = test_part() if images is None else [images]
    refuse(images_problems(found))
    return file, found


@contextlib.contextmanager
def placed_when_done(output: Path) -> Iterator[Path]:
    """A path of the same name in a folder beside; its files take their places at the end.

    On any exception nothing is left, and what stood at `output` stays: the new files lie beside it,
    whole, before the first is replaced.

    Args:
        output: The file to write, `.xml` or `.onnx`.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=".export.", dir=output.parent, ignore_cleanup_errors=True
    ) as folder:
        temporary = Path(folder) / output.name
        yield temporary
        with contextlib.ExitStack() as placed:  # which replaces the last one entered first
            pairs = zip(exported_files(temporary), exported_files(output), strict=True)
            for source, target in pairs:  # the graph first, so that it is replaced last
                shutil.copyfile(source, placed.enter_context(atomic_path(target)))
            if output.suffix.lower() == ".xml":
                # OpenVINO's two files cannot be replaced at once. Without its graph the old model
                # is gone, which is said when it is loaded; with foreign weights it would find
                # nonsense.
                output.unlink(missing_ok=True)


def export_decider(
    model: Any,
    output: Path,
    room: Room,
    images: Sequence[Path],
    graph: Callable[[Any], onnx.ModelProto],
    load: Callable[[Path], Any],
    verdict: Callable[[Any], Verdict],
    on_progress: Progress = silent,
) -> ExportReport:
    """Writes what Keras computes where it is proved to be like its original, else nothing.

    The exported model is loaded again and decides on every image, see `inspection.export.parity`.

    Args:
        model: The original.
        output: The file to write, `.xml` or `.onnx`.
        room: Whose export it is.
        images: What it is compared on.
        graph: Makes the original's graph.
        load: Loads the exported model.
        verdict: From what either predicts to what must be the same.
        on_progress: Called with images done and in all.

    Raises:
        InputError: As `export_problems`, there is no image, or the models differ.
    """
    refuse(export_problems(output, room, "tf2onnx") + images_problems(images))
    with placed_when_done(output) as temporary:
        write_graph(graph(model), temporary, model.card)
        exported = load(temporary)
        parity = prove_parity(
            images,
            lambda image: verdict(model.predict(image)),
            lambda image: verdict(exported.predict(image)),
            on_progress,
        )
        megabytes = size_mb(temporary)
    return ExportReport(output, megabytes, parity)


def images_problems(images: Sequence[Any]) -> list[str]:
    """A sentence where there is nothing to compare on."""
    if len(images):
        return []
    return ["there is no image to compare the exported model on; give some by --images"]
