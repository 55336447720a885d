"""The command line: `python -m anomaly` with its verbs."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inspection.cli.console import console, counted, numbers_of, progress, reports_errors, say
from inspection.errors import InputError

if TYPE_CHECKING:
    from anomaly.settings import AnomalySettings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From normal pictures to a score, a heat map and a decision.",
)


Data = Annotated[Path, typer.Argument(help="Folder with normal/, MVTec layout, or a CSV.")]
Run = Annotated[Path, typer.Argument(help="A run's folder.")]
Runs = Annotated[Path | None, typer.Option(help="Folder of the runs.", show_default="runs")]
Config = Annotated[Path | None, typer.Option(help="YAML of settings; flags win.")]
Backbone = Annotated[
    str | None,
    typer.Option(help="resnet18 to resnet152, efficientnet-b5.", show_default="resnet18"),
]
Weights = Annotated[
    str | None,
    typer.Option(
        help="auto, imagenet, self (trained on your normal pictures), none, or a .h5.",
        show_default="auto",
    ),
]
PretrainSteps = Annotated[
    int | None, typer.Option(help="Steps of --weights self.", show_default="3000")
]
Size = Annotated[
    int | None, typer.Option(help="Side the network sees, a multiple of 32.", show_default="256")
]
Fit = Annotated[str | None, typer.Option(help="letterbox or stretch.", show_default="stretch")]
Bits = Annotated[
    int | None, typer.Option(help="Bits that a 16-bit camera fills.", show_default="16")
]
Roi = Annotated[str | None, typer.Option(help="Region x1,y1,x2,y2 in pixels.")]
RoiMask = Annotated[
    Path | None, typer.Option(help="White where to inspect; all pictures must have its size.")
]
Tile = Annotated[int | None, typer.Option(help="Side of overlapping tiles in pixels, 32 or more.")]
Fractions = Annotated[
    str | None,
    typer.Option(help="Train, calibration, test.", show_default="0.6,0.15,0.25"),
]
GroupBy = Annotated[
    str | None,
    typer.Option(help="Regex with one group, or CSV image,group: pictures of one part."),
]
Seed = Annotated[int | None, typer.Option(help="Decides everything random.", show_default="0")]
Rule = Annotated[
    str | None,
    typer.Option(
        help="least-overkill, least-miss, least-cost, normal-quantile or review-band.",
        show_default="least-overkill; without defects normal-quantile",
    ),
]
TargetMiss = Annotated[float | None, typer.Option(help="Highest miss rate.", show_default="0.005")]
TargetOverkill = Annotated[
    float | None, typer.Option(help="Highest overkill rate.", show_default="0.02")
]


@app.command()
@reports_errors
def train(
    data: Data,
    method: Annotated[
        str | None,
        typer.Option(
            help="patchcore, cs-flow, cfa, padim, fastflow, cflow, self-supervised, vae, "
            "vae-denoising, ocr-gan, oc-svm or isolation-forest; the guide says what each is.",
            show_default="patchcore",
        ),
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="Name of the run.", show_default="date and method")
    ] = None,
    runs: Runs = None,
    backbone: Backbone = None,
    weights: Weights = None,
    pretrain_steps: PretrainSteps = None,
    size: Size = None,
    fit: Fit = None,
    bits: Bits = None,
    roi: Roi = None,
    roi_mask: RoiMask = None,
    tile: Tile = None,
    rotations: Annotated[
        bool | None, typer.Option("--rotations", help="Learn normals turned by 90, 180, 270 too.")
    ] = None,
    noise: Annotated[
        float | None, typer.Option(help="Grey levels of noise on changed copies.")
    ] = None,
    crops: Annotated[int | None, typer.Option(help="Random cuts of each normal.")] = None,
    grid: Annotated[int | None, typer.Option(help="Regular cuts, so many a side.")] = None,
    generated: Annotated[
        Path | None, typer.Option(help="Folder of generated normals to learn too.")
    ] = None,
    generated_share: Annotated[
        float | None, typer.Option(help="Their highest share.", show_default="0.5")
    ] = None,
    fractions: Fractions = None,
    group_by: GroupBy = None,
    seed: Seed = None,
    aggregation: Annotated[
        str | None,
        typer.Option(
            help="Map to score: max, top-0.5%, top-2%, top-10%, std, mean or area.",
            show_default="chosen on calibration",
        ),
    ] = None,
    rule: Rule = None,
    target_miss: TargetMiss = None,
    target_overkill: TargetOverkill = None,
    config: Config = None,
) -> None:
    """Learns normal pictures; chooses the threshold on the calibration part."""
    settings = _settings(config, locals(), "config")
    from anomaly.arguments import check_settings

    check_settings(settings)
    from anomaly.training.loop import train as start

    with _stages() as on_progress:
        folder = start(settings, say, on_progress)
    say(f"Run: {folder}. Measure it with: python -m anomaly evaluate {folder}")


@app.command()
@reports_errors
def evaluate(
    run: Run,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    data: Annotated[
        Path | None, typer.Option(help="Other pictures, all of which are measured.")
    ] = None,
) -> None:
    """Miss, overkill, AUROC, AUPRO, size and speed at the model's own threshold."""
    from anomaly.arguments import check_evaluation

    check_evaluation(run, split, data)
    from anomaly.evaluation.measure import evaluate as measure
    from anomaly.evaluation.measure import lines
    from anomaly.evaluation.report import write_report

    with _stages() as on_progress:
        found = measure(run, split, data, say, on_progress)
    for line in lines(found):
        say(line)
    say(f"Page with the worst cases: {write_report(found, run, data)}")


