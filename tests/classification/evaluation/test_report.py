"""The page of a classifier's evaluation."""

from __future__ import annotations

from classification.evaluation.measure import evaluate, run_part
from classification.evaluation.report import write_report


def test_images_that_vanished_since_do_not_cost_the_page(run, labelled, tmp_path):
    # Normal images among the defects: some are decided wrongly by any model.
    for path in sorted((labelled / "normal").glob("*.png"))[:4]:
        path.rename(labelled / "dot" / f"was_{path.name}")
    found = evaluate(run, *run_part(run, "all", labelled))
    for item in found.scored.items:
        item.path.unlink()
    page = write_report(found, tmp_path / "page").read_text(encoding="utf-8")
    assert "was_normal" in page
    assert "cannot be opened" in page
