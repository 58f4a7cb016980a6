"""Generate `libs/schemas` from the .proto files; with ``--check`` only say whether it is fresh (exit 1 when stale)."""

from __future__ import annotations

import filecmp
import re
import shutil
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
SCHEMAS = ROOT / "libs" / "schemas"
NOTE = "Generated from proto/ by `make proto`; never edited by hand.\n"


def generate(target: Path) -> None:
    """Write the generated packages below `target`."""
    files = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    status = protoc.main(["protoc", f"-I{PROTO}", f"--python_out={target}", f"--pyi_out={target}", *files])
    if status != 0:
        raise SystemExit(status)
    for path in target.rglob("*.py*"):
        # protoc imports by proto path; the packages live under libs.schemas.
        text = re.sub(r"^from perpflow\.", "from libs.schemas.perpflow.", path.read_text(), flags=re.MULTILINE)
        path.write_text(text)
    for folder in [target, *(path for path in target.rglob("*") if path.is_dir())]:
        (folder / "__init__.py").write_text(f'"""{NOTE.strip()}"""\n')
    (target / "README.md").write_text(f"# schemas\n\n{NOTE}")


def main() -> int:
    """Generate, or check freshness."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        if "--check" in sys.argv[1:]:
            names = {str(path.relative_to(fresh)) for path in fresh.rglob("*") if path.is_file()}
            present = {
                str(path.relative_to(SCHEMAS))
                for path in SCHEMAS.rglob("*")
                if path.is_file() and "__pycache__" not in path.parts
            }
            _, changed, missing = filecmp.cmpfiles(fresh, SCHEMAS, sorted(names), shallow=False)
            stale = sorted({*changed, *missing, *(present - names)})
            if stale:
                sys.stderr.write(f"libs/schemas is stale: {', '.join(stale)}; run `make proto`\n")
                return 1
            return 0
        shutil.rmtree(SCHEMAS, ignore_errors=True)
        shutil.copytree(fresh, SCHEMAS)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
