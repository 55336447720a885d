"""The simulator's page; `python -m anomaly simulate` starts it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from anomaly.data.images import NORMAL
from anomaly.evaluation.scored import read_scores, scores_file
from anomaly.models.model import model_card, replace_operating_point
from anomaly.settings import ROOM
from anomaly.simulator.cases import of_bar, relabel, show, worst
from anomaly.simulator.figures import (
    DECISIONS,
    Figures,
    Simulation,
    chosen_by_hand,
    open_simulation,
)
from anomaly.simulator.watch import badge, watched
from inspection.cli.commands import command_line
from inspection.cli.pages import Stamp, stamp, style
from inspection.decisions.operating_point import RULES, OperatingPoint, choose_threshold
from inspection.errors import InputError
from inspection.report import palette
from inspection.report.page import rate_tile
from inspection.training.run import MODEL

_INSET = 6  # pixels by which a slider's ends lie inside its column
_PLAY, _STOP, _BACK = (f":material/{name}:" for name in ("play_arrow", "stop", "skip_previous"))
# Image and map side by side stay on the screen with what stands under them.
_STYLE = (
    "div[data-testid=stMetricValue]{font-size:1.6rem}[data-testid=stImage] img{max-height:46vh}"
)


@st.cache_resource(max_entries=4, show_spinner=False)
def _simulation(run: Path, measured: Stamp) -> Simulation:
    return open_simulation(run)


def page(run: Path, watch: Path | None = None) -> None:
    """Draws the page.

    Args:
        run: A run's folder that has been measured.
        watch: Folder whose new images are looked at, instead of the test part.
    """
    st.set_page_config(page_title=f"{run.name} – simulator", layout="wide")
    style(_STYLE)
    try:
        simulation = _simulation(run, stamp(scores_file(run)))
        point = model_card(run / MODEL).operating_point
    except (InputError, OSError) as error:
        st.error(f"{error} Measure the run first: {command_line(ROOM, 'evaluate', run)}")
        return
    st.subheader(f"{run.name}: {len(simulation):,} test images")
    low, high = _ends(simulation)
    _rules(run, simulation, point, low, high)
    # What plays stands first, so that a phone has it on top; what steers it is read before.
    left, right = st.columns(2, gap="large")
    with right:
        chart = st.container()
        review, threshold = _slider(low, high)
        with chart:
            clicked = _histogram(simulation, review, threshold, low, high)
    if watch is not None:
        with left:
            watched(run, watch, review, threshold)
        return
    with right:
        figures = simulation.figures(review, threshold)
        _metrics(figures)
        _confusion(figures)
        _save(run, point)
    with left:
        _line(run, simulation, review, threshold)
    # Only what is looked at is computed.
    cases, bar, queue = st.tabs(
        ["Worst cases", "A bar's images", "Relabel queue"], key="views", on_change="rerun"
    )
    if cases.open:
        with cases:
            worst(run, simulation, review, threshold)
    if bar.open:
        with bar:
            of_bar(run, simulation, clicked)
    if queue.open:
        with queue:
            relabel(run, simulation, review, threshold)


def _ends(simulation: Simulation) -> tuple[float, float]:
    """The ends of the threshold's scale, which is that of the histogram too."""
    low, high = float(simulation.scores.min()), float(simulation.scores.max())
    span = (high - low) or 1.0
    return low - 0.02 * span, high + 0.02 * span


def _bounds(point: OperatingPoint) -> tuple[float, float]:
    """Where review and NG begin."""
    if point.review_threshold is None:
        return point.threshold, point.threshold
    return point.review_threshold, point.threshold


def _rules(
    run: Path, simulation: Simulation, point: OperatingPoint | None, low: float, high: float
) -> None:
    if "has_band" not in st.session_state:
        start = float(np.quantile(simulation.scores, 0.98))
        _move(low, high, *(_bounds(point) if point else (start, start)))
    with st.sidebar:
        st.markdown("**By a rule**, on the calibration part")
        rule = st.selectbox("Rule", RULES, key="rule")
        miss = st.number_input("Target miss, %", 0.01, 50.0, 0.5, key="target_miss") / 100
        overkill = (
            st.number_input("Target overkill, %", 0.01, 90.0, 2.0, key="target_overkill") / 100
        )
        prevalence, miss_cost = 0.01, 100.0
        if rule == "least-cost":
            prevalence = st.number_input("Defective parts, %", 0.001, 50.0, 1.0) / 100
            miss_cost = st.number_input("An escape costs, in false rejects", 1.0, 1e6, 100.0)
        if st.button("Use the rule", key="use_rule"):
            found = _by_rule(run, rule, miss, overkill, prevalence, miss_cost)
            if found is not None:
                _move(low, high, *found)
        st.caption("Stored: " + (point.rule if point else "no threshold"))
        st.toggle("Review band", key="has_band", on_change=_switch, args=(low, high))


