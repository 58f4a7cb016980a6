"""Features on Kafka: a Faust app around the same core and the same handling of a record as the shell's.

Faust is at-least-once: it commits now and then, and after a crash it reads again what it had not committed. So the core
is recovered up to the committed offset before the app starts, from its last snapshot and the bars behind it; what is
read again gives the same vectors under the same ids, and their readers drop the repeats.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import aiokafka
import faust
import structlog
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, EventT

from libs.bus.api import Record
from libs.bus.security import KafkaSecurity
from libs.clock import SYSTEM_CLOCK, Clock
from libs.runtime.compiling import declared_compiling
from libs.runtime.errors import EXIT_CHECK_FAILED, EXIT_OK
from libs.runtime.handler import CoreHandler, Input
from libs.runtime.health import HealthServer, ServiceHealth
from libs.runtime.metrics import ServiceMetrics, announce
from libs.runtime.placement import Task, replica_name
from libs.runtime.platform_bus import kafka_security, open_platform_bus, session_placement
from libs.runtime.records import stamp_headers
from libs.runtime.settings import PlatformSettings, load_settings
from libs.wire import Encoded
from libs.wire.topics import BARS_CLOSED, FEATURE_VECTORS, dead_topic, state_topic
from services.features.core import FeaturesCore
from services.features.recovery import PartitionCores, RecoveredCore
from services.features.settings import FeaturesSettings

NAME = "features"
# Short, because whatever is not committed is published once more after a crash.
_COMMIT_INTERVAL_S = 0.5
_BEAT_EVERY_S = 0.5
# A snapshot may be larger than aiokafka's megabyte.
_LONGEST_MESSAGE_BYTES = 16 << 20


class _CommittedReads(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust reads uncommitted records unless it is in its own exactly-once mode, which duplicates; bars come in
    transactions, and an aborted one must not be seen."""

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # aiokafka hands this to its fetcher when it starts; Faust offers no setting for it.
        consumer._isolation_level = "read_committed"
        return consumer

    async def on_start(self) -> None:
        await super().on_start()
        # Its own kind of coordinator has no routine where there is no group.
        self.watch_coordination(self._consumer._coordinator._coordination_task)

    def watch_coordination(self, routine: asyncio.Task[None]) -> None:
        """End the app once the routine that keeps the member in its group ends by an error: aiokafka logs it and never
        joins again."""

        def end_app(ended: asyncio.Task[None]) -> None:
            error = None if ended.cancelled() else ended.exception()
            if error is not None:
                asyncio.run_coroutine_threadsafe(self.consumer.app.crash(error), self.parent_loop)

        routine.add_done_callback(end_app)


class _Consumer(driver.Consumer):  # type: ignore[misc]
    def _new_consumer_thread(self) -> _CommittedReads:
        return _CommittedReads(self, loop=self.loop, beacon=self.beacon)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        # Faust takes the record behind the gap for a part of it. Once handled, that record counts twice, and each
        # commit ends there: one transaction a commit, however many were handled.
        await super()._add_gap(tp, offset_from, offset_to - 1)


class BarsTransport(driver.Transport):  # type: ignore[misc]
    Consumer = _Consumer


def build_app(
    platform: PlatformSettings,
    settings: FeaturesSettings,
    cores: PartitionCores,
    metrics: ServiceMetrics,
    loop: asyncio.AbstractEventLoop,
    clock: Clock,
) -> faust.App:
    """Build the app: one agent that passes every bar through the handler and publishes what comes out."""
    member = f"{platform.topic_prefix}{NAME}-{platform.replica or 0}"
    app = faust.App(
        f"{platform.topic_prefix}{NAME}",
        # By the member, not by the host: its assignor refuses a static member's assignment that names another host, as
        # each container made anew is.
        canonical_url=f"http://{member}",
        broker=f"kafka://{platform.bus.partition(':')[2]}",
        broker_credentials=_credentials(kafka_security(platform)),
        loop=loop,
        store=settings.faust_store,
        datadir=str(platform.run_dir / "faust"),
        processing_guarantee="at_least_once",
        broker_commit_interval=_COMMIT_INTERVAL_S,
        broker_session_timeout=6.0,
        broker_heartbeat_interval=2.0,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=member,
        producer_linger=0,
        producer_max_request_size=_LONGEST_MESSAGE_BYTES,
        # Topics come from the registry, created before any service starts.
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=settings.faust_web_port > 0,
        web_port=settings.faust_web_port or None,
        worker_redirect_stdouts=False,
    )
    app.transport = BarsTransport(app.conf.broker, app, loop=loop)
    bars = app.topic(
        f"{platform.topic_prefix}{BARS_CLOSED}",
        key_type=bytes,
        value_type=bytes,
        partitions=platform.partitions,
        **_RAW,
    )
    outputs = {
        topic: app.topic(
            f"{platform.topic_prefix}{topic}", key_type=bytes, value_type=bytes, partitions=platform.partitions, **_RAW
        )
        for topic in (FEATURE_VECTORS, dead_topic(BARS_CLOSED), state_topic(NAME))
    }

    @app.agent(bars, name=NAME)
    async def publish_vectors(stream: Any) -> None:
        events: AsyncIterator[EventT] = stream.events()
        async for event in events:
            partition = event.message.partition
            core = cores.get(partition)
            if core is None:
                # It reads from the broker; heartbeats go on meanwhile.
                core = await loop.run_in_executor(None, cores.recover, partition)
            for topic, key, value, headers in _publications(core, event, metrics, clock):
                await (await outputs[topic].send(key=key, value=value, headers=headers, partition=partition))
            if core.is_snapshot_due:
                # It asks the broker where the outputs stand; heartbeats go on meanwhile.
                snapshot = await loop.run_in_executor(None, core.make_snapshot)
                state = outputs[snapshot.topic]
                headers = dict(snapshot.headers)
                await (await state.send(key=snapshot.key, value=snapshot.value, headers=headers, partition=partition))

    return app