@app.command()
@reports_errors
def predict(
    run: Annotated[Path, typer.Argument(help="A run's folder, or one that export wrote.")],
    paths: Annotated[list[Path], typer.Argument(help="Pictures and folders.")],
    output: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("predictions"),
    heat_maps: Annotated[bool, typer.Option(help="Write pictures with heat maps.")] = True,
    restart: Annotated[bool, typer.Option("--restart", help="Do finished images again.")] = False,
) -> None:
    """Decides on new pictures: a CSV and heat maps."""
    from anomaly.arguments import check_prediction, exported_graph

    owner = check_prediction(run, paths, output, restart)
    import anomaly
    from anomaly.prediction.files import NOT_DECIDED, predict_files
    from anomaly.run import MODEL, run_settings
    from inspection.prediction.folder import refuse_replaced

    if graph := exported_graph(run):
        model, what = anomaly.load(run), f"exported as {graph.name}"
    else:
        settings = run_settings(run)
        model, what = anomaly.load(run / MODEL), f"{settings.method} trained on {settings.data}"
    refuse_replaced(graph or run / MODEL, owner)
    with _stages() as on_progress:
        found = predict_files(
            model,
            paths,
            output,
            heat_maps=heat_maps,
            restart=restart,
            owner=owner,
            on_progress=on_progress,
        )
    names = ("OK", "review", "NG", NOT_DECIDED)
    say(f"Model: {run}, {what}.")
    say(f"{found.table}: {', '.join(f'{found.decisions[name]} {name}' for name in names)}.")
    if found.skipped:
        say(f"{counted(found.skipped, 'image')} of these had been done before.")
    if found.problems:
        raise InputError(found.problems)