def _slider(low: float, high: float) -> tuple[float, float]:
    look = {"min_value": low, "max_value": high, "step": (high - low) / 1040, "format": "%.4g"}
    if st.session_state.has_band:
        return st.slider("OK | review | NG", key="band", **look)
    threshold = st.slider("OK | NG", key="threshold", **look)
    return threshold, threshold


def _move(low: float, high: float, review: float, threshold: float) -> None:
    """Puts the sliders somewhere; they show it in the same run."""
    state = st.session_state
    review, threshold = (float(np.clip(value, low, high)) for value in (review, threshold))
    state.has_band, state.band, state.threshold = review < threshold, (review, threshold), threshold


def _switch(low: float, high: float) -> None:
    """Opens a band under the threshold, or closes it onto the threshold."""
    state = st.session_state
    if state.has_band:
        state.band = (max(low, state.threshold - 0.05 * (high - low)), state.threshold)
    else:
        state.threshold = state.band[1]


def _by_rule(
    run: Path, rule: str, miss: float, overkill: float, prevalence: float, miss_cost: float
) -> tuple[float, float] | None:
    calibration = read_scores(run / "calibration.csv")
    try:
        found = choose_threshold(
            calibration.scores,
            calibration.is_defect,
            rule,
            target=overkill if rule in ("least-miss", "normal-quantile") else miss,
            overkill_target=overkill,
            prevalence=prevalence,
            miss_cost=miss_cost,
        )
    except InputError as error:
        st.error(str(error))
        return None
    review = found.threshold if found.review_threshold is None else found.review_threshold
    return review, found.threshold


def _metrics(figures: Figures) -> None:
    names = [
        ("Miss", figures.miss),
        ("Overkill", figures.overkill),
        ("Accuracy", figures.accuracy),
    ]
    if st.session_state.has_band:
        names.append(("Review", figures.review))
    for column, (name, rate) in zip(st.columns(len(names), wrap=False), names, strict=True):
        tile = rate_tile(rate)
        with column:
            st.metric(name, tile["value"])
            st.caption(tile["hint"])


def _histogram(
    simulation: Simulation, review: float, threshold: float, low: float, high: float
) -> tuple[int, bool] | None:
    """Draws the bars; returns the one that was clicked, and whether it is of defects."""
    edges = simulation.edges
    figure = go.Figure()
    for name, counts, colour in zip(
        ("normal", "defects"), simulation.histogram(), (palette.NORMAL, palette.DEFECT), strict=True
    ):
        figure.add_bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=counts,
            width=np.diff(edges),
            name=name,
            marker_color=colour,
            opacity=0.7,
        )
    if review < threshold:
        figure.add_vrect(review, threshold, fillcolor=palette.REVIEW, opacity=0.2, line_width=0)
        figure.add_vline(review, line_color=palette.DECISIONS["review"], line_width=2)
    figure.add_vline(threshold, line_color=palette.DECISIONS["NG"], line_width=2)
    # From edge to edge, so that the slider below it has the same axis.
    figure.update_layout(
        barmode="overlay",
        height=250,
        margin={"l": _INSET, "r": _INSET, "t": 10, "b": 30},
        legend={"orientation": "h", "y": 1.12},
        xaxis={"range": [low, high], "fixedrange": True},
        yaxis={
            "type": "log" if len(simulation) > 1000 else "linear",
            "ticklabelposition": "inside top",
            "tickformat": "d",
            "nticks": 4,
            "ticklabelstandoff": 2,
            "automargin": False,
            "fixedrange": True,
        },
        dragmode=False,
    )
    event = st.plotly_chart(
        figure, on_select="rerun", selection_mode="points", key="histogram", theme="streamlit"
    )
    points = event.selection.points if event else []
    if not points:
        return None
    return int(points[0]["point_index"]), bool(points[0]["curve_number"])


