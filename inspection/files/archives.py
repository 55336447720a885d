"""Model files from anywhere: sizes and settings are looked at before anything is built or loaded.

A `.keras` file is a zip archive, and what is inside may claim any size: a megabyte can unpack to
gigabytes, and one number in a configuration can ask for more memory than there is.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from inspection.errors import InputError, first_line

CONFIG, WEIGHTS = "config.json", "model.weights.h5"

MOST_TEXT = 64 * 2**20  # bytes of a JSON member; a mask of the region of interest is the largest
_UNPACKED = 4  # times the size on disk: what we write is not compressed at all
_ROOM = 16 * 2**20  # bytes beyond that, for small files
_MOST_MEMBERS = 10_000
_MOST_LAYERS = 10_000
_MOST_CHANNELS = 16_384  # of one layer
_MOST_NUMBER = 1_000_000  # any other one in a network's configuration
_MOST_KERNEL = 64
_SURE = 300_000_000  # weights that are sure not to fill a machine, whatever the estimate
_ANY = ("seed", "shared_object_id")
_CHANNELS = ("filters", "units", "width", "channels", "outputs")


class Hostile(ValueError):
    """Something that no program of ours writes; a sentence without its file."""


@contextmanager
def read_safely(path: str | Path, what: str, instead: str) -> Iterator[None]:
    """Whatever goes wrong inside means that the file is no good.

    Args:
        path: The file, for the message.
        what: What is wrong then, such as `is no snapshot`.
        instead: What to do.

    Raises:
        InputError: Names file, fault and what to do.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file; {instead}") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder; {instead}") from error
    except Exception as error:  # zip, zlib, JSON, HDF5 and NumPy each raise their own
        fault = first_line(error)[:200]
        if not isinstance(error, Hostile):
            fault = f"{type(error).__name__}: {fault}"
        raise InputError(f"{path}: {what} ({fault}); {instead}") from error


@contextmanager
def open_archive(source: str | Path | IO[bytes]) -> Iterator[zipfile.ZipFile]:
    """A zip archive whose members together unpack to no more than their file could hold.

    Raises:
        Hostile: They would.
        zipfile.BadZipFile: It is no zip archive.
    """
    with zipfile.ZipFile(source) as archive:
        members = archive.infolist()
        assert archive.fp is not None  # open
        archive.fp.seek(0, io.SEEK_END)
        on_disk = archive.fp.tell()
        unpacked = sum(member.file_size for member in members)
        if len(members) > _MOST_MEMBERS or unpacked > _UNPACKED * on_disk + _ROOM:
            raise Hostile(f"{on_disk} bytes would unpack to {unpacked}")
        yield archive


def read_member(archive: zipfile.ZipFile, name: str, most: int | None = None) -> bytes:
    """A member, never more of it than it says it holds.

    Args:
        archive: From `open_archive`.
        name: Of the member.
        most: Its largest size in bytes; None has no other limit than the archive's.

    Raises:
        Hostile: It is larger.
        KeyError: There is no such member.
    """
    size = archive.getinfo(name).file_size
    if most is not None and size > most:
        raise Hostile(f"{name} has {size} bytes")
    with archive.open(name) as file:
        content = file.read(size + 1)
    if len(content) != size:
        raise Hostile(f"{name} does not have the {size} bytes it claims")
    return content


def read_json(archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    """A member of JSON whose numbers are all finite.

    Raises:
        Hostile: It is too large, not finite, or no object.
        ValueError: It is no JSON.
    """
    return parse_json(read_member(archive, name, MOST_TEXT), name)


def parse_json(text: str | bytes, name: str) -> dict[str, Any]:
    """As `read_json`, of a text; `name` is what it is called."""
    if len(text) > MOST_TEXT:
        raise Hostile(f"{name} has {len(text)} bytes")
    values = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    if not isinstance(values, dict):
        raise Hostile(f"{name} holds no object")
    return values


def _refuse_constant(name: str) -> None:
    raise Hostile(f"it holds the number {name}")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):  # 1e999 is no constant of JSON, and reads as infinity
        _refuse_constant(text)
    return value


