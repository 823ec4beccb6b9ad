"""The baselines of the benchmarks are installed, or their rows show the reason."""

from __future__ import annotations

import subprocess
import zipfile
from typing import TYPE_CHECKING

import pytest

from benchmarks.environment import NotInstalledError, python_with
from benchmarks.sync import beside_others

if TYPE_CHECKING:
    from pathlib import Path


def requirements(folder: Path) -> Path:
    """Return requirements that only a wheel in the folder can meet."""
    path = folder / "baseline.txt"
    path.write_text(f"--no-index\n--find-links {folder}\nbaseline==1.0\n")
    return path


def write_wheel(folder: Path) -> Path:
    path = folder / "baseline-1.0-py3-none-any.whl"
    info = "baseline-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("baseline.py", "")
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: baseline\nVersion: 1.0\n"
        )
        wheel.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(
            f"{info}/RECORD",
            f"baseline.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n",
        )
    return path


@pytest.mark.slow
def test_environment_of_a_baseline_is_installed_once(
    tmp_path: Path,
) -> None:
    wheel = write_wheel(tmp_path)
    python_with(requirements(tmp_path), tmp_path / "home")
    wheel.unlink()

    python = python_with(requirements(tmp_path), tmp_path / "home")

    subprocess.run([python, "-c", "import baseline"], check=True)


def test_error_names_a_baseline_that_cannot_be_installed(tmp_path: Path) -> None:
    with pytest.raises(NotInstalledError, match="baseline"):
        python_with(requirements(tmp_path), tmp_path / "home")


def test_row_of_a_baseline_without_an_environment_has_no_ratio() -> None:
    found = {"inferred mapping": [2.0], "orjson": [1.0]}

    rows = [(figure.beside, figure.ratio) for figure in beside_others(found, 100)]

    assert rows == [
        ("the empty `RecordSink` of hotglue-singer-sdk, could not be installed", None),
        ("nothing but `orjson.loads` of each line, 100/s", 0.5),
    ]
