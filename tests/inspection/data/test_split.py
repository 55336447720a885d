from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inspection.data.boxes import ImageLabels
from inspection.data.grouping import grouping_by, stem_note
from inspection.data.split import (
    PARTS,
    Split,
    extend_split,
    leakage,
    load_split,
    make_split,
    save_split,
)
from inspection.data.stored_split import stored_split
from inspection.errors import InputError
from tests.places import DATA


def labelled(image: str, *names: str) -> ImageLabels:
    return ImageLabels(image, np.tile([[0, 0, 1, 1]], (len(names), 1)) if names else [], names)


def many(count: int, start: int = 0) -> list[ImageLabels]:
    """Images with up to three boxes of two classes, one in seven normal."""
    labels = []
    for i in range(start, start + count):
        names = ("dust",) * (i % 7 % 4) + ("scratch",) * (i % 5 == 0)
        labels.append(labelled(f"part{i // 4:03d}_{i % 4}.png", *(names if i % 7 else ())))
    return labels


def boxes_of(labels: list[ImageLabels], split: Split) -> dict[str, Counter[str]]:
    return {
        part: Counter(n for item in split.select(labels, part) for n in item.label or ("normal",))
        for part in PARTS
    }


def test_every_class_is_divided_as_asked():
    labels = many(700)
    split = make_split(labels)
    total = Counter(n for item in labels for n in item.label or ("normal",))
    for part, fraction in zip(PARTS, (0.7, 0.15, 0.15), strict=True):
        for name, count in boxes_of(labels, split)[part].items():
            assert count == pytest.approx(fraction * total[name], abs=4)
    assert split.parts["train"] == pytest.approx(490, abs=30)
    assert sum(split.parts.values()) == 700


def test_order_does_not_matter_and_the_seed_does():
    labels = many(60)
    split = make_split(labels)
    assert make_split(labels[::-1]) == split
    assert make_split(labels[::-1]).hash == split.hash
    assert make_split(labels, seed=1).hash != split.hash


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abcde"), max_size=4), min_size=3, max_size=40),
    st.integers(0, 5),
)
def test_rare_classes_reach_every_part(contents, seed):
    # Five images of every class on its own: then there is always a way.
    contents = contents + [[name] for name in "abcde" for _ in range(5)]
    labels = [labelled(f"{i}.png", *names) for i, names in enumerate(contents)]
    counts = boxes_of(labels, make_split(labels, seed=seed))
    assert all(set("abcde") <= set(counts[part]) for part in PARTS)


@given(st.integers(3, 30), st.integers(0, 5))
def test_groups_stay_together(count, seed):
    labels = many(4 * count)
    split = make_split(labels, seed=seed, group_by=r"(part\d+)_")
    sides = {(split.groups[image], part) for image, part in split.assignments.items()}
    assert len(sides) == count
    assert all(split.parts.values())


def test_an_image_without_a_match_is_its_own_group():
    labels = [*many(12), labelled("other.png")]
    split = make_split(labels, group_by=r"(part\d+)_")
    assert split.groups["other.png"] == "other.png"
    assert split.groups["part000_1.png"] == "part000"


def test_groups_may_come_from_a_folder_name():
    labels = [labelled(f"lot{i % 4}/{i}.png", "a") for i in range(20)]
    assert set(make_split(labels, group_by=r"^(\w+)/").groups.values()) == {
        "lot0", "lot1", "lot2", "lot3",
    }  # fmt: skip


