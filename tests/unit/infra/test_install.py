"""What an image's packages are installed by, on wheels made here."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.unit.infra.files import INFRA


@pytest.fixture(scope="module")
def bare_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment without an installer of its own, as an image has it."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    return folder


def a_wheel(folder: Path, name: str, files: dict[str, str]) -> str:
    """Make a wheel of a package; return its line of a lock."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    contents = {
        **{f"{name}/{path}": text for path, text in files.items()},
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for inner, text in contents.items():
            archive.writestr(inner, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{inner},,\n" for inner in (*contents, f"{info}/RECORD")))
    return f"{name}==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def install(environment: Path, wheels: Path, lock: str) -> subprocess.CompletedProcess[str]:
    (wheels / "lock.txt").write_text(lock)
    return subprocess.run(
        [INFRA / "docker" / "install", wheels / "lock.txt"],
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "INSTALL_INTO": str(environment),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(wheels),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_packages_come_compiled_and_without_what_no_service_uses(bare_environment: Path, tmp_path: Path) -> None:
    files = {"__init__.py": "", "core.py": "ANSWER = 42\n", "core.c": "int x;", "tests/test_core.py": "", "t.pyi": ""}
    done = install(bare_environment, tmp_path, a_wheel(tmp_path, "good", files))
    assert done.returncode == 0, done.stderr
    (package,) = bare_environment.glob("lib/python3*/site-packages/good")
    assert {each.relative_to(package).parts[0] for each in package.rglob("*")} == {
        *("__init__.py", "core.py", "__pycache__")
    }
    (compiled,) = package.glob("__pycache__/core.*.pyc")
    # By content and unchecked: the date of a source, which builds do not share, is not looked at.
    assert int.from_bytes(compiled.read_bytes()[4:8], "little") == 0b01
    ran = subprocess.run(
        [bare_environment / "bin" / "python", "-c", "import good.core; print(good.core.ANSWER)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "42\n"


def test_a_module_that_is_no_python_ends_the_build_by_its_name(bare_environment: Path, tmp_path: Path) -> None:
    done = install(bare_environment, tmp_path, a_wheel(tmp_path, "broken", {"core.py": "def answer(:\n"}))
    assert done.returncode != 0
    assert "broken/core.py" in done.stdout + done.stderr


def test_a_package_of_another_hash_ends_the_build(bare_environment: Path, tmp_path: Path) -> None:
    a_wheel(tmp_path, "other", {"__init__.py": ""})
    done = install(bare_environment, tmp_path, f"other==1.0 --hash=sha256:{'0' * 64}\n")
    assert done.returncode != 0
    assert "DO NOT MATCH" in done.stderr
