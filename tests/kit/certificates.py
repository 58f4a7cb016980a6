"""Certificates for tests of TLS, made with openssl: an authority, what it signed, and an authority nobody knows."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificates:
    """PEM files: an authority, what it signed for the broker and a client, and an authority nobody knows."""

    authority: Path
    broker: Path
    client: Path
    client_key: Path
    stranger: Path


def make_certificates(folder: Path) -> Certificates:
    """Make them with openssl; the broker's file holds its key, certificate and authority, as Kafka wants it."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True, timeout=60)

    for authority in ("authority", "stranger"):
        openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={authority}"),
            *("-keyout", f"{authority}.key", "-out", f"{authority}.pem"),
        )
    for name in ("broker", "client"):
        openssl(
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr"),
        )
        (folder / f"{name}.ext").write_text("subjectAltName=IP:127.0.0.1\n")
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "authority.pem", "-CAkey", "authority.key"),
            *("-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.pem"),
        )
    whole = "".join((folder / name).read_text() for name in ("broker.key", "broker.pem", "authority.pem"))
    (folder / "broker-whole.pem").write_text(whole)
    return Certificates(
        folder / "authority.pem",
        folder / "broker-whole.pem",
        folder / "client.pem",
        folder / "client.key",
        folder / "stranger.pem",
    )
