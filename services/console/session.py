"""Sessions: a folder under ``var/sessions`` with everything that one run wrote, and what is needed to run it again."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import orjson
from pydantic import TypeAdapter, ValidationError

from libs.domain.validation import place_of
from libs.runtime.errors import BadInput

DESCRIPTION = "session.json"
_LOCK = "lock"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def sessions_root() -> Path:
    """Return the folder of all sessions: ``PERPFLOW_VAR`` (default ``var``) / ``sessions``."""
    return Path(os.environ.get("PERPFLOW_VAR", "var")) / "sessions"


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """One run. `environment` is what its services were started with, secrets left out; `layout` is spread or fused.
    `build` is the code that ran (`libs.version.build_id`), empty for builds that did not note it.

    Its folder and what is in it are this user's alone. The one secret in there is `password_file`, the embedded
    ClickHouse's password, which is made anew at each start and opens nothing but this session's tables.
    """

    name: str
    folder: Path
    market: str
    mode: str
    seed: int | None
    speed: float
    instrument: str
    bus: str
    topic_prefix: str
    clickhouse: str
    clickhouse_database: str
    clickhouse_user: str = "default"
    environment: dict[str, str] = field(default_factory=dict)
    layout: str = "spread"
    build: str = ""

    @property
    def run_dir(self) -> Path:
        """Where its processes announce themselves."""
        return self.folder / "run"

    @property
    def log_dir(self) -> Path:
        """Where their logs are kept."""
        return self.folder / "logs"

    @property
    def password_file(self) -> Path:
        """Where the password of an embedded ClickHouse is while it runs."""
        return self.folder / "clickhouse.password"

    def save(self) -> None:
        """Write the description and make this the latest session."""
        make_private_folder(self.folder)
        facts = {**asdict(self), "folder": str(self.folder)}
        draft = self.folder / f".{DESCRIPTION}"
        draft.write_bytes(orjson.dumps(facts, option=orjson.OPT_INDENT_2))
        draft.chmod(0o600)
        draft.replace(self.folder / DESCRIPTION)
        latest = self.folder.parent / ".latest"
        latest.write_text(self.name)
        latest.replace(self.folder.parent / "latest")


def check_session_name(name: str) -> str:
    """Return a name that can be a session's: it becomes a folder. Raises `BadInput`."""
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"--session {name!r} cannot be a session's name; use letters, digits, '.', '_' and '-', at most 100, "
            "the first a letter or a digit"
        )
    return name


def database_of(name: str) -> str:
    """Return the database that a session has on a ClickHouse that several sessions share."""
    return "perpflow_" + name.replace("-", "_").replace(".", "_")


def topic_prefix_of(name: str) -> str:
    """Return what a session's topics on Kafka begin with."""
    return f"{name}."


@contextmanager
def locked_session(session: SessionDescription) -> Iterator[None]:
    """Own a session's folder while the block lasts; nothing of another process's session is touched before.

    Raises `BadInput` where another `perpflow up` owns it.
    """
    make_private_folder(session.folder)
    with (session.folder / _LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise BadInput(
                f"session {session.name} runs already (process {lock.read().strip() or 'unknown'}); see `perpflow "
                "status`, stop it first, or give this one another name with --session"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


_DESCRIBED = TypeAdapter(SessionDescription)


def load_session(name: str | None = None) -> SessionDescription:
    """Return a session by name, or the latest one. Raises `BadInput` naming those that exist."""
    root = sessions_root()
    if name is None:
        try:
            name = (root / "latest").read_text().strip()
        except FileNotFoundError:
            raise BadInput(f"no session under {root}; start one with `perpflow up`") from None
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{root / 'latest'} cannot be read ({error}); name a session with --session") from None
    check_session_name(name)
    if not (root / name / DESCRIPTION).is_file():
        raise BadInput(f"no session {name!r} under {root}; {_known(root)}")
    return read_session(root / name)


def read_session(folder: Path) -> SessionDescription:
    """Return the session of a folder. Raises `BadInput` where its description is missing or damaged."""
    description = folder / DESCRIPTION
    try:
        facts = orjson.loads(description.read_bytes())
    except FileNotFoundError:
        raise BadInput(f"{folder} is no session: {DESCRIPTION} is missing; restore it") from None
    except OSError as error:
        raise BadInput(f"{description} cannot be read ({error.strerror}); make it readable") from None
    except ValueError as error:
        raise BadInput(f"{description} is damaged ({error}); restore it or name another session") from error
    try:
        session = _DESCRIBED.validate_python(facts)
    except ValidationError as error:
        raise BadInput(
            f"{description} is damaged ({_first_error(error)}); restore it or name another session"
        ) from None
    # The folder may have been moved or mounted elsewhere since, and its bus with it.
    bus = session.bus.replace(f"sqlite:{session.folder}/", f"sqlite:{folder}/")
    return replace(session, folder=folder, bus=bus)


def make_private_folder(folder: Path) -> None:
    """Create a folder that only this user can enter; one that is there is closed to others."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


def _first_error(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{place_of(first['loc'])}: {first['msg']}".removeprefix(": ")


def demand_bus(session: SessionDescription) -> None:
    """Raise `BadInput` where the session's log is no longer there: opening it would make an empty one."""
    kind, _, path = session.bus.partition(":")
    if kind == "sqlite" and not Path(path).is_file():
        raise BadInput(f"session {session.name} has no log any more: {path} is not there; restore it")


def _known(root: Path) -> str:
    names = sorted(path.parent.name for path in root.glob(f"*/{DESCRIPTION}"))
    return f"known: {', '.join(names) or 'none'}"
