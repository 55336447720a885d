"""Whatever a file, a name or a flag holds: one InputError of short lines, or a result."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from anomaly.data.images import open_images as open_anomaly
from anomaly.settings import AnomalySettings
from classification.data.images import open_images as open_classification
from classification.settings import ClassificationSettings
from detection.data.annotations import read_annotations
from detection.data.table import read_classes, read_table
from detection.settings import TrainSettings
from inspection.data import grouping
from inspection.data.grouping import grouping_by
from inspection.data.images import list_images
from inspection.data.split import load_split
from inspection.data.voc import read_voc
from inspection.errors import MOST_ECHOED, InputError, alike, group_alike, one_line
from inspection.settings import read_settings

ROUNDS = 150
LONGEST = 600

LONG = "".join(random.Random(7).choices("abcdefghij", k=5000))
HOSTILE = (
    *("", " ", "\0", "\x1b[31m", "\n", "\r\n", "\t", "\udcb1\udce2", "'", '"', "`", ",", ";", "<"),
    *(LONG, LONG[:300], f"{LONG[:150]} {LONG[150:700]}", "a " * 500, "9" * 5000, "긁힘" * 200),
    *("nan", "-inf", "1e999", "-1", "0", "1_0", "0x10", "٣", "[/Red]", "[red]a", ":bug:", "{0}"),
    *("=1+1", "+a", "-a", "@a", "../../victim", "/etc/passwd", "C:\\a.png", "..\\a", "a/" * 300),
    *("<!DOCTYPE a>", "&a;", "]]>", "<a>" * 300, "<object>", "</object>", "<name/>", "&#0;"),
    *("[" * 500, "{a: " * 300, "&a [*a, *a]", "*a", "!!int abc", "!!float x", "!!bool x", "!!set"),
    *("2026-13-45", "2026-02-30 99:99:99", "!!timestamp x", "!!python/object:os.system {}", "? ["),
    *("!!binary x", "!!int ''", "!!omap [a]", "%YAML 9.9", "- a", "a: a", "seed: 1\nseed: 2", "<<"),
    *("(" * 500, "(a+)+$", "a{99999999999999999999}", "(?P<a>", "[[a]", "\\", "(?i", "(a)|(b)"),
)


def hostile(rng: random.Random, text: str) -> bytes:
    """A file's text with a few of its places overwritten."""
    for _ in range(rng.randint(1, 3)):
        start = rng.randint(0, len(text))
        end = start + rng.choice((0, 0, 1, 5, 20))
        text = text[:start] + rng.choice(HOSTILE) + text[end:]
    return text.encode("utf-8", "surrogateescape")


def fails_well(content: bytes, call: Callable[[], object]) -> int:
    """Runs `call`, whose errors must be short lines; how many there were."""
    try:
        call()
    except InputError as error:
        raw = content.decode("utf-8", "replace")
        for problem in error.problems:
            assert problem.isprintable(), problem
            assert len(problem) <= LONGEST, problem
            for start in range(len(problem) - MOST_ECHOED):
                assert problem[start : start + MOST_ECHOED + 1] not in raw, problem
        return len(error.problems)
    return 0


XML = (
    "<annotation><filename>a.png</filename><size><width>40</width><height>30</height></size>"
    "<object><name>dot</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax>"
    "</bndbox></object></annotation>"
)
YAML = "seed: 1\nsize: 64\nfit: letterbox\nfractions: [0.7, 0.2, 0.1]\ngroup_by: '(.+)_1'\nrun: a\n"
TABLES = {
    read_table: "image,xmin,ymin,xmax,ymax,label\na.png,1,2,9,8,dot\nb.png,,,,,\n",
    read_classes: "dot,0\nscratch,1\n",
    load_split: "image,group,part\na.png,a,train\nb.png,b,val\n",
    grouping_by: "image,group\na.png,1\nb.png,2\n",
    open_classification: "image,label,mask,part\na.png,ok,,train\nb.png,dot,,val\n",
    open_anomaly: "image,kind,mask\na.png,normal,\nb.png,dot,\n",
}


def test_xml(tmp_path):
    rng, problems = random.Random(1), 0
    path = tmp_path / "a.xml"
    for _ in range(ROUNDS):
        path.write_bytes(content := hostile(rng, XML))
        problems += fails_well(content, lambda: read_voc(path))
        problems += fails_well(content, lambda: read_annotations(tmp_path, tmp_path, warnings=[]))
    assert problems > ROUNDS


@pytest.mark.parametrize("read", TABLES, ids=lambda read: f"{read.__module__}.{read.__name__}")
def test_tables(tmp_path, read):
    rng, problems = random.Random(2), 0
    path = tmp_path / "t.csv"
    images = {"images_dir": tmp_path, "warnings": []} if read is read_table else {}
    for _ in range(ROUNDS):
        path.write_bytes(content := hostile(rng, TABLES[read]))
        problems += fails_well(content, lambda: read(path, **images))
    assert problems > ROUNDS / 4


@pytest.mark.parametrize("kind", [TrainSettings, ClassificationSettings, AnomalySettings])
def test_settings(tmp_path, kind):
    rng, problems = random.Random(3), 0
    path = tmp_path / "a.yaml"
    for _ in range(ROUNDS):
        path.write_bytes(content := hostile(rng, YAML))
        problems += fails_well(content, lambda: read_settings(kind, path, {}))
    assert problems > ROUNDS / 2


