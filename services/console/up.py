"""`perpflow up`: one session from start to summary."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from libs.bus.api import Bus, BusLost, BusUnavailable
from libs.bus.writer_lock import writer_lock_path
from libs.clock import SYSTEM_CLOCK, SYSTEM_ENTROPY, Clock, Deadline, Entropy
from libs.domain.control import ALL_ACCOUNTS, ControlAction
from libs.domain.instruments import DEFAULT_INSTRUMENT, DEFAULT_INSTRUMENTS
from libs.portfolio.model_scores import is_model_account
from libs.runtime.child import child_command
from libs.runtime.configuration import Configuration
from libs.runtime.errors import (
    EXIT_BAD_INPUT,
    EXIT_CHECK_FAILED,
    EXIT_OK,
    EXIT_UNAVAILABLE,
    BadInput,
    DependencyUnavailable,
)
from libs.runtime.health import heartbeat_path
from libs.runtime.lag import read_lags
from libs.runtime.listening import ReservedPort, reserve_preferred
from libs.runtime.masking import SECRETS
from libs.runtime.placement import ONE_PARTITION, Placement, service_of
from libs.runtime.settings import CHAIN, PlatformSettings, StoreSettings, load_settings, variables_of
from libs.store.errors import StoreError, StoreUnavailable
from libs.version import build_id
from libs.wire.topics import MARKET_EVENTS, dead_topic
from services.console.control import send_commands
from services.console.drain import GROUPS, UNENDING, wait_until_drained
from services.console.log_files import LogLimits
from services.console.market_choice import plays_sample_data
from services.console.models_registry import STARTER, features_of, find_entry, read_default, read_shadows
from services.console.placing import place_models, placement_of, placement_variables, traded_of
from services.console.plan import (
    AUTO_LAYOUT,
    RECORDER,
    SPREAD,
    ProcessSpec,
    answers,
    base_environment,
    check_scale,
    default_layout,
    plan_processes,
)
from services.console.registry import read_checked, recorded_variables, secret_variables, settings_models
from services.console.running import register_session
from services.console.session import (
    DESCRIPTION,
    SessionDescription,
    check_session_name,
    database_of,
    load_session,
    locked_session,
    sessions_root,
    topic_prefix_of,
)
from services.console.session_bus import open_session_bus
from services.console.store_access import EMBEDDED_USER, check_address, make_password, open_store
from services.console.summary import COUNTED, summarise_topics
from services.console.supervisor import GaveUp, Supervisor
from services.console.users_commands import count_users, users_file

DEFAULT_PAGE_PORT = 8420
# A first start compiles, which alone may take four minutes on a busy machine.
START_LIMIT_S = 360.0
DRAIN_TIMEOUT_S = 900.0
CLICKHOUSE_PROCESS = "clickhouse"
_ORDER_WORDS = {
    ("paper", False): "on paper, no key anywhere",
    ("paper", True): "on paper, no key anywhere",
    ("testnet", False): "to the venue's testnet: play money",
    ("testnet", True): "to the simulated exchange",
    ("live", False): "[bold red]to the venue: REAL MONEY[/]",
}
_NO_MODEL = (
    "none, so no forecasts; train one: perpflow collect-data --days 60 --output btc.parquet && "
    "perpflow train-models --input btc.parquet --name btc --promote"
)
_KEY_VARIABLES = ("PERPFLOW_EXECUTION_API_KEY", "PERPFLOW_EXECUTION_API_SECRET")
# Of what was set for a session, what its own plan decides.
_PLANNED = frozenset(
    {"PERPFLOW_BUS", "PERPFLOW_TOPIC_PREFIX", "PERPFLOW_RUN_DIR", "PERPFLOW_LOG_FORMAT"}
    | set(variables_of(StoreSettings).values())
)


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What the command line asked for. `market` is live, simulated or recorded:PATH; times are seconds."""

    market: str
    mode: str
    instrument: str
    seed: int
    speed: float
    for_s: float | None
    span_s: float | None
    history: Path | None
    summary: Path | None
    port: int | None
    session: str | None
    is_verbose: bool
    instruments: tuple[str, ...] = ()
    placement: Placement = ONE_PARTITION
    scale: Mapping[str, int] = field(default_factory=dict)
    layout: str = SPREAD


