"""The users file: what it takes, what it refuses, and that it keeps no secret."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from libs.access.users import (
    Role,
    UsersFileError,
    add_password_user,
    add_token_user,
    find_by_token,
    has_password,
    load_users,
    read_role,
    remove_user,
)

PASSWORD = "correct horse battery"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "private" / "users.json"


def test_file_is_readable_to_its_owner_alone_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        add_password_user(path, "ada", Role.OPERATOR, PASSWORD)
        add_token_user(path, "grafana", Role.VIEWER)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_file_holds_neither_password_nor_token(path: Path) -> None:
    add_password_user(path, "ada", Role.OPERATOR, PASSWORD)
    token = add_token_user(path, "grafana", Role.VIEWER)
    text = path.read_text()
    assert PASSWORD not in text and token not in text
    assert "$argon2id$" in text
    assert "hash" not in repr(load_users(path)["ada"])


@pytest.mark.slow
def test_password_and_token_are_recognised_and_nothing_else(path: Path) -> None:
    add_password_user(path, "ada", Role.OPERATOR, PASSWORD)
    token = add_token_user(path, "grafana", Role.VIEWER)
    users = load_users(path)
    assert has_password(users["ada"], PASSWORD)
    assert not has_password(users["ada"], PASSWORD + " ")
    assert not has_password(users["grafana"], token)
    assert not has_password(None, PASSWORD)
    assert find_by_token(users, token) == users["grafana"]
    assert find_by_token(users, token[:-1]) is None
    assert find_by_token(users, "") is None


def test_token_has_at_least_128_random_bits(path: Path) -> None:
    tokens = {add_token_user(path, f"program{number}", Role.VIEWER) for number in range(4)}
    assert len(tokens) == 4
    assert all(len(token) * 6 >= 256 for token in tokens)


def test_name_that_is_taken_needs_replace(path: Path) -> None:
    add_password_user(path, "ada", Role.VIEWER, PASSWORD)
    with pytest.raises(UsersFileError, match=r"exists already.*--replace"):
        add_token_user(path, "ada", Role.ADMIN)
    assert load_users(path)["ada"].role == "viewer"
    add_token_user(path, "ada", Role.ADMIN, is_replacing=True)
    assert load_users(path)["ada"].role == "admin"


def test_removed_user_is_gone_and_an_unknown_one_is_named(path: Path) -> None:
    add_password_user(path, "ada", Role.VIEWER, PASSWORD)
    with pytest.raises(UsersFileError, match="no user 'bob'; known: ada"):
        remove_user(path, "bob")
    remove_user(path, "ada")
    assert load_users(path) == {}


@pytest.mark.parametrize("password", ["", "short", "x" * 11, "x" * 257])
def test_password_of_a_bad_length_is_refused(path: Path, password: str) -> None:
    with pytest.raises(UsersFileError, match="use 12 to 256"):
        add_password_user(path, "ada", Role.VIEWER, password)
    assert not path.exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["", "a b", "-x", "a" * 65, "a/b", "a\n"])
def test_bad_name_is_refused(path: Path, name: str) -> None:
    with pytest.raises(UsersFileError, match="name"):
        add_password_user(path, name, Role.VIEWER, PASSWORD)


def test_unknown_role_is_refused_with_those_known() -> None:
    with pytest.raises(UsersFileError, match="viewer, operator, admin"):
        read_role("king")
    assert read_role("Operator") is Role.OPERATOR


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o620, 0o666])
def test_file_open_to_others_is_refused_with_the_fix(path: Path, mode: int) -> None:
    add_password_user(path, "ada", Role.VIEWER, PASSWORD)
    path.chmod(mode)
    with pytest.raises(UsersFileError, match=f"chmod 600 {path}"):
        load_users(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file"),
        ("not json", "the file"),
        ('{"users": [{"name": "ada", "role": "king", "token_sha256": "' + "ab" * 32 + '"}]}', "unknown role"),
        ('{"users": [{"name": "ada", "role": "viewer"}]}', "needs a password_hash or a token_sha256"),
        ('{"users": [{"name": "ada", "role": "viewer", "password_hash": "plain text"}]}', "no Argon2id hash"),
        ('{"users": [{"name": "ada", "role": "viewer", "password": "plain text"}]}', "password"),
    ],
)
def test_damaged_file_is_named_without_what_it_holds(path: Path, text: str, said: str) -> None:
    path.parent.mkdir()
    path.touch(0o600)
    path.write_text(text)
    with pytest.raises(UsersFileError, match=said) as caught:
        load_users(path)
    assert str(path) in str(caught.value)
    assert "plain text" not in str(caught.value)


def test_user_named_twice_is_refused(path: Path) -> None:
    path.parent.mkdir()
    path.touch(0o600)
    line = '{"name": "ada", "role": "viewer", "token_sha256": "' + "ab" * 32 + '"}'
    path.write_text(f'{{"users": [{line}, {line}]}}')
    with pytest.raises(UsersFileError, match="twice"):
        load_users(path)


def test_users_added_at_once_are_all_there(path: Path) -> None:
    threads = [
        threading.Thread(target=add_token_user, args=(path, f"program{number}", Role.VIEWER)) for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(load_users(path)) == {f"program{number}" for number in range(8)}
