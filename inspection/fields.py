"""Fields that the settings of several rooms share: the same limits and words everywhere.

A room writes `seed: Seed = 0`; the command line makes its flag of that, see
`inspection.cli.options`. Only what is light is imported: `--help` answers at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

RUN = None  # the first heading of `--help`, among the verb's own options
DATA = "Data"
PREPARATION = "Preparation"
MODEL = "Model"
TRAINING = "Training"
DECISION = "Decision"
HEADINGS = (RUN, DATA, PREPARATION, MODEL, TRAINING, DECISION)
"""In the order of `--help`."""


@dataclass(frozen=True)
class Flag:
    """How the command line shows a setting, as part of its type: `Annotated[int, Flag(...)]`.

    Args:
        heading: Of `--help`, under which it stands.
        text: What it means, in one sentence; the choices of a `Literal` are added.
        default: What happens where it is left out, if the default's value does not say so.
        also: Further names of the flag.
        typed: Of a bool: its value is typed out, as in `--wandb True`.
    """

    heading: str | None
    text: str
    default: str | None = None
    also: tuple[str, ...] = ()
    typed: bool = False


def _one_folder(value: str) -> str:
    if not value or value in (".", "..") or set(value) & set("/\\"):
        raise ValueError("a run is the name of one folder, without / or \\")
    return value


Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]
RunName = Annotated[str, AfterValidator(_one_folder)]
RuleName = Literal["least-overkill", "least-miss", "least-cost", "normal-quantile", "review-band"]
"""How a threshold is chosen; see `inspection.decisions.operating_point`."""

Seed = Annotated[int, Field(ge=0), Flag(RUN, "Decides everything random.")]

Fractions = Annotated[
    tuple[float, float, float], Flag(DATA, "Shares of train, val and test in a new split.")
]
GroupBy = Annotated[
    str | None,
    Flag(
        DATA,
        "Regex with one group, or CSV image,group: keeps images of one part together.",
        "every image on its own",
    ),
]

SIZE = Flag(PREPARATION, "Side that images are fitted to, in pixels.")
Fit = Annotated[
    Literal["letterbox", "stretch"],
    Flag(PREPARATION, "How they are fitted: letterbox keeps the shape and pads, stretch fills."),
]
Bits = Annotated[
    int, Field(ge=8, le=16), Flag(PREPARATION, "Bits that a 16-bit camera fills, 8 to 16.")
]
Roi = Annotated[
    tuple[int, int, int, int] | None,
    Flag(PREPARATION, "Region x1,y1,x2,y2 of the image, in pixels.", "the whole image"),
]
RoiMask = Annotated[
    Path | None,
    Flag(PREPARATION, "White where to inspect; all images must have its size.", "everywhere"),
]
Background = Annotated[bool, Flag(PREPARATION, "Grey out all but the largest object.")]
HIGHEST_CLAHE = 40.0
Clahe = Annotated[
    float,
    Field(ge=0, le=HIGHEST_CLAHE),
    Flag(PREPARATION, "Clip limit of CLAHE, about 2; 0 leaves it out."),
]
Flatten = Annotated[bool, Flag(PREPARATION, "Take out uneven light.")]

Epochs = Annotated[Positive, Flag(TRAINING, "Passes over the data.")]
BATCH_SIZE = "Images per step; fewer take less memory."
Steps = Annotated[Positive | None, Flag(TRAINING, "Steps per epoch.", "every image once")]
LEARNING_RATE = "Highest learning rate."
WeightDecay = Annotated[
    float, Field(ge=0), Flag(TRAINING, "Weight decay of AdamW, which keeps weights small.")
]
Keep = Annotated[Positive | None, Flag(RUN, "How many of the newest epoch snapshots stay.", "all")]

TargetMiss = Annotated[Share, Flag(DECISION, "Miss rate that the threshold is chosen for.")]
TargetOverkill = Annotated[Share, Flag(DECISION, "Overkill rate that the threshold is chosen for.")]


def run_name(default: str, *also: str) -> Flag:
    """The flag of a run's name.

    Args:
        default: What it is named after where none is given.
        *also: Further names.
    """
    return Flag(RUN, "Name of the run's folder.", default, also)


def runs_folder(*also: str) -> Flag:
    """The flag of the folder of all runs, with further names."""
    return Flag(RUN, "Folder of the runs.", also=also)


def weights_flag(words: str) -> Flag:
    """The flag of the weights to begin with; the words are choices beside a path."""
    return Flag(MODEL, f"Weights to begin with: {words} or a path.")
