"""The command line: `python -m classification` with its verbs."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inspection.cli.commands import command_line
from inspection.cli.console import counted, numbers_of, progress, reports_errors, say
from inspection.data.masks import MASK_FOLDERS
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
    settings = _settings(config, given)
    from classification.arguments import check_settings

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


Output = Annotated[Path, typer.Option(help="Folder of the results.")]
Method = Annotated[
    str,
    typer.Option(
        help="grad-cam, grad-cam++, hires-cam, xgrad-cam, layer-cam, score-cam, ablation-cam or "
        "eigen-cam."
    ),
]
Layer = Annotated[
    str | None, typer.Option(help="Layer to look at.", show_default="the last with a map")
]
Smooth = Annotated[str, typer.Option(help="none, augment, pca or both.")]
Threshold = Annotated[
    str, typer.Option(help="Map to objects: a share of its maximum, otsu, or quantile:0.95.")
]
Most = Annotated[int, typer.Option(min=0, help="Boxes a picture; 0 for all.")]
MinArea = Annotated[int, typer.Option(min=1, help="Smallest object in pixels of the picture.")]


@app.command()
@reports_errors
def show(
    data: Annotated[Path, typer.Argument(help="As in train.")],
    aug: Annotated[str, typer.Option(help="A recipe.")] = "basic",
    output: Annotated[Path, typer.Option(help="Picture to write.")] = Path("augmentation.png"),
    size: Annotated[int, typer.Option(min=32, help="Side the network sees.")] = 224,
    roi: Annotated[str | None, typer.Option(help="Region x1,y1,x2,y2 in pixels.")] = None,
    background: Annotated[bool, typer.Option("--background", help="As in train.")] = False,
    clahe: Annotated[float, typer.Option(help="As in train.")] = 0.0,
    flatten: Annotated[bool, typer.Option("--flatten", help="As in train.")] = False,
    seed: Annotated[int, typer.Option(help="Decides what is shown.")] = 0,
) -> None:
    """Shows as a picture what preparation and augmentation make of each class."""
    from classification.data.images import open_pictures
    from inspection.data.images import write_image

    given = {"aug": aug, "size": size, "roi": roi, "background": background}
    settings = _settings(None, {**given, "clahe": clahe, "flatten": flatten})
    pictures = open_pictures(data)
    from classification.training.augment import augmentation_sheet

    firsts = {item.kind: item for item in reversed(pictures.items)}
    views = [settings.preparation(pictures.path(firsts[name])).rgb for name in pictures.classes]
    write_image(output, augmentation_sheet(views, aug, seed=seed))
    say(f"{output}: {', '.join(pictures.classes)} from above; the picture itself on the left.")


@app.command()
@reports_errors
def evaluate(
    model: Model,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    data: Annotated[
        Path | None, typer.Option(help="Other pictures, all of which are measured.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of the results.", show_default="evaluation_SPLIT beside it"),
    ] = None,
    method: Method = "grad-cam",
) -> None:
    """Macro F1, each class, miss and overkill, calibration, worst cases; a page with all."""
    from classification.arguments import check_evaluation
    from classification.cam.methods import METHODS

    if method not in METHODS:
        raise InputError(f"--method {method}: must be one of {', '.join(METHODS)}")
    check_evaluation(model, split, data)
    from classification.evaluation.measure import evaluate as measure
    from classification.evaluation.measure import lines, write_evaluation
    from classification.evaluation.report import write_report
    from classification.models.classifier import model_file

    with progress("measuring") as on_progress:
        found = measure(model, split, data, say, on_progress)
    folder = output or model_file(model).parent / f"evaluation_{found.part}"
    write_evaluation(found, folder)
    page = write_report(found, folder, method)
    for line in lines(found):
        say(line)
    say(f"Page: {page}")


@app.command()
@reports_errors
def predict(
    model: Model,
    paths: Annotated[list[Path], typer.Argument(help="Pictures and folders.")],
    output: Output = Path("predictions"),
    restart: Annotated[bool, typer.Option("--restart", help="Do finished images again.")] = False,
) -> None:
    """Decides on new pictures: a CSV."""
    from collections import Counter

    from classification.arguments import check_prediction

    owner = check_prediction(model, paths, output, restart)
    from classification.models.classifier import Classifier
    from classification.prediction.files import NOT_DECIDED, TABLE, predict_files
    from inspection.prediction.folder import refuse_replaced

    loaded = Classifier.load(model)
    refuse_replaced(loaded.path, owner)
    with progress("deciding") as on_progress:
        found = predict_files(loaded, paths, output, on_progress, restart=restart, owner=owner)
    counts = Counter(one.label for one in found.predictions)
    names = [*loaded.classes, *([NOT_DECIDED] if counts[NOT_DECIDED] else [])]
    text = ", ".join(f"{counts[name]} {name}" for name in names)
    card = loaded.card
    say(f"Model: run {card.run or 'unknown'}, trained on {card.data or 'unknown images'}.")
    say(f"{output / TABLE}: {text}.")
    if found.skipped:
        say(f"{counted(found.skipped, 'image')} of these had been done before.")
    if found.problems:
        raise InputError(found.problems)


@app.command()
@reports_errors
def submit(
    model: Model,
    sample: Annotated[Path, typer.Option(help="The sample answer file.")],
    images: Annotated[
        Path | None, typer.Option(help="The pictures.", show_default="images/ beside the sample")
    ] = None,
    output: Annotated[Path, typer.Option(help="File to write.")] = Path("submission.csv"),
    answers: Annotated[
        str | None,
        typer.Option(
            help="What to write for each class, with commas.",
            show_default="names where the sample has them; of two classes 0, 1",
        ),
    ] = None,
) -> None:
    """Writes answers in exactly the sample's header, names, order and number of rows."""
    from classification.arguments import found_pictures
    from classification.prediction.submission import open_sample

    _, folder = open_sample(sample, images)
    found_pictures(model, folder)
    from classification.models.classifier import Classifier
    from classification.prediction.submission import submit as write

    words = [word.strip() for word in answers.split(",")] if answers else None
    with progress("deciding") as on_progress:
        loaded = Classifier.load(model)
        given, meaning = write(loaded, sample, images, output, words, on_progress, say)
    text = ", ".join(f"{count} x {word}" for word, count in sorted(given.items()))
    meant = ", ".join(f"{word} is {name}" for name, word in meaning.items())
    say(f"{output}: {sum(given.values())} rows, {text} ({meant}).")


