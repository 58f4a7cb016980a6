"""Who asks, what they may do, and how often they may be wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from libs.access.users import Role, add_token_user, remove_user
from services.monitoring.access import AccessControl, AttemptLimit, Identity, SignInRequest
from services.monitoring.requests import Refusal
from services.monitoring.settings import MonitoringSettings
from tests.kit.users import PASSWORD, write_users

ADDRESS = "10.0.0.7"


class SteppedClock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def users_file(tmp_path: Path) -> Path:
    return write_users(tmp_path / "users.json", {"ada": Role.OPERATOR, "root": Role.ADMIN})


@pytest.fixture
def access(users_file: Path, clock: SteppedClock) -> AccessControl:
    return control_of(users_file, clock)


def control_of(users_file: Path | None, clock: SteppedClock, **changes: Any) -> AccessControl:
    settings = MonitoringSettings(users_file=users_file, session_mode="live", sign_in_attempts=3, **changes)
    return AccessControl(settings, structlog.get_logger(), clock_s=clock)


async def run_inline(work: Callable[[], bool]) -> bool:
    return work()


def sign_in(
    access: AccessControl,
    user: str = "ada",
    password: str = PASSWORD,
    address: str = ADDRESS,
    run: Callable[[Callable[[], bool]], Awaitable[bool]] = run_inline,
) -> tuple[Identity, str]:
    return asyncio.run(access.sign_in(SignInRequest(user=user, password=password), address, run))


def refusal_of(call: Callable[[], object]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(
    "settings",
    [
        MonitoringSettings(session_mode="live"),
        MonitoringSettings(session_mode="testnet"),
        MonitoringSettings(host="0.0.0.0"),
        MonitoringSettings(host="192.168.1.9"),
        MonitoringSettings(require_sign_in=True),
    ],
)
def test_nobody_reads_unsigned_where_money_or_a_network_is_near(settings: MonitoringSettings) -> None:
    access = AccessControl(settings, structlog.get_logger(), clock_s=SteppedClock())
    assert refusal_of(lambda: access.identify(None, None, ADDRESS)).status == 401


def test_paper_on_this_machine_is_open_to_it() -> None:
    access = AccessControl(MonitoringSettings(), structlog.get_logger(), clock_s=SteppedClock())
    assert access.identify(None, None, "127.0.0.1") == Identity("local", Role.OPERATOR, "127.0.0.1")


def test_password_opens_a_session_that_expires(access: AccessControl, clock: SteppedClock) -> None:
    identity, token = sign_in(access)
    assert (identity.name, identity.role, identity.source_address) == ("ada", Role.OPERATOR, ADDRESS)
    assert access.identify(token, None, ADDRESS).name == "ada"
    assert access.is_still_valid(identity)
    clock.now_s = 12 * 3600 - 1
    assert access.identify(token, None, ADDRESS).name == "ada"
    clock.now_s = 12 * 3600
    assert refusal_of(lambda: access.identify(token, None, ADDRESS)).status == 401
    assert not access.is_still_valid(identity)


def test_two_sessions_have_two_tokens_of_256_bits(access: AccessControl) -> None:
    tokens = {sign_in(access)[1] for _ in range(3)}
    assert len(tokens) == 3
    assert all(len(token) >= 43 for token in tokens)


@pytest.mark.slow
@pytest.mark.parametrize(("user", "password"), [("ada", "wrong wrong wrong"), ("nobody", PASSWORD)])
def test_wrong_password_and_unknown_user_get_the_same_answer(access: AccessControl, user: str, password: str) -> None:
    refusal = refusal_of(lambda: sign_in(access, user, password))
    assert (refusal.status, refusal.reason) == (401, "user or password is wrong")


def test_token_user_cannot_sign_in_with_a_password(access: AccessControl, users_file: Path) -> None:
    token = add_token_user(users_file, "grafana", Role.VIEWER)
    assert refusal_of(lambda: sign_in(access, "grafana", token)).status == 401


def test_program_reads_with_its_token_until_it_is_removed(access: AccessControl, users_file: Path) -> None:
    token = add_token_user(users_file, "grafana", Role.VIEWER)
    identity = access.identify(None, f"Bearer {token}", ADDRESS)
    assert (identity.name, identity.role) == ("grafana", Role.VIEWER)
    assert access.is_still_valid(identity)
    remove_user(users_file, "grafana")
    assert not access.is_still_valid(identity)
    assert refusal_of(lambda: access.identify(None, f"Bearer {token}", ADDRESS)).status == 401


def test_failed_attempts_are_limited_per_address_for_a_while(access: AccessControl, clock: SteppedClock) -> None:
    for _ in range(3):
        assert refusal_of(lambda: sign_in(access, password="wrong wrong wrong")).status == 401
    refusal = refusal_of(lambda: sign_in(access))
    assert (refusal.status, refusal.retry_after_s) == (429, 900)
    assert sign_in(access, address="10.0.0.8")[0].name == "ada"
    clock.now_s = 900
    assert sign_in(access)[0].name == "ada"


def test_attempts_at_once_are_no_way_around_the_limit(access: AccessControl) -> None:
    checked: list[bool] = []

    async def run_late(work: Callable[[], bool]) -> bool:
        await asyncio.sleep(0)
        checked.append(work())
        return checked[-1]

    async def attack() -> list[object]:
        wanted = SignInRequest(user="ada", password="wrong wrong wrong")
        calls = (access.sign_in(wanted, ADDRESS, run_late) for _ in range(50))
        return await asyncio.gather(*calls, return_exceptions=True)

    statuses = [answer.status for answer in asyncio.run(attack()) if isinstance(answer, Refusal)]
    assert statuses.count(401) == 3
    assert statuses.count(429) == 47
    assert len(checked) == 3


def test_addresses_of_one_ipv6_network_count_as_one(access: AccessControl) -> None:
    for host in range(1, 4):
        refusal_of(lambda host=host: sign_in(access, password="wrong wrong wrong", address=f"2001:db8::{host}"))
    assert refusal_of(lambda: sign_in(access, address="2001:db8::99")).status == 429


def test_a_name_tried_from_many_addresses_is_limited_too(access: AccessControl) -> None:
    statuses = [
        refusal_of(
            lambda number=number: sign_in(access, password="wrong wrong wrong", address=f"10.1.{number}.1")
        ).status
        for number in range(32)
    ]
    assert statuses[:30] == [401] * 30
    assert statuses[30:] == [429] * 2


def test_guessed_tokens_are_limited(access: AccessControl) -> None:
    statuses = [refusal_of(lambda: access.identify(None, "Bearer guess", ADDRESS)).status for _ in range(5)]
    assert statuses == [401, 401, 401, 429, 429]


def test_success_forgets_the_failures_before_it(access: AccessControl) -> None:
    for _ in range(4):
        refusal_of(lambda: sign_in(access, password="wrong wrong wrong"))
        refusal_of(lambda: sign_in(access, password="wrong wrong wrong"))
        sign_in(access)


def test_new_password_ends_the_sessions_of_the_old_one(access: AccessControl, users_file: Path) -> None:
    _, token = sign_in(access)
    write_users(users_file, {"ada": Role.OPERATOR}, "another good password")
    assert refusal_of(lambda: access.identify(token, None, ADDRESS)).status == 401


def test_new_role_counts_at_once(access: AccessControl, users_file: Path) -> None:
    _, token = sign_in(access)
    text = users_file.read_text().replace('"operator"', '"viewer"')
    users_file.write_text(text)
    assert access.identify(token, None, ADDRESS).role is Role.VIEWER


def test_removed_user_is_signed_out(access: AccessControl, users_file: Path) -> None:
    identity, token = sign_in(access)
    remove_user(users_file, "ada")
    assert not access.is_still_valid(identity)
    assert refusal_of(lambda: access.identify(token, None, ADDRESS)).status == 401


def test_signing_out_ends_ones_own_session_alone(access: AccessControl) -> None:
    mine, my_token = sign_in(access)
    _, other_token = sign_in(access)
    assert access.sign_out(mine) == 1
    assert refusal_of(lambda: access.identify(my_token, None, ADDRESS)).status == 401
    assert access.identify(other_token, None, ADDRESS).name == "ada"


def test_only_an_admin_ends_other_peoples_sessions(access: AccessControl) -> None:
    ada, _ = sign_in(access)
    root, root_token = sign_in(access, "root")
    assert refusal_of(lambda: access.sign_out(ada, "root")).status == 403
    assert access.identify(root_token, None, ADDRESS).name == "root"
    assert access.sign_out(root, "ada") == 1
    assert not access.is_still_valid(ada)


def test_sessions_of_one_user_are_bounded(access: AccessControl) -> None:
    tokens = [sign_in(access)[1] for _ in range(22)]
    alive = []
    for token in tokens:
        try:
            access.identify(token, None, ADDRESS)
        except Refusal:
            continue
        alive.append(token)
    assert alive == tokens[-20:]


def test_users_file_open_to_others_lets_nobody_in(access: AccessControl, users_file: Path) -> None:
    _, token = sign_in(access)
    users_file.chmod(0o644)
    assert refusal_of(lambda: access.identify(token, None, ADDRESS)).status == 503
    assert "chmod 600" in access.check_users()


def test_page_without_users_says_how_to_add_one(tmp_path: Path, clock: SteppedClock) -> None:
    assert "perpflow users add" in control_of(tmp_path / "none.json", clock).check_users()
    assert "PERPFLOW_MONITORING_USERS_FILE" in control_of(None, clock).check_users()


@pytest.mark.slow
def test_attempts_of_many_sources_are_kept_in_bounded_memory() -> None:
    limit = AttemptLimit(1, 60.0)
    for number in range(10_500):
        assert limit.admit(f"10.0.{number // 256}.{number % 256}", float(number)) is None
    assert len(limit._attempts) == 10_000
