"""Weights & Biases: each epoch's figures, online or offline."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from classification.settings import ClassificationSettings
from inspection.errors import InputError, first_line

PROJECT = "factory-inspection"


class WandbLog:
    """One run of Weights & Biases, of which a resumed training goes on with the same.

    Offline where `WANDB_MODE=offline` is set, or where nobody is logged in: what is written
    below the run's folder is sent later by `wandb sync`.

    Args:
        settings: Of the training.
        folder: The run's folder.
        run_id: Of this training alone: another one in a folder of the same name is another run.
        resume: Go on with the run of that id.
        say: Told where the figures go.

    Raises:
        InputError: The package is missing, or it cannot begin.
    """

    def __init__(
        self,
        settings: ClassificationSettings,
        folder: Path,
        run_id: str,
        resume: bool,
        say: Callable[[str], None],
    ) -> None:
        try:
            import wandb
        except ImportError as error:
            raise InputError(
                "--wandb True: the package wandb is not installed; pip install -r requirements.txt"
            ) from error
        mode = os.environ.get("WANDB_MODE") or ("online" if _logged_in() else "offline")
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                name=settings.name,
                id=run_id,
                dir=str(folder),
                config=settings.model_dump(mode="json"),
                mode=mode,
                resume="allow" if resume else None,
                settings=wandb.Settings(silent=True),
            )
        except Exception as error:  # of many kinds: network, login, disk
            raise InputError(
                f"--wandb True: cannot begin ({first_line(error)}); set WANDB_MODE=offline, or "
                "give --wandb False"
            ) from error
        if mode == "offline":
            say(f"Weights & Biases: offline; send it later with `wandb sync {folder / 'wandb'}/*`.")

    def log(self, epoch: int, values: dict[str, float]) -> None:
        """Sends the figures of a finished epoch, once also where a resume sends them again."""
        self._run.log({**values, "epoch": epoch}, step=epoch)

    def finish(self) -> None:
        """Writes what is left."""
        self._run.finish()


def _logged_in() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path.home() / (".netrc" if os.name != "nt" else "_netrc")
    try:
        return "api.wandb.ai" in netrc.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
