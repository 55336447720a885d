"""Settings: a YAML file and flags, every mistake named at once, and the way back to YAML."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.settings import TrainSettings
from inspection.errors import InputError
from inspection.settings import read_settings, save_settings


def problems_of(config: Path | None, given_flags: dict) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        read_settings(TrainSettings, config, given_flags)
    return caught.value.problems


def test_yaml_round_trip_is_complete(tmp_path):
    written = TrainSettings(
        annotations="주석",
        run="밤 교대",
        backbone="resnet18",
        weights="none",
        crop=320,
        steps=7,
        batch_size=3,
        lr=3.5e-4,
        warmup=0,
        keep=2,
        fractions=(0.5, 0.25, 0.25),
        group_by=r"(.+)_\d+",
    )
    path = tmp_path / "설정.yaml"
    save_settings(written, path)
    assert read_settings(TrainSettings, path, {}) == written
    text = path.read_text(encoding="utf-8")
    assert "밤 교대" in text
    for field in TrainSettings.model_fields:
        assert f"{field}:" in text


# Control characters and the line separators of other alphabets nobody types into a name.
words = st.text(
    st.characters(
        codec="utf-8", exclude_categories=("Cc", "Cf", "Zl", "Zp"), exclude_characters="/\\"
    ),
    min_size=1,
)


@given(
    lr=st.floats(1e-12, 1e3),
    clip_norm=st.floats(1e-9, 1e9),
    seed=st.integers(0, 2**32 - 1),
    run=st.none()
    | st.sampled_from(["on", "no", "007", "1e3", "null", "~", "12:30", " a "])
    | words,
    group_by=st.none() | words,
)
@settings(max_examples=50)
def test_any_value_survives_yaml(tmp_path_factory, lr, clip_norm, seed, run, group_by):
    """YAML 1.1 reads 1e-3 as a text and `no` as a truth value unless they are written well."""
    if run in (".", ".."):
        run = "on"
    wanted = TrainSettings(lr=lr, clip_norm=clip_norm, seed=seed, run=run, group_by=group_by)
    path = tmp_path_factory.getbasetemp() / "any_value.yaml"
    save_settings(wanted, path)
    assert read_settings(TrainSettings, path, {}) == wanted


@pytest.mark.parametrize("text", ["1e-3", "1.0e-3", "0.001"])
def test_learning_rates_as_people_write_them(tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_text(f"lr: {text}\n")
    assert read_settings(TrainSettings, path, {}).lr == 1e-3


def test_flags_win_over_the_file_and_none_is_not_given(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("epochs: 5\nbatch-size: 2\nweights: none\ncrop: null\n")
    found = read_settings(TrainSettings, path, {"epochs": 9, "batch_size": None})
    assert (found.epochs, found.batch_size, found.weights) == (9, 2, "none")
    assert found.crop is None


def test_every_mistake_is_named_at_once(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text("epoch: 5\nbackbone: resnet17\nsize: 12\nfit: cover\nlr: fast\n")
    problems = problems_of(path, {"batch_size": 0})
    assert len(problems) == 6
    for field in ("epoch", "backbone", "size", "fit", "lr", "batch_size"):
        typed = "--batch-size:" if field == "batch_size" else f"wrong.yaml, {field}:"
        assert any(typed in problem for problem in problems)
    assert sum(str(path) in problem for problem in problems) == 5
    assert any("resnet17" in problem and "resnet18" in problem for problem in problems)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "a\\b"])
def test_a_run_is_one_folder(name):
    assert "run" in problems_of(None, {"run": name})[0]


@pytest.mark.parametrize("text", ["- 1\n- 2\n", "epochs: [", "just words", "\0"])
def test_file_that_holds_no_fields(tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    assert str(path) in problems_of(path, {})[0]


def test_file_that_cannot_be_read(tmp_path):
    assert str(tmp_path / "absent.yaml") in problems_of(tmp_path / "absent.yaml", {})[0]
    (tmp_path / "latin.yaml").write_bytes(b"run: \xe9\xff\n")
    assert "latin.yaml" in problems_of(tmp_path / "latin.yaml", {})[0]


def test_empty_file_means_defaults(tmp_path):
    (tmp_path / "a.yaml").write_text("# nothing yet\n")
    assert read_settings(TrainSettings, tmp_path / "a.yaml", {}) == TrainSettings()


def test_backbones_are_those_that_can_be_built():
    from inspection.models.backbones import NAMES

    for name in NAMES:
        assert TrainSettings(backbone=name).backbone == name


def test_defaults_that_the_guide_promises():
    default = TrainSettings()
    assert (default.size, default.fit, default.anchors) == (900, "letterbox", "auto")
    assert (default.weights, default.images) == ("auto", Path("images_900"))