@app.command()
@reports_errors
def cam(
    model: Model,
    folder: Annotated[Path, typer.Argument(help="Pictures: a folder, a CSV or one file.")],
    method: Method = "grad-cam",
    layer: Layer = None,
    smooth: Smooth = "none",
    target: Annotated[
        str, typer.Option(help="Class to explain: predicted, known (the folder's), or a name.")
    ] = "predicted",
    threshold: Threshold = "0.5",
    min_area: MinArea = 25,
    most: Most = 0,
    split: Annotated[
        str | None,
        typer.Option(
            help="Only this part of the run's split: train, val or test.", show_default="all"
        ),
    ] = None,
    road: Annotated[bool, typer.Option("--road", help="Measure ROAD too (slow).")] = False,
    randomise: Annotated[
        bool, typer.Option("--randomise", help="Compare with maps of shuffled weights.")
    ] = False,
    output: Output = Path("cams"),
) -> None:
    """Where the model looks: overlays, and figures where there are masks."""
    from classification.arguments import check_maps, found_pictures
    from classification.cam.boxes import BoxRule

    check_maps(method, smooth)
    pictures = found_pictures(model, folder)
    if split is not None:
        from classification.evaluation.measure import pictures_of_part

        pictures = pictures_of_part(model, split, pictures)
    from classification.cam.explain import ExplainRequest, explain_folder
    from classification.models.classifier import Classifier

    loaded = Classifier.load(model)
    rule = BoxRule(threshold, min_area, most)
    request = ExplainRequest(method, layer, smooth, target, rule, road, randomise)
    with progress("explaining") as bar:
        summary, problems = explain_folder(
            loaded, pictures, output, request, lambda what, done, total: bar(done, total, what)
        )
    say(
        f"{output}: {counted(summary['pictures'], 'picture')}, {summary['method']} at "
        f"{summary['layer']}."
    )
    if summary["empty_maps"]:
        say(
            f"{counted(summary['empty_maps'], 'map')} are empty: nothing in this layer speaks for "
            "the class. Another --layer, --method or a better model helps."
        )
    names = {
        "pointing": "pointing game",
        "energy": "energy inside the mask",
        "iou": "IoU with the mask",
        "road": "ROAD",
    }
    figures = [
        f"{text} {summary[key]:.3f}" for key, text in names.items() if summary[key] is not None
    ]
    if figures:
        say(f"On {counted(summary['with_masks'], 'picture')} with a mask: {', '.join(figures)}.")
    if randomise:
        alike = summary["alike_with_shuffled_weights"]
        say(
            "Maps of shuffled weights were not compared: no image could be read, or every map "
            "is the same everywhere."
            if math.isnan(alike)
            else f"Correlation with maps of shuffled weights (Spearman): {alike:.2f}; near 1 a map "
            "would not show what was learnt."
        )
    for iou in (0.3, 0.5):
        found = summary.get(f"boxes_at_iou_{iou}")
        if found:
            right = found["precision"]
            told = "no box found" if math.isnan(right) else f"precision {right:.3f}"
            say(f"Boxes at IoU {iou:g}: recall {found['recall']:.3f}, {told}.")
    if problems:
        raise InputError(problems)


