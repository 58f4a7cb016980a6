"""Who is asking, and what they may do: sign-in, sessions, tokens of programs, and limits on failed attempts.

Sessions live in memory and end with the process. Used from the event loop alone; only the slow hash runs elsewhere.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, Field

from libs.access.users import (
    PASSWORD_MAX_LENGTH,
    Role,
    User,
    UsersFileError,
    find_by_token,
    has_password,
    hash_token,
    load_users,
    read_role,
)
from libs.clock import SYSTEM_ENTROPY, Entropy
from services.monitoring.requests import Refusal
from services.monitoring.settings import MonitoringSettings

LOCAL_USER = "local"
_SESSIONS_PER_USER = 20
_TRACKED_SOURCES = 10_000
_BEARER = "bearer "
# A name may be tried from many addresses; this bounds it without letting one stranger lock its owner out.
_NAME_LIMIT_FACTOR = 10


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks. `session` is the hash of the session's token, None for a program's token and on an open page."""

    name: str
    role: Role
    source_address: str
    session: str | None = None


class SignInRequest(BaseModel):
    """The body of a sign-in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user: str = Field(min_length=1, max_length=64)
    password: str = Field(min_length=1, max_length=PASSWORD_MAX_LENGTH, repr=False)


class SignOutRequest(BaseModel):
    """The body of a sign-out: one's own session, or for an admin all those of `user`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user: str = Field(default="", max_length=64)


@dataclass(frozen=True, slots=True)
class _SignedIn:
    user: str
    fingerprint: str
    expires_at_s: float


class AttemptLimit:
    """At most `limit` attempts of a source in a window; a success forgets them."""

    def __init__(self, limit: int, window_s: float) -> None:
        self._limit = limit
        self._window_s = window_s
        self._attempts: dict[str, tuple[int, float]] = {}

    def admit(self, source: str, now_s: float) -> float | None:
        """Count an attempt; return None when it may be made, else how many seconds to wait."""
        count, started_s = self._attempts.get(source, (0, now_s))
        if now_s - started_s >= self._window_s:
            count, started_s = 0, now_s
        if count >= self._limit:
            return self._window_s - (now_s - started_s)
        if source not in self._attempts and len(self._attempts) >= _TRACKED_SOURCES:
            self._drop_oldest()
        self._attempts[source] = (count + 1, started_s)
        return None

    def forget(self, source: str) -> None:
        """Forget the attempts of a source."""
        self._attempts.pop(source, None)

    def _drop_oldest(self) -> None:
        del self._attempts[min(self._attempts, key=lambda source: self._attempts[source][1])]


