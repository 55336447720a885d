"""Names in tables for spreadsheets: never a formula, and read back as they were."""

import csv
import io

import pytest

from inspection.files.sheets import sheet_cell, sheet_text


@pytest.mark.parametrize("name", ["=1+1", "+a", "-a", "@SUM(A1)", "\tx", "'=a", "''-b"])
def test_formulas_become_text_and_come_back(name):
    text = sheet_text([("image", "score"), (name, "0.5")])
    (cell, _) = list(csv.reader(io.StringIO(text)))[1]
    assert cell == f"'{name}"
    assert sheet_cell(cell) == name


@pytest.mark.parametrize("name", ["-0.5", "+1e-3", "긁힘", "'quoted'", "a=b", "", "-inf"])
def test_numbers_and_plain_names_stay(name):
    text = sheet_text([(name, "x")])
    (cell, _) = next(csv.reader(io.StringIO(text)))
    assert cell == name == sheet_cell(cell)