def test_expressions(monkeypatch):
    monkeypatch.setattr(grouping, "_SECONDS", 0.05)
    rng, problems = random.Random(4), 0
    for _ in range(ROUNDS):
        pattern = hostile(rng, r"(.+)_\d+").decode("utf-8", "surrogateescape")
        names = ("part_01.png", "a" * 40 + "!")
        problems += fails_well(
            os.fsencode(pattern), lambda p=pattern, n=names: [*map(grouping_by(p), n)]
        )
    assert problems > ROUNDS / 4


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("when: 2026-13-45", "'2026-13-45' is no timestamp"),
        ("seed: !!int abc", "'abc' is no int"),
        ("seed: !!bool maybe", "'maybe' is no bool"),
        (f"seed: {2**32}", "seed: must be a number below 4294967296"),
        (f"size: {'9' * 4000}", "size: must be a number below"),
        ("background: .inf", "background: must be a number below"),
        ("background: .nan", "background"),
        (f"seed: {'9' * 5000}", "is no int"),
        (f"seed: {'[' * 400}", "levels deep"),
        ("a: &a [1, 1]\nb: &b [*a, *a]\nc: [*b, *b]", "references such as"),
        ("seed: 1\nsize: 64\nseed: 2", "'seed' is set twice"),
        ("batch-size: 1\nbatch_size: 2", "'batch_size' is set twice"),
        ("? [a, b]\n: 1", "a.yaml"),
        ("x: " + "y" * 200_000, "larger than 100 kB"),
    ],
)
def test_settings_that_are_none_are_one_sentence(tmp_path, text, says):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    began = time.process_time()
    with pytest.raises(InputError) as caught:
        read_settings(TrainSettings, path, {})
    (problem,) = caught.value.problems
    assert says in problem
    assert len(problem) <= LONGEST
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "pattern", ["(a{99999999999999999999})", "(" * 5000, "(?P<" + "a" * 3000, "(a)" * 2000]
)
def test_an_expression_that_cannot_be_compiled_is_one_sentence(pattern):
    with pytest.raises(InputError, match=r"^--group-by '") as caught:
        grouping_by(pattern)
    assert len(str(caught.value)) <= LONGEST


def test_a_search_that_never_ends_is_ended(monkeypatch):
    monkeypatch.setattr(grouping, "_SECONDS", 0.1)
    with pytest.raises(InputError, match=r"takes more than 0\.1 s on 'aaaa.*simpler"):
        grouping_by("(a+)+$")("a" * 60 + "!")


def test_messages_are_one_line_of_bounded_length():
    error = InputError([f"a.csv, line 3: the class '{LONG}' is none; correct it", "a\nb\udcb1"])
    first, second = error.problems
    assert first.startswith("a.csv, line 3: the class 'abc"[:26])
    assert first.endswith("is none; correct it")
    assert len(first) < 260
    assert second == "a\\nb\\xb1"
    assert one_line("usual ' text, isn't it? 'a' b") == "usual ' text, isn't it? 'a' b"


def test_equal_problems_are_grouped():
    gone = [f"a/{n}.xml: the image '{n}.png' is not in docs; add it" for n in range(96)]
    lines = group_alike(["first: is odd", *gone, "last: is odd too"])
    assert lines[:4] == ["first: is odd", *gone[:3]]
    assert lines[4].startswith("... and 93 more like these: 3.xml, 4.xml,")
    assert lines[5:] == ["last: is odd too"]
    assert group_alike(gone[:5]) == gone[:5]
    assert alike(gone[0]) != alike("a/0.xml: is empty")


def test_names(tmp_path):
    rng, problems = random.Random(5), 0
    for number in range(ROUNDS // 3):
        folder = tmp_path / str(number)
        folder.mkdir()
        raw = rng.choice([hostile(rng, "a_웨이퍼")[:80], rng.randbytes(20)])
        name = raw.translate(None, b"\0/") + b".png"
        Path(os.fsdecode(os.fsencode(folder) + b"/a" + name)).write_bytes(b"")
        found = fails_well(name, lambda f=folder: list_images(f))
        problems += found
        assert found or [path.name.encode() for path in list_images(folder)] == [b"a" + name]
    assert problems > ROUNDS / 8


def test_names_that_are_not_utf8_are_named_at_once(tmp_path):
    names = (b"\xb1\xdc.png", b"\xc8\xfb/\xb1\xdc.png", b"good.png")
    for name in names:
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    with pytest.raises(InputError) as caught:
        list_images(tmp_path)
    (problem,) = caught.value.problems
    assert f"{tmp_path}: 2 names are not UTF-8" in problem
    assert "\\xb1\\xdc.png" in problem
    assert "unzip -O cp949" in problem
    problems = []
    assert list_images(tmp_path, problems) == [tmp_path / "good.png"]
    assert problems == list(caught.value.problems)


@pytest.mark.parametrize("name", ["a\rb.png", "c\n/b.png", "a\x1fb.png", "a\x7f.png"])
def test_a_name_that_ends_a_line_in_a_table_is_refused(tmp_path, name):
    for one in (name, "good.png"):
        (tmp_path / one).parent.mkdir(exist_ok=True)
        (tmp_path / one).touch()
    with pytest.raises(InputError) as caught:
        list_images(tmp_path)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{tmp_path}: 1 name holds control characters")
    assert problem.endswith("rename them")
    problems = []
    assert list_images(tmp_path, problems) == [tmp_path / "good.png"]
    assert problems == [problem]
