"""Images of one part on two sides of a split: a test on them says nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from inspection.cli.console import counted
from inspection.data.images import read_image
from inspection.errors import InputError
from inspection.files.writing import atomic_path

_SIDE = 32
_ALIKE = 0.95
_LEAST = 8  # images; of fewer no mean image can be told
_ROWS = 1024
_NAMED = 3


def near_duplicates(
    paths: Mapping[str, Path], parts: Mapping[str, str], cache: Path | None = None
) -> list[tuple[str, str]]:
    """Pairs of images that look alike beyond what all images share, on different sides.

    Good parts look alike anyway. Two images of the same part also share what sets them off
    from the mean of all: that is what is correlated here.

    Args:
        paths: Files by name.
        parts: Part of the split by name.
        cache: File of the small images, made or brought up to date; None keeps none.

    Returns:
        Pairs of names, the most alike first.
    """
    names = sorted(paths)
    if len(names) < _LEAST:
        return []
    small = _small_images(names, paths, cache)
    rest = small - small.mean(axis=0)
    rest -= rest.mean(axis=1, keepdims=True)
    rest /= np.linalg.norm(rest, axis=1, keepdims=True) + 1e-9
    side = np.unique([parts[name] for name in names], return_inverse=True)[1]
    found = []
    for start in range(0, len(names), _ROWS):
        alike = rest[start : start + _ROWS] @ rest.T
        alike[side[start : start + _ROWS, None] == side] = 0
        for row, column in np.argwhere(alike > _ALIKE):
            if start + row < column:
                pair = (names[start + row], names[column])
                found.append((float(alike[row, column]), pair))
    return [pair for _, pair in sorted(found, reverse=True)]


def warning(pairs: Sequence[tuple[str, str]], parts: Mapping[str, str]) -> str:
    """One sentence with the first pairs; empty where there is none."""
    if not pairs:
        return ""
    named = "; ".join(
        f"{one} ({parts[one]}) and {other} ({parts[other]})" for one, other in pairs[:_NAMED]
    )
    return (
        f"WARNING: {counted(len(pairs), 'pair')} of nearly equal images on two sides of the "
        f"split: {named}. If they show one part, give --group-by, and another --runs for a new "
        "split: figures of this one are too good."
    )


def _small_images(
    names: Sequence[str], paths: Mapping[str, Path], cache: Path | None
) -> np.ndarray:
    """(N, _SIDE squared) float32."""
    known: dict[str, np.ndarray] = {}
    if cache is not None and cache.is_file():
        try:
            with cache.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                keys, images = stored["keys"].tolist(), np.asarray(stored["pictures"], np.float32)
            if images.shape == (len(keys), _SIDE * _SIDE) and np.isfinite(images).all():
                known = dict(zip(keys, images, strict=True))
        except Exception:  # damaged in whatever way: made anew
            known = {}
    keys, rows = [], []
    for name in names:
        stat = paths[name].stat()
        key = f"{name} {stat.st_size} {stat.st_mtime_ns}"
        keys.append(key)
        rows.append(known[key] if key in known else _small(paths[name]))
    small = np.stack(rows)
    if cache is not None and any(key not in known for key in keys):
        with atomic_path(cache) as temporary, temporary.open("wb") as file:
            np.savez(file, keys=np.array(keys), pictures=small)
    return small


def _small(path: Path) -> np.ndarray:
    try:
        grey = cv2.cvtColor(read_image(path), cv2.COLOR_RGB2GRAY)
    except InputError:  # told by whoever needs the image
        return np.zeros(_SIDE * _SIDE, np.float32)
    small = cv2.resize(grey.astype(np.float32), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return (small / (small.std() + 1e-3)).ravel()
