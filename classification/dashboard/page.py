"""The dashboard's page: what a classifier looks at, and how that changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import streamlit as st

from classification.cam.boxes import BoxRule, boxes_of, mask_boxes
from classification.cam.measures import energy_inside, mask_iou, pointing_game
from classification.cam.methods import METHODS, SMOOTHINGS
from classification.dashboard.download import export
from classification.dashboard.picker import pick_image
from classification.dashboard.state import (
    Look,
    ModelFile,
    Run,
    Shown,
    explain,
    layer_names,
    load_model,
    picture,
    runs_below,
    scored,
    snapshots,
)
from classification.evaluation.scored import Scored
from classification.models.classifier import Classifier, decided
from classification.training.augment import RECIPES
from inspection.cli.pages import keep_networks, stamp, style
from inspection.data.labelled import LabelledImage
from inspection.data.letterbox import Image8
from inspection.data.preparation import Preparation
from inspection.decisions.operating_point import percent
from inspection.errors import InputError
from inspection.fields import HIGHEST_CLAHE
from inspection.report.drawing import boxes_view, heat_overlay
from inspection.report.page import image_uri

_LONGEST, _SMALL = 640, 360
_SLOW = ("score-cam", "ablation-cam")
# On a phone the image to choose and the images stand before everything that steers them.
_STYLE = (
    "@media(max-width:640px){div:has(>.st-key-shown),div:has(>.st-key-compared){order:-1}"
    "div:has(>.st-key-picker){order:-2}}"
)
_BAR = (
    "<div style='display:flex;align-items:center;gap:.5rem;font-size:.8rem;opacity:.85'>0"
    "<img alt='colour scale' style='height:12px;flex:0 1 420px;min-width:0' src='{uri}'>{top}</div>"
)


def page(runs: Path) -> None:
    """Draws the page.

    Args:
        runs: Folder of the runs.
    """
    st.set_page_config(page_title="CAM dashboard", layout="wide")
    keep_networks()
    style(_STYLE)
    names = runs_below(runs)
    if not names:
        st.error(
            f"{runs.resolve()} holds no run of a classifier. Train one with "
            "`python classification/train.py`, or give the folder of the runs: "
            "`streamlit run classification/cam_dashboard.py -- RUNS`"
        )
        return
    try:
        _page(runs, names)
    except InputError as error:
        for problem in error.problems:
            st.error(problem)


def _page(runs: Path, names: list[str]) -> None:
    with st.sidebar:
        run = Run.of(runs / st.selectbox("Run", names, key="run"))
        files = snapshots(run.path)
        chosen = st.selectbox(
            "Epoch", files, format_func=lambda path: path.stem, key=run.key("epoch")
        )
        file = ModelFile.of(chosen)
        model = load_model(file)
        part = st.radio("Part", ["test", "val", "train"], horizontal=True, key="part")
        look = _look(run, file, model)
    most = st.sidebar.number_input("Images at most", 1, 100_000, 500, key="most")
    found = scored(file, run, part, int(most))
    number = pick_image(run, model, found)
    if number is None:
        return
    item = found.items[number]
    with st.container(key="steering"):
        rule = _rule()
        # No tabs: what stands in them is computed whether it is looked at or not.
        what = st.radio(
            "What",
            ["Explain", "Compare", "Export"],
            horizontal=True,
            label_visibility="collapsed",
            key="what",
        )
    with st.container(key="shown"):
        if what == "Explain":
            _explained(look, model, found, number, rule)
        elif what == "Compare":
            _comparison(look, run, model, item, rule)
        else:
            export(look, run, model, found, rule)


def _look(run: Run, file: ModelFile, model: Classifier) -> Look:
    layers = layer_names(file)
    layer = st.selectbox("Layer", layers, key=run.key("layer"))
    method = st.selectbox("Method", METHODS, key="method")
    smooth = st.selectbox(
        "Smoothing",
        SMOOTHINGS,
        key="smooth",
        help="augment: mean over mirrored, lighter and darker views; pca: first principal "
        "component instead of the sum over channels.",
    )
    recipe = st.selectbox("Augmentation", RECIPES, key="recipe")
    seed = 0
    if recipe != "none":
        seed = int(st.number_input("Augmentation's seed", 0, 10_000, 0, key="seed"))
    with st.expander("Preprocessing"):
        preparation = _preparation(run, model.card.preparation)
    return Look(file, layer, method, smooth, preparation, recipe, seed)


def _preparation(run: Run, trained: Preparation) -> Preparation:
    text = st.text_input(
        "Region x1,y1,x2,y2",
        ",".join(map(str, trained.roi)) if trained.roi else "",
        key=run.key("roi"),
        help="In pixels of the image; empty is all of it.",
    )
    roi = None
    if text.strip():
        try:
            x1, y1, x2, y2 = (int(part) for part in text.split(","))
        except ValueError:
            raise InputError(f"Region {text}: give four whole numbers x1,y1,x2,y2") from None
        roi = (x1, y1, x2, y2)
    background = st.checkbox(
        "Grey out the background", trained.background, key=run.key("background")
    )
    clahe = st.slider(
        "CLAHE, clip limit", 0.0, HIGHEST_CLAHE, float(trained.clahe), 0.5, key=run.key("clahe")
    )
    flatten = st.checkbox("Flatten the light", trained.flatten, key=run.key("flatten"))
    chosen = replace(trained, roi=roi, background=background, clahe=clahe, flatten=flatten)
    if chosen != trained:
        st.caption("Other than in training: shares here are not those of the list.")
    return chosen


def _rule() -> BoxRule:
    kind, value, area = st.columns([1, 2, 1])
    threshold = kind.selectbox("Threshold", ["share", "quantile", "otsu"], key="kind")
    level = value.slider(
        "of the maximum" if threshold == "share" else "of the places",
        0.05,
        0.99,
        0.5 if threshold == "share" else 0.9,
        0.01,
        key=f"level_{threshold}",
        disabled=threshold == "otsu",
    )
    least = area.number_input("Smallest box, pixels", 1, 1_000_000, 25, key="least")
    texts = {"otsu": "otsu", "share": f"{level}", "quantile": f"quantile:{level}"}
    return BoxRule(texts[threshold], int(least))


def _shown(look: Look, item: LabelledImage, target: int) -> Shown:
    path = item.path
    if look.method in _SLOW:
        with st.spinner(f"{look.method} goes through every channel …"):
            return explain(look, path, stamp(path), target)
    return explain(look, path, stamp(path), target)


def _mask(look: Look, item: LabelledImage) -> np.ndarray | None:
    """Where the defect is; None where not known, or where the view was turned or shifted."""
    return item.read_mask() if look.recipe == "none" else None


def _under(look: Look, item: LabelledImage, shown: Shown) -> Image8:
    """What the map is laid over: the image, or the changed view that was looked at."""
    path = item.path
    if look.recipe != "none":
        return shown.view
    return picture(path, stamp(path), look.preparation.bits)


def _drawn(
    under: Image8, cam: np.ndarray, mask: np.ndarray | None, rule: BoxRule, top: float, longest: int
) -> Image8:
    heat = cam / top if top > 0 else cam
    own = cam / cam.max() if cam.max() > 0 else cam
    found = boxes_of(own, rule, "").xyxy
    return boxes_view(heat_overlay(under, heat), found, _true_boxes(mask), longest)


def _figures(cam: np.ndarray, mask: np.ndarray | None, rule: BoxRule) -> str:
    if mask is None or not mask.any():
        return ""
    own = cam / cam.max() if cam.max() > 0 else cam
    iou = mask_iou((own >= rule.level(own)) & (own > 0), mask)
    if not cam.any():
        return "the map is empty"
    hit = "hit" if pointing_game(cam, mask) else "beside"
    return f"IoU {iou:.2f}, energy inside {energy_inside(cam, mask):.2f}, peak {hit}"


def _scale_bar(top: str) -> None:
    ramp = np.tile(np.linspace(0, 1, 256, dtype=np.float32), (12, 1))
    grey = np.full((12, 256, 3), 128, np.uint8)
    st.markdown(
        _BAR.format(uri=image_uri(heat_overlay(grey, ramp)), top=top), unsafe_allow_html=True
    )


def _explained(
    look: Look,
    model: Classifier,
    found: Scored,
    number: int,
    rule: BoxRule,
) -> None:
    item = found.items[number]
    mask = _mask(look, item)
    truth = int(found.truth[number])
    first = _shown(look, item, truth)
    told = _told(model, first.shares)
    shown = st.container()
    shared = st.toggle("One scale for both maps", True, key="shared")
    maps = {truth: first, told: _shown(look, item, told)}
    top = max(float(one.cam.max()) for one in maps.values())
    under = _under(look, item, first)
    with shown:
        columns = st.columns(3)
        with columns[0]:
            st.image(_plain(under, mask), width="stretch")
            st.caption(f"`{item.image}`" + ("" if mask is None else " – the mask's boxes green"))
        titles = ("Predicted", told), ("True", truth)
        for column, (title, target) in zip(columns[1:], titles, strict=True):
            one = maps[target]
            scale = top if shared else float(one.cam.max())
            with column:
                st.image(_drawn(under, one.cam, mask, rule, scale, _LONGEST), width="stretch")
                name = model.classes[target]
                st.markdown(f"**{title}: {name}** – {percent(float(one.shares[target]))}")
                figures = _figures(one.cam, mask, rule)
                st.caption(f"strongest place {one.cam.max():.3g}; {figures}")
        _scale_bar(f"{top:.3g}" if shared else "each map's maximum")
    shares = sorted(zip(first.shares, model.classes, strict=True), reverse=True)
    text = "  ·  ".join(f"{name} {percent(float(share))}" for share, name in shares)
    st.caption(f"Shares: {text}")


def _plain(under: Image8, mask: np.ndarray | None) -> Image8:
    return boxes_view(under, (), _true_boxes(mask), _LONGEST)


def _true_boxes(mask: np.ndarray | None) -> np.ndarray | tuple[()]:
    return () if mask is None else mask_boxes(mask)


def _told(model: Classifier, shares: np.ndarray) -> int:
    point = model.card.operating_point
    return int(
        decided(shares[None], model.classes, model.card.normal, point and point.threshold)[0]
    )


def _comparison(
    look: Look,
    run: Run,
    model: Classifier,
    item: LabelledImage,
    rule: BoxRule,
) -> None:
    """The same image and class over epochs, layers, methods or augmentations."""
    over, which = st.columns([1, 2])
    axis = over.selectbox("Over", ["epochs", "layers", "methods", "augmentations"], key="over")
    name = which.selectbox(
        "Class", model.classes, model.classes.index(item.kind), key=run.key("explained")
    )
    target = model.classes.index(name)
    if axis == "epochs":
        files = snapshots(run.path)[1:]
        options = {path.stem: replace(look, model=ModelFile.of(path)) for path in files}
        usual = _spread(list(options), 4)
    elif axis == "layers":
        options = {layer: replace(look, layer=layer) for layer in layer_names(look.model)}
        usual = _spread([layer for layer in options if _is_stage(layer)] or list(options), 4)
    elif axis == "methods":
        options = {method: replace(look, method=method) for method in METHODS}
        usual = [method for method in METHODS if method not in _SLOW]
    else:
        options = {recipe: replace(look, recipe=recipe) for recipe in RECIPES}
        usual = list(RECIPES)
    chosen = st.multiselect("Which", list(options), usual, key=run.key(f"which_{axis}"))
    with st.container(key="compared"):
        _grid({key: options[key] for key in chosen}, item, target, rule)
        _scale_bar("each map's maximum")


def _grid(
    looks: dict[str, Look],
    item: LabelledImage,
    target: int,
    rule: BoxRule,
) -> None:
    columns = st.columns(4)
    for place, (key, look) in enumerate(looks.items()):
        with columns[place % 4]:
            shown = _shown(look, item, target)
            mask = _mask(look, item)
            under = _under(look, item, shown)
            top = float(shown.cam.max())
            st.image(_drawn(under, shown.cam, mask, rule, top, _SMALL), width="stretch")
            figures = _figures(shown.cam, mask, rule)
            st.caption(f"**{key}** – {percent(float(shown.shares[target]))}  \n{figures}")


def _spread(names: list[str], count: int) -> list[str]:
    """At most so many, evenly, the first and last among them."""
    places = np.unique(np.linspace(0, len(names) - 1, min(count, len(names))).round().astype(int))
    return [names[place] for place in places]


def _is_stage(layer: str) -> bool:
    """Ends of blocks, which is where a person would look."""
    return layer.rsplit("/", 1)[-1].endswith(("_out", "_add", "_add2", "_project_BN", "features"))
