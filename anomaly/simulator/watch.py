"""What the simulator's page shows of a model: an image, its heat map, new files of a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import streamlit as st

from anomaly.models.decision import Decider
from anomaly.models.heat import overlay
from anomaly.models.model import AnomalyModel
from anomaly.simulator.figures import DECISIONS, FolderWatch
from inspection.cli.pages import Stamp, keep_networks, stamp
from inspection.data.images import read_image
from inspection.errors import InputError
from inspection.finite import NotFinite
from inspection.report import palette
from inspection.report.drawing import thumbnail
from inspection.report.page import image_uri
from inspection.training.run import MODEL, RECORD

_LONGEST, _THUMB = 640, 96


def model_of(run: Path) -> AnomalyModel:
    """The run's model, loaded once for all visitors and each training of it."""
    return _model(run, _training(run))


def pictures(run: Path, path: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """Image and heat map, and the score that the model gives it now."""
    return _images(run, _training(run), path, stamp(path))


def thumb(path: Path, bits: int) -> str:
    """A small image as a data URI for a table; empty where it cannot be read."""
    return _thumb(path, stamp(path), bits)


def _training(run: Path) -> Stamp:
    # Training writes it, saving a threshold does not: maps stay those of the same weights.
    return stamp(run / RECORD)


@st.cache_resource(max_entries=2, show_spinner="Loading the model …")
def _model(run: Path, training: Stamp) -> AnomalyModel:
    keep_networks()
    return AnomalyModel.load(run / MODEL)


@st.cache_data(max_entries=256, show_spinner=False)
def _images(
    run: Path, training: Stamp, path: Path, written: Stamp
) -> tuple[np.ndarray, np.ndarray, float]:
    model = _model(run, training)
    rgb = read_image(path, model.preparation.bits)
    found = model.predict(path)
    heat = overlay(rgb, found.score_map, model.normal)
    return thumbnail(rgb, _LONGEST), thumbnail(heat, _LONGEST), found.score


@st.cache_data(max_entries=2000, show_spinner=False)
def _thumb(path: Path, written: Stamp, bits: int) -> str:
    try:
        return image_uri(thumbnail(read_image(path, bits), _THUMB))
    except InputError:
        return ""


def badge(decision: str, text: str = "") -> None:
    """The decision in its colour."""
    st.markdown(
        f"<div style='background:{palette.DECISIONS[decision]};color:#fff;border-radius:8px;"
        "padding:.5rem;text-align:center;font-size:1.5rem;font-weight:650'>"
        f"{decision} {text}</div>",
        unsafe_allow_html=True,
    )


def score_of(model: Decider, path: Path, problems: list[str]) -> float | None:
    """What a model gives a new file: infinity, which is NG, where that is no finite number.

    Args:
        model: Of the page.
        path: The file.
        problems: Takes what was wrong.

    Returns:
        None where the file does not fit the model.
    """
    try:
        return model.predict(path).score
    except InputError as error:
        problems += error.problems
        return np.inf if isinstance(error, NotFinite) else None


def watched(run: Path, folder: Path, review: float, threshold: float) -> None:
    """Draws what has come into a folder, and looks again every second."""
    state = st.session_state
    if "watch" not in state or state.watch.folder != folder:
        state.watch, state.found = FolderWatch(folder), []

    @st.fragment(run_every=1.0)
    def looking() -> None:
        model = model_of(run)
        for path in state.watch.look():
            score = score_of(model, path, state.watch.problems)
            if score is not None:
                state.found.append((path, score))
        scores = np.array([score for _, score in state.found])
        decided = (scores >= review).astype(int) + (scores >= threshold)
        st.caption(f"Watching {folder}. New images appear here as soon as they are whole.")
        shown = [
            (index, name)
            for index, name in enumerate(DECISIONS)
            if name != "review" or review < threshold
        ]
        for column, (index, name) in zip(st.columns(len(shown), wrap=False), shown, strict=True):
            column.metric(name, int((decided == index).sum()))
        for problem in state.watch.problems:
            st.warning(problem)
        if not state.found:
            return
        path, score = state.found[-1]
        left, right = st.columns(2, wrap=False)
        if np.isfinite(score):
            rgb, heat, _ = pictures(run, path)
            left.image(rgb, width="stretch")
            right.image(heat, width="stretch")
        badge(DECISIONS[int(decided[-1])])
        st.write(f"score **{score:.4g}**  \n`{path.name}`")
        last = list(zip(state.found, decided, strict=True))[-10:][::-1]
        st.dataframe(
            {
                "preview": [thumb(one, model.preparation.bits) for (one, _), _ in last],
                "image": [one.name for (one, _), _ in last],
                "score": [value for (_, value), _ in last],
                "decision": [DECISIONS[int(index)] for _, index in last],
            },
            hide_index=True,
            column_config={"preview": st.column_config.ImageColumn()},
        )

    looking()