@app.command()
@reports_errors
def compare(
    data: Annotated[list[Path], typer.Argument(help="One or many data roots (products).")],
    methods: Annotated[str, typer.Option(help="Names with commas, or all.")] = "all",
    profile: Annotated[str, typer.Option(help="cpu or paper: options of each method.")] = "cpu",
    name: Annotated[str, typer.Option(help="Folder of the comparison.")] = "compare",
    runs: Runs = None,
    backbone: Backbone = None,
    weights: Weights = None,
    pretrain_steps: PretrainSteps = None,
    size: Size = None,
    fit: Fit = None,
    bits: Bits = None,
    roi: Roi = None,
    roi_mask: RoiMask = None,
    tile: Tile = None,
    fractions: Fractions = None,
    group_by: GroupBy = None,
    seed: Seed = None,
    rule: Rule = None,
    target_miss: TargetMiss = None,
    target_overkill: TargetOverkill = None,
    target_mb: Annotated[float | None, typer.Option(help="Largest model, 10^6 bytes.")] = None,
    target_ms: Annotated[float | None, typer.Option(help="Longest p95, file to decision.")] = None,
    config: Config = None,
) -> None:
    """Trains and measures several methods on one or many products; a table and a page."""
    import shlex
    import sys

    from anomaly.arguments import check_comparison
    from anomaly.methods.names import METHODS

    given = {key: value for key, value in locals().items() if key in _SHARED}
    settings = _settings(config, {**given, "data": data[0]})
    chosen = METHODS if methods == "all" else [part.strip() for part in methods.split(",")]
    check_comparison(settings, data, chosen, profile)
    from anomaly.comparison.compare import TABLE, Targets, write_table
    from anomaly.comparison.compare import compare as run_all
    from anomaly.comparison.report import console_table, write_report

    with _stages() as on_progress:
        rows = run_all(data, chosen, settings, profile, name, say=say, on_progress=on_progress)
    targets = Targets(settings.target_miss, settings.target_overkill, target_mb, target_ms)
    folder = settings.runs / name
    write_table(rows, targets, folder / TABLE)
    command = f"python -m anomaly {shlex.join(sys.argv[1:])}"
    write_report(rows, targets, folder / "compare.html", command)
    console.print(console_table(rows, targets))
    say(f"Table: {folder / TABLE}. Page with curves and pictures: {folder / 'compare.html'}.")
    if any(row.problems for row in rows):
        raise InputError(
            [f"{row.product}, {row.method}: {p}" for row in rows for p in row.problems]
        )


@app.command()
@reports_errors
def simulate(
    run: Run,
    watch: Annotated[
        Path | None, typer.Option(help="Look at new pictures of this folder instead.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of the page.")] = 8501,
    address: Annotated[
        str, typer.Option(help="Who may open it; 0.0.0.0 lets the whole network, and save.")
    ] = "127.0.0.1",
    browser: Annotated[bool, typer.Option(help="Open it in the browser.")] = True,
) -> None:
    """Opens a page with a movable threshold that plays the test part like a line."""
    from anomaly.run import check_run
    from inspection.cli.pages import serve

    check_run(run)
    if watch is not None and not watch.is_dir():
        raise InputError(f"--watch {watch}: there is no such folder; make it, or correct the path")
    if not (run / "test.csv").is_file():
        say("The run has not been measured: that comes first.")
        evaluate(run)
    page = Path(__file__).parent / "simulator" / "page.py"
    serve(page, [str(run), *([str(watch)] if watch else [])], port, address, browser)


@app.command()
@reports_errors
def export(
    run: Run,
    format: Annotated[str, typer.Option(help="openvino or onnx.")] = "openvino",
    output: Annotated[
        Path | None,
        typer.Option(help="New folder.", show_default="exported_FORMAT in the run's folder"),
    ] = None,
) -> None:
    """Writes a model for OpenVINO or ONNX; refuses where it scores or decides otherwise."""
    from anomaly.arguments import check_export

    folder = output or run / f"exported_{format}"
    data = check_export(run, format, folder)
    from anomaly.evaluation.measure import open_run
    from anomaly.export.write import export as write

    model, _ = open_run(run)
    pictures = [data.pictures.path(item) for item in data.part("test")]
    with _stages() as on_progress:
        parity = write(model, folder, format, pictures, on_progress)
    say(
        f"{folder}: {parity.mb:.1f} MB. On {counted(parity.pictures, 'test picture')} every "
        f"decision is the same, scores within {parity.score:.1e} (relative)."
    )


