"""No secret leaves a process: masked by name in every notation, by value wherever it stands."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from urllib.parse import quote

import pytest

from libs.runtime.masking import MaskingStream, SecretValues, mask_text, mask_value

SECRET = "s3cr3t-Value/9#x"
BY_NAME = [
    {"password": SECRET},
    {"request": {"headers": {"Authorization": f"Bearer {SECRET}"}}},
    {"settings": [{"api_key": SECRET}, {"api_secret": SECRET}]},
    {"headers": [("X-MBX-APIKEY", SECRET)]},
    {"X-ClickHouse-Key": SECRET},
    {"sasl.password": SECRET},
    f'{{"password": "{SECRET}"}}',
    f'{{"outer": {{"api_secret":"{SECRET}"}}}}',
    rf"{{\"token\": \"{SECRET}\"}}",
    f"{{'api_secret': '{SECRET}'}}",
    f"api_key = '{SECRET}'",
    f"Authorization: Basic {SECRET}",
    f"authorization: Bearer {SECRET}",
    "Bearer s3cr3tValue9x",
    f"X-MBX-APIKEY: {SECRET}",
    f"Cookie: session={SECRET}",
    f"https://api.example/x?signature={SECRET}&a=1",
    f"listenKey={SECRET}",
    f"http://someone:{SECRET}@host:8123/x",
    f"https://hooks.slack.com/services/T0/B0/{SECRET}",
    f"https://discord.com/api/webhooks/1/{SECRET}",
    "https://api.telegram.org/bot1:s3cr3tValue9x/sendMessage",
    f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----",
    ("token", SECRET),
    ValueError(f"password={SECRET}"),
    f"token={SECRET}".encode(),
]


@pytest.mark.parametrize("value", BY_NAME, ids=str)
def test_what_is_called_a_secret_is_masked_in_every_notation(value: object) -> None:
    written = str(mask_value(value))
    assert "s3cr3t" not in written
    assert "***" in written


@pytest.mark.parametrize(
    "text",
    [
        "bars closed of BTCUSDT.BINANCE at 61800.5",
        "order pf-3x7q2m5k is filled: 0.5 at 61800",
        "http://127.0.0.1:8123/ping answers",
        "the basic settings are good",
        "secrets are masked",
    ],
)
def test_ordinary_words_stay_as_they_are(text: str) -> None:
    assert mask_text(text) == text
    assert mask_value({"event": text, "rows": 3, "is_good": True, "nothing": None}) == {
        "event": text,
        "rows": 3,
        "is_good": True,
        "nothing": None,
    }


@pytest.mark.parametrize("secret", [SECRET, "pa ss\"wo'rd", "back\\slash\\", "ünïcode-päss", "a@b:c?d=e&f%"])
def test_a_known_secret_is_masked_in_each_form_that_it_takes(secret: str) -> None:
    secrets = SecretValues()
    secrets.add(secret)
    forms = (
        secret,
        quote(secret, safe=""),
        json.dumps({"any": secret}),
        json.dumps({"any": secret}, ensure_ascii=False),
        repr({"any": secret}),
        base64.b64encode(secret.encode()).decode(),
        secret.encode().hex(),
    )
    for form in forms:
        masked = secrets.mask(f"before {form} after")
        assert "***" in masked, form
        assert secret not in masked
        assert masked.startswith("before ") and masked.endswith(" after")


def test_a_secret_that_holds_another_is_masked_whole() -> None:
    secrets = SecretValues()
    secrets.add("abcd")
    secrets.add("abcdefgh")
    assert secrets.mask("abcdefgh abcd") == "*** ***"


def test_a_stream_masks_a_secret_that_is_written_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = SecretValues()
    secrets.add("wholesecret")
    monkeypatch.setattr("libs.runtime.masking.SECRETS", secrets)
    under = io.StringIO()
    stream = MaskingStream(under)
    for piece in ("it is whole", "sec", "ret, said\nthe", " rest"):
        stream.write(piece)
    assert under.getvalue() == "it is ***, said\n"
    stream.flush()
    assert under.getvalue() == "it is ***, said\nthe rest"


CRASHES = {
    "uncaught": "raise RuntimeError('venue said ' + secret)",
    "thread": "t = threading.Thread(target=lambda: (_ for _ in ()).throw(RuntimeError(secret))); t.start(); t.join()",
    "library log": "logging.getLogger('urllib3').error('call of %s failed', secret)",
    "library exception": "try:\n    raise OSError(secret)\nexcept OSError:\n    logging.getLogger('x').exception('no')",
    "warning": "warnings.warn(secret)",
    "print": "print('see', secret, file=sys.stderr)",
    "structured": "logger.error('failed', url='https://h/?q=' + secret, nested={'a': [secret]})",
    "fault handler": "faulthandler.dump_traceback(file=sys.stderr)\nprint(secret, file=sys.stderr)",
    "chained": "try:\n    raise KeyError(secret)\nexcept KeyError as e:\n    raise ValueError('x' + secret) from e",
}


@pytest.mark.parametrize("code", CRASHES.values(), ids=CRASHES.keys())
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_whatever_a_process_says_of_a_secret_is_masked(code: str, log_format: str) -> None:
    secret = "marked-value-of-a-setting"
    program = (
        "import faulthandler, logging, sys, threading, warnings\n"
        "from libs.runtime.log import configure_logging, log_uncaught_errors\n"
        "from libs.runtime.masking import SECRETS\n"
        f"secret = 'marked-' + 'value-of-' + 'a-setting'\nSECRETS.add(secret)\n"
        f"logger = configure_logging('x', {log_format!r})\nlog_uncaught_errors(logger)\n{code}\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    said = done.stdout + done.stderr
    assert said
    assert secret not in said
    assert "***" in said
