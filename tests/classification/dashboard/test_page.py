"""The dashboard, by AppTest."""

from __future__ import annotations

import io
import shutil
import tomllib
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import streamlit
import yaml
from streamlit.testing.v1 import AppTest

from inspection.data.images import write_image
from inspection.data.voc import PROPOSAL, is_sealed
from inspection.models.card import read_card
from tests.classification.conftest import write_set
from tests.places import ROOT

ROOMS = ("classification", "anomaly")


def script(runs: str) -> None:
    from pathlib import Path

    from classification.dashboard.page import page

    page(Path(runs))


def page_of(runs: Path) -> AppTest:
    test = AppTest.from_function(script, kwargs={"runs": str(runs)}, default_timeout=120).run()
    assert not test.exception, test.exception
    return test


def captions(test: AppTest) -> str:
    return "\n".join(one.value for one in (*test.caption, *test.markdown))


def widget(test: AppTest, key: str, kind: str = "selectbox"):
    """A widget by its key, or by the key that it has for the run that is looked at."""
    return next(one for one in getattr(test, kind) if (one.key or "").split(" ")[0] == key)


def moved(test: AppTest, key: str, value, kind: str = "selectbox") -> str:
    """What the page says after a choice."""
    widget(test, key, kind).set_value(value).run()
    assert not test.exception, test.exception
    assert not test.error, [one.value for one in test.error]
    return captions(test)


@pytest.fixture
def page(run, monkeypatch) -> AppTest:
    monkeypatch.chdir(run.parent.parent)
    return page_of(run.parent)


def test_every_selector_changes_what_is_shown(page):
    text = captions(page)
    assert "Predicted:" in text
    assert "True:" in text
    assert "strongest place" in text
    seen = {text}
    for key, value in (
        ("layer", "conv3_block2_out"),
        ("method", "layer-cam"),
        ("smooth", "augment"),
        ("recipe", "flip"),
    ):
        seen.add(moved(page, key, value))
    page.selectbox(key="recipe").set_value("none")
    seen.add(moved(page, "flatten", True, "checkbox"))
    assert "Other than in training" in captions(page)
    seen.add(moved(page, "clahe", 4.0, "slider"))
    seen.add(moved(page, "background", True, "checkbox"))
    assert len(seen) == 8


def test_the_browser_goes_through_images_worst_first(page):
    moved(page, "part", "train", "radio")
    first = widget(page, "number").value
    page.button(key="forward").click().run()
    assert widget(page, "number").value != first
    page.button(key="back").click().run()
    assert widget(page, "number").value == first
    moved(page, "true", "dot")
    options = widget(page, "number").options
    assert options
    assert all("is dot" in one for one in options)
    text = moved(page, "wrong", "right only")
    assert all(one.startswith("✓") for one in widget(page, "number").options)
    assert "shown" in text


def test_masks_give_figures_and_the_threshold_moves_the_boxes(page):
    moved(page, "true", "dot")
    moved(page, "layer", "conv3_block2_out")
    low = moved(page, "level_share", 0.1, "slider")
    assert "IoU" in low
    assert "energy inside" in low
    assert moved(page, "level_share", 0.9, "slider") != low
    assert "IoU" in moved(page, "kind", "otsu")


@pytest.mark.parametrize("over", ["epochs", "layers", "methods"])
def test_the_grid_compares(page, over):
    moved(page, "what", "Compare", "radio")
    text = moved(page, "over", over)
    wanted = {"epochs": "epoch_00", "layers": "_out", "methods": "hires-cam"}
    assert text.count("**") >= 4
    assert wanted[over] in text


def test_boxes_and_figures_are_downloads_and_nothing_is_written(page, monkeypatch, tmp_path):
    given = {}
    real = streamlit.download_button

    def keep(label, data, name, *others, **more):
        given[name] = zipfile.ZipFile(io.BytesIO(data))
        return real(label, data, name, *others, **more)

    monkeypatch.setattr(streamlit, "download_button", keep)
    here = sorted(tmp_path.rglob("*"))
    moved(page, "what", "Export", "radio")
    assert not [one.label for one in page.text_input if "older" in one.label], "no path to type"
    page.button(key="write_boxes").click().run()
    assert not page.exception
    assert "labelImg XML" in page.success[0].value
    assert given["proposals.zip"].testzip() is None
    given["proposals.zip"].extractall(tmp_path / "제안")
    assert (tmp_path / "제안" / "proposals.csv").is_file()
    found = list((tmp_path / "제안").glob("*.xml"))
    assert found
    assert all(is_sealed(path, PROPOSAL) for path in found)
    page.button(key="write_figures").click().run()
    assert "summary.json" in given["cams.zip"].namelist()
    shutil.rmtree(tmp_path / "제안")
    assert sorted(tmp_path.rglob("*")) == here
    moved(page, "level_share", 0.9, "slider")
    assert not page.download_button, "boxes of another threshold are not offered"


