"""numba's compiler for the hot cores, whose kept machine code is as new as everything that went into it.

What a function calls and the constants that it names become part of its machine code, but numba asks only whether the
function's own file is as it was when the code was kept: after a change elsewhere (an update, another branch) old code
would go on running. Here kept code belongs to the text of the function's file and of all files of ours that it imports.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from numba import config, njit
from numba.core import caching

__all__ = ["njit", "sources_of"]

_ROOT = Path(__file__).resolve().parent.parent
_IMPORT = re.compile(
    rb"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n]*)|import[ \t]+([\w., \t]+))", re.M
)
_NAME = re.compile(r"[\w.]+")


@functools.cache
def sources_of(path: Path) -> frozenset[Path]:
    """Return a Python file and the project's files that it imports, directly and through them."""
    found: set[Path] = set()
    waiting = [path.resolve()]
    while waiting:
        source = waiting.pop()
        if source not in found:
            found.add(source)
            waiting.extend(_imported(source))
    return frozenset(found)


@functools.cache
def _imported(path: Path) -> tuple[Path, ...]:
    modules = (_ROOT.joinpath(*name.split(".")) for name in _names_imported(path.read_bytes()))
    files = (file for module in modules for file in (module.with_suffix(".py"), module / "__init__.py"))
    return tuple(file for file in files if file.is_file())


def _names_imported(text: bytes) -> Iterator[str]:
    for module, names, modules in _IMPORT.findall(text):
        yield from _NAME.findall(modules.decode())
        if module:
            yield module.decode()
            # A name may be a module of a package.
            yield from (f"{module.decode()}.{name}" for name in _NAME.findall(names.decode()))


@functools.cache
def _digest(path: Path) -> bytes:
    sources = sorted(sources_of(path))
    return hashlib.sha256(b"".join(hashlib.sha256(source.read_bytes()).digest() for source in sources)).digest()


class _OfAllSources:
    _py_file: str

    def get_source_stamp(self) -> bytes:
        return _digest(Path(self._py_file))


class Provided(_OfAllSources, caching.UserProvidedCacheLocator):  # type: ignore[misc]
    """Keeps machine code under NUMBA_CACHE_DIR."""


class InTree(_OfAllSources, caching.InTreeCacheLocator):  # type: ignore[misc]
    """Keeps machine code in __pycache__ beside the module."""


class UserWide(_OfAllSources, caching.UserWideCacheLocator):  # type: ignore[misc]
    """Keeps machine code in the user's cache, where the module's folder cannot be written."""


config.CACHE_LOCATOR_CLASSES = ",".join(f"{each.__module__}.{each.__name__}" for each in (Provided, InTree, UserWide))