@pytest.mark.parametrize("header", ["image,group", "image,tile", "group,image,camera"])
def test_groups_may_come_from_a_table(tmp_path, header):
    path = tmp_path / "그룹.csv"
    rows = [header]
    for i in range(8):
        fields = {"image": f"{i}.png", "group": i // 2, "tile": i // 2, "camera": 9}
        rows.append(",".join(str(fields[name]) for name in header.split(",")))
    path.write_text("\ufeff" + "\r\n".join(rows), encoding="utf-8")
    labels = [labelled(f"x/{i}.png", "a") for i in range(9)]
    split = make_split(labels, group_by=path)
    assert split.groups["x/0.png"] == split.groups["x/1.png"] == "0"
    assert split.groups["x/8.png"] == "x/8.png"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("image,group\na.png", "line 2: must hold"),
        ("image,group\na.png,1\na.png,2", "line 3: puts a.png"),
        ("name,group\n", "line 1: must name"),
        ("image,x,y\n", "line 1: must name"),
        ("", "line 1: must name"),
        ('image,group\n"a', "is not CSV"),
        ("image,group\nelse.png,1", "names the group of no image"),
    ],
)
def test_a_bad_group_table_is_an_input_error(tmp_path, content, says):
    path = tmp_path / "groups.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=says):
        make_split(many(9), group_by=path)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [("(", "no regular expression"), ("part", "0 capture groups"), ("(lot)", "of no image")],
)
def test_a_bad_pattern_is_an_input_error(pattern, says):
    with pytest.raises(InputError, match=says):
        make_split(many(9), group_by=pattern)


def test_too_few_groups_are_an_input_error():
    with pytest.raises(InputError, match="at least 3 groups"):
        make_split(many(2))
    with pytest.raises(InputError, match="at least 3 groups of images, here are 2"):
        make_split(many(8), group_by=r"(part\d+)_")
    assert make_split(many(2), (0.5, 0, 0.5)).parts == {"train": 1, "val": 0, "test": 1}


@pytest.mark.parametrize("fractions", [(0.7, 0.3), (0.7, 0.2, 0.2), (1.2, -0.1, -0.1)])
def test_fractions_are_checked(fractions):
    with pytest.raises(InputError, match="sum to 1"):
        make_split(many(9), fractions)


def test_an_image_may_occur_once():
    with pytest.raises(InputError, match="occurs twice"):
        make_split([*many(9), *many(1)])


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 40), st.integers(1, 60), st.integers(0, 3))
def test_no_image_changes_side_when_images_are_added(before, added, seed):
    old = make_split(many(before), seed=seed)
    labels = many(before + added)
    new = extend_split(old, labels[::-1], seed=seed)
    assert set(new.assignments) == {item.image for item in labels}
    assert all(new.assignments[image] == part for image, part in old.assignments.items())
    assert new == extend_split(old, labels, seed=seed)


def test_additions_even_the_split_out():
    labels = many(700)
    split = extend_split(make_split(labels[:60]), labels)
    counts = boxes_of(labels, split)
    total = sum((counts[part] for part in PARTS), Counter())
    for name, count in counts["test"].items():
        assert count == pytest.approx(0.15 * total[name], abs=4)


def test_new_exposures_follow_their_part():
    labels = many(40)
    pattern = r"(part\d+)_"
    old = make_split(labels[:38], group_by=pattern)
    new = extend_split(old, labels, group_by=pattern)
    assert len({new.assignments[f"part009_{i}.png"] for i in range(4)}) == 1


def test_a_grouped_split_is_not_extended_without_its_grouping():
    labels = many(40)
    old = make_split(labels[:38], group_by=r"(part\d+)_")
    with pytest.raises(InputError, match="same --group-by"):
        extend_split(old, labels)
    assert extend_split(old, labels[:38]) == old


def test_a_grouping_that_joins_parts_is_refused():
    labels = many(40)
    old = make_split(labels[:39])
    with pytest.raises(InputError, match="already stands in"):
        extend_split(old, labels, group_by="(part)")


def test_images_that_are_gone_keep_their_place():
    old = make_split(many(20))
    assert extend_split(old, many(10)) == old


def test_selecting_unknown_images_is_an_input_error():
    with pytest.raises(InputError, match="no place in the split"):
        make_split(many(10)).select(many(11), "train")