@app.command()
@reports_errors
def generate(
    data: Data,
    output: Annotated[Path, typer.Option(help="New folder.")],
    count: Annotated[int, typer.Option(min=1, help="Pictures to write.")] = 200,
    side: Annotated[int, typer.Option(help="Of the pictures: 16, 32, 64, 128 or 256.")] = 64,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the normal pictures.")] = 100,
    width: Annotated[int, typer.Option(min=1, help="Channels of the first convolution.")] = 32,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures per step.")] = 32,
    runs: Runs = None,
    backbone: Backbone = None,
    weights: Weights = None,
    pretrain_steps: PretrainSteps = None,
    size: Size = None,
    fit: Fit = None,
    bits: Bits = None,
    roi: Roi = None,
    fractions: Fractions = None,
    group_by: GroupBy = None,
    seed: Seed = None,
    config: Config = None,
) -> None:
    """Trains a DCGAN on the train part's normals and writes more of them, with a KID check."""
    given = {key: value for key, value in locals().items() if key in _SHARED or key == "data"}
    settings = _settings(config, given)
    from anomaly.arguments import check_settings

    check_settings(settings)
    from anomaly.features.extractor import FeatureExtractor
    from anomaly.training.generate import Generator
    from anomaly.training.generate import generate as make
    from anomaly.training.loop import backbone_for, data_of, source_of

    wanted = Generator(side=side, width=width, epochs=epochs, batch_size=batch_size)
    everything = data_of(settings, say)
    normals = source_of(everything, everything.normals, settings)
    # Calibration and test see no generated picture, and the generator none of theirs.
    unseen = [item for part in ("val", "test") for item in everything.part(part)]
    held_out = source_of(everything, [one for one in unseen if not one.is_defect], settings)
    with _stages() as on_progress:

        def extractor() -> FeatureExtractor:
            return FeatureExtractor(*backbone_for(settings, normals, say, on_progress))

        make(normals, held_out, extractor, output, count, wanted, settings.seed, on_progress, say)
    say(f"{output / 'generated'}: learn them too with --generated {output / 'generated'}")


@app.command()
@reports_errors
def plan(
    run: Annotated[Path | None, typer.Argument(help="A run whose test is looked at.")] = None,
    target_miss: Annotated[float, typer.Option(help="Miss rate to show.")] = 0.005,
    target_overkill: Annotated[float, typer.Option(help="Overkill rate to show.")] = 0.02,
) -> None:
    """How many pictures it takes to show a target, and how many are missing."""
    from anomaly.evaluation.plan import measured, plan_lines

    for flag, value in (("--target-miss", target_miss), ("--target-overkill", target_overkill)):
        if not 0 < value < 1:
            raise InputError(f"{flag} {value:g}: must be over 0 and under 1, for instance 0.005")
    if run:
        from anomaly.run import check_run

        check_run(run)
    miss, overkill = measured(run) if run else (None, None)
    for line in plan_lines(target_miss, target_overkill, miss, overkill):
        say(line)


_SHARED = frozenset(
    [
        *("runs", "backbone", "weights", "pretrain_steps", "size", "fit", "bits", "roi"),
        *("roi_mask", "tile", "fractions", "group_by", "seed", "rule", "target_miss"),
        "target_overkill",
    ]
)


def _settings(config: Path | None, given: dict[str, Any], *without: str) -> AnomalySettings:
    """From a file and from flags, which win."""
    from anomaly.settings import AnomalySettings
    from inspection.settings import read_settings

    given = {key: value for key, value in given.items() if key not in without}
    for name, count in (("roi", 4), ("fractions", 3)):
        if given.get(name) is not None:
            given[name] = numbers_of(name, given[name], count)
    return read_settings(AnomalySettings, config, given)


@contextmanager
def _stages():
    """One bar that changes its text from stage to stage."""
    with progress("starting") as bar:
        try:
            yield lambda what, done, total: bar(done, total, what)
        except KeyboardInterrupt:
            say("Interrupted. What was finished is kept: the same command goes on from there.")
            raise
