"""`apply` and secured clients on a real broker and registry."""

import asyncio

import aiokafka
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from headrace.models import compile_pipeline
from headrace.schemas.errors import ServiceError
from headrace.schemas.registry import Registry
from headrace.streams.apply import Application, create_topics
from headrace.streams.apply_plan import Action, to_do
from headrace.streams.apply_state import read_topics
from headrace.streams.kafka_security import security_options
from headrace.streams.producer import GaplessProducer
from headrace.streams.settings import Settings
from headrace.streams.wanted import LIVE, TopicPlan
from tests.conftest import ACCOUNTS
from tests.e2e.shop import PIPELINE, orders, record

[(USER, PASSWORD)] = ACCOUNTS.items()


@pytest.fixture
def settings(services, unique):
    return Settings(bootstrap=services.bootstrap, registry=services.registry_url, redis=services.redis, prefix=unique)


def test_a_cluster_is_prepared_once_and_what_is_there_is_respected(settings, tmp_path):
    prefix, admin, registry = settings.prefix, AdminClient(settings.client()), Registry(settings.registry)
    created = admin.create_topics([NewTopic(f"{prefix}orders", 3, config={"message.timestamp.type": "CreateTime"})])
    created[f"{prefix}orders"].result(30)
    subject = f"{prefix}orders-value"
    registry.register(subject, record("Order", order_id="string", amount="string"))
    application = Application(PIPELINE, compile_pipeline(PIPELINE), settings, registry, tmp_path / "feast")

    # A schema that cannot follow is refused before anything is changed.
    with pytest.raises(ServiceError, match=f"schema {subject}: .*field amount was string and is double"):
        to_do(application.plan())
    assert [name for name in admin.list_topics(timeout=10).topics if name.startswith(prefix)] == [f"{prefix}orders"]

    registry.delete(subject)
    steps = application.plan()
    theirs = next(step for step in steps if step.name == f"{prefix}orders")
    assert theirs.action is Action.REPORT and "message.timestamp.type is CreateTime" in theirs.text
    application.carry_out(to_do(steps))
    there = read_topics(settings, [f"{prefix}{name}" for name in ("orders", "payments", "shop.rows.orders")])
    assert [state.partitions for state in there.values()] == [3, 4, 3]
    assert there[f"{prefix}payments"].config.items() >= LIVE.items()
    assert there[f"{prefix}orders"].config["message.timestamp.type"] == "CreateTime"
    assert Registry(settings.registry).latest(subject)[1] == orders.avro   # another one: this one remembers
    assert to_do(application.plan()) == []   # the second time there is nothing to do

    fewer = Application(PIPELINE, compile_pipeline(PIPELINE), settings, registry, tmp_path / "feast", partitions=2)
    with pytest.raises(ServiceError, match="stage.customer: has 4 partitions, expected 2"):
        to_do(fewer.plan())


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_one_setting_lets_both_clients_in(services, unique, mechanism):
    settings = Settings(bootstrap=services.secured, kafka_options={
        "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": mechanism, "sasl.username": USER,
        "sasl.password": PASSWORD,
    })
    topic = f"{unique}events"
    assert create_topics(settings, [TopicPlan(topic, 1)]) == [topic]
    producer = GaplessProducer(settings)
    producer.produce(topic, 0, [b"k"], [b"v"])
    producer.flush()

    async def read() -> bytes:
        consumer = aiokafka.AIOKafkaConsumer(
            topic, bootstrap_servers=settings.bootstrap, auto_offset_reset="earliest", **security_options(settings)
        )
        await consumer.start()
        try:
            return (await asyncio.wait_for(consumer.getone(), 30)).value
        finally:
            await consumer.stop()

    assert asyncio.run(read()) == b"v"
