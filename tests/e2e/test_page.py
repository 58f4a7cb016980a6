"""The monitoring page in a real browser: two widths, two colour schemes, no console errors, and a button that halts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.bus.memory import MemoryBus
from libs.domain.control import ControlAction, ControlCommand, TradingState
from libs.runtime.records import read_topic
from libs.wire import decode
from libs.wire.topics import CONTROL_COMMANDS
from services.monitoring.app import MonitoringApp
from services.monitoring.settings import MonitoringSettings
from tests.e2e.browser import Page, browsing, find_chromium
from tests.e2e.page_server import announce_services, serving
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
    page.faults.clear()
    page.size(width, height, is_mobile=width < 600, scheme=scheme)
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
        "(() => { const c = document.getElementById('NAME'); const d = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data; let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0;"
        " return n; })()"
    )
    for name in ("price-chart", "equity-chart", "forecast-history"):
        assert page.read(drawn.replace("NAME", name)) > 500, name
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
