"""Resolve the locks: pinned versions with hashes per service, one more for `make run` and one for the checks."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = Path(__file__).resolve().parent
# Not locked: training needs the CPU build of torch that each machine's index offers under the pinned version.
UNLOCKED = frozenset({"training"})


def resolve(extra: str) -> None:
    """Write ``infra/locks/EXTRA.txt``."""
    target = FOLDER / f"{extra}.txt"
    command = [
        *(sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--extra", extra),
        *("--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"),
        *("--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28", "--quiet", "-o", str(target)),
        # The package itself is installed from the checkout or the image, not from an index.
        *("--no-emit-package", "perpflow"),
    ]
    subprocess.run(command, cwd=ROOT, check=True)


def main() -> None:
    """Resolve every extra."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra in extras:
        if extra not in UNLOCKED:
            print(extra)  # noqa: T201
            resolve(extra)


if __name__ == "__main__":
    main()