def test_two_runs_of_different_classes_are_switched_between(run, tmp_path):
    from classification.models.classifier import Classifier

    # The same weights under other names and another preparation: a second run.
    for path in sorted(run.glob("epoch_*.keras"))[1:]:
        path.unlink()
    other = shutil.copytree(run, run.parent / "other")
    names = {"normal": "ok", "dot": "a", "긁힘": "z"}
    for path in other.glob("*.keras"):
        model = Classifier.load(path)
        changes = {
            "classes": tuple(names[name] for name in model.classes),
            "normal": "ok",
            "preparation": replace(model.card.preparation, clahe=3.0, roi=(0, 0, 40, 40)),
        }
        card = model.card.model_copy(update=changes)
        Classifier(model.model, card).save(path)
    settings = (other / "settings.yaml").read_text(encoding="utf-8")
    data = write_set(tmp_path / "other data")
    for old, new in names.items():
        (data / old).rename(data / new)
        if (data / "masks" / old).is_dir():
            (data / "masks" / old).rename(data / "masks" / new)
    loaded = yaml.safe_load(settings) | {"data": str(data), "normal": "ok"}
    (other / "settings.yaml").write_text(yaml.safe_dump(loaded, allow_unicode=True), "utf-8")
    for table in ("split.csv", "contents.csv"):
        text = (other / table).read_text(encoding="utf-8")
        for old, new in names.items():
            text = text.replace(f"{old}/", f"{new}/")
        (other / table).write_text(text, encoding="utf-8")
    (other / "record.json").unlink()

    test = page_of(run.parent)
    first = Path(widget(test, "epoch").value).parent
    second = other if first == run else run
    moved(test, "what", "Compare", "radio")
    moved(test, "clahe", 1.0, "slider")
    moved(test, "true", model_classes(first)[1])
    for one in (second, first, second):
        moved(test, "run", one.name)
        assert Path(widget(test, "epoch").value).parent == one, "the weights are the run's own"
        assert widget(test, "true").options == ["any", *model_classes(one)]
        assert widget(test, "clahe", "slider").value == (3.0 if one == other else 0.0)
        assert widget(test, "roi", "text_input").value == ("0,0,40,40" if one == other else "")
        assert "Other than in training" not in captions(test)
        moved(test, "true", model_classes(one)[1])
        assert widget(test, "explained").value in model_classes(one)
    moved(test, "what", "Export", "radio")
    assert widget(test, "export_classes", "multiselect").value == [
        name for name in model_classes(second) if name not in ("normal", "ok")
    ]


def model_classes(run: Path) -> list[str]:
    return list(read_card(run / "best.keras", "classification").classes)


def test_images_and_split_of_a_run_trained_again_are_fresh(run, labelled, monkeypatch):
    from classification.dashboard.state import ModelFile, Run, part_of, scored

    before = scored(ModelFile.of(run / "best.keras"), Run.of(run), "test", 500)
    names = [item.image for item in before.items]
    split = (run / "split.csv").read_text(encoding="utf-8")
    (run / "split.csv").write_text(split.replace(",test", ",train", 1), encoding="utf-8")
    (run / "record.json").unlink()
    items = part_of(Run.of(run), "test")
    assert len(items) == len(names) - 1
    settings = yaml.safe_load((run / "settings.yaml").read_text(encoding="utf-8"))
    settings["data"] = str(labelled)
    (run / "settings.yaml").write_text(yaml.safe_dump(settings, allow_unicode=True), "utf-8")
    items = part_of(Run.of(run), "test")
    assert items[0].path.is_relative_to(labelled)
    first = scored(ModelFile.of(run / "best.keras"), Run.of(run), "test", 500)
    write_image(items[0].path, np.full((48, 48, 3), 255, np.uint8))
    again = scored(ModelFile.of(run / "best.keras"), Run.of(run), "test", 500)
    assert (first.probability[0] != again.probability[0]).any()


def test_what_is_wrong_is_said_on_the_page(page, tmp_path):
    widget(page, "roi", "text_input").set_value("1,2,3").run()
    assert "give four whole numbers" in page.error[0].value
    widget(page, "roi", "text_input").set_value("0,0,4000,10").run()
    assert "correct --roi" in page.error[0].value
    assert "holds no run of a classifier" in page_of(tmp_path / "none").error[0].value


def test_pages_are_for_this_pc_alone_and_report_nothing():
    files = [ROOT / folder / ".streamlit/config.toml" for folder in ("", *ROOMS)]
    for path in files:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
        assert found == {
            "server": {"address": "127.0.0.1"},
            "browser": {"gatherUsageStats": False},
            "client": {"toolbarMode": "viewer"},
        }