class AccessControl:
    """Tells who asks by cookie or token, and opens and ends sessions. `clock_s` never goes back."""

    def __init__(
        self,
        settings: MonitoringSettings,
        logger: structlog.stdlib.BoundLogger,
        *,
        clock_s: Callable[[], float],
        entropy: Entropy = SYSTEM_ENTROPY,
    ) -> None:
        self._settings = settings
        self._logger = logger
        self._clock_s = clock_s
        self._entropy = entropy
        self._users = _UsersFile(settings.users_file)
        self._sessions: dict[str, _SignedIn] = {}
        limit, window_s = settings.sign_in_attempts, settings.sign_in_window_s
        self._by_address = AttemptLimit(limit, window_s)
        self._by_name = AttemptLimit(limit * _NAME_LIMIT_FACTOR, window_s)

    @property
    def is_required(self) -> bool:
        """Whether anybody must sign in."""
        return self._settings.is_sign_in_required

    def check_users(self) -> str:
        """Return what is wrong with the users, empty when somebody can sign in or nobody has to."""
        if not self.is_required:
            return ""
        if self._settings.users_file is None:
            return "no users file is named; set PERPFLOW_MONITORING_USERS_FILE"
        try:
            has_users = bool(self._users.read())
        except UsersFileError as error:
            return str(error)
        return "" if has_users else "there are no users yet; run `perpflow users add NAME --role operator`"

    def identify(self, cookie: str | None, authorization: str | None, address: str) -> Identity:
        """Tell who asks. Raises `Refusal` where nobody is signed in, and where too many tokens were wrong."""
        if not self.is_required:
            return Identity(LOCAL_USER, Role.OPERATOR, address)
        if authorization is not None and authorization[: len(_BEARER)].lower() == _BEARER:
            return self._identify_program(authorization[len(_BEARER) :].strip(), address)
        session = hash_token(cookie) if cookie else None
        user = self._user_of(session) if session is not None else None
        if user is None:
            raise Refusal(401, "sign in first")
        return Identity(user.name, read_role(user.role), address, session)

    def is_still_valid(self, identity: Identity) -> bool:
        """Whether a request that goes on for long may go on."""
        if not self.is_required:
            return True
        if identity.session is not None:
            return self._user_of(identity.session) is not None
        user = self._read_users().get(identity.name)
        return user is not None and bool(user.token_sha256)

    async def sign_in(
        self, request: SignInRequest, address: str, run_slowly: Callable[[Callable[[], bool]], Awaitable[bool]]
    ) -> tuple[Identity, str]:
        """Check a password and open a session; return who it is and the token for the cookie. Raises `Refusal`.

        The attempt counts before it is checked, so that many at once are no way around the limit.
        """
        source = _source_of(address)
        for limit, key in ((self._by_address, source), (self._by_name, request.user)):
            wait_s = limit.admit(key, self._clock_s())
            if wait_s is not None:
                raise too_many(wait_s)
        user = self._read_users().get(request.user)
        if not await run_slowly(lambda: has_password(user, request.password)) or user is None:
            raise Refusal(401, "user or password is wrong")
        self._by_address.forget(source)
        self._by_name.forget(request.user)
        token = self._entropy.token_urlsafe(32)
        self._open_session(user, hash_token(token))
        return Identity(user.name, read_role(user.role), address, hash_token(token)), token

    def sign_out(self, identity: Identity, user: str = "") -> int:
        """End one's own session, or all those of `user`; return how many ended. Raises `Refusal` unless an admin."""
        if user and user != identity.name and identity.role < Role.ADMIN:
            raise Refusal(403, "only an admin ends other people's sessions")
        ending = [
            key
            for key, session in self._sessions.items()
            if (session.user == user if user else key == identity.session)
        ]
        for key in ending:
            del self._sessions[key]
        return len(ending)

    def _identify_program(self, token: str, address: str) -> Identity:
        source = _source_of(address)
        user = find_by_token(self._read_users(), token)
        if user is None:
            wait_s = self._by_address.admit(source, self._clock_s())
            if wait_s is not None:
                raise too_many(wait_s)
            raise Refusal(401, "the token is not known; make one with `perpflow users add NAME --role viewer --token`")
        return Identity(user.name, read_role(user.role), address)

    def _open_session(self, user: User, key: str) -> None:
        now_s = self._clock_s()
        self._sessions = {each: held for each, held in self._sessions.items() if held.expires_at_s > now_s}
        own = [each for each, held in self._sessions.items() if held.user == user.name]
        for oldest in own[: max(0, len(own) - _SESSIONS_PER_USER + 1)]:
            del self._sessions[oldest]
        self._sessions[key] = _SignedIn(user.name, user.fingerprint, now_s + self._settings.session_hours * 3600)

    def _user_of(self, session: str) -> User | None:
        held = self._sessions.get(session)
        if held is None:
            return None
        user = self._read_users().get(held.user)
        if self._clock_s() >= held.expires_at_s or user is None or user.fingerprint != held.fingerprint:
            del self._sessions[session]
            return None
        return user

    def _read_users(self) -> Mapping[str, User]:
        try:
            return self._users.read()
        except UsersFileError as error:
            self._logger.error("users file refused", reason=str(error))
            raise Refusal(503, "the users file is wrong; the page's log says how") from error


def too_many(wait_s: float) -> Refusal:
    """Refuse for now."""
    seconds = max(1, int(wait_s + 0.999))
    return Refusal(429, f"too many failed attempts; try again in {seconds} s", retry_after_s=seconds)


class _UsersFile:
    """Reads the file again whenever it changed."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: tuple[int, int, int, int] | None = None
        self._users: Mapping[str, User] = {}

    def read(self) -> Mapping[str, User]:
        if self._path is None:
            return {}
        try:
            facts = self._path.stat()
        except OSError:
            self._seen, self._users = None, {}
            return load_users(self._path)
        seen = (facts.st_ino, facts.st_mtime_ns, facts.st_size, facts.st_mode)
        if seen != self._seen:
            self._users = load_users(self._path)
            self._seen = seen
        return self._users


def _source_of(address: str) -> str:
    """Return what attempts are counted for: an IPv4 address, or the /64 network that an IPv6 host has to itself."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return parsed.ipv4_mapped.exploded if parsed.ipv4_mapped else str(ipaddress.ip_network((parsed, 64), False))
    return parsed.exploded


def cookie_name(port: int, *, is_behind_tls: bool) -> str:
    """Name the cookie of this page. Cookies ignore ports, so that two pages of one host need two names."""
    name = f"perpflow_session_{port}"
    return f"__Host-{name}" if is_behind_tls else name
