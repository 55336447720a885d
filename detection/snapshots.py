"""What a snapshot of a detector says of itself, and the folder that such snapshots go to."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from inspection.errors import InputError
from inspection.snapshots import RunFolder


def run_folder(path: Path, keep: int | None = None) -> RunFolder:
    """The folder of a detector's run; `snapshots/best.keras` follows the latest run's best."""
    return RunFolder(path, keep, run_of=snapshot_run)


def snapshot_settings(path: str | Path) -> dict[str, Any]:
    """The settings inside a snapshot, without loading its weights.

    Raises:
        InputError: It is no snapshot of ours.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))["config"]
        config["preprocessing"]["size"]
    except (OSError, EOFError, zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: is no snapshot of this tool ({type(error).__name__}); give a .keras file "
            "that train_retinanet.py wrote."
        ) from error
    return config


def snapshot_run(path: Path) -> str | None:
    """The run that a snapshot is of, None where the file does not say."""
    try:
        return snapshot_settings(path)["preprocessing"].get("run")
    except InputError:
        return None
