"""The monitoring page in a real browser: two widths, two colour schemes, no console errors, and a button that halts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.access.users import Role
from libs.bus.memory import MemoryBus
from libs.domain.control import ControlAction, ControlCommand, TradingState
from libs.runtime.health import HealthServer, ServiceHealth
from libs.runtime.metrics import ServiceMetrics
from libs.runtime.records import read_topic
from libs.wire import decode
from libs.wire.topics import CONTROL_COMMANDS
from services.monitoring.app import MonitoringApp
from services.monitoring.settings import MonitoringSettings
from tests.e2e.browser import Page, browsing, find_chromium
from tests.e2e.page_server import announce_services, serving
from tests.kit.users import PASSWORD, write_users
from tests.unit.monitoring import builders as make
from tests.unit.monitoring.builders import MINUTE, SECOND, START

CHROMIUM = find_chromium()

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)"
)

SETTINGS = MonitoringSettings(
    port=0, push_interval_ms=50, probe_interval_ms=200, session_market="simulated", session_seed=7, session_speed=60
)
WIDTHS = [(1280, 900, "light"), (1280, 900, "dark"), (390, 844, "light")]


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    assert CHROMIUM is not None
    with browsing(CHROMIUM) as opened:
        yield opened
        opened.open("about:blank")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[MonitoringApp, MemoryBus]]:
    announce_services(tmp_path)
    with serving(SETTINGS, tmp_path) as (app, bus):
        make.publish(bus, make.a_session())
        yield app, bus


def show(page: Page, app: MonitoringApp, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
    # Leave the page of an earlier test first: it asks for its server until then.
    page.open("about:blank")
    page.faults.clear()
    page.size(width, height, scheme=scheme)
    assert app.url is not None
    page.open(app.url)
    page.wait_for("document.getElementById('link').dataset.state === 'live'")


@pytest.mark.parametrize(("width", "height", "scheme"), WIDTHS)
def test_page_fits_its_width_without_console_errors(
    page: Page, served: tuple[MonitoringApp, MemoryBus], width: int, height: int, scheme: str
) -> None:
    app, _ = served
    show(page, app, width, height, scheme)
    page.wait_for("document.getElementById('rows-fills').rows.length > 3")
    page.wait_for("document.getElementById('rows-services').rows.length === 9")
    assert page.read("document.documentElement.scrollWidth") == width
    assert page.read("document.getElementById('tile-price').textContent") != "–"
    assert page.read("document.getElementById('tile-equity').textContent").startswith(("9,", "10,"))
    assert page.read("document.getElementById('forecast-body').hidden") is False
    drawn = (
        "(() => { const e = document.getElementById('NAME'); let n = 0;"
        " for (const c of e.matches('canvas') ? [e] : e.querySelectorAll('canvas')) {"
        " const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        " for (let i = 3; i < d.length; i += 4) n += d[i] > 0; } return n; })()"
    )
    for name in ("price-chart", "equity-chart", "forecast-history"):
        page.wait_for(f"{drawn.replace('NAME', name)} > 500")
    shoot(page, f"page-{width}-{scheme}")
    assert page.faults == []


@pytest.mark.parametrize("width", [1280, 390])
def test_a_person_signs_in_reads_and_signs_out(page: Page, tmp_path: Path, width: int) -> None:
    users = write_users(tmp_path / "users.json", {"vera": Role.VIEWER})
    guarded = SETTINGS.model_copy(update={"session_mode": "testnet", "users_file": users})
    announce_services(tmp_path / "run")
    with serving(guarded, tmp_path / "run") as (app, bus):
        make.publish(bus, make.a_session())
        page.open("about:blank")
        page.faults.clear()
        page.size(width, 900)
        page.open(app.url or "")
        page.wait_for("location.pathname === '/login' && document.getElementById('user') !== null")
        assert page.read("document.documentElement.scrollWidth") == width
        shoot(page, f"login-{width}")
        assert page.faults == []
        sign_in(page, "vera", "wrong wrong wrong")
        page.wait_for("document.getElementById('error').textContent === 'User or password is wrong.'")
        # The browser logs every answer of 401, this one too.
        page.faults.clear()
        sign_in(page, "vera", PASSWORD)
        page.wait_for("location.pathname === '/' && document.getElementById('link')?.dataset.state === 'live'")
        page.wait_for("document.getElementById('user-name').textContent === 'vera, viewer'")
        assert page.read("document.getElementById('halt').disabled")
        page.wait_for("document.getElementById('rows-audit').rows.length === 2")
        page.wait_for("document.getElementById('rows-fills').rows.length > 3")
        assert page.read("document.documentElement.scrollWidth") == width
        shoot(page, f"signed-in-{width}")
        assert page.faults == []
        page.click("sign-out")
        page.wait_for("location.pathname === '/login'")
        page.open("about:blank")


def sign_in(page: Page, user: str, password: str) -> None:
    page.fill("user", user)
    page.fill("password", password)
    page.click("go")


def shoot(page: Page, name: str) -> None:
    """Keep a picture where a folder for pictures is named."""
    folder = os.environ.get("PERPFLOW_TEST_PICTURES")
    if folder:
        page.shoot(Path(folder) / f"{name}.png")


def test_resume_is_typed_out(page: Page, served: tuple[MonitoringApp, MemoryBus]) -> None:
    app, bus = served
    make.publish(bus, [make.a_control_state(TradingState.HALTED, reason="by hand")])
    show(page, app)
    page.wait_for("document.getElementById('halt').textContent === 'Resume'")
    page.read("document.getElementById('halt').click()")
    assert page.read("document.getElementById('typed-wanted').textContent") == "resume paper"
    assert page.read("document.getElementById('confirm-go').disabled")
    page.fill("confirm-typed", "resume paper")
    page.click("confirm-go")
    page.wait_for("!document.getElementById('confirm').open")
    (record,) = read_topic(bus, CONTROL_COMMANDS)
    command = decode(CONTROL_COMMANDS, record.value)
    assert isinstance(command, ControlCommand) and command.action is ControlAction.RESUME
    assert page.faults == []


def test_empty_page_says_what_it_waits_for(page: Page) -> None:
    with serving(SETTINGS) as (app, _):
        show(page, app, 390, 844)
        assert page.read("document.getElementById('price-empty').hidden") is False
        assert "Waiting" in page.read("document.getElementById('equity-empty').textContent")
        assert page.read("document.getElementById('trading-text').textContent") == "No state yet"
        assert page.faults == []


def test_page_follows_the_market(page: Page, served: tuple[MonitoringApp, MemoryBus]) -> None:
    app, bus = served
    show(page, app)
    page.wait_for("document.getElementById('tile-price').textContent !== '–'")
    at = START + 241 * MINUTE
    make.publish(
        bus, [make.a_trade(event_time=at, price_e8=make.e8(70_123.4), venue_trade_id=999), make.a_tick(at + SECOND)]
    )
    page.wait_for("document.getElementById('tile-price').textContent === '70,123.4'")
    page.wait_for("document.getElementById('market-time').textContent === '2026-01-01 04:01:01'")


def test_halt_button_asks_once_and_its_command_reaches_the_bus(
    page: Page, served: tuple[MonitoringApp, MemoryBus]
) -> None:
    app, bus = served
    show(page, app)
    page.wait_for("document.getElementById('trading-state').dataset.state === 'ACTIVE'")
    page.read("document.getElementById('halt').click()")
    assert page.read("document.getElementById('confirm').open")
    assert list(read_topic(bus, CONTROL_COMMANDS)) == []
    page.read("document.getElementById('confirm-reason').value = 'test of the button'")
    page.read("document.getElementById('confirm-go').click()")
    page.wait_for("document.getElementById('trading-text').textContent === 'Halting…'")
    (record,) = read_topic(bus, CONTROL_COMMANDS)
    command = decode(CONTROL_COMMANDS, record.value)
    assert isinstance(command, ControlCommand)
    assert (command.action, command.account, command.reason) == (ControlAction.HALT, "paper", "test of the button")
    make.publish(bus, [make.a_control_state(TradingState.HALTED, reason="by hand", cause_id=command.event_id)])
    page.wait_for("document.getElementById('trading-text').textContent === 'Halted'")
    assert page.read("document.getElementById('notice').textContent") == "Trading is halted: by hand"
    assert page.read("document.getElementById('halt').textContent") == "Resume"
    assert page.faults == []


def test_cancelled_confirmation_sends_nothing(page: Page, served: tuple[MonitoringApp, MemoryBus]) -> None:
    app, bus = served
    show(page, app)
    page.wait_for("document.getElementById('trading-state').dataset.state === 'ACTIVE'")
    page.read("document.querySelector('[data-action=flatten]').click()")
    page.read("document.getElementById('confirm-cancel').click()")
    assert page.read("document.getElementById('confirm').open") is False
    assert list(read_topic(bus, CONTROL_COMMANDS)) == []


def test_tabs_and_chart_can_be_used_from_the_keyboard(page: Page, served: tuple[MonitoringApp, MemoryBus]) -> None:
    app, _ = served
    show(page, app)
    page.wait_for("document.getElementById('rows-refusals').rows.length > 0")
    page.read("document.getElementById('tab-fills').focus()")
    page.press("ArrowLeft")
    assert page.read("document.activeElement.id") == "tab-refusals"
    assert "leverage" in page.read("document.getElementById('panel-refusals').innerText")
    before = page.read("document.getElementById('price-readout').textContent")
    page.read("document.getElementById('price-chart').focus()")
    for _ in range(9):
        page.press("ArrowLeft")
    assert page.read("document.getElementById('price-readout').textContent") != before


def test_orders_name_their_instrument_where_there_are_several(
    page: Page, served: tuple[MonitoringApp, MemoryBus]
) -> None:
    app, bus = served
    show(page, app)
    page.wait_for("document.getElementById('rows-fills').rows.length > 3")
    shown = "getComputedStyle(document.querySelector('#rows-fills .of-instrument')).display"
    assert page.read(shown) == "none"
    make.publish(bus, [make.a_trade(instrument="ETHUSDT.BINANCE")])
    page.wait_for(f"{shown} === 'table-cell'")
    for name in ("fills", "orders", "refusals"):
        cell = page.read(f"document.querySelector('#rows-{name} .of-instrument').textContent")
        assert cell == "BTCUSDT", name


def test_lost_server_is_said_and_found_again(page: Page) -> None:
    with serving(SETTINGS) as (app, _):
        show(page, app)
        port = int((app.url or "").rpartition(":")[2])
    page.wait_for("document.getElementById('link').dataset.state === 'lost'")
    assert "connection" in page.read("document.getElementById('notice').textContent")
    with serving(SETTINGS.model_copy(update={"port": port})) as (_, bus):
        page.wait_for("document.getElementById('link').dataset.state === 'live'")
        make.publish(bus, [make.a_bar(0)])
        page.wait_for("document.getElementById('price-empty').hidden")


def test_live_feeds_are_listed_and_one_without_a_book_stands_out(
    page: Page, served: tuple[MonitoringApp, MemoryBus], tmp_path: Path
) -> None:
    app, _ = served
    metrics = ServiceMetrics("ingestion")
    for instrument, levels in (("BTCUSDT.BINANCE", 1000), ("XRPUSDT.BYBIT", 0)):
        metrics.message_age.labels("ingestion", instrument, "trade").set(0.2)
        metrics.reconnects.labels("ingestion", instrument, "market").inc(2)
        for side in ("bids", "asks"):
            metrics.book_levels.labels("ingestion", instrument, side).set(levels)
    server = HealthServer(ServiceHealth("ingestion", tmp_path, metrics))
    try:
        facts = {"service": "ingestion", "pid": os.getpid(), "state": "running", "metrics_port": server.port}
        (tmp_path / "ingestion.json").write_text(json.dumps(facts))
        show(page, app)
        page.wait_for("document.getElementById('rows-feeds').rows.length === 2")
        assert page.read("document.getElementById('feeds').hidden") is False
        assert page.read("document.getElementById('feeds-readout').textContent") == "1 of 2 without a book"
        cells = "[...document.getElementById('rows-feeds').rows[0].cells].map((cell) => cell.textContent).join('|')"
        assert page.read(cells) == "BTCUSDT.BINANCE|0.2 s|–|–|–|2|–|1,000 / 1,000"
        assert not page.faults
    finally:
        server.close()
