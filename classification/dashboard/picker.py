"""Which image the dashboard looks at: by class and by error, by name or step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import streamlit as st

from classification.dashboard.state import Run
from classification.evaluation.scored import Scored
from classification.models.classifier import Classifier, decided
from inspection.cli.console import counted
from inspection.decisions.operating_point import percent


def pick_image(run: Run, model: Classifier, found: Scored) -> int | None:
    """The images by class and by error, the worst first; the one to look at."""
    point = model.card.operating_point
    names = model.classes
    decision = decided(found.probability, names, model.card.normal, point and point.threshold)
    truth = found.truth
    with st.container(key="filters"):
        order = _order(run, names, found, decision)
    if not order:
        st.info("No image is like that.")
        return None

    def text(number: int) -> str:
        mark = "✗" if decision[number] != truth[number] else "✓"
        return (
            f"{mark} {found.items[number].image} – is {names[truth[number]]}, predicted "
            f"{names[decision[number]]} ({percent(found.probability[number, decision[number]])})"
        )

    with st.container(key="picker"):
        return _picked(run.key("number"), order, text)


def _order(run: Run, names: Sequence[str], found: Scored, decision: np.ndarray) -> list[int]:
    """Numbers of the images that are asked for."""
    truth = found.truth
    left, middle, right = st.columns([1, 1, 1])
    wrong = left.selectbox("Show", ["all", "wrong only", "right only"], key="wrong")
    true = middle.selectbox("True class", ["any", *names], key=run.key("true"))
    told = right.selectbox("Predicted class", ["any", *names], key=run.key("told"))
    keep = np.ones(len(truth), bool)
    if wrong != "all":
        keep &= (decision != truth) == (wrong == "wrong only")
    if true != "any":
        keep &= truth == names.index(true)
    if told != "any":
        keep &= decision == names.index(told)
    share = found.probability[np.arange(len(truth)), truth]
    # Worst first: wrong before right, then by how little of it goes to the true class.
    order = [int(n) for n in np.lexsort((share, decision == truth)) if keep[n]]
    errors = int((decision != truth).sum())
    st.caption(
        f"{len(order)} of {counted(len(truth), 'image')} shown, {errors} wrong in all; the worst "
        "come first."
    )
    return order


def _picked(key: str, order: list[int], text: Callable[[int], str]) -> int:
    """The image that is chosen by name, or by a step from the one before."""
    state = st.session_state
    if state.get(key) not in order:
        state[key] = order[0]
    place = order.index(state[key])
    # In one row on a phone too; columns would stand below each other or run off the screen.
    with st.container(horizontal=True, wrap=False, vertical_alignment="bottom"):
        _step("◀", "back", key, order[place - 1] if place else None)
        st.selectbox("Image", order, format_func=text, key=key, label_visibility="collapsed")
        _step("▶", "forward", key, order[place + 1] if place + 1 < len(order) else None)
    return state[key]


def _step(sign: str, name: str, key: str, number: int | None) -> None:
    """A button to a neighbour, before the widget of that key is drawn again."""

    def go() -> None:
        st.session_state[key] = number

    st.button(sign, key=name, on_click=go, disabled=number is None)
