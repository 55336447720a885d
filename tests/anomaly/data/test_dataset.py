"""Splits of images without labels: judged before they are stored, one for each purpose."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from anomaly.data.dataset import open_data
from anomaly.evaluation.scored import scores_file
from inspection.data.images import write_image
from inspection.data.split import Split, load_split, save_split
from inspection.data.stored_split import shared_split_path
from inspection.errors import InputError
from tests.anomaly.conftest import make_product, typed

PART = r"(p\d+)_"


def parts_with_one_defect_each(root: Path, parts: int = 12) -> Path:
    """Two good surfaces and a scratched one of every part."""
    for part in range(parts):
        for number, kind in enumerate(("normal", "normal", "scratch")):
            grey = np.full((32, 32, 3), 10 * part + number, np.uint8)
            write_image(root / f"{kind}/p{part:02d}_{number}.png", grey)
    return root


def opened(root: Path, runs: Path, said: list[str] | None = None, **options):
    return open_data(root, runs, say=(said if said is not None else []).append, **options)


def split_files(runs: Path) -> list[Path]:
    return sorted(runs.rglob("*.csv"))


def test_good_surfaces_of_parts_with_a_defect_are_learnt(tmp_path):
    root, said = parts_with_one_defect_each(tmp_path / "제품"), []
    data = opened(root, tmp_path / "r", said, group_by=PART)
    assert len(data.normals) >= 12
    assert not any(item.is_defect for item in data.part("train"))
    assert all(any(i.is_defect for i in data.part(part)) for part in ("val", "test"))
    sides = {part: {i.image[-8:-6] for i in data.part(part)} for part in ("train", "val", "test")}
    assert not (sides["train"] & sides["test"])
    assert not (sides["train"] & sides["val"])
    assert len(data.dropped) + sum(i.is_defect for i in data.part("val") + data.part("test")) == 12
    assert any("12" not in line and "left out" in line for line in said)
    assert opened(root, tmp_path / "r", group_by=PART).split == data.split


def test_a_useless_split_is_not_stored_and_blocks_nothing(tmp_path):
    root = tmp_path / "a"
    for number in range(3):  # a single normal image remains to learn from
        write_image(root / f"normal/p{number}_0.png", np.full((32, 32, 3), number, np.uint8))
    with pytest.raises(InputError, match=r"only 1 normal image.*--fractions.*--group-by"):
        opened(root, tmp_path / "r", group_by=r"(p\d)_")
    assert not split_files(tmp_path / "r")
    for number in range(3, 6):
        write_image(root / f"normal/p{number}_0.png", np.full((32, 32, 3), number, np.uint8))
    assert len(opened(root, tmp_path / "r").normals) >= 2


def test_a_useless_split_that_is_stored_is_named_with_the_ways_out(tmp_path):
    root = make_product(tmp_path / "a")
    data = opened(root, tmp_path / "r")
    save_split(
        Split(dict.fromkeys(data.split.assignments, "test"), data.split.groups), data.split_path
    )
    with pytest.raises(InputError) as refused:
        opened(root, tmp_path / "r")
    assert str(data.split_path) in str(refused.value)
    assert "--runs" in str(refused.value)
    assert opened(root, tmp_path / "other").normals


@pytest.mark.parametrize("first", ["anomaly", "classification"])
def test_two_rooms_on_the_same_images_have_a_split_each(tmp_path, first):
    from classification.data.dataset import open_data as open_classes

    root, runs = make_product(tmp_path / "a", normals=12, defects=6), tmp_path / "r"

    def ours():
        return opened(root, runs)

    def theirs():
        return open_classes(root, runs, say=lambda line: None)

    data, classes = (
        (ours(), theirs()) if first == "anomaly" else tuple(reversed((theirs(), ours())))
    )
    assert len(split_files(runs)) == 2
    assert not any(item.is_defect for item in data.split.select(data.images.items, "train"))
    assert {item.kind for item in classes.part("train")} == set(classes.images.classes)
    assert ours().split == data.split
    assert theirs().split == classes.split


def test_the_split_that_all_rooms_shared_serves_on_for_whom_it_serves(tmp_path):
    from classification.data.dataset import open_data as open_classes

    root, runs = make_product(tmp_path / "a", normals=12, defects=6), tmp_path / "r"
    new = opened(root, tmp_path / "elsewhere", seed=5).split
    save_split(new, shared_split_path(root, runs))
    assert opened(root, runs).split == new
    assert open_classes(root, runs, say=lambda line: None).split != new
    learnt = open_classes(root, tmp_path / "elsewhere", say=lambda line: None).split
    save_split(learnt, shared_split_path(root, tmp_path / "r2"))
    data = opened(root, tmp_path / "r2")
    assert not data.dropped, "a split to learn defects from is none for this room"


def test_a_run_is_measured_on_its_own_copy_of_the_split(runs, tmp_path):
    run = shutil.copytree(runs / "patchcore", tmp_path / "옮김")
    split = load_split(run / "split.csv")
    # As after a loss: what the stored split says now is not what the run was trained with.
    learnt = {name for name, part in split.assignments.items() if part == "train"}
    moved = sorted(set(split.assignments) - learnt)[:4]
    sides = {name: "test" if name in moved else "train" for name in split.assignments}
    save_split(Split(sides, split.groups), run / "split.csv")
    status, text = typed("evaluate", run)
    assert status == 2
    assert "split.csv: has changed since the run was trained" in text
    (run / "record.json").unlink()  # which some runs of before do not have
    status, text = typed("evaluate", run)
    assert status == 0, text
    with scores_file(run).open(encoding="utf-8") as file:
        assert sorted(row["image"] for row in csv.DictReader(file)) == moved
    (run / "split.csv").unlink()
    for verb in ("evaluate", "export"):
        status, text = typed(verb, run)
        assert status == 2
        assert "split.csv: is missing" in text
