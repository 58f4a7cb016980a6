"""Runs the local ClickHouse server: ``python -m infra.local.clickhouse --path DIR --port N`` (see ``--help``)."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from ipaddress import ip_address
from pathlib import Path
from types import FrameType

from infra.local.clickhouse.admission import HASH_VARIABLE, USER, Credential
from infra.local.clickhouse.sandbox import confine
from libs.runtime.health import Heartbeat

EXIT_OK = 0
EXIT_BAD_INPUT = 2
EXIT_UNAVAILABLE = 3
_DRAIN_S = 10.0


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Returns 0, 2 for a bad password or hash, 3 where the path or port is taken."""
    options = _read_arguments(arguments)
    os.umask(0o077)
    heartbeat = Heartbeat(options.heartbeat)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s clickhouse %(message)s", stream=sys.stderr
    )
    log = logging.getLogger("infra.local.clickhouse")
    # DateTime values without a zone mean UTC on every machine; the engine reads this when it is loaded.
    os.environ["TZ"] = "UTC"
    try:
        credential = (
            Credential(os.environ.get(HASH_VARIABLE, ""))
            if options.password_file is None
            else Credential.read(options.password_file)
        )
    except (OSError, ValueError) as error:
        log.error("cannot take the password from %s: %s", options.password_file or HASH_VARIABLE, error)
        return EXIT_BAD_INPUT
    # The library starts threads and a first engine, in a temporary folder, as soon as it is loaded.
    os.environ["TMPDIR"] = str(options.path / "tmp")
    written = (options.port_file, options.heartbeat)
    folders = [options.path, options.path / "tmp", *(path.parent for path in written if path is not None)]
    try:
        confine(folders)
    except OSError as error:
        log.error("cannot open %s: %s", options.path, error)
        return EXIT_UNAVAILABLE
    from infra.local.clickhouse.engine import Engine, PathLocked
    from infra.local.clickhouse.errors import EngineError
    from infra.local.clickhouse.server import HOST, ClickHouseServer

    host = HOST if options.listen is None else str(options.listen)
    try:
        engine = Engine(options.path)
    except (PathLocked, EngineError, OSError) as error:
        log.error("cannot open %s: %s", options.path, error)
        return EXIT_UNAVAILABLE
    try:
        server = ClickHouseServer(engine, options.port, credential, heartbeat.beat, host)
    except OSError as error:
        log.error("cannot listen on %s:%d: %s; choose another --port (0: any)", host, options.port, error.strerror)
        engine.close()
        return EXIT_UNAVAILABLE

    def stop(signal_number: int, _: FrameType | None) -> None:
        log.info("stopping on %s", signal.Signals(signal_number).name)
        threading.Thread(target=server.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if options.port_file is not None:
        _write_port(options.port_file, server.port)
    log.info("ClickHouse %s (chDB) serves %s at http://%s:%d", engine.version, options.path, host, server.port)
    server.serve_forever(poll_interval=0.2)
    if not server.drain(_DRAIN_S):
        log.warning("a query still runs after %d s; it is abandoned", int(_DRAIN_S))
        logging.shutdown()
        os._exit(EXIT_OK)
    server.close()
    engine.close()
    return EXIT_OK


def _read_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m infra.local.clickhouse", description="A ClickHouse server for one machine, on chDB."
    )
    parser.add_argument("--path", type=Path, required=True, help="folder of the data; created where it is missing")
    parser.add_argument("--port", type=int, required=True, help="port; 0 takes a free one")
    parser.add_argument(
        "--listen", type=ip_address, metavar="ADDRESS", help="address instead of 127.0.0.1, for a container"
    )
    parser.add_argument(
        "--password-file",
        type=Path,
        help=f"file of mode 0600 with the password of user {USER}; without it {HASH_VARIABLE} holds its SHA-256",
    )
    parser.add_argument("--port-file", type=Path, help="file to write the port to once it answers")
    parser.add_argument("--heartbeat", type=Path, help="file whose time says that the server makes progress")
    return parser.parse_args(arguments)


def _write_port(port_file: Path, port: int) -> None:
    port_file.parent.mkdir(parents=True, exist_ok=True)
    draft = port_file.with_name(port_file.name + ".new")
    draft.write_text(f"{port}\n")
    draft.replace(port_file)


if __name__ == "__main__":
    raise SystemExit(main())