def test_stored_and_read_back(tmp_path):
    path = tmp_path / "분할.csv"
    labels = [*many(20), labelled('쉼표, "따옴표".png', "a")]
    split = make_split(labels)
    save_split(split, path)
    assert load_split(path) == split
    assert load_split(path).hash == split.hash
    assert path.read_text(encoding="utf-8").startswith("image,group,part\n")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "line 1"),
        ("image,part\n", "line 1"),
        ("image,group,part\na,b\n", "line 2: must hold"),
        ("image,group,part\na,b,training\n", "line 2: must hold"),
        ("image,group,part\na,b,val\na,b,val\n", "line 3: a occurs twice"),
        ("image,group,part\na,g,val\nb,g,test\n", "line 3: the group 'g' stands in val and in"),
        (b"image,group,part\n\xff,b,val\n", "UTF-8"),
    ],
)
def test_a_damaged_split_is_an_input_error(tmp_path, content, says):
    path = tmp_path / "split.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=says):
        load_split(path)
    with pytest.raises(InputError, match="cannot be read"):
        load_split(tmp_path / "none.csv")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=80))
def test_random_bytes_are_input_errors(tmp_path, content):
    path = tmp_path / "split.csv"
    path.write_bytes(b"image,group,part\n" + content)
    try:
        split = load_split(path)
    except InputError:
        return
    assert set(split.assignments.values()) <= set(PARTS)


def test_equal_images_on_two_sides_are_found(tmp_path):
    for name, content in {"a": b"1", "b": b"1", "c": b"1", "d": b"2", "e": b"22"}.items():
        (tmp_path / name).write_bytes(content)
    split = Split(
        {"a": "train", "b": "test", "c": "train", "d": "val", "e": "test", "gone": "val"},
        {name: name for name in ("a", "b", "c", "d", "e", "gone")},
    )
    (finding,) = leakage(split, tmp_path)
    assert "a (train), b (test), c (train)" in finding
    together = Split({"a": "train", "b": "train"}, {"a": "a", "b": "b"})
    assert leakage(together, tmp_path) == []


def test_a_group_on_two_sides_is_found(tmp_path):
    split = Split({"a": "train", "b": "test"}, {"a": "g", "b": "g"})
    (finding,) = leakage(split, tmp_path)
    assert "'g' stands in test and train" in finding


def test_published_tiles_stay_together():
    table = DATA / "magnetic_tile" / "tiles.csv"
    if not table.is_file():
        pytest.skip("magnetic_tile is not there; set INSPECTION_DATA")
    rows = [line.split(",") for line in table.read_text().split()[1:]]
    split = make_split([labelled(image) for image, _ in rows], group_by=table)
    parts = {(tile, split.assignments[image]) for image, tile in rows}
    assert len(parts) == len({tile for _, tile in rows})


def test_a_group_table_may_name_images_as_before_resize(tmp_path):
    labels = many(9)
    stems = [Path(item.image).stem for item in labels]
    path = tmp_path / "groups.csv"
    rows = [f"raw/part {number // 3}/{stem}.TIF,{number // 3}" for number, stem in enumerate(stems)]
    path.write_text("image,group\n" + "\n".join(rows) + "\n")
    assert set(make_split(labels, group_by=path).groups.values()) == {"0", "1", "2"}
    said = []
    stored_split(
        labels,
        tmp_path / "split.csv",
        fractions=(0.4, 0.3, 0.3),
        group_by=str(path),
        say=said.append,
    )
    assert "9 images are named there as before `resize`" in said[0]
    rows += [f"{stems[0]}.bmp,other"]  # the stem alone no longer says which group
    path.write_text("image,group\n" + "\n".join(rows) + "\n")
    assert grouping_by(path)(labels[0].image) == labels[0].image


def test_a_name_in_the_table_wins_over_its_stem(tmp_path):
    path = tmp_path / "groups.csv"
    path.write_text("image,group\na.png,exact\nb.tif,stem\n")
    group = grouping_by(path)
    assert (group("x/a.png"), group("b.png"), group("c.png")) == ("exact", "stem", "c.png")
    assert stem_note(path, ["a.png"]) == ""
