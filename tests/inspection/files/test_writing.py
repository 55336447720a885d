"""Atomic writes: a reader sees the old file or the new one, whatever goes wrong between."""

from __future__ import annotations

import errno
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from inspection.files.writing import (
    atomic_path,
    copy_atomic,
    file_hash,
    may_write,
    peak_memory_mb,
    sweep_temporary,
    write_json_atomic,
    write_text_atomic,
)


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_new_file_appears_only_at_the_end(tmp_path):
    target = tmp_path / "결과" / "best.keras"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".keras"  # Keras and OpenCV choose the format by it
        temporary.write_bytes(b"new")
        assert not target.exists()
    assert target.read_bytes() == b"new"
    assert entries(target.parent) == ["best.keras"]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError()]
)
def test_failure_keeps_the_old_file_and_leaves_nothing_behind(tmp_path, error):
    target = tmp_path / "state.json"
    target.write_bytes(b"old")
    with pytest.raises(type(error)), atomic_path(target) as temporary:
        temporary.write_bytes(b"half of the n")
        raise error
    assert target.read_bytes() == b"old"
    assert entries(tmp_path) == ["state.json"]


def test_target_that_cannot_be_replaced_leaves_nothing_behind(tmp_path):
    target = tmp_path / "file.txt"
    (target / "in_the_way").mkdir(parents=True)
    with pytest.raises(OSError), atomic_path(target) as temporary:
        temporary.write_text("x")
    assert entries(tmp_path) == ["file.txt"]


def test_writer_that_removes_and_recreates_the_file_works(tmp_path):
    """HDF5 and zip writers may replace the file that they were given."""
    target = tmp_path / "a.bin"
    with atomic_path(target) as temporary:
        temporary.unlink()
        temporary.write_bytes(b"again")
    assert target.read_bytes() == b"again"


def test_permissions_follow_the_umask(tmp_path):
    script = (
        "import sys; from inspection.files.writing import *; write_text_atomic(sys.argv[1], 'a')"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "a.txt"], umask=0o027, check=True)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


def test_sweeping_takes_what_killed_writes_of_these_files_left_and_nothing_else(tmp_path):
    for name in ("best.keras", "epoch_007.optimizer.npz", "다른 것.csv"):
        with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / name) as temporary:
            raise KeyboardInterrupt
        temporary.write_bytes(b"half")  # a kill removes nothing
    (tmp_path / ".best.keras").write_bytes(b"mine")
    sweep_temporary(tmp_path, ["best.keras", "epoch_*.npz"])
    mine, other = entries(tmp_path)
    assert mine == ".best.keras"
    assert other.startswith(".다른 것.")


def test_a_copy_is_whole_or_not_there(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_bytes(b"new")
    (tmp_path / "b.csv").write_bytes(b"old")

    def full(source, target):
        Path(target).write_bytes(b"n")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr("shutil.copyfile", full)
        copy_atomic(tmp_path / "a.csv", tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_bytes() == b"old"
    copy_atomic(tmp_path / "a.csv", tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_bytes() == b"new"
    assert entries(tmp_path) == ["a.csv", "b.csv"]


def test_long_korean_name(tmp_path):
    target = tmp_path / ("결함" * 38 + ".txt")  # 232 of the 255 bytes a name may have
    write_text_atomic(target, "긁힘")
    assert target.read_text(encoding="utf-8") == "긁힘"


def test_json_reads_back(tmp_path):
    path = tmp_path / "record.json"
    write_json_atomic(
        path,
        {
            "folder": Path("/data/사진"),
            "map": np.float32(0.5),
            "missing": float("nan"),
            "missing32": np.float32("nan"),
            "flags": np.array([True, False]),
            "boxes": np.array([[1.5, np.nan]]),
            "parts": (1, 2),
            3: None,
        },
    )
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "folder": "/data/사진",
        "map": 0.5,
        "missing": None,
        "missing32": None,
        "flags": [True, False],
        "boxes": [[1.5, None]],
        "parts": [1, 2],
        "3": None,
    }
    assert "사진" in path.read_text(encoding="utf-8")


def test_json_stays_valid_with_infinity(tmp_path):
    """`Infinity` is no JSON: a browser or another language refuses the whole file."""
    path = tmp_path / "record.json"
    write_json_atomic(path, {"threshold": float("inf")})

    def refuse(constant: str):
        raise AssertionError(f"{constant} is no JSON")

    json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_file_hash_is_sha256_of_the_content(tmp_path):
    content = bytes(range(256)) * 5000
    (tmp_path / "a.bin").write_bytes(content)
    assert file_hash(tmp_path / "a.bin") == hashlib.sha256(content).hexdigest()


def test_a_read_only_folder_is_not_written_also_by_root(tmp_path):
    archive = tmp_path / "archive"
    archive.mkdir()
    assert may_write(archive)
    archive.chmod(0o555)
    try:
        assert not may_write(archive)
    finally:
        archive.chmod(0o755)
    assert not may_write(tmp_path / "absent")


def test_peak_memory_is_this_processes_own():
    import subprocess
    import sys

    held = bytearray(300_000_000)
    told = "from inspection.files.writing import peak_memory_mb; print(peak_memory_mb())"
    child = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert 5 < float(child.stdout) < 250
    assert peak_memory_mb() > len(held) / 1e6
