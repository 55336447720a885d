"""The simulator's page; `python -m anomaly simulate` starts it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from anomaly.model import replace_operating_point, stored_operating_point
from anomaly.pictures import NORMAL
from anomaly.scored import read_scores
from anomaly.settings import AnomalySettings
from anomaly.simulator import (
    DECISIONS,
    Figures,
    Simulation,
    chosen_by_hand,
    open_simulation,
    relabel_csv,
)
from anomaly.simulator_watch import COLOURS, badge, model_of, pictures, watched
from anomaly.training import MODEL
from inspection.errors import InputError
from inspection.operating_point import RULES, choose_threshold
from inspection.rates import percent
from inspection.runs import write_text_atomic
from inspection.settings import read_settings

_NORMAL, _DEFECT = "#2e86c1", "#e67e22"
_PICTURES = 8
_ROWS = 200  # of the wrong cases that are listed


@st.cache_resource(show_spinner=False)
def _simulation(run: Path, changed: float) -> Simulation:
    return open_simulation(run)


@st.cache_resource(show_spinner=False)
def _root(run: Path) -> Path:
    data = read_settings(AnomalySettings, run / "settings.yaml", {}).data
    return data if data.is_dir() else data.parent


def page(run: Path, watch: Path | None = None) -> None:
    """Draws the page.

    Args:
        run: A run's folder that has been measured.
        watch: Folder whose new pictures are looked at, instead of the test part.
    """
    st.set_page_config(page_title=f"{run.name} – simulator", layout="wide")
    st.markdown(
        "<style>.block-container{padding-top:3rem} div[data-testid=stMetricValue]"
        "{font-size:1.6rem}</style>",
        unsafe_allow_html=True,
    )
    try:
        simulation = _simulation(run, (run / "test.csv").stat().st_mtime)
        point = stored_operating_point(run / MODEL)
    except (InputError, OSError) as error:
        st.error(f"{error} Measure the run first: python -m anomaly evaluate {run}")
        return
    st.subheader(f"{run.name}: {len(simulation):,} test pictures")
    review, threshold = _thresholds(run, simulation, point)
    if watch is not None:
        watched(run, watch, review, threshold)
        return
    figures = simulation.figures(review, threshold)
    _metrics(figures)
    left, right = st.columns([3, 2], gap="large")
    with left:
        clicked = _histogram(simulation, review, threshold)
    with right:
        _confusion(figures)
        _save(run, simulation, review, threshold, point)
    line, cases, bar, queue = st.tabs(["Line", "Worst cases", "A bar's pictures", "Relabel queue"])
    with line:
        _line(run, simulation, review, threshold)
    with cases:
        _worst(run, simulation, review, threshold)
    with bar:
        _bar(run, simulation, clicked)
    with queue:
        _relabel(run, simulation, review, threshold)


def _thresholds(run: Path, simulation: Simulation, point) -> tuple[float, float]:
    low, high = float(simulation.scores.min()), float(simulation.scores.max())
    span = (high - low) or 1.0
    low, high = low - 0.02 * span, high + 0.02 * span
    state = st.session_state
    if "has_band" not in state:
        start = point.threshold if point else float(np.quantile(simulation.scores, 0.98))
        review = (
            start if point is None or point.review_threshold is None else point.review_threshold
        )
        _move(low, high, review, start)
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
    look = {"min_value": low, "max_value": high, "step": span / 1000, "format": "%.4g"}
    if state.has_band:
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


def _rate(rate) -> tuple[str, str]:
    if not rate.total:
        return "–", f"no {rate.of}"
    low, high = rate.interval
    shown = percent(rate.value) if rate.count else f"≤ {percent(rate.upper)}"
    return shown, f"{rate.count} of {rate.total}; 95 %: {percent(low)} to {percent(high)}"


def _metrics(figures: Figures) -> None:
    names = (
        ("Miss", figures.miss),
        ("Overkill", figures.overkill),
        ("Accuracy", figures.accuracy),
        ("Review", figures.review),
    )
    for column, (name, rate) in zip(st.columns(4), names, strict=True):
        value, hint = _rate(rate)
        with column:
            st.metric(name, value)
            st.caption(hint)


def _histogram(simulation: Simulation, review: float, threshold: float) -> tuple[int, bool] | None:
    """Draws the bars; returns the one that was clicked, and whether it is of defects."""
    edges = simulation.edges
    figure = go.Figure()
    for name, counts, colour in zip(
        ("normal", "defects"), simulation.histogram(), (_NORMAL, _DEFECT), strict=True
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
        figure.add_vrect(review, threshold, fillcolor="#f1c40f", opacity=0.2, line_width=0)
        figure.add_vline(review, line_color=COLOURS["review"], line_width=2)
    figure.add_vline(threshold, line_color=COLOURS["NG"], line_width=2)
    figure.update_layout(
        barmode="overlay",
        height=330,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        legend={"orientation": "h", "y": 1.08},
        xaxis_title="score",
        yaxis_title="pictures",
        dragmode=False,
    )
    figure.update_yaxes(type="log" if len(simulation) > 1000 else "linear")
    event = st.plotly_chart(
        figure, on_select="rerun", selection_mode="points", key="histogram", theme="streamlit"
    )
    points = event.selection.points if event else []
    if not points:
        return None
    return int(points[0]["point_index"]), bool(points[0]["curve_number"])


def _confusion(figures: Figures) -> None:
    table = {"truth": ["normal", "defect"]}
    table |= {name: figures.table[:, index] for index, name in enumerate(DECISIONS)}
    st.dataframe(table, hide_index=True)


def _save(run: Path, simulation: Simulation, review: float, threshold: float, point) -> None:
    if st.button("Save this operating point into the model", key="save"):
        chosen = chosen_by_hand(read_scores(run / "calibration.csv"), review, threshold, point)
        replace_operating_point(run / MODEL, chosen)
        model_of.clear()
        st.success(f"Saved. On calibration: miss {chosen.miss}; overkill {chosen.overkill}.")
        st.caption(chosen.notes[0])


def _line(run: Path, simulation: Simulation, review: float, threshold: float) -> None:
    state = st.session_state
    state.setdefault("position", 0)
    state.setdefault("playing", False)
    start, stop, rewind, speed = st.columns([1, 1, 1, 3])
    if start.button("Start", key="start", disabled=state.playing):
        state.playing = True
        st.rerun()
    if stop.button("Stop", key="stop", disabled=not state.playing):
        state.playing = False
        st.rerun()
    if rewind.button("Rewind", key="rewind"):
        state.position, state.playing = 0, False
        st.rerun()
    pace = speed.select_slider(
        "Pictures a second", [0.5, 1, 2, 5, 20, 100, 1000], value=1, key="speed"
    )
    # More than a few pictures a second cannot be seen; the count goes on by several at once.
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
        left, middle, right = st.columns([2, 2, 3])
        _show(run, simulation, number, left, middle)
        with right:
            truth = simulation.scored.kinds[number]
            right_way = (truth == NORMAL) == (decision != "NG") or decision == "review"
            badge(decision, "" if right_way else "– wrong")
            st.write(
                f"score **{simulation.scores[number]:.4g}**, truth **{truth}**  \n"
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


def _show(run: Path, simulation: Simulation, number: int, left, right) -> None:
    path = _root(run) / simulation.scored.images[number]
    try:
        rgb, heat, _ = pictures(run, path)
    except InputError as error:
        left.warning(str(error))
        return
    left.image(rgb, width="stretch")
    right.image(heat, width="stretch")


def _cards(run: Path, simulation: Simulation, numbers) -> None:
    columns = st.columns(4)
    for place, number in enumerate(numbers[:_PICTURES]):
        number = int(number)
        with columns[place % 4]:
            _show(run, simulation, number, st, st)
            st.caption(
                f"{simulation.scored.kinds[number]}, score {simulation.scores[number]:.4g}  \n"
                f"{simulation.scored.images[number]}"
            )


def _worst(run: Path, simulation: Simulation, review: float, threshold: float) -> None:
    numbers = simulation.worst(review, threshold)
    if not len(numbers):
        st.success("Every picture is decided rightly at this threshold.")
        return
    shown = numbers[:_ROWS]
    rows = {
        "error": ["miss" if simulation.is_defect[n] else "overkill" for n in shown],
        "truth": [simulation.scored.kinds[n] for n in shown],
        "score": [float(simulation.scores[n]) for n in shown],
        "picture": [simulation.scored.images[n] for n in shown],
    }
    st.caption(f"{len(numbers)} wrong, misses first, the worst on top. Click one to see it.")
    event = st.dataframe(
        rows,
        hide_index=True,
        height=260,
        on_select="rerun",
        selection_mode="single-row",
        key="worst",
    )
    chosen = [row for row in event.selection.rows if row < len(shown)]
    if chosen:
        left, right, _ = st.columns([2, 2, 3])
        _show(run, simulation, int(shown[chosen[0]]), left, right)


def _bar(run: Path, simulation: Simulation, clicked: tuple[int, bool] | None) -> None:
    if clicked is None:
        st.caption("Click a bar of the histogram to see its pictures.")
        return
    bar, defects = clicked
    numbers = simulation.in_bar(bar, defects)
    low, high = simulation.edges[bar : bar + 2]
    kind = "defects" if defects else "normal pictures"
    st.caption(f"{len(numbers)} {kind} with scores from {low:.4g} to {high:.4g}")
    _cards(run, simulation, numbers)


def _relabel(run: Path, simulation: Simulation, review: float, threshold: float) -> None:
    numbers = simulation.ambiguous(review, threshold)
    scored = simulation.scored
    kinds = ["", *sorted(set(scored.kinds))]
    st.caption("The nearest to the threshold first. Give what is labelled wrongly its new label.")
    edited = st.data_editor(
        {
            "picture": [scored.images[n] for n in numbers],
            "truth": [scored.kinds[n] for n in numbers],
            "score": [float(scored.scores[n]) for n in numbers],
            "new label": [""] * len(numbers),
        },
        hide_index=True,
        disabled=["picture", "truth", "score"],
        column_config={"new label": st.column_config.SelectboxColumn(options=kinds)},
        key=f"relabel_{review}_{threshold}",
        height=260,
    )
    text = relabel_csv(scored, numbers.tolist(), [label or "" for label in edited["new label"]])
    left, right, _ = st.columns([1, 1, 3])
    left.download_button("Download as CSV", text.encode("utf-8-sig"), "relabel.csv", "text/csv")
    if right.button("Save beside the run", key="save_relabel"):
        write_text_atomic(run / "relabel.csv", text)
        st.success(f"{run / 'relabel.csv'}")


if __name__ == "__main__" and len(sys.argv) > 1:
    page(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
