"""Where a snapshot's labels and images are looked for."""

from __future__ import annotations

from pathlib import Path

from detection.evaluation.snapshot import find_folders
from inspection.models.card import ModelCard, Provenance


def test_folders_that_only_bear_the_usual_names_are_not_taken_for_the_trainings(
    tmp_path, monkeypatch
):
    for name in ("annotations", "images_900", "own/a", "own/i"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    own = Provenance(annotations=str(tmp_path / "own/a"), data=str(tmp_path / "own/i"))
    gone = Provenance(annotations=str(tmp_path / "gone/a"), data=str(tmp_path / "own/i"))
    said: list[str] = []

    def found(origin: Provenance):
        card = ModelCard.model_construct(provenance=origin)
        return find_folders(tmp_path / "best.keras", card, None, None, said.append)

    assert not found(own).named
    guessed = found(gone)
    assert (guessed.annotations, guessed.named) == (Path("annotations"), True)
    assert "gone/a: is gone; taking annotations." in said[0]