@app.command()
@reports_errors
def boxes(
    model: Model,
    folder: Annotated[Path, typer.Argument(help="Pictures: a folder, a CSV or one file.")],
    method: Method = "grad-cam",
    layer: Layer = None,
    smooth: Smooth = "none",
    target: Annotated[
        str, typer.Option(help="known (the folder's class, else the predicted), or predicted.")
    ] = "known",
    threshold: Threshold = "0.5",
    min_area: MinArea = 25,
    most: Most = 0,
    output: Annotated[Path, typer.Option(help="Folder of the proposals.")] = Path("proposals"),
) -> None:
    """Proposes boxes by what the model looks at, for a person to correct in labelImg."""
    from classification.arguments import check_maps, found_pictures
    from classification.cam.boxes import CSV_NAME, BoxRule, check_folder, write_proposals

    check_maps(method, smooth)
    pictures = found_pictures(model, folder)
    check_folder(output, [one.image for one in pictures])  # better refused before the work
    from classification.cam.explain import ExplainRequest, propose
    from classification.models.classifier import Classifier

    loaded = Classifier.load(model)
    request = ExplainRequest(
        method, layer, smooth, target, BoxRule(threshold, min_area, most), False
    )
    with progress("proposing") as bar:
        found, problems = propose(
            loaded, pictures, request, lambda what, done, total: bar(done, total, what)
        )
    write_proposals(output, found)
    count = sum(len(one.boxes) for one in found)
    with_boxes = sum(bool(len(one.boxes)) for one in found)
    say(
        f"{output}: {count} boxes in {counted(with_boxes, 'picture')}, {CSV_NAME} lists all; "
        f"{len(found) - with_boxes} got none, as they are normal or their map is empty. Correct "
        f"them with: {shlex.join(['python', '-m', 'detection', 'label', str(folder)])} "
        f"--proposals {shlex.quote(str(output))}"
    )
    if any((folder / name).is_dir() for name in MASK_FOLDERS):
        say("Masks lie in that folder, and labelImg shows them too: label one class at a time.")
    if problems:
        raise InputError(problems)


@app.command()
@reports_errors
def dashboard(
    runs: Annotated[Path, typer.Argument(help="Folder of the runs.")] = Path("runs"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of the page.")] = 8501,
    address: Annotated[str, typer.Option(help="Who may open it.")] = "127.0.0.1",
    browser: Annotated[bool, typer.Option(help="Open it in the browser.")] = True,
) -> None:
    """Opens the CAM dashboard: the same as `streamlit run classification/cam_dashboard.py`."""
    from inspection.cli.pages import serve

    serve(Path(__file__).with_name("cam_dashboard.py"), [str(runs)], port, address, browser)


def _settings(config: Path | None, given: dict[str, Any]) -> ClassificationSettings:
    from classification.settings import ClassificationSettings
    from inspection.settings import read_settings

    for name, count in (("roi", 4), ("fractions", 3)):
        if given.get(name) is not None:
            given[name] = numbers_of(name, given[name], count)
    return read_settings(ClassificationSettings, config, given)
