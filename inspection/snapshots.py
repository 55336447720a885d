"""Snapshots on disk: one model file per epoch, the best one, and what a resume needs.

A run's folder holds `epoch_007.keras` and so on, `best.keras`, the optimizer's state of the
newest epoch only, and `state.json`, which is written last: what it names is whole.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from inspection.errors import InputError
from inspection.runs import atomic_path, write_json_atomic

STATE = "state.json"


@dataclass
class RunState:
    """How far a run has come.

    Args:
        epoch: Finished epochs.
        step: Finished steps; inside an epoch after an interrupt.
        best_epoch: Epoch of the best result on the validation part, 0 while there is none.
        best_score: That result.
        snapshot: File name of the model to go on from.
        optimizer: File name of its optimizer state.
        sums: Sums of the loss parts over the steps of an unfinished epoch.
    """

    epoch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_score: float = -1.0
    snapshot: str = ""
    optimizer: str = ""
    sums: dict[str, float] = field(default_factory=dict)


class RunFolder:
    """Writes and reads the snapshots of one run.

    Args:
        path: `snapshots/<run>`.
        keep: How many epoch snapshots stay; None keeps all.
        run_of: From a model file to the name of its run. With it the best one of all runs is
            also copied beside the run's folder.
        finish: Adds to a model file what Keras does not write, before it takes its place.
    """

    def __init__(
        self,
        path: Path,
        keep: int | None = None,
        run_of: Callable[[Path], str | None] | None = None,
        finish: Callable[[Path], None] = lambda path: None,
    ) -> None:
        self.path = path
        self.keep = keep
        self._run_of = run_of
        self._finish = finish

    def load_state(self) -> RunState:
        """The state of the last finished save.

        Raises:
            InputError: There is none, or its files are gone.
        """
        path = self.path / STATE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if "best_map" in values:  # as runs before 2026-11-21 called it
                values["best_score"] = values.pop("best_map")
            state = RunState(**values)
        except FileNotFoundError:
            raise InputError(
                f"{path}: this run has no finished epoch to resume from; start it without --resume."
            ) from None
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}: is damaged ({error}); start the run anew.") from error
        for name in (state.snapshot, state.optimizer):
            if not (self.path / name).is_file():
                raise InputError(f"{self.path / name}: is needed to resume and is missing.")
        return state

    def save(self, model: Any, state: RunState, interrupted: bool = False) -> Path:
        """Saves model and optimizer state, then the state that names them.

        Args:
            model: Compiled model.
            state: Updated in place with the file names.
            interrupted: True inside an epoch: the files are named so and replaced next time.

        Returns:
            Path of the snapshot.

        Raises:
            OSError: No room or no permission; what stood before is untouched.
        """
        stem = f"interrupted_{state.step}" if interrupted else f"epoch_{state.epoch:03d}"
        snapshot, optimizer = f"{stem}.keras", f"{stem}.optimizer.npz"
        with atomic_path(self.path / optimizer) as temporary, temporary.open("wb") as file:
            values = [np.asarray(value) for value in model.optimizer.variables]
            np.savez(file, **{f"v{index:04d}": value for index, value in enumerate(values)})
        with atomic_path(self.path / snapshot) as temporary:
            _save_without_optimizer(model, temporary)
            self._finish(temporary)
        state.snapshot, state.optimizer = snapshot, optimizer
        write_json_atomic(self.path / STATE, asdict(state))
        self._remove_superseded(state)
        return self.path / snapshot

    def promote(self, snapshot: Path) -> str | None:
        """Copies a snapshot to the run's `best.keras`, and to the one of all runs if there is one.

        Returns:
            The name of another run whose best was replaced there, if any.
        """
        targets, before = [self.path / "best.keras"], None
        if self._run_of is not None:
            top = self.path.parent / "best.keras"
            before = self._run_of(top) if top.is_file() else None
            targets.append(top)
        for target in targets:
            with atomic_path(target) as temporary:
                shutil.copyfile(snapshot, temporary)
        return before if before not in (None, self.path.name) else None

    def restore_optimizer(self, model: Any, state: RunState) -> None:
        """Puts the stored optimizer state into a compiled model.

        Raises:
            InputError: It belongs to another model.
        """
        model.optimizer.build(model.trainable_variables)
        path = self.path / state.optimizer
        try:
            with path.open("rb") as file, np.load(file) as stored:
                values = [stored[name] for name in sorted(stored.files)]
        except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            raise InputError(f"{path}: is damaged ({error}); start the run anew.") from error
        variables = model.optimizer.variables
        if [value.shape for value in values] != [tuple(item.shape) for item in variables]:
            raise InputError(
                f"{self.path / state.optimizer}: does not fit the model beside it; start anew."
            )
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    def _remove_superseded(self, state: RunState) -> None:
        for kind in ("epoch_", "interrupted_", "best."):  # left by a kill in the midst of writing
            for path in self.path.glob(f".{kind}*"):
                path.unlink()
        for path in self.path.glob("*.optimizer.npz"):
            if path.name != state.optimizer:
                path.unlink()
        for path in self.path.glob("interrupted*.keras"):
            if path.name != state.snapshot:
                path.unlink()
        if self.keep is None:
            return
        epochs = [
            path
            for path in self.path.glob("epoch_*.keras")
            if re.fullmatch(r"epoch_\d+", path.stem)
        ]
        epochs.sort(key=lambda path: int(path.stem.removeprefix("epoch_")))
        for path in epochs[: -self.keep]:
            if path.name != state.snapshot:
                path.unlink()


def _save_without_optimizer(model: Any, path: Path) -> None:
    """Keras would store Adam's two moments inside and triple every snapshot."""
    optimizer, model.optimizer = model.optimizer, None
    try:
        model.save(path)
    finally:
        model.optimizer = optimizer
