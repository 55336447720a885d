"""Training a classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from classification.cli.shared import (
    read,
)
from inspection.cli.commands import command_line
from inspection.cli.console import (
    counted,
    reports_errors,
    say,
)
from inspection.errors import InputError

_SAMPLE = Path("images_by_class")


@reports_errors
def train(
    data: Annotated[
        Path | None,
        typer.Option(
            help="A folder for each class, train/normal_images and so on, or a CSV image,label.",
            show_default="images_by_class; where missing, a drawn sample",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="resnet18, resnet18-small, resnet50, mobilenetv2, mobilenetv3, efficientnet, "
            "convnext or swin.",
            show_default="resnet50",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the run.", show_default="date and model")
    ] = None,
    aug: Annotated[
        str | None,
        typer.Option(
            help="none, basic, flip, noise, clahe, heavy or rotate4.", show_default="basic"
        ),
    ] = None,
    wandb: Annotated[
        str | None,
        typer.Option(help="True logs to Weights & Biases.", show_default="False"),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="auto, imagenet, none, a .h5 or a snapshot.", show_default="auto"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs.", show_default="30")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Pictures per step.", show_default="8")
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(help="Learning rate.", show_default="1e-4; from scratch 1e-3"),
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Side the network sees.", show_default="224")
    ] = None,
    fit: Annotated[
        str | None, typer.Option(help="stretch or letterbox.", show_default="stretch")
    ] = None,
    bits: Annotated[
        int | None, typer.Option(help="Bits that a 16-bit camera fills.", show_default="16")
    ] = None,
    roi: Annotated[str | None, typer.Option(help="Region x1,y1,x2,y2 in pixels.")] = None,
    background: Annotated[
        bool | None, typer.Option("--background", help="Grey out all but the largest object.")
    ] = None,
    clahe: Annotated[float | None, typer.Option(help="Clip limit of CLAHE, about 2.")] = None,
    flatten: Annotated[
        bool | None, typer.Option("--flatten", help="Take out uneven light.")
    ] = None,
    sampling: Annotated[
        str | None, typer.Option(help="plain, balanced or class-aware.", show_default="plain")
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            help="cross-entropy, weighted, focal or logit-adjusted.", show_default="cross-entropy"
        ),
    ] = None,
    paste: Annotated[
        float | None,
        typer.Option(help="Chance that a normal picture gets a masked defect.", show_default="0"),
    ] = None,
    mix: Annotated[
        str | None, typer.Option(help="none, mixup or cutmix.", show_default="none")
    ] = None,
    normal: Annotated[
        str | None,
        typer.Option(help="The class of good parts.", show_default="normal, good or ok"),
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option(
            help="Threshold on the val part: macro-f1, or a rule of the guide.",
            show_default="macro-f1",
        ),
    ] = None,
    target_miss: Annotated[
        float | None, typer.Option(help="Highest miss rate.", show_default="0.005")
    ] = None,
    target_overkill: Annotated[
        float | None, typer.Option(help="Highest overkill rate.", show_default="0.02")
    ] = None,
    prevalence: Annotated[
        float | None,
        typer.Option(
            help="Share of defects in use, for macro-f1 and least-cost.",
            show_default="that of the val part; least-cost .01",
        ),
    ] = None,
    fractions: Annotated[
        str | None, typer.Option(help="Train, val, test.", show_default="0.7,0.15,0.15")
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option(help="Regex with one group, or CSV image,group: pictures of one part."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Decides everything random.", show_default="0")
    ] = None,
    keep: Annotated[
        int | None, typer.Option(help="Newest epoch snapshots to keep.", show_default="all")
    ] = None,
    runs: Annotated[
        Path | None, typer.Option(help="Folder of the runs.", show_default="runs")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run.")] = False,
    config: Annotated[Path | None, typer.Option(help="YAML of settings; flags win.")] = None,
) -> None:
    """Trains a classifier; every epoch leaves a snapshot, the best one is best.keras."""
    given = {k: v for k, v in locals().items() if k not in ("resume", "config")}
    given["wandb"] = _truth(wandb)
    settings = read(config, given)
    from classification.cli.arguments import check_settings

    if resume:
        check_settings(settings, resume)
        from classification.training.setup import resume_settings

        settings = resume_settings(settings, {k: v for k, v in given.items() if v is not None})
    elif settings.data == _SAMPLE and not _SAMPLE.exists():
        from classification.data.sample import write_sample

        count = write_sample(_SAMPLE)
        say(
            f"There is no --data and no {_SAMPLE}/ here: drew {counted(count, 'sample picture')} "
            f"into {_SAMPLE}/. For your own, delete it and make a folder there for each class."
        )
    if not resume:
        check_settings(settings, resume)
    from classification.training.loop import train as start

    folder = start(settings, resume, say)
    say(f"Run: {folder}. Measure it with: {command_line('classification', 'evaluate', folder)}")


def _truth(text: str | None) -> bool | None:
    if text is None:
        return None
    if text.casefold() in ("true", "1", "yes", "on"):
        return True
    if text.casefold() in ("false", "0", "no", "off"):
        return False
    raise InputError(f"--wandb {text}: must be True or False")