def run_up(options: UpOptions, console: Console) -> int:
    """Run a session and return the exit code. Raises `BadInput` and `DependencyUnavailable` before it starts."""
    # Everything that a session writes is for this user alone.
    os.umask(0o077)
    models = settings_models()
    configuration = read_checked()
    check_address(configuration)
    session = prepare_session(options, configuration)
    hidden = secret_variables(models)
    secret_settings = {name: value for name, value in configuration.variables.items() if name in hidden}
    stop = threading.Event()
    previous = {
        number: signal.signal(number, lambda _number, _frame: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        # Before anything is written: the folder may be another session's that runs.
        with contextlib.ExitStack() as ports, locked_session(session):
            return _Run(options, session, secret_settings, console, stop, ports).execute()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def check_mode(market: str, mode: str, speed: float, variables: Mapping[str, str]) -> None:
    """Raise `BadInput` for a mode that a market or its speed leaves no venue for."""
    kind = market.partition(":")[0]
    if kind == "recorded" and mode != "paper":
        raise BadInput(f"--mode {mode} cannot trade on a recording, whose prices are past; use --mode paper")
    if kind == "simulated" and mode == "live":
        raise BadInput("--mode live cannot trade on a simulated market; use --mode testnet or --mode paper")
    if kind == "live" and mode != "paper":
        missing = [name for name in _KEY_VARIABLES if not variables.get(name)]
        if missing:
            raise BadInput(f"--mode {mode} sends orders to the venue and needs {' and '.join(missing)}")
    if kind == "simulated" and mode == "testnet" and not speed:
        raise BadInput("--mode testnet needs a venue with a clock: give --speed above 0")


def prepare_session(
    options: UpOptions, configuration: Configuration, clock: Clock = SYSTEM_CLOCK
) -> SessionDescription:
    """Return the session that the options ask for, nothing written yet. Raises `BadInput`."""
    kind = options.market.partition(":")[0]
    given = configuration.variables
    check_mode(options.market, options.mode, options.speed, given)
    if options.mode != "paper" and (options.placement != ONE_PARTITION or len(options.instruments) > 1):
        raise BadInput(
            f"--mode {options.mode} trades one account and one instrument in one partition; --instruments, --accounts "
            "and --partitions go with --mode paper"
        )
    count_users(users_file(environment=given))
    stamp = datetime.fromtimestamp(clock.now_ns() / 1e9, UTC).strftime("%Y%m%d-%H%M%S")
    if options.session is not None:
        check_session_name(options.session)
    name = options.session or (
        f"{options.mode}-live"
        if kind == "live"
        else f"{stamp}-{kind}" + (f"-{options.seed}" if kind == "simulated" else "")
    )
    folder = (sessions_root() / name).resolve()
    if kind != "live" and folder.exists():
        if options.session:
            raise BadInput(f"session {name} exists already; choose another name, or replay it with `perpflow replay`")
        name = f"{name}-{os.getpid()}"
        folder = folder.with_name(name)
    layout = options.layout
    if layout == AUTO_LAYOUT:
        is_known = (folder / DESCRIPTION).is_file()
        layout = load_session(name).layout if is_known else default_layout(options.mode, options.scale)
    check_scale(layout, options.scale)
    bus = given.get("PERPFLOW_BUS", "")
    if bus and not bus.startswith(("sqlite:", "kafka:")):
        raise BadInput(
            f"PERPFLOW_BUS={bus!r}: processes meet on sqlite:PATH or kafka:HOST:PORT; correct it or unset it"
        )
    shared_clickhouse = given.get("PERPFLOW_CLICKHOUSE", "")
    session = SessionDescription(
        name=name,
        folder=folder,
        market=options.market,
        mode=options.mode,
        seed=options.seed if kind == "simulated" else None,
        speed=options.speed,
        instrument=options.instrument,
        layout=layout,
        build=build_id(),
        bus=bus or f"sqlite:{folder / 'bus.db'}",
        topic_prefix=topic_prefix_of(name) if bus.startswith("kafka:") else "",
        clickhouse=shared_clickhouse,
        clickhouse_database="perpflow" if not shared_clickhouse else database_of(name),
        clickhouse_user=load_settings(StoreSettings, configuration).clickhouse_user
        if shared_clickhouse
        else EMBEDDED_USER,
    )
    settings = {
        "PERPFLOW_INGESTION_MARKET": options.market,
        "PERPFLOW_INGESTION_INSTRUMENT": options.instrument,
        "PERPFLOW_INGESTION_SPEED": f"{options.speed:g}",
        "PERPFLOW_MONITORING_SESSION_MARKET": options.market,
        "PERPFLOW_MONITORING_SESSION_MODE": options.mode,
        "PERPFLOW_MONITORING_SESSION_SPEED": f"{options.speed:g}",
        "PERPFLOW_MONITORING_DEFAULT_INSTRUMENT": options.instrument,
        "PERPFLOW_MONITORING_USERS_FILE": str(users_file(environment=given).resolve()),
        "PERPFLOW_EXECUTION_MODE": options.mode,
    }
    if plays_sample_data(options.market, options.history):
        settings["PERPFLOW_MONITORING_SESSION_IS_SAMPLE"] = "true"
    traded = traded_of(options.instruments or (options.instrument,))
    for service in ("STRATEGY", "RISK", "EXECUTION"):
        # Called after its mode, so that nobody takes it for paper.
        name_of_account = f"PERPFLOW_{service}_ACCOUNT"
        settings[name_of_account] = given.get(name_of_account, options.mode)
        if not set(traded) <= set(DEFAULT_INSTRUMENTS):
            name_of_instruments = f"PERPFLOW_{service}_INSTRUMENTS"
            settings[name_of_instruments] = given.get(name_of_instruments, json.dumps(traded))
    settings["PERPFLOW_MONITORING_DEFAULT_ACCOUNT"] = next(
        iter(options.placement.accounts), settings["PERPFLOW_EXECUTION_ACCOUNT"]
    )
    settings |= model_variables(given, is_simulated=kind == "simulated")
    placement = options.placement
    if options.mode == "paper":
        before = placement_of(load_session(name)) if (folder / DESCRIPTION).is_file() else None
        models = shadowed_models(given, is_simulated=kind == "simulated", before=before)
        if models:
            placement = place_models(placement, models, settings["PERPFLOW_EXECUTION_ACCOUNT"], traded, before)
    if options.scale.get(CHAIN, 1) > 1:
        placement.split_accounts(options.scale[CHAIN])
    settings |= placement_variables(placement)
    if len(options.instruments) > 1:
        settings["PERPFLOW_INGESTION_INSTRUMENTS"] = json.dumps(options.instruments)
    if options.span_s is not None:
        settings["PERPFLOW_INGESTION_SPAN_S"] = f"{options.span_s:g}"
    if options.history is not None:
        settings["PERPFLOW_INGESTION_HISTORY"] = str(options.history.resolve())
    if kind == "simulated":
        settings["PERPFLOW_EXCHANGE_SEED"] = str(options.seed)
        settings["PERPFLOW_EXCHANGE_SPEED"] = f"{options.speed:g}"
        settings["PERPFLOW_MONITORING_SESSION_SEED"] = str(options.seed)
        if options.mode == "testnet":
            settings["PERPFLOW_EXECUTION_VENUE_SPEED"] = f"{options.speed:g}"
            settings["PERPFLOW_INGESTION_FOLLOW_EXCHANGE_CLOCK"] = "true"
            # Its exchange lists one instrument.
            settings["PERPFLOW_EXECUTION_INSTRUMENTS"] = f'["{DEFAULT_INSTRUMENT}"]'
    # What the person who started this has set for a service belongs to the session: replay needs the same.
    inherited = recorded_variables(configuration, settings_models())
    session.environment.update(
        {**{name: value for name, value in inherited.items() if name not in _PLANNED}, **settings}
    )
    return session


def model_variables(given: Mapping[str, str], *, is_simulated: bool) -> dict[str, str]:
    """Return which models run and the features that they read.

    Where none is named the simulated market has the starter, which was trained on it; any other market has the model
    that was promoted in the registry, and none before. Raises `BadInput` for a model that there is not.
    """
    champion, shadows = _named_models(given, is_simulated=is_simulated)
    if not champion and not shadows:
        return {}
    needed = features_of(_models_dir(given), [*([champion] if champion else []), *shadows])
    return {
        "PERPFLOW_INFERENCE_CHAMPION": champion,
        "PERPFLOW_INFERENCE_SHADOWS": json.dumps(shadows),
        "PERPFLOW_FEATURES_FEATURE_SETS": given.get("PERPFLOW_FEATURES_FEATURE_SETS", json.dumps(needed)),
    }


def shadowed_models(given: Mapping[str, str], *, is_simulated: bool, before: Placement | None = None) -> list[str]:
    """Return the models that have a paper account each, NAME/VERSION, the champion first; none without a shadow, unless
    the session had such accounts `before`. Raises `BadInput` for a model that there is not.
    """
    champion, shadows = _named_models(given, is_simulated=is_simulated)
    if not shadows and not any(map(is_model_account, before.accounts if before else ())):
        return []
    entries = [find_entry(_models_dir(given), one) for one in (champion, *shadows) if one]
    return [f"{entry.name}/{entry.version}" for entry in entries]


def _models_dir(given: Mapping[str, str]) -> Path:
    return Path(given.get("PERPFLOW_INFERENCE_MODELS_DIR", "var/models"))


def _named_models(given: Mapping[str, str], *, is_simulated: bool) -> tuple[str, list[str]]:
    champion = given.get("PERPFLOW_INFERENCE_CHAMPION") or (
        STARTER if is_simulated else read_default(_models_dir(given))
    )
    named = given.get("PERPFLOW_INFERENCE_SHADOWS")
    if not named:
        return champion, [] if is_simulated else read_shadows(_models_dir(given))
    try:
        return champion, json.loads(named)
    except ValueError as error:
        raise BadInput(f'PERPFLOW_INFERENCE_SHADOWS is no JSON list ({error}); write ["NAME/VERSION"]') from error


def _simulated_venue_keys(entropy: Entropy) -> dict[str, str]:
    # A key that only this session's exchange knows, and that guards nothing of worth.
    key, secret = entropy.token_hex(16), entropy.token_hex(16)
    return {
        "PERPFLOW_EXCHANGE_API_KEY": key,
        "PERPFLOW_EXCHANGE_API_SECRET": secret,
        "PERPFLOW_EXECUTION_API_KEY": key,
        "PERPFLOW_EXECUTION_API_SECRET": secret,
    }


class _Run:
    def __init__(
        self,
        options: UpOptions,
        session: SessionDescription,
        secret_settings: Mapping[str, str],
        console: Console,
        stop: threading.Event,
        ports: contextlib.ExitStack,
        clock: Clock = SYSTEM_CLOCK,
        entropy: Entropy = SYSTEM_ENTROPY,
    ) -> None:
        self._clock = clock
        self._options = options
        self._session = session
        # Handed to the processes that need them and written nowhere.
        self._secrets = dict(secret_settings)
        if options.mode == "testnet" and options.market == "simulated":
            self._secrets |= _simulated_venue_keys(entropy)
        for value in self._secrets.values():
            SECRETS.add(value)
        self._console = console
        self._stop = stop
        self._ports = ports
        page_port = self._reserve(
            reserve_preferred(DEFAULT_PAGE_PORT) if options.port is None else ReservedPort(options.port)
        )
        session.environment["PERPFLOW_MONITORING_PORT"] = str(page_port)
        self._page = f"http://127.0.0.1:{page_port}/"
        self._started = self._clock.monotonic_s()
        self._last_line = 0.0
        self._bus: Bus | None = None
        platform = load_settings(PlatformSettings)
        # The models' paper accounts are in it too.
        self._placement = placement_of(session)
        kind, _, path = session.bus.partition(":")
        self._supervisor = Supervisor(
            session.run_dir,
            session.log_dir,
            self._print_log,
            limits=LogLimits(int(platform.log_max_mb * 1e6), platform.log_files, platform.log_max_age_days * 86_400),
            writer_lock=writer_lock_path(Path(path)) if kind == "sqlite" else None,
            on_hung=self._halt_if_risk,
            clock=clock,
        )

    def execute(self) -> int:
        kind = self._options.market.partition(":")[0]
        print_banner(self._options, self._session, self._page, self._console)
        exit_code = EXIT_OK
        try:
            self._start_clickhouse()
            with open_session_bus(self._session, is_new=True) as bus, self._supervisor.watching_bus(bus.ping):
                self._bus = bus
                bus.create_topics(self._placement.topics())
                self._register()
                self._start_services(kind)
                is_drained = self._run_until_done(bus)
                is_drained = self._stop_services(bus) and is_drained
                exit_code = self._report(bus, is_drained)
        except GaveUp as error:
            exit_code = self._say_stopped(error, error.exit_code)
        except BusLost as error:
            # It is seen by the thread that watches it or by this one, whichever looks first.
            self._supervisor.note_bus_error(str(error))
            exit_code = self._say_stopped(error, EXIT_UNAVAILABLE)
        finally:
            # ClickHouse last, so that services can still write to it.
            self._supervisor.stop(name for name in self._supervisor.states() if name != CLICKHOUSE_PROCESS)
            self._supervisor.close()
            self._session.password_file.unlink(missing_ok=True)
        return exit_code

    def _say_stopped(self, error: Exception, exit_code: int) -> int:
        self._console.print(f"[bold red]stopped:[/] {error}", highlight=False, soft_wrap=True)
        return exit_code

    def _reserve(self, port: ReservedPort) -> int:
        """Keep a port for this session, across restarts of what listens on it."""
        return self._ports.enter_context(port).number

    def _halt_if_risk(self, service: str) -> None:
        """Halt all trading where risk was killed for hanging: it did not watch meanwhile, and a person should look.

        Raises `BusUnavailable`, soon, where the command cannot be written yet.
        """
        if service_of(service) in ("risk", CHAIN) and self._bus is not None:
            self._bus.ping()
            reason = f"{service} hung and was killed by the supervisor"
            send_commands(self._bus, ControlAction.HALT, [ALL_ACCOUNTS], reason, actor="supervisor")

    def _register(self) -> None:
        problem = register_session(self._session)
        if problem:
            self._console.print(
                f"  [yellow]perpflow halt reaches this session only from this folder:[/] {escape(problem)}",
                highlight=False,
            )

    def _start_clickhouse(self) -> None:
        session = self._session
        if not session.clickhouse:
            port = self._reserve(ReservedPort())
            session = self._session = _with_clickhouse(session, f"http://127.0.0.1:{port}")
            self._secrets["PERPFLOW_CLICKHOUSE_PASSWORD"] = make_password(session)
            self._supervisor.start(
                [
                    ProcessSpec(
                        CLICKHOUSE_PROCESS,
                        child_command(
                            "infra.local.clickhouse",
                            "--path",
                            str(session.folder / "clickhouse"),
                            "--port",
                            str(port),
                            "--heartbeat",
                            str(heartbeat_path(session.run_dir, CLICKHOUSE_PROCESS)),
                            "--password-file",
                            str(session.password_file),
                        ),
                        base_environment(),
                        ready_url=f"{session.clickhouse}/ping",
                    )
                ]
            )
        session.save()
        self._wait_for_clickhouse()

    def _wait_for_clickhouse(self) -> None:
        for _ in Deadline(60.0).attempts(0.1):
            if self._stop.is_set() or answers(f"{self._session.clickhouse}/ping"):
                return
            self._supervisor.watch()
        raise DependencyUnavailable(
            f"ClickHouse at {self._session.clickhouse} does not answer; start it or correct PERPFLOW_CLICKHOUSE"
        )

    def _start_services(self, kind: str) -> None:
        has_exchange = kind == "simulated"
        exchanges: list[dict[str, str]] = []
        if has_exchange:
            port = self._reserve(ReservedPort())
            self._session.environment["PERPFLOW_EXCHANGE_PORT"] = str(port)
            self._session.environment["PERPFLOW_INGESTION_EXCHANGE_URL"] = f"http://127.0.0.1:{port}"
            if self._options.mode == "testnet":
                self._session.environment["PERPFLOW_EXECUTION_REST_URL"] = f"http://127.0.0.1:{port}"
                self._session.environment["PERPFLOW_EXECUTION_STREAM_URL"] = f"ws://127.0.0.1:{port}"
            exchanges = self._plan_further_exchanges(port)
            self._session.save()
        self._supervisor.start(
            plan_processes(
                self._session,
                self._secrets,
                has_exchange=has_exchange,
                is_bounded=kind != "live",
                scale=self._options.scale,
                exchanges=exchanges,
            )
        )
        shown = -1
        while not self._stop.is_set():
            self._supervisor.watch()
            states = self._supervisor.states()
            ready = sum(1 for state in states.values() if state in ("running", "finished"))
            if ready != shown:
                shown = ready
                self._console.print(f"  starting {ready}/{len(states)} processes ready", highlight=False)
            if ready == len(states):
                return
            if self._clock.monotonic_s() - self._started > START_LIMIT_S:
                waiting = ", ".join(name for name, state in states.items() if state not in ("running", "finished"))
                raise DependencyUnavailable(
                    f"not ready after {START_LIMIT_S:.0f} s: {waiting}; see {self._session.log_dir}"
                )
            self._clock.sleep(0.05)

    def _plan_further_exchanges(self, first_port: int) -> list[dict[str, str]]:
        """Return the settings of an exchange for each further instrument, each with a seed of its own."""
        further = self._options.instruments[1:]
        if not further:
            return []
        ports = [self._reserve(ReservedPort()) for _ in further]
        urls = [f"http://127.0.0.1:{port}" for port in (first_port, *ports)]
        self._session.environment["PERPFLOW_INGESTION_EXCHANGE_URLS"] = json.dumps(urls)
        return [
            {"PERPFLOW_EXCHANGE_PORT": str(port), "PERPFLOW_EXCHANGE_SEED": str(self._options.seed + number)}
            for number, port in enumerate(ports, 1)
        ]

    def _run_until_done(self, bus: Bus) -> bool:
        begun = self._clock.monotonic_s()
        while not self._stop.is_set():
            self._supervisor.watch()
            if self._options.for_s is not None and self._clock.monotonic_s() - begun >= self._options.for_s:
                break
            if self._supervisor.states()["ingestion"] == "finished":
                break
            self._show_progress(bus)
            self._clock.sleep(0.1)
        self._supervisor.stop(["ingestion"])
        groups = (*GROUPS, "outbox") if "outbox" in self._supervisor.states() else GROUPS
        return self._drain(bus, groups, UNENDING)

    def _drain(self, bus: Bus, groups: Sequence[str], leaving_out: Collection[str] = ()) -> bool:
        return wait_until_drained(
            bus,
            groups,
            self._supervisor.watch,
            self._show_lags,
            self._show_outage,
            DRAIN_TIMEOUT_S,
            leaving_out,
            self._placement,
        )

    def _show_progress(self, bus: Bus) -> None:
        if not self._is_line_due:
            return
        try:
            bus.ping()
            self._show_lags(read_lags(bus, GROUPS, placement=self._placement))
        except BusLost:
            raise
        except BusUnavailable as error:
            self._show_outage(error)

    def _show_outage(self, error: BusUnavailable) -> None:
        self._show_waiting(f"waiting for the bus: {error}")

    def _show_lags(self, lags: Mapping[str, int]) -> None:
        behind = ", ".join(f"{group} {lag}" for group, lag in lags.items() if lag) or "nothing"
        self._show_waiting(f"waiting to be handled: {behind}")

    def _show_waiting(self, text: str) -> None:
        if not self._is_line_due:
            return
        self._last_line = now = self._clock.monotonic_s()
        line = f"  {now - self._started:6.0f} s  {text}"
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    @property
    def _is_line_due(self) -> bool:
        return self._clock.monotonic_s() - self._last_line >= 10.0

    def _stop_services(self, bus: Bus) -> bool:
        """Stop everything; False where the recorder has not written all. It goes last: the others may still write."""
        names = list(self._supervisor.states())
        recorders = [name for name in names if service_of(name) == RECORDER]
        self._supervisor.stop([name for name in names if name not in (CLICKHOUSE_PROCESS, *recorders)])
        is_drained = self._drain(bus, [RECORDER])
        self._supervisor.stop(recorders)
        return is_drained

    def _report(self, bus: Bus, is_drained: bool) -> int:
        summary = summarise_topics(bus)
        password = self._secrets.get("PERPFLOW_CLICKHOUSE_PASSWORD", "")
        try:
            with contextlib.closing(open_store(self._session, password)) as store:
                tables = store.count_rows(summary["first_offsets"])
                recorded = store.count_rows() if summary["first_offsets"] else tables
        except StoreUnavailable as error:
            raise DependencyUnavailable(f"topics and tables cannot be compared: {error}") from error
        except StoreError as error:
            raise BadInput(f"topics and tables cannot be compared: {error}") from error
        differing = sorted(topic for topic, rows in summary["topics"].items() if tables.get(topic, 0) != rows)
        summary |= {
            # What has passed retention in the topics is in the tables alone.
            **{name: recorded.get(topic, 0) for name, topic in COUNTED.items()},
            "tables": {topic: tables.get(topic, 0) for topic in summary["topics"]},
            "recorded": {topic: recorded.get(topic, 0) for topic in summary["topics"]},
            "restarts": self._supervisor.restarts(),
            "market": self._options.market,
            "mode": self._options.mode,
            "seed": self._session.seed,
            "speed": self._options.speed,
            "session": self._session.name,
            "elapsed": round(self._clock.monotonic_s() - self._started, 3),
            "is_drained": is_drained,
        }
        if self._options.summary is not None:
            _write_summary(self._options.summary, summary)
        self._print_summary(summary)
        if summary["first_offsets"]:
            self._console.print(
                "  old records have passed retention: topics and tables are compared, and digests made, from the "
                f"oldest records on that the topics hold (market.events.v1: offset {_first_offset(summary):,})",
                highlight=False,
                soft_wrap=True,
            )
        broken = {name: count for name, count in summary["invariants"].items() if count}
        if broken or differing or not is_drained:
            self._console.print(
                f"[bold red]checks failed:[/] invariants {broken or 'hold'}; topics and tables differ in "
                f"{', '.join(differing) or 'nothing'}; drained: {is_drained}",
                highlight=False,
                soft_wrap=True,
            )
            return EXIT_CHECK_FAILED
        unread = summary["topics"][dead_topic(MARKET_EVENTS)]
        if unread and self._options.market.startswith("recorded:"):
            self._console.print(
                f"[bold red]bad input:[/] {unread} lines of the recording could not be "
                "read; everything else was handled, and the lines lie in dead.market.events.v1 with file, line and "
                f"reason (also in {self._session.log_dir / 'ingestion.log'}); correct the file or accept the gaps",
                highlight=False,
                soft_wrap=True,
            )
            return EXIT_BAD_INPUT
        return EXIT_OK

    def _print_summary(self, summary: dict[str, Any]) -> None:
        table = Table(title="what happened", title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 2))
        for name in (
            "market_events",
            "bars",
            "vectors",
            "forecasts",
            "intents",
            "verdicts",
            "orders",
            "fills",
            "dead_letters",
            "restarts",
        ):
            table.add_row(name.replace("_", " "), f"{summary[name]:,}")
        end_to_end = summary["latency_ms"].get("end_to_end")
        if end_to_end:
            table.add_row("market to order, p50 / p99", f"{end_to_end['p50']} / {end_to_end['p99']} ms")
        self._console.print(table)

    def _print_log(self, service: str, line: str) -> None:
        is_problem = False
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            # Not ours: Python's last words, or a library's.
            text, is_problem = line, " INFO " not in line
        else:
            is_problem = entry.get("level") in ("warning", "error", "critical")
            details = {
                key: value
                for key, value in entry.items()
                if key not in ("event", "level", "timestamp", "service", "exception")
            }
            text = " ".join([str(entry.get("event")), *(f"{key}={value}" for key, value in details.items())])
        if is_problem or self._options.is_verbose:
            self._console.print(f"  {service:<11}{text}", highlight=False, markup=False, soft_wrap=True)


def print_banner(options: UpOptions, session: SessionDescription, page: str, console: Console) -> None:
    """Say what is started: market, mode, where orders go, where the page is and who may sign in."""
    kind = options.market.partition(":")[0]
    words = {
        "live": f"the live market of {options.instrument} (public streams)",
        "simulated": f"a simulated market, seed {options.seed}, at {options.speed:g} times real speed",
        "recorded": f"the recording {options.market.partition(':')[2]}, at {options.speed:g} times real speed",
    }
    console.print(f"[bold]perpflow[/] {options.mode} trading on {words[kind]}", highlight=False)
    read = options.instruments or (options.instrument,)
    traded = traded_of(read)
    where = _ORDER_WORDS[options.mode, kind == "simulated"] if traded else "none"
    console.print(f"  orders   {where}", highlight=False)
    if len(traded) < len(read):
        untraded = ", ".join(name for name in read if name not in traded)
        console.print(f"  data     {untraded}: market data alone, nothing is traded on it", highlight=False)
    console.print(f"  session  {session.name} ({session.folder})", highlight=False, soft_wrap=True)
    champion = session.environment.get("PERPFLOW_INFERENCE_CHAMPION", "")
    console.print(f"  model    {champion or _NO_MODEL}", highlight=False, soft_wrap=True)
    shadows = json.loads(session.environment.get("PERPFLOW_INFERENCE_SHADOWS") or "[]")
    if shadows:
        where = "on a paper account each" if options.mode == "paper" else "forecasts alone"
        console.print(f"  shadows  {', '.join(shadows)} ({where})", highlight=False, soft_wrap=True)
    console.print(f"  page     {page}", highlight=False)
    if options.mode != "paper":
        console.print(f"  sign in  {_describe_users(session)}", highlight=False, soft_wrap=True)
    console.print("  stop     Ctrl-C", highlight=False)


def _first_offset(summary: dict[str, Any]) -> int:
    return int(summary["first_offsets"].get(f"{MARKET_EVENTS}/0", 0))


def _describe_users(session: SessionDescription) -> str:
    path = users_file(environment=session.environment)
    count = count_users(path)
    if not count:
        return f"[bold]{path} has no users; add one: perpflow users add NAME --role operator[/]"
    return f"one of {count} users of {path}"


def _with_clickhouse(session: SessionDescription, url: str) -> SessionDescription:
    import dataclasses

    return dataclasses.replace(session, clickhouse=url)


def _write_summary(path: Path, summary: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_text(json.dumps(summary, indent=2) + "\n")
        draft.replace(path)
    except OSError as error:
        raise DependencyUnavailable(f"the summary cannot be written to {path}: {error.strerror}") from error
