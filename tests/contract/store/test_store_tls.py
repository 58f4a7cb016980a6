"""The store over TLS: a server is believed by the authority that signed its certificate, and by no other."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from libs.store import Store, StoreError
from tests.contract.store.local_server import PASSWORD, LocalServer
from tests.kit.certificates import Certificates, make_certificates

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Encrypted:
    url: str
    certificates: Certificates

    def store(self, ca_file: Path | None) -> Store:
        return Store(self.url, "tls", user="perpflow", password=PASSWORD, ca_file=ca_file)


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    """A local server behind a socket that speaks TLS, as a proxy or a managed service would."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on the path to make certificates with")
    certificates = make_certificates(tmp_path_factory.mktemp("certificates"))
    server = LocalServer(tmp_path_factory.mktemp("server")).start()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.broker)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=accept, args=(listening, context, server.port), daemon=True)
        thread.start()
        yield Encrypted(f"https://127.0.0.1:{listening.getsockname()[1]}", certificates)
        # Wakes the thread that accepts.
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()
    server.close()


def accept(listening: socket.socket, context: ssl.SSLContext, port: int) -> None:
    while True:
        try:
            plain, _ = listening.accept()
        except OSError:
            return
        threading.Thread(target=serve, args=(plain, context, port), daemon=True).start()


def serve(plain: socket.socket, context: ssl.SSLContext, port: int) -> None:
    with (
        contextlib.suppress(OSError),
        context.wrap_socket(plain, server_side=True) as client,
        socket.create_connection(("127.0.0.1", port)) as server,
    ):
        back = threading.Thread(target=pump, args=(server, client), daemon=True)
        back.start()
        pump(client, server)
        back.join()


def pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def test_tables_are_made_and_asked_over_tls(encrypted: Encrypted) -> None:
    with encrypted.store(encrypted.certificates.authority) as store:
        assert store.migrate()
        assert store.count_rows() == {}


def test_a_server_of_another_authority_is_refused_by_name(encrypted: Encrypted) -> None:
    for ca_file in (None, encrypted.certificates.stranger):
        with encrypted.store(ca_file) as store, pytest.raises(StoreError, match="PERPFLOW_CLICKHOUSE_CA_FILE"):
            store.query("SELECT 1")


def test_an_authority_without_tls_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="give the address as https"):
        Store("http://127.0.0.1:8123", ca_file=tmp_path / "ca.pem")
