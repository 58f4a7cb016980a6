"""Users files whose hashes are cheap to check, so that a test of the page does not wait for Argon2."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import orjson
from argon2 import PasswordHasher

from libs.access.users import Role

PASSWORD = "correct horse battery"


@functools.cache
def cheap_hash(password: str = PASSWORD) -> str:
    """Return an Argon2id hash of the least cost."""
    return PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(password)


def write_users(path: Path, roles: Mapping[str, Role], password: str = PASSWORD) -> Path:
    """Write a users file in which everybody has the same password."""
    users = [{"name": name, "role": role.label, "password_hash": cheap_hash(password)} for name, role in roles.items()]
    path.touch(0o600)
    path.write_bytes(orjson.dumps({"users": users}))
    return path
