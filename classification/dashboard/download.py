"""Boxes and figures from the dashboard, as downloads: a visitor writes no file on the server."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from classification.cam.boxes import BoxRule, write_proposals
from classification.cam.explain import ExplainRequest, explain_folder, propose
from classification.dashboard.state import Look, Run, with_preparation
from classification.evaluation.scored import Scored
from classification.models.classifier import Classifier
from inspection.cli.commands import command_line
from inspection.cli.console import counted
from inspection.data.labelled import LabelledImage


@dataclass(frozen=True)
class _Ready:
    """A zip file to download.

    Args:
        content: Its bytes.
        text: What is in it.
        problems: What could not be put into it.
    """

    content: bytes
    text: str
    problems: Sequence[str]


def export(look: Look, run: Run, model: Classifier, found: Scored, rule: BoxRule) -> None:
    """Draws the part of the page that offers boxes and figures of a part's images.

    Args:
        look: How the images are looked at.
        run: Whose keys the widgets have.
        model: Of the look.
        found: The part's images.
        rule: From map to boxes.
    """
    st.caption(
        "Boxes are proposals: a person corrects and saves them with "
        f"`{command_line('detection', 'label', 'IMAGES', '--proposals', 'FOLDER')}` before a "
        "detector learns from them. FOLDER is the unpacked download."
    )
    classes = [name for name in model.classes if name != model.card.normal]
    chosen = st.multiselect("Classes", classes, classes, key=run.key("export_classes"))
    wanted = [item for item in found.items if item.kind in chosen]
    if look.recipe != "none":
        st.info("Without augmentation: a changed image's boxes fit no file.")
    request = ExplainRequest(look.method, look.layer, look.smooth, "known", rule)
    seen = with_preparation(model, look.preparation)
    # What was prepared for another choice is not offered for this one.
    choice = (look, rule, tuple(chosen), found.items)
    ready = st.session_state.get("ready")
    if ready is None or ready[0] != choice:
        ready = st.session_state.ready = (choice, {})
    left, right, _ = st.columns([1, 1, 2])
    if left.button(f"Prepare boxes of {counted(len(wanted), 'image')}", key="write_boxes"):
        with st.spinner("Proposing …"):
            ready[1]["proposals.zip"] = _boxes(seen, wanted, request)
    if right.button("Prepare overlays and figures", key="write_figures"):
        with st.spinner("Explaining …"):
            ready[1]["cams.zip"] = _figures(seen, wanted, request)
    for name, one in ready[1].items():
        st.success(one.text)
        st.download_button(
            f"Download {name}", one.content, name, "application/zip", key=f"download {name}"
        )
        for problem in one.problems:
            st.warning(problem)


def _boxes(seen: Classifier, wanted: Sequence[LabelledImage], request: ExplainRequest) -> _Ready:
    proposals, problems = propose(seen, wanted, request)
    with tempfile.TemporaryDirectory() as folder:
        write_proposals(Path(folder), proposals)
        content = _zipped(Path(folder))
    count = sum(len(one.boxes) for one in proposals)
    return _Ready(content, f"{counted(count, 'box')}, as labelImg XML and a CSV.", problems)


def _figures(seen: Classifier, wanted: Sequence[LabelledImage], request: ExplainRequest) -> _Ready:
    with tempfile.TemporaryDirectory() as folder:
        _, problems = explain_folder(seen, wanted, Path(folder), request)
        content = _zipped(Path(folder))
    return _Ready(content, "overlays/, figures.csv, summary.json.", problems)


def _zipped(folder: Path) -> bytes:
    """All files of a folder."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder).as_posix())
    return content.getvalue()
