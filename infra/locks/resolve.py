"""Resolve the locks: pinned versions with hashes per service, one more for `make run` and one for the checks."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = Path(__file__).resolve().parent
# torch is pinned in pyproject.toml but not locked: its build (CPU, or CUDA and what that brings) is each machine's own,
# so `training.txt` holds the rest and torch is installed beside it.
TORCH_AND_ITS_OWN = re.compile(r"^(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z]+)==")


def resolve(name: str, source: Sequence[str]) -> None:
    """Write ``infra/locks/NAME.txt`` from what uv's arguments `source` name."""
    target = FOLDER / f"{name}.txt"
    command = [
        *(sys.executable, "-m", "uv", "pip", "compile", *source),
        *("--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"),
        *("--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28", "--quiet", "-o", str(target)),
        # The package itself is installed from the checkout or the image, not from an index.
        *("--no-emit-package", "perpflow"),
    ]
    subprocess.run(command, cwd=ROOT, check=True)
    blocks = re.split(r"^(?=\S)", target.read_text(), flags=re.MULTILINE)
    target.write_text("".join(block for block in blocks if not TORCH_AND_ITS_OWN.match(block)))


def main() -> None:
    """Resolve every extra and every dependency group."""
    facts = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for extra in facts["project"]["optional-dependencies"]:
        print(extra)  # noqa: T201
        resolve(extra, ("pyproject.toml", "--extra", extra))
    for group in facts["dependency-groups"]:
        print(group)  # noqa: T201
        resolve(group, ("--group", group))


if __name__ == "__main__":
    main()
