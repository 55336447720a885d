"""Which images an evaluation measures, wherever a run and its images lie."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import BaseModel

from inspection.data.split import Split, load_split, save_split
from inspection.errors import InputError
from inspection.training.contents import read_contents, write_contents
from inspection.training.run import own_split, write_record
from inspection.training.run_images import (
    Chosen,
    choose_part,
    parts_of,
    still_there,
    where_now,
)

SIDES = {"a/0.png": "train", "a/1.png": "train", "a/2.png": "val", "a/3.png": "test"}
GROUPS = {name: f"part {name[2]}" for name in SIDES}


@dataclass(frozen=True)
class Item:
    image: str
    label: tuple[str, ...] = ()


@pytest.fixture
def run(tmp_path) -> Path:
    """A run of four images, which holds their contents."""
    folder = tmp_path / "실행"
    folder.mkdir()
    save_split(Split(SIDES, GROUPS), folder / "split.csv")
    images(tmp_path / "data", {name: name for name in SIDES})
    write_contents(folder, {name: tmp_path / "data" / name for name in SIDES})
    return folder


def images(root: Path, contents: dict[str, str]) -> list[Item]:
    for name, text in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return [Item(name) for name in contents]


def chosen(
    run: Path | None, root: Path, items: list[Item], part: str | None = None, flag: str = "--data"
) -> Chosen[Item]:
    return choose_part(
        items,
        run,
        part,
        where=root,
        flag="--data",
        named=bool(flag),
        path_of=lambda item: root / item.image,
        hashed=lambda: "of what is there",
    )


class Wanted(BaseModel):
    """The settings of a run."""

    seed: int = 0


def recorded(run: Path, root: Path, sides: dict[str, str] = SIDES) -> None:
    """As a training does at its start, a resumed one too."""
    write_record(
        run,
        Wanted(),
        Split(sides, {name: GROUPS.get(name, name) for name in sides}),
        run / "split.csv",
        run_id="0" * 32,
        data_hash="of the data",
        packages=("numpy",),
        files={name: root / name for name in sides},
        more={},
    )


def names(found: Chosen[Item]) -> list[str]:
    return [item.image for item in found.items]


def test_the_runs_images_are_measured_on_its_own_split_wherever_they_lie(run, tmp_path):
    items = images(tmp_path / "옮김", {name: name for name in SIDES})
    found = chosen(run, tmp_path / "옮김", items)
    assert (found.part, names(found), found.notes) == ("test", ["a/3.png"], ())
    assert found.groups == GROUPS
    assert names(chosen(run, tmp_path / "옮김", items, "train")) == ["a/0.png", "a/1.png"]
    every = chosen(run, tmp_path / "옮김", items, "all")
    assert (every.part, len(every.items)) == ("all", 4)
    assert "4 of 4 images are the run's (train 2, val 1, test 1)" in every.notes[0]


def test_images_under_other_names_are_known_by_their_contents(run, tmp_path):
    items = images(tmp_path / "x", {"b/first.png": "a/0.png", "b/last.png": "a/3.png"})
    found = chosen(run, tmp_path / "x", items)
    assert (found.part, names(found)) == ("test", ["b/last.png"]), "what was learnt is no test"
    assert found.groups["b/last.png"] == "part 3"


def test_swapped_contents_are_placed_by_content_at_the_trainings_own_place_too(run, tmp_path):
    swapped = {name: name for name in SIDES} | {"a/0.png": "a/3.png", "a/3.png": "a/0.png"}
    items = images(tmp_path / "data", swapped)
    found = chosen(run, tmp_path / "data", items, flag="")
    assert names(found) == ["a/0.png"], "what was learnt is no test"
    assert any("different content" in note for note in found.notes)


def test_a_copy_of_an_image_of_two_parts_counts_as_learnt(run, tmp_path):
    paths = images(tmp_path / "twins", {"a/0.png": "same", "a/2.png": "v", "a/3.png": "same"})
    write_contents(run, {item.image: tmp_path / "twins" / item.image for item in paths})
    items = images(tmp_path / "x", {"b/new.png": "same", "b/v.png": "v"})
    found = chosen(run, tmp_path / "x", items, "train")
    assert names(found) == ["b/new.png"]
    assert any("several parts of the run; train counts before val" in note for note in found.notes)


def test_what_was_learnt_beside_the_split_is_no_test(run, tmp_path):
    items = images(tmp_path / "generated", {"1.png": "made", "2.png": "made, too"})
    own = {name: tmp_path / "data" / name for name in SIDES}
    places = [tmp_path / "generated" / item.image for item in items]
    write_contents(run, own | {str(path): path for path in places})
    with pytest.raises(InputError, match=r"of 2 images 2 are the run's \(train 2, val 0, test 0"):
        chosen(run, tmp_path / "generated", items)


def test_a_split_other_than_the_trainings_is_refused(run, tmp_path):
    root = tmp_path / "data"
    items = [Item(name) for name in SIDES]
    recorded(run, root)
    assert names(chosen(run, root, items)) == ["a/3.png"]
    path = run / "split.csv"
    whole = path.read_text()
    cut = "".join(whole.splitlines(keepends=True)[:3])
    for other in (cut, whole.replace("part 0,train", "part 0,test")):
        path.write_text(other)
        for ask in (
            lambda: own_split(run),
            lambda: chosen(run, root, items),
            lambda: parts_of(items, run, path_of=lambda item: root / item.image),
        ):
            with pytest.raises(InputError, match=r"split.csv: has changed .* bring back the split"):
                ask()
    path.write_text(whole)
    assert own_split(run) == path
    path.write_text(cut)
    (run / "record.json").write_text("{}")
    assert own_split(run) == path, "an old record may not know the split"


def test_a_split_that_grew_serves_wherever_its_writing_was_cut_short(run, tmp_path, monkeypatch):
    root = tmp_path / "data"
    images(root, {"b/new.png": "new"})
    recorded(run, root)
    (run / "state.json").write_text("{}")
    real = os.replace

    class Cut(Exception):
        pass

    for last in ("contents.csv", "record.json", "settings.yaml", "split.csv"):

        def dying(source, target, last=last):
            real(source, target)
            if Path(target).name == last:
                raise Cut

        with monkeypatch.context() as patch, pytest.raises(Cut):
            patch.setattr(os, "replace", dying)
            recorded(run, root, SIDES | {"b/new.png": "train"})
        items = [*map(Item, SIDES), Item("b/new.png")]
        parts = parts_of(items, run, path_of=lambda item: root / item.image)
        assert parts == [*SIDES.values(), "train"], last
    assert load_split(own_split(run)).assignments["b/new.png"] == "train"


def test_what_was_learnt_stays_known_when_a_run_goes_on_with_other_contents(run, tmp_path):
    root = tmp_path / "data"
    recorded(run, root)
    (run / "state.json").write_text("{}")
    items = images(root, {"a/0.png": "a/3.png", "a/3.png": "a/0.png", "a/1.png": "new"})
    recorded(run, root)
    kept = read_contents(run)
    assert {name: kept[name] for name in SIDES} == {
        name: hashlib.sha256(name.encode()).hexdigest() for name in SIDES
    }
    parts = parts_of(items, run, path_of=lambda item: root / item.image)
    assert parts == ["train"] * 3, "before or from now on"
    recorded(run, root)
    assert read_contents(run) == kept
    # A run that has learnt nothing yet has only what is there.
    (run / "state.json").unlink()
    recorded(run, root)
    assert read_contents(run).keys() == SIDES.keys()
    assert read_contents(run)["a/1.png"] == hashlib.sha256(b"new").hexdigest()


def test_other_images_are_all_measured_and_it_is_said(run, tmp_path):
    items = images(tmp_path / "x", {"a/0.png": "another", "b/9.png": "new"})
    found = chosen(run, tmp_path / "x", items)
    assert (found.part, names(found)) == ("all", ["a/0.png", "b/9.png"])
    assert "None of the 2 images is the run's: all are measured." in found.notes
    assert "1 image has the name of an image of the run but different content." in found.notes
    with pytest.raises(InputError, match=r"--split test: none of the 2 images .* leave --split"):
        chosen(run, tmp_path / "x", items, "test")


def test_a_mixture_is_measured_on_the_runs_part_and_counted(run, tmp_path):
    mixed = {name: name for name in SIDES} | {"a/new.png": "new", "a/copy.png": "a/1.png"}
    found = chosen(run, tmp_path / "x", images(tmp_path / "x", mixed))
    assert names(found) == ["a/3.png"]
    (note,) = found.notes
    assert "Of 6 images 5 are the run's (train 3, val 1, test 1), 1 is another" in note
    items = images(tmp_path / "y", {"a/0.png": "a/0.png", "a/new.png": "new"})
    with pytest.raises(InputError, match=r"the test part holds no image: of 2 images 1 is"):
        chosen(run, tmp_path / "y", items)


def test_absent_images_are_counted(run, tmp_path):
    found = chosen(run, tmp_path / "x", images(tmp_path / "x", {"a/0.png": "a/0.png"}), "train")
    assert (names(found), found.notes) == (
        ["a/0.png"],
        ("1 image of the train part is not there any more.",),
    )


def test_a_run_without_contents_knows_its_images_by_name_and_says_so(run, tmp_path):
    (run / "contents.csv").unlink()
    assert read_contents(run) == {}
    items = images(tmp_path / "x", dict.fromkeys(SIDES, "re-encoded"))
    found = chosen(run, tmp_path / "x", items)
    assert names(found) == ["a/3.png"]
    assert "by their names alone" in found.notes[0]
    (run / "record.json").write_text('{"data_hash": "of what is there"}')
    assert chosen(run, tmp_path / "x", items).notes == (), "the hash of all proves it"
    assert chosen(run, tmp_path / "x", items, flag="").notes == (), "the training's own place"


def test_a_lost_split_is_refused_unless_every_image_is_asked_for(run, tmp_path):
    (run / "split.csv").unlink()
    items = images(tmp_path / "x", {name: name for name in SIDES})
    for part, flag in ((None, ""), ("test", ""), ("test", "--data")):
        with pytest.raises(InputError, match=r"split\.csv: is missing, so nobody can tell"):
            chosen(run, tmp_path / "x", items, part, flag)
    for part, flag in (("all", ""), (None, "--data")):
        found = chosen(run, tmp_path / "x", items, part, flag)
        assert (found.part, len(found.items)) == ("all", 4)
        assert "is not known" in found.notes[0]


def test_what_is_not_the_runs_is_refused_where_the_user_named_nothing(run, tmp_path):
    items = images(tmp_path / "x", {"b/9.png": "new"})
    with pytest.raises(InputError, match=r"none of the 1 image is the run's; say by --data"):
        chosen(run, tmp_path / "x", items, flag="")


def test_the_part_of_each_image_is_known_by_content_too(run, tmp_path):
    items = images(tmp_path / "x", {"b/new.png": "a/0.png", "a/3.png": "new", "a/2.png": "a/2.png"})
    found = parts_of(items, run, path_of=lambda item: tmp_path / "x" / item.image)
    assert found == ["train", None, "val"]


def test_damaged_contents_are_refused(run, tmp_path):
    (run / "contents.csv").write_text("image\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"contents\.csv: is damaged"):
        chosen(run, tmp_path / "data", [Item("a/0.png")])


def test_data_moved_with_their_run_are_found(tmp_path):
    (tmp_path / "new/data").mkdir(parents=True)
    (tmp_path / "new/runs/밤").mkdir(parents=True)
    old, run = tmp_path / "old", tmp_path / "new/runs/밤"
    assert where_now(old / "data", old / "runs/밤", run) == tmp_path / "new/data"
    assert where_now(old / "absent", old / "runs/밤", run) == old / "absent"
    with pytest.raises(InputError, match=r"absent: the images of .*밤 are not there .* --data"):
        still_there(old / "absent", run, "--data")
    (old / "data").mkdir(parents=True)
    assert where_now(old / "data", old / "runs/밤", run) == old / "data", "not moved"


def test_a_relative_place_is_looked_for_beside_a_moved_run_first(tmp_path, monkeypatch):
    for folder in ("a/data", "a/runs/r", "b/data", "b/runs/r"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "b")
    stored, before = Path("data"), Path("runs/r")
    assert where_now(stored, before, tmp_path / "a/runs/r") == tmp_path / "a/data"
    assert where_now(stored, before, Path("runs/r")) == stored
    (tmp_path / "c/keep/r").mkdir(parents=True)
    assert where_now(stored, before, tmp_path / "c/keep/r") == stored, "moved alone"