def read_arrays(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file, each as large as its bytes say.

    Raises:
        Hostile: One claims another size than it has, is none of numbers, or holds NaN or infinity:
            what is divided by an infinite deviation is 0, and would look normal.
    """
    found: dict[str, np.ndarray] = {}
    with open_archive(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            text = io.BytesIO(read_member(archive, name))
            version = np.lib.format.read_magic(text)
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, fortran, kind = read(text)
            data = text.getbuffer()[text.tell() :]
            if kind.hasobject or math.prod(shape) * kind.itemsize != len(data):
                raise Hostile(f"{name} is not the array that it claims to be")
            flat = np.frombuffer(data, kind).copy()
            if kind.kind in "fc" and not np.isfinite(flat).all():
                raise Hostile(f"{name} holds numbers that are not finite")
            array = flat.reshape(shape, order="F" if fortran else "C")
            found[name.removesuffix(".npy")] = array
    return found


def check_network(source: str | Path | IO[bytes]) -> None:
    """Refuses a `.keras` file that would ask for far more memory than its weights take.

    Raises:
        Hostile: It would, or holds a layer that is neither Keras' nor ours.
    """
    with open_archive(source) as archive:
        config = read_json(archive, CONFIG)
        weights = read_member(archive, WEIGHTS)
    check_hdf5(io.BytesIO(weights), len(weights))
    if _estimate(config) > _SURE:
        needed = _count_weights(config) * 4
        if needed > _UNPACKED * len(weights) + _ROOM:
            raise Hostile(f"a network of {needed} bytes for {len(weights)} bytes of weights")


def check_hdf5(file: str | Path | IO[bytes], on_disk: int) -> None:
    """Refuses HDF5 whose arrays are larger than its file, or lie outside of it.

    Args:
        file: HDF5.
        on_disk: Its size in bytes.

    Raises:
        Hostile: One of them is.
        OSError: It is no HDF5.
    """
    import h5py

    total = 0
    with h5py.File(file, "r") as opened:
        groups, seen = [opened], 0
        while groups:
            group = groups.pop()
            for name in group:
                seen += 1
                if seen > _MOST_MEMBERS * 10:
                    raise Hostile("it holds too many arrays")
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise Hostile(f"the array {name} lies elsewhere")
                item = group[name]
                if isinstance(item, h5py.Group):
                    groups.append(item)
                elif isinstance(item, h5py.Dataset):
                    if item.is_virtual or item.external:
                        raise Hostile(f"the array {name} lies elsewhere")
                    total += item.nbytes
    if total > _UNPACKED * on_disk + _ROOM:
        raise Hostile(f"{on_disk} bytes claim arrays of {total}")


def _estimate(config: dict[str, Any]) -> float:
    """No fewer weights than a network has, after a look at every number of its configuration."""
    layers: list[dict[str, Any]] = []
    waiting: list[tuple[Any, str]] = [(config, "")]
    while waiting:
        value, key = waiting.pop()
        if isinstance(value, dict):
            if "class_name" in value and isinstance(value.get("config"), dict):
                _check_class(value)
                layers.append(value["config"])
                if len(layers) > _MOST_LAYERS * 10:
                    raise Hostile("its network has too many layers")
            waiting += [(one, str(name)) for name, one in value.items()]
        elif isinstance(value, list):
            waiting += [(one, key) for one in value]
        elif isinstance(value, int | float) and not isinstance(value, bool) and key not in _ANY:
            most = {"kernel_size": _MOST_KERNEL}.get(
                key, _MOST_CHANNELS if key in _CHANNELS else _MOST_NUMBER
            )
            if not abs(value) <= most:
                raise Hostile(f"{key or 'a number'} is {value:g}, at most {most} is possible")
    widest = max((_outputs(layer) for layer in layers), default=0)
    return sum(_outputs(one) * _area(one) * max(widest // _groups(one), 1) for one in layers)


def _check_class(value: dict[str, Any]) -> None:
    module, registered = value.get("module"), value.get("registered_name")
    place = str(registered or "").partition(">")[0] if registered and ">" in str(registered) else ""
    ours = place in ("inspection", "detection", "classification", "anomaly", "keras_cv", "keras")
    theirs = str(module or "keras").partition(".")[0] in ("keras", "builtins", "keras_cv")
    if not (ours or theirs):
        raise Hostile(f"a layer of {str(module)[:80]}")


def _outputs(layer: dict[str, Any]) -> int:
    return max((int(layer[k]) for k in _CHANNELS if isinstance(layer.get(k), int)), default=0)


def _area(layer: dict[str, Any]) -> int:
    kernel = layer.get("kernel_size", 1)
    sides = kernel if isinstance(kernel, list) else [kernel, kernel]
    return math.prod(int(side) for side in sides if isinstance(side, int))


def _groups(layer: dict[str, Any]) -> int:
    groups = layer.get("groups", 1)
    return groups if isinstance(groups, int) and groups > 0 else 1


def _count_weights(config: dict[str, Any]) -> int:
    """How many weights a network has, without room for a single one."""
    import keras
    from keras.src.backend.common import global_state

    # What is built in this scope gets its values at the end of it, or at that of the next one.
    waiting = "uninitialized_variables"
    before = global_state.get_global_attribute(waiting)
    try:
        with keras.StatelessScope(initialize_variables=False):
            model = keras.saving.deserialize_keras_object(
                {key: value for key, value in config.items() if key != "compile_config"}
            )
        return sum(math.prod(weight.shape) for weight in model.weights)
    finally:
        global_state.set_global_attribute(waiting, before or [])
