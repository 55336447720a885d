"""The command line: `python -m classification` with its verbs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inspection.console import counted, reports_errors, say
from inspection.errors import InputError

if TYPE_CHECKING:
    from classification.settings import ClassificationSettings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From a class per picture to a classifier that can be seen through.",
)

Model = Annotated[Path, typer.Argument(help="A .keras file, or a run's folder.")]
_SAMPLE = Path("images_by_class")


def _truth(text: str | None) -> bool | None:
    if text is None:
        return None
    if text.casefold() in ("true", "1", "yes", "on"):
        return True
    if text.casefold() in ("false", "0", "no", "off"):
        return False
    raise InputError(f"--wandb {text}: must be True or False")


@app.command()
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
        int | None, typer.Option(help="Pictures per step.", show_default="16")
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
            help="Threshold on calibration: macro-f1, or a rule of the guide.",
            show_default="macro-f1",
        ),
    ] = None,
    target_miss: Annotated[
        float | None, typer.Option(help="Highest miss rate.", show_default="0.005")
    ] = None,
    target_overkill: Annotated[
        float | None, typer.Option(help="Highest overkill rate.", show_default="0.02")
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
    from classification.training import resume_settings
    from classification.training import train as start

    settings = _settings(config, given)
    if resume:
        settings = resume_settings(settings, {k: v for k, v in given.items() if v is not None})
    elif settings.data == _SAMPLE and not _SAMPLE.exists():
        from classification.sample import write_sample

        count = write_sample(_SAMPLE)
        say(
            f"There is no --data and no {_SAMPLE}/ here: drew {counted(count, 'sample picture')} "
            f"into {_SAMPLE}/. For your own, delete it and make a folder there for each class."
        )
    folder = start(settings, resume, say)
    say(f"Run: {folder}. Measure it with: python -m classification evaluate {folder}")


def _settings(config: Path | None, given: dict[str, Any]) -> ClassificationSettings:
    from classification.settings import ClassificationSettings
    from inspection.settings import read_settings

    for name, count in (("roi", 4), ("fractions", 3)):
        if given.get(name) is not None:
            given[name] = _numbers(name, given[name], count)
    return read_settings(ClassificationSettings, config, given)


def _numbers(name: str, text: str, count: int) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count:
        raise InputError(f"--{name} {text}: give {count} numbers with commas between them")
    return values