_RAW = {"key_serializer": "raw", "value_serializer": "raw"}


def _publications(
    core: RecoveredCore, event: EventT, metrics: ServiceMetrics, clock: Clock
) -> Iterator[tuple[str, bytes, bytes, dict[str, bytes]]]:
    message = event.message
    headers = dict(message.headers or {})
    record = Record(
        BARS_CLOSED,
        message.partition,
        message.offset,
        message.key,
        message.value,
        headers,
        int(message.timestamp * 1000),
    )
    handled = core.take(record)
    metrics.records_in.labels(NAME, BARS_CLOSED).inc()
    outputs: list[Encoded] = list(handled.outputs)
    for output in outputs:
        metrics.records_out.labels(NAME, output.topic).inc()
        stamps = stamp_headers(output.kind, core.task.name, clock.now_ns(), headers)
        yield output.topic, output.key, output.payload, stamps


def run_faust(platform: PlatformSettings, logger: structlog.stdlib.BoundLogger, clock: Clock = SYSTEM_CLOCK) -> int:
    """Recover the core, announce the process, and run the app until SIGTERM."""
    settings = load_settings(FeaturesSettings)
    name = replica_name(NAME, platform.replica)
    health = ServiceHealth(name, platform.run_dir, ServiceMetrics(NAME))
    placement = session_placement(platform)
    is_shared = platform.replica is not None
    server = HealthServer(health, platform.metrics_host, platform.metrics_port)

    def enter(state: str) -> None:
        health.state = state
        health.beat()
        announce(platform.run_dir, name, metrics_port=server.port, state=state)

    enter("starting")
    try:
        # Faust has clients of its own; this one recovers the core and then tells whether the broker answers.
        with open_platform_bus(platform, waiting=health.waiting) as bus:
            health.watch("bus", bus.ping)

            def make_core(partition: int) -> RecoveredCore:
                task = Task(NAME, partition)
                core = FeaturesCore(*settings.load())
                return RecoveredCore(
                    CoreHandler(NAME, core, (Input(BARS_CLOSED),), task),
                    task,
                    bus,
                    clock,
                    snapshot_every_records=platform.snapshot_every_records,
                    snapshot_every_s=platform.snapshot_every_s,
                )

            cores = PartitionCores(make_core, is_shared=is_shared)
            if not is_shared:
                for task in placement.tasks(NAME):
                    cores.recover(task.partition, health.beat)
            loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
            app = build_app(platform, settings, cores, health.metrics, loop, clock)

            @app.on_rebalance_complete.connect
            async def say_ready(*_arguments: Any, **_details: Any) -> None:
                enter("running")
                logger.info(
                    "ready", engine="faust", partitions=sorted(at.partition for at in app.consumer.assignment())
                )

            @app.on_partitions_revoked.connect
            async def note_rebalance(*_arguments: Any, **_details: Any) -> None:
                cores.note_rebalance()

            beat_while_it_turns(loop, health.beat)
            with declared_compiling(health.waiting):
                code = _run_worker(app, loop)
        enter("stopped" if code == EXIT_OK else "failed")
        return code
    finally:
        server.close()


def beat_while_it_turns(loop: asyncio.AbstractEventLoop, beat: Callable[[], None]) -> None:
    """Beat from the event loop as long as it turns, from its first turn on.

    Not by a timer of Faust's: those begin once it has recovered, and a broker that is away keeps it from that.
    """
    beat()
    loop.call_later(_BEAT_EVERY_S, beat_while_it_turns, loop, beat)


def _credentials(security: KafkaSecurity) -> faust.SSLCredentials | faust.SASLCredentials | None:
    context = None
    if security.is_encrypted:
        context = ssl.create_default_context(cafile=security.ca_file)
        if security.certificate_file is not None:
            context.load_cert_chain(security.certificate_file, security.key_file, security.key_password or None)
    if security.has_login:
        return faust.SASLCredentials(
            username=security.username, password=security.password, ssl_context=context, mechanism=security.mechanism
        )
    return None if context is None else faust.SSLCredentials(context)


def _run_worker(app: faust.App, loop: asyncio.AbstractEventLoop) -> int:
    # It logs as this process does: what it sets up by itself writes lines that are no JSON.
    worker = faust.Worker(app, loop=loop, override_logging=False, redirect_stdouts=False, quiet=True)
    # It would end with the codes of a terminal, among lines of log.
    worker.spinner = None
    try:
        worker.execute_from_commandline()
    except SystemExit as ending:
        return EXIT_OK if not ending.code else EXIT_CHECK_FAILED
    return EXIT_OK