def _confusion(figures: Figures) -> None:
    table = {"truth": ["normal", "defect"]}
    for index, name in enumerate(DECISIONS):
        if name != "review" or st.session_state.has_band:
            table[name] = figures.table[:, index]
    st.dataframe(table, hide_index=True)


def _save(run: Path, point: OperatingPoint | None) -> None:
    state = st.session_state
    state.setdefault("saved", [])
    left, right = st.columns([3, 1], wrap=False)
    save = left.button(
        "Save this operating point into the model", key="save", on_click=_store, args=(run,)
    )
    undo = right.button(
        "Undo", key="undo", disabled=not state.saved, on_click=_restore, args=(run,)
    )
    if problem := state.pop("problem", None):
        st.error(problem)
    elif undo:
        st.success("The operating point from before is in the model again.")
    elif save and point is not None:
        st.success(f"Saved. On calibration: miss {point.miss}; overkill {point.overkill}.")
        st.caption(point.notes[0])


def _store(run: Path) -> None:
    """Saves where the sliders stand; what it replaces is kept for the visit."""
    state = st.session_state
    review, threshold = state.band if state.has_band else (state.threshold, state.threshold)
    try:
        before = model_card(run / MODEL).operating_point
        calibration = read_scores(run / "calibration.csv")
        chosen = chosen_by_hand(calibration, review, threshold, before)
        replace_operating_point(run / MODEL, chosen)
    except (InputError, OSError) as error:
        state.problem = str(error)
        return
    state.saved.append(before)


def _restore(run: Path) -> None:
    state = st.session_state
    before = state.saved[-1]
    try:
        replace_operating_point(run / MODEL, before)
    except (InputError, OSError) as error:
        state.problem = str(error)
        return
    state.saved.pop()
    if before is not None:
        _move(*_ends(_simulation(run, stamp(scores_file(run)))), *_bounds(before))


def _line(run: Path, simulation: Simulation, review: float, threshold: float) -> None:
    state = st.session_state
    state.setdefault("position", 0)
    state.setdefault("playing", False)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        start = st.button("Start", key="start", icon=_PLAY, disabled=state.playing)
        stop = st.button("Stop", key="stop", icon=_STOP, disabled=not state.playing)
        rewind = st.button("Rewind", key="rewind", icon=_BACK)
        pace = st.select_slider(
            "Images a second", [0.5, 1, 2, 5, 20, 100, 1000], value=1, key="speed", width=260
        )
    if start or stop or rewind:
        state.playing = start
        state.position = 0 if rewind else state.position
        st.rerun()
    # More than a few images a second cannot be seen; the count goes on by several at once.
    ticks = min(pace, 2.0)

    @st.fragment(run_every=1 / ticks if state.playing else None)
    def moving() -> None:
        if state.playing:
            state.position = min(len(simulation), state.position + max(1, round(pace / ticks)))
            if state.position == len(simulation):
                state.playing = False
                st.rerun()
        seen = state.position
        st.progress(seen / len(simulation), f"{seen:,} of {len(simulation):,}")
        if not seen:
            st.caption("Start plays the test part in a random order, as it would come down a line.")
            return
        number = int(simulation.order[seen - 1])
        decision = DECISIONS[int(simulation.decide(review, threshold)[number])]
        left, right = st.columns(2, wrap=False)
        show(run, simulation, number, left, right)
        truth = simulation.scored.kinds[number]
        right_way = (truth == NORMAL) == (decision != "NG") or decision == "review"
        badge(decision, "" if right_way else "– wrong")
        st.write(
            f"score **{simulation.scores[number]:.4g}**, truth **{truth}**, "
            f"`{simulation.scored.images[number]}`"
        )
        figures = simulation.figures(review, threshold, seen)
        _confusion(figures)
        for name, rate in (
            ("Miss", figures.miss),
            ("Overkill", figures.overkill),
            ("Accuracy", figures.accuracy),
        ):
            st.caption(f"**{name}** {rate}")

    moving()


if __name__ == "__main__" and len(sys.argv) > 1:
    page(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
