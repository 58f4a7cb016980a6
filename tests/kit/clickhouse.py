"""Starts the ClickHouse of docker-compose.yml in a container of a test's own, where a Docker engine answers."""

from __future__ import annotations

import gc
import hashlib
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from libs.store import Store, StoreUnavailable
from tests.kit.waiting import eventually

REPOSITORY = Path(__file__).resolve().parents[2]
_SETTINGS = REPOSITORY / "infra" / "clickhouse"


class NoClickHouse(Exception):
    """No container can be started here; the text says why."""


@dataclass(frozen=True, slots=True)
class ClickHouseContainer:
    """A server that answers at `url`, with the user and the settings that docker-compose.yml gives it."""

    url: str
    image: str
    password: str
    user: str = "perpflow"

    def store(self, database: str) -> Store:
        """Open a store on it."""
        return Store(self.url, database, user=self.user, password=self.password)


@contextmanager
def a_clickhouse() -> Iterator[ClickHouseContainer]:
    """Run a server in a container that goes with the block. Raises `NoClickHouse`."""
    try:
        from docker.errors import DockerException
        from testcontainers.core.config import testcontainers_config
        from testcontainers.core.container import DockerContainer
    except ImportError as error:
        raise NoClickHouse(f"no ClickHouse in a container: {error.name} is not installed") from error
    compose = (REPOSITORY / "docker-compose.yml").read_text()
    image = next(line.split("image: ")[1] for line in compose.splitlines() if "image: clickhouse/" in line)
    password = secrets.token_hex(16)
    # Its own watcher is one more image to pull; the container is stopped at the end of the block.
    testcontainers_config.ryuk_disabled = True
    container: DockerContainer | None = None
    reason = ""
    try:
        made = DockerContainer(
            image, env={"CLICKHOUSE_PASSWORD_SHA256": hashlib.sha256(password.encode()).hexdigest()}
        ).with_exposed_ports(8123)
        for folder in ("config.d", "users.d"):
            file = f"{folder}/perpflow.xml"
            made.with_volume_mapping(str(_SETTINGS / file), f"/etc/clickhouse-server/{file}", "ro")
        container = made.start()
    except (DockerException, OSError) as error:
        reason = str(error)
    if container is None:
        # The client of an engine that does not answer leaves its sockets to the garbage collector, which would warn of
        # them in the middle of any test.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
        raise NoClickHouse(f"no Docker engine here that can run {image}: {reason}")
    try:
        url = f"http://127.0.0.1:{container.get_exposed_port(8123)}"
        server = ClickHouseContainer(url, image, password)

        def answers() -> bool:
            with suppress(StoreUnavailable), server.store("default") as store:
                return bool(store.query("SELECT 1"))
            return False

        eventually(answers, within_s=120, every_s=0.2)
        yield server
    finally:
        container.stop()
