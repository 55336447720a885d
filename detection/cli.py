"""The command line: thin verbs over the functions of this package."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from inspection.errors import InputError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From labelImg boxes to a RetinaNet and the numbers it can be trusted by.",
)
console = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)

Annotations = Annotated[Path, typer.Option(help="Folder of labelImg XML files.")]
Images = Annotated[Path, typer.Option(help="Folder of the images.")]
OneBased = Annotated[bool, typer.Option("--one-based", help="XML is from a VOC devkit: minima 1.")]
GroupBy = Annotated[
    str | None,
    typer.Option(
        help="Regex with one group, or CSV image,group: keeps exposures of a part together."
    ),
]
Config = Annotated[Path | None, typer.Option(help="YAML file of settings; flags win over it.")]


def reports_errors(command: Callable[..., Any]) -> Callable[..., None]:
    """Turns InputError into one line per problem and exit status 2, Ctrl-C into 130."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except InputError as error:
            for problem in error.problems:
                stderr.print(f"Error: {problem}", markup=False, soft_wrap=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None

    return wrapper


@contextmanager
def progress(text: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with ETA on a terminal; a callback (done, total) feeds it."""
    with Progress(
        TextColumn(text),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=stderr,
        disable=not stderr.is_terminal,
    ) as bar:
        task = bar.add_task(text, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def say(text: str) -> None:
    """Prints one line as it is."""
    console.print(text, markup=False, soft_wrap=True)


@app.command()
@reports_errors
def label(
    images: Annotated[Path, typer.Argument(help="Folder of the images to label.")] = Path(
        "images_900"
    ),
    annotations: Annotations = Path("annotations"),
    classes: Annotated[str | None, typer.Option(help="Class names, separated by commas.")] = None,
) -> None:
    """Opens labelImg in Pascal-VOC mode, mended for today's Python."""
    from detection.labelling import label as start

    names = [name.strip() for name in classes.split(",") if name.strip()] if classes else None
    status = start(images, annotations, names)
    if status:
        raise typer.Exit(status)


@app.command()
@reports_errors
def resize(
    source: Annotated[Path, typer.Argument(help="An image or a folder of images of any size.")],
    images: Images = Path("images_900"),
    annotations: Annotations = Path("annotations"),
    size: Annotated[int, typer.Option(min=64, help="Side of the square result.")] = 900,
    fit: Annotated[
        str, typer.Option(help="letterbox keeps the shape and pads; stretch fills.")
    ] = "letterbox",
    bits: Annotated[int, typer.Option(min=8, max=16, help="Bits that a 16-bit camera fills.")] = 16,
    source_annotations: Annotated[
        Path | None, typer.Option(help="Folder of the sources' XML; beside the images by default.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files this verb did not write.")
    ] = False,
    one_based: OneBased = False,
) -> None:
    """Brings pictures of any size and depth to 900 x 900, and their boxes with them."""
    from detection.resize import resize as bring

    if fit not in ("letterbox", "stretch"):
        raise InputError(f"--fit {fit}: must be letterbox or stretch.")
    with progress("resizing") as on_progress:
        result = bring(
            source,
            images,
            annotations,
            size,
            fit,
            bits,
            force,
            source_annotations,
            one_based,
            on_progress,
        )
    say(
        f"{result.written} images written to {images}, {result.unchanged} were up to date; "
        f"{result.annotations} XML files carried along, {result.kept} of yours left as they are."
    )
    if result.problems:
        raise InputError(result.problems)


@app.command()
@reports_errors
def convert(
    annotations: Annotations = Path("annotations"),
    images: Images = Path("images_900"),
    output: Annotated[
        Path | None, typer.Option(help="CSV to write; annotations/annotations.csv by default.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(help="Read this CSV (ours or keras-retinanet's) instead of XML.")
    ] = None,
    classes: Annotated[Path | None, typer.Option(help="keras-retinanet's class file.")] = None,
    xml: Annotated[Path | None, typer.Option(help="Write labelImg XML into this folder.")] = None,
    unlabelled: Annotated[str, typer.Option(help="Images without XML: skip, or normal.")] = "skip",
    one_based: OneBased = False,
) -> None:
    """Turns labelImg XML into a CSV with one row per box, or a CSV into XML."""
    from detection.table import CSV_NAME, read_annotations, read_table, to_voc, write_table

    if unlabelled not in ("skip", "normal"):
        raise InputError(f"--unlabelled {unlabelled}: must be skip or normal.")
    notes: list[str] = []
    if csv is not None:
        labels = read_table(csv, classes, images_dir=images, warnings=notes)
    else:
        labels = read_annotations(annotations, images, one_based, unlabelled, notes)
    for note in notes:
        say(note)
    boxes = sum(len(item.xyxy) for item in labels)
    if xml is not None:
        to_voc(labels, images, xml)
        say(f"{len(labels)} XML files with {boxes} boxes written to {xml}.")
    if xml is None or output is not None:
        path = output or annotations / CSV_NAME
        write_table(path, labels)
        say(f"{boxes} boxes in {len(labels)} images written to {path}.")


@app.command()
@reports_errors
def check(
    annotations: Annotations = Path("annotations"),
    images: Images = Path("images_900"),
    classes: Annotated[
        str | None, typer.Option(help="Allowed class names, separated by commas.")
    ] = None,
    one_based: OneBased = False,
) -> None:
    """Lists everything that is wrong with labels and images; exits 2 if anything is."""
    from detection.check import check as look

    names = [name.strip() for name in classes.split(",")] if classes else None
    problems = look(annotations, images, names, one_based)
    table = Table(title=f"{len(problems)} findings")
    for name in ("kind", "file", "where", "what, and the mend"):
        table.add_column(name, overflow="fold")
    for item in sorted(problems, key=lambda problem: problem.repaired):
        kind = f"{item.kind} (repaired)" if item.repaired else item.kind
        table.add_row(kind, Path(item.file).name, item.where, item.message)
    errors = sum(not item.repaired for item in problems)
    if problems:
        console.print(table)
    say(f"{errors} problems, {len(problems) - errors} repaired by themselves.")
    if errors:
        raise typer.Exit(2)


@app.command()
@reports_errors
def split(
    annotations: Annotations = Path("annotations"),
    images: Images = Path("images_900"),
    snapshots: Annotated[Path, typer.Option(help="Where runs are kept.")] = Path("snapshots"),
    fractions: Annotated[
        str, typer.Option(help="Shares of train, val and test.")
    ] = "0.7,0.15,0.15",
    group_by: GroupBy = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    unlabelled: Annotated[str, typer.Option(help="Images without XML: skip, or normal.")] = "skip",
    one_based: OneBased = False,
) -> None:
    """Makes the stored split, or lets new images join it; no image ever changes side."""
    from detection.dataset import boxes_per_class, open_dataset
    from inspection.split import PARTS, leakage

    dataset = open_dataset(
        annotations,
        images,
        snapshots,
        fractions=_three(fractions),
        seed=seed,
        group_by=group_by,
        one_based=one_based,
        unlabelled=unlabelled,
        say=say,
    )
    table = Table("part", "images", "normal", *(f"{name} boxes" for name in dataset.classes))
    for part in PARTS:
        labels = dataset.part(part)
        counts = boxes_per_class(labels)
        normal = sum(not len(item.xyxy) for item in labels)
        table.add_row(
            part, str(len(labels)), str(normal), *(str(counts[name]) for name in dataset.classes)
        )
    console.print(table)
    say(f"Stored in {dataset.split_path}, hash {dataset.split.hash[:12]}.")
    findings = leakage(dataset.split, images)
    if findings:
        raise InputError(findings)


@app.command()
@reports_errors
def anchors(
    annotations: Annotations = Path("annotations"),
    images: Images = Path("images_900"),
    size: Annotated[int, typer.Option(min=64, help="Side that images are fitted to.")] = 900,
    fit: Annotated[str, typer.Option(help="letterbox or stretch.")] = "letterbox",
    unlabelled: Annotated[str, typer.Option(help="Images without XML: skip, or normal.")] = "skip",
) -> None:
    """How many boxes the paper's anchors and the fitted ones can reach at best."""
    from detection.anchors import AnchorSettings, best_ious, best_possible_recall, fit_anchors
    from detection.dataset import fitted_boxes, read_labels

    labels = read_labels(annotations, images, unlabelled=unlabelled, say=say)
    boxes = fitted_boxes(labels, images, size, fit)
    table = Table("anchors", "sizes", "ratios", "recall at IoU .4", ".5", ".7", "mean best IoU")
    for name, item in (("paper", AnchorSettings()), ("fitted", fit_anchors(boxes, size, size))):
        ious = best_ious(item, boxes, size, size)
        table.add_row(
            name,
            ", ".join(f"{value:g}" for value in item.sizes),
            ", ".join(f"{value:g}" for value in item.ratios),
            *(f"{best_possible_recall(ious, at):.3f}" for at in (0.4, 0.5, 0.7)),
            f"{ious.mean():.3f}" if len(ious) else "-",
        )
    console.print(table)
    say(f"{len(boxes)} boxes in {len(labels)} images, fitted to {size} x {size}.")


@app.command()
@reports_errors
def show(
    annotations: Annotations = Path("annotations"),
    images: Images = Path("images_900"),
    output: Annotated[Path, typer.Option(help="HTML page to write.")] = Path("snapshots/show.html"),
    size: Annotated[int, typer.Option(min=64)] = 900,
    crop: Annotated[int | None, typer.Option(min=64, help="Side of training windows.")] = None,
    augment: Annotated[str, typer.Option(help="none, basic or heavy.")] = "basic",
    limit: Annotated[int, typer.Option(min=1, help="Pictures of each kind.")] = 12,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Draws annotations, anchors and augmented samples into one HTML page."""
    from detection.anchors import fit_anchors
    from detection.dataset import fitted_boxes, read_labels
    from detection.settings import load_settings
    from detection.show import show as draw
    from detection.table import classes_of

    labels = read_labels(annotations, images, say=say)
    given = {"size": size, "crop": crop, "augment": augment, "seed": seed}
    settings = load_settings(None, given | {"annotations": annotations, "images": images})
    fitted = fit_anchors(fitted_boxes(labels, images, size, settings.fit), size, size)
    page = draw(labels, images, settings, classes_of(labels), fitted, output, limit, seed)
    say(f"Written: {page}")


@reports_errors
def train(
    backbone: Annotated[str | None, typer.Option(help="resnet18, 34, 50, 101 or 152.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pictures per step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    size: Annotated[int | None, typer.Option(help="Side that images are fitted to.")] = None,
    crop: Annotated[int | None, typer.Option(help="Train on windows of this side.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="auto, imagenet, none, or a path (.h5 or .keras).")
    ] = None,
    freeze: Annotated[
        bool | None, typer.Option("--freeze", help="Keep the backbone fixed.")
    ] = None,
    anchors: Annotated[
        str | None, typer.Option(help="auto fits them to the labels; default.")
    ] = None,
    augment: Annotated[str | None, typer.Option(help="none, basic or heavy.")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides everything random.")] = None,
    run: Annotated[str | None, typer.Option(help="Name of the run's folder.")] = None,
    annotations: Annotated[Path | None, typer.Option(help="Folder of labelImg XML.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the images.")] = None,
    snapshots: Annotated[Path | None, typer.Option(help="Folder of the runs.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run.")] = False,
    config: Config = None,
    steps: Annotated[int | None, typer.Option(help="Steps per epoch; all pictures once.")] = None,
    channels: Annotated[int | None, typer.Option(help="Width of pyramid and heads.")] = None,
    norm: Annotated[str | None, typer.Option(help="auto, batch, frozen or group.")] = None,
    fit: Annotated[str | None, typer.Option(help="letterbox or stretch.")] = None,
    bits: Annotated[int | None, typer.Option(help="Bits that a 16-bit camera fills.")] = None,
    precision: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")] = None,
    jit: Annotated[bool | None, typer.Option("--jit", help="Compile with XLA.")] = None,
    keep: Annotated[int | None, typer.Option(help="Epoch snapshots that stay; all.")] = None,
    fractions: Annotated[str | None, typer.Option(help="Shares of a new split.")] = None,
    group_by: GroupBy = None,
    unlabelled: Annotated[
        str | None, typer.Option(help="Images without XML: skip, normal.")
    ] = None,
    one_based: Annotated[bool | None, typer.Option("--one-based", help="VOC-devkit XML.")] = None,
) -> None:
    """Trains a RetinaNet; every epoch leaves a snapshot and its mAP on the validation part."""
    given = {
        key: value
        for key, value in locals().items()
        if key not in ("resume", "config", "fractions")
    }
    from detection.settings import load_settings

    if fractions is not None:
        given["fractions"] = _three(fractions)
    settings = load_settings(config, given)
    from detection.training import train as start
    from detection.training_setup import resume_settings

    if resume:
        settings = resume_settings(settings, given)
    best = start(settings, resume)
    say(f"Best snapshot: {best}, also {settings.snapshots / 'best.keras'}. Measure it with:")
    say(f"  python evaluate_map.py {settings.snapshots / 'best.keras'}")


@reports_errors
def evaluate(
    snapshot: Annotated[Path, typer.Argument(help="A .keras file.")] = Path("snapshots/best.keras"),
    split: Annotated[
        str | None, typer.Option(help="train, val, test or all; test, or all for other folders.")
    ] = None,
    annotations: Annotated[Path | None, typer.Option(help="The training's by default.")] = None,
    images: Annotated[Path | None, typer.Option(help="The training's by default.")] = None,
    iou: Annotated[float, typer.Option(min=0.01, max=1.0, help="IoU that a hit needs.")] = 0.5,
    csv: Annotated[
        Path | None, typer.Option(help="Labels from this CSV (ours or keras-retinanet's).")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures per forward pass.")] = 1,
    output: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
    one_based: OneBased = False,
) -> None:
    """Prints AP per class, mAP, miss and overkill rates; writes a report beside the snapshot."""
    from detection.evaluate_snapshot import EvaluationRequest, evaluate_snapshot
    from detection.evaluation import print_evaluation

    request = EvaluationRequest(
        snapshot, split, annotations, images, csv, iou, batch_size, output, one_based
    )
    with progress("evaluating") as on_progress:
        evaluation, report = evaluate_snapshot(request, say, on_progress)
    print_evaluation(evaluation, console)
    say(f"Report: {report}")


app.command("train")(train)
app.command("evaluate")(evaluate)


@app.command()
@reports_errors
def predict(
    paths: Annotated[list[Path], typer.Argument(help="Image files or folders.")],
    model: Annotated[Path, typer.Option(help="A .keras snapshot or an exported model.")] = Path(
        "snapshots/best.keras"
    ),
    output: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("predictions"),
    threshold: Annotated[
        float | None, typer.Option(help="Lower scores are not written; the operating point's.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 1,
    restart: Annotated[bool, typer.Option("--restart", help="Do finished images again.")] = False,
) -> None:
    """Boxes on raw camera files: CSV, JSON lines, VOC XML and overlay pictures."""
    from detection.export import load_any
    from detection.predict_files import predict_files
    from inspection.runs import file_hash

    detector = load_any(model)
    with progress("predicting") as on_progress:
        result = predict_files(
            detector,
            paths,
            output,
            threshold=threshold,
            batch_size=batch_size,
            resume=not restart,
            on_progress=on_progress,
            model_hash=file_hash(model),
        )
    say(f"{result.done} images done, {result.skipped} were done before; results in {output}.")
    if result.problems:
        raise InputError(result.problems)


@app.command()
@reports_errors
def export(
    snapshot: Annotated[Path, typer.Argument(help="A .keras file.")] = Path("snapshots/best.keras"),
    output: Annotated[Path | None, typer.Option(help="File to write; beside the snapshot.")] = None,
    format: Annotated[str, typer.Option(help="openvino or onnx.")] = "openvino",
    int8: Annotated[bool, typer.Option("--int8", help="Quantise, calibrated on val.")] = False,
) -> None:
    """Writes a model with decoding and NMS inside, after proving that it gives the same boxes."""
    from detection.export import export_snapshot

    report = export_snapshot(snapshot, output, format, int8, say)
    say(f"Exported: {report.path}")


def _three(text: str) -> tuple[float, float, float]:
    try:
        values = tuple(float(part) for part in text.replace("/", ",").split(","))
    except ValueError:
        values = ()
    if len(values) != 3:
        raise InputError(f"--fractions {text}: give three shares like 0.7,0.15,0.15.")
    return values
