"""The users file: names, roles and credentials. Passwords and tokens are kept as hashes alone."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import hmac
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

import orjson
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from libs.clock import SYSTEM_ENTROPY, Entropy

PASSWORD_MIN_LENGTH = 12
PASSWORD_MAX_LENGTH = 256
_TOKEN_BYTES = 32
_FORBIDDEN_MODE = stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP


class UsersFileError(ValueError):
    """The users file, or what was to be put into it, is wrong; the text says what and how to fix it."""


class Role(IntEnum):
    """What a user may do; each role includes those before it."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    @property
    def label(self) -> str:
        """The role as it is written in the file and on the command line."""
        return self.name.lower()


def read_role(text: str) -> Role:
    """Read a role by its name. Raises `UsersFileError`."""
    try:
        return Role[text.upper()]
    except KeyError:
        known = ", ".join(role.label for role in Role)
        raise UsersFileError(f"unknown role {text!r}; use one of {known}") from None


class User(BaseModel):
    """One line of the file. A person has a password, a program a token."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    role: str
    password_hash: str = Field(default="", repr=False)
    token_sha256: str = Field(default="", repr=False, pattern=r"^([0-9a-f]{64})?$")

    @field_validator("role")
    @classmethod
    def _is_known(cls, role: str) -> str:
        return read_role(role).label

    @field_validator("password_hash")
    @classmethod
    def _is_argon2id(cls, value: str) -> str:
        if value and not value.startswith("$argon2id$"):
            raise ValueError("password_hash is no Argon2id hash; set the password with `perpflow users add --replace`")
        return value

    @model_validator(mode="after")
    def _has_one_credential(self) -> User:
        if bool(self.password_hash) == bool(self.token_sha256):
            raise ValueError(f"user {self.name} needs a password_hash or a token_sha256, one of them")
        return self

    @property
    def fingerprint(self) -> str:
        """Changes with the credential, so that sessions of an old one end."""
        return hashlib.sha256(f"{self.name}\0{self.password_hash}\0{self.token_sha256}".encode()).hexdigest()


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    users: tuple[User, ...] = ()


def load_users(path: Path) -> dict[str, User]:
    """Read the users by name; none where there is no file. Raises `UsersFileError`."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            payload = file.read()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsersFileError(f"{path} cannot be read ({error.strerror}); make it readable to this user") from error
    if mode & _FORBIDDEN_MODE:
        raise UsersFileError(f"{path} has mode {stat.S_IMODE(mode):04o}, open to others; run: chmod 600 {path}")
    try:
        listed = _File.model_validate_json(payload).users
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UsersFileError(f"{path}: {where}: {first['msg']}; write it with `perpflow users`") from None
    users = {user.name: user for user in listed}
    if len(users) != len(listed):
        raise UsersFileError(f"{path} names a user twice; remove one of the two")
    return users


def add_password_user(path: Path, name: str, role: Role, password: str, *, is_replacing: bool = False) -> None:
    """Add a person. Raises `UsersFileError` for a short password, or a name that is taken unless `is_replacing`."""
    if not PASSWORD_MIN_LENGTH <= len(password) <= PASSWORD_MAX_LENGTH:
        raise UsersFileError(
            f"the password has {len(password)} characters; use {PASSWORD_MIN_LENGTH} to {PASSWORD_MAX_LENGTH}"
        )
    _add(path, lambda: _user(name=name, role=role.label, password_hash=_hasher().hash(password)), name, is_replacing)


def add_token_user(
    path: Path, name: str, role: Role, *, is_replacing: bool = False, entropy: Entropy = SYSTEM_ENTROPY
) -> str:
    """Add a program and return its token, which can never be read again. Raises `UsersFileError`."""
    token = entropy.token_urlsafe(_TOKEN_BYTES)
    _add(path, lambda: _user(name=name, role=role.label, token_sha256=hash_token(token)), name, is_replacing)
    return token


def remove_user(path: Path, name: str) -> None:
    """Remove a user. Raises `UsersFileError` where there is none of that name."""
    with _editing(path) as users:
        if name not in users:
            raise UsersFileError(f"{path} has no user {name!r}; known: {', '.join(sorted(users)) or 'none'}")
        del users[name]


def has_password(user: User | None, password: str) -> bool:
    """Whether the password is the user's. Takes as long for a user that does not exist or has none."""
    hashed = user.password_hash if user is not None and user.password_hash else _hash_of_nobody()
    try:
        _hasher().verify(hashed, password[:PASSWORD_MAX_LENGTH])
    except (VerificationError, InvalidHashError):
        return False
    return user is not None and bool(user.password_hash) and len(password) <= PASSWORD_MAX_LENGTH


def find_by_token(users: Mapping[str, User], token: str) -> User | None:
    """Find whose token it is."""
    hashed = hash_token(token)
    found = None
    for user in users.values():
        if user.token_sha256 and hmac.compare_digest(user.token_sha256, hashed):
            found = user
    return found


def hash_token(token: str) -> str:
    """Hash a token of full entropy, which needs no slow hash."""
    return hashlib.sha256(token.encode()).hexdigest()


@functools.cache
def _hasher() -> PasswordHasher:
    # The library's defaults: Argon2id with the low-memory parameters of RFC 9106 (64 MiB, three passes).
    return PasswordHasher()


@functools.cache
def _hash_of_nobody(entropy: Entropy = SYSTEM_ENTROPY) -> str:
    return _hasher().hash(entropy.token_urlsafe(_TOKEN_BYTES))


def _user(**values: str) -> User:
    try:
        return User(**values)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "user"
        raise UsersFileError(f"{field} {values.get(field, '')!r}: {first['msg']}") from None


def _add(path: Path, build: Callable[[], User], name: str, is_replacing: bool) -> None:
    with _editing(path) as users:
        if name in users and not is_replacing:
            raise UsersFileError(f"user {name} exists already in {path}; --replace changes role and credential")
        users[name] = build()


@contextmanager
def _editing(path: Path) -> Iterator[dict[str, User]]:
    """Yield the users to change; write them back whole, under a lock, readable to their owner alone."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(path.with_name(f".{path.name}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise UsersFileError(f"{path.parent} cannot be written ({error.strerror}); name another with --file") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        users = load_users(path)
        yield users
        _write(path, users)
    finally:
        os.close(lock)


def _write(path: Path, users: Mapping[str, User]) -> None:
    listed = [user.model_dump(exclude_defaults=True) for _, user in sorted(users.items())]
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.unlink(missing_ok=True)
        handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(orjson.dumps({"users": listed}, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise UsersFileError(f"{path} cannot be written: {error.strerror}") from error
