"""What the simulator's page shows of single cases: the wrong ones, a bar's, those to relabel."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import streamlit as st

from anomaly.evaluation.scored import figures_file, measured_root
from anomaly.settings import AnomalySettings
from anomaly.simulator.figures import Simulation, relabel_csv
from anomaly.simulator.watch import pictures, thumb
from anomaly.training.run import run_settings
from inspection.cli.pages import Stamp, stamp
from inspection.errors import InputError
from inspection.files.writing import write_text_atomic
from inspection.training.run import SETTINGS

_IMAGES = 8
_ROWS, _ROW_HEIGHT = 50, 64  # of the wrong cases that are listed


@st.cache_resource(max_entries=4, show_spinner=False)
def _kept_settings(run: Path, written: Stamp) -> AnomalySettings:
    return run_settings(run)


def _settings(run: Path) -> AnomalySettings:
    return _kept_settings(run, stamp(run / SETTINGS))


@st.cache_resource(max_entries=4, show_spinner=False)
def _kept_root(run: Path, measured: Stamp) -> Path:
    return measured_root(run)


def show(run: Path, simulation: Simulation, number: int, left: Any, right: Any) -> None:
    """Draws an image and its map into two places."""
    path = _path(run, simulation, number)
    try:
        rgb, heat, _ = pictures(run, path)
    except InputError as error:
        left.warning(str(error))
        return
    left.image(rgb, width="stretch")
    right.image(heat, width="stretch")


def _path(run: Path, simulation: Simulation, number: int) -> Path:
    return _kept_root(run, stamp(figures_file(run))) / simulation.scored.images[int(number)]


def _previews(run: Path, simulation: Simulation, numbers: Iterable[int]) -> list[str]:
    # The model is not needed for them, and takes seconds to load.
    bits = _settings(run).bits
    return [thumb(_path(run, simulation, number), bits) for number in numbers]


def _cards(run: Path, simulation: Simulation, numbers: Iterable[int]) -> None:
    columns = st.columns(4)
    for place, number in enumerate(numbers[:_IMAGES]):
        number = int(number)
        with columns[place % 4]:
            show(run, simulation, number, st, st)
            st.caption(
                f"{simulation.scored.kinds[number]}, score {simulation.scores[number]:.4g}  \n"
                f"{simulation.scored.images[number]}"
            )


def worst(run: Path, simulation: Simulation, review: float, threshold: float) -> None:
    """The wrongly decided images as a table; a clicked one with its map."""
    numbers = simulation.worst(review, threshold)
    if not len(numbers):
        st.success("Every image is decided rightly at this threshold.")
        return
    shown = numbers[:_ROWS]
    rows = {
        "preview": _previews(run, simulation, shown),
        "error": ["miss" if simulation.is_defect[n] else "overkill" for n in shown],
        "truth": [simulation.scored.kinds[n] for n in shown],
        "score": [float(simulation.scores[n]) for n in shown],
        "image": [simulation.scored.images[n] for n in shown],
    }
    st.caption(f"{len(numbers)} wrong, misses first, the worst on top. Click one to see it.")
    event = st.dataframe(
        rows,
        hide_index=True,
        height=420,
        row_height=_ROW_HEIGHT,
        column_config={"preview": st.column_config.ImageColumn()},
        on_select="rerun",
        selection_mode="single-row",
        key="worst",
    )
    chosen = [row for row in event.selection.rows if row < len(shown)]
    if chosen:
        left, right, _ = st.columns([2, 2, 3])
        show(run, simulation, int(shown[chosen[0]]), left, right)


def of_bar(run: Path, simulation: Simulation, clicked: tuple[int, bool] | None) -> None:
    """The images of a bar of the histogram."""
    if clicked is None:
        st.caption("Click a bar of the histogram to see its images.")
        return
    bar, defects = clicked
    numbers = simulation.in_bar(bar, defects)
    low, high = simulation.edges[bar : bar + 2]
    kind = "defects" if defects else "normal images"
    st.caption(f"{len(numbers)} {kind} with scores from {low:.4g} to {high:.4g}")
    _cards(run, simulation, numbers)


def relabel(run: Path, simulation: Simulation, review: float, threshold: float) -> None:
    """The images nearest to the threshold, to be given another label."""
    numbers = simulation.ambiguous(review, threshold)
    scored = simulation.scored
    kinds = ["", *sorted(set(scored.kinds))]
    st.caption("The nearest to the threshold first. Give what is labelled wrongly its new label.")
    edited = st.data_editor(
        {
            "preview": _previews(run, simulation, numbers),
            "image": [scored.images[n] for n in numbers],
            "truth": [scored.kinds[n] for n in numbers],
            "score": [float(scored.scores[n]) for n in numbers],
            "new label": [""] * len(numbers),
        },
        hide_index=True,
        disabled=["preview", "image", "truth", "score"],
        row_height=_ROW_HEIGHT,
        column_config={
            "preview": st.column_config.ImageColumn(),
            "new label": st.column_config.SelectboxColumn(options=kinds),
        },
        key=f"relabel_{review}_{threshold}",
        height=420,
    )
    text = relabel_csv(scored, numbers.tolist(), [label or "" for label in edited["new label"]])
    left, middle, right, _ = st.columns([1, 1, 1, 2])
    left.download_button("Download as CSV", text.encode("utf-8-sig"), "relabel.csv", "text/csv")
    path, kept = run / "relabel.csv", st.session_state.setdefault("relabelled", [])
    if middle.button("Save beside the run", key="save_relabel"):
        kept.append(path.read_text(encoding="utf-8") if path.is_file() else None)
        write_text_atomic(path, text)
        st.success(f"{path}")
    if right.button("Undo", key="undo_relabel", disabled=not kept):
        before = kept.pop()
        if before is None:
            path.unlink(missing_ok=True)
        else:
            write_text_atomic(path, before)
        st.success(f"{path} is as it was before.")
