"""The Faust application of a host: what of Faust runs, and with which settings."""

from collections.abc import Sequence

import faust

from headrace.streams.batches import BatchHost
from headrace.streams.faust_transport import BatchTransport, faust_log
from headrace.streams.group_offsets import instance_of


class _App(faust.App):
    """An application without Faust's tables, producer and web server."""

    logger = faust_log

    class BootStrategy(faust.App.BootStrategy):
        """Only what consumes."""

        enable_web = False
        enable_kafka_producer = False
        enable_sensors = False

    def _create_directories(self) -> None:
        """No tables, no directories."""


def make_app(host: BatchHost, group: str, topics: Sequence[str]) -> faust.App:
    """Return the Faust application of a host: one agent over all its topics."""
    settings = host.settings
    app = _App(
        group,
        broker=[f"kafka://{server}" for server in settings.bootstrap.split(",")],
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        stream_wait_empty=False,
        stream_buffer_maxsize=1,           # in flight: the batch in work, one queued, one fetched
        stream_recovery_delay=0.0,
        broker_commit_interval=settings.commit_interval_s,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=min(2.0, settings.session_timeout_s / 4),
        broker_request_timeout=30.0,
        broker_client_id=f"{group}.{settings.worker}",
        consumer_group_instance_id=instance_of(f"{group}.{settings.worker}", topics),
        autodiscover=False,
    )
    app.transport = BatchTransport(app.conf.broker_consumer, app, app.loop, host)
    source = app.topic(*topics, key_serializer="raw", value_serializer="raw", acks=False)

    @app.agent(source, name=f"{group}.agent")
    async def _take(stream) -> None:
        async for taken in stream.events():
            await host.take(taken.value)

    return app
