"""The embedded services are the real ones: what the rest of the project builds on, asked of each."""

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import redis
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from headrace.infra.embedded import valkey
from headrace.infra.embedded.ports import start_on_ports
from headrace.infra.embedded.process import Children
from headrace.infra.embedded.services import embedded_services
from headrace.schemas.errors import ServiceError

OWNER = Path(__file__).with_name("services_owner.py")
PATIENCE_S = 60
NAMES = ("java", "valkey-server")


def topic(services, name, partitions=1):
    admin = AdminClient({"bootstrap.servers": services.bootstrap})
    admin.create_topics([NewTopic(name, partitions, 1)])[name].result(PATIENCE_S)
    return name


def transactional(services, name):
    producer = Producer({"bootstrap.servers": services.bootstrap, "transactional.id": name})
    producer.init_transactions(PATIENCE_S)
    return producer


def committed(services, name):
    """All committed records of partition 0, as (value, timestamp)."""
    consumer = Consumer({
        "bootstrap.servers": services.bootstrap, "group.id": name, "isolation.level": "read_committed",
        "enable.partition.eof": True, "enable.auto.commit": False,
    })
    consumer.assign([TopicPartition(name, 0, 0)])
    found = []
    while (message := consumer.poll(PATIENCE_S)) is not None and message.error() is None:
        found.append((message.value(), message.timestamp()[1]))
    consumer.close()
    return found


def refused(address):
    """Whether nobody listens at host:port any more."""
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE_S).close()
    except ConnectionRefusedError:
        return True
    return False


def wait_until(true, what):
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"gave up waiting until {what}"
        time.sleep(0.02)


def gone(process):
    """Whether the process is dead; a corpse nobody has collected yet counts as dead."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_consumer_of_committed_records_sees_no_aborted_transaction(services, unique):
    name = topic(services, unique + "transactions")
    producer = transactional(services, unique + "writer")

    producer.begin_transaction()
    producer.produce(name, b"aborted")
    producer.flush(PATIENCE_S)  # it is in the log, and must stay unseen
    producer.abort_transaction(PATIENCE_S)
    producer.begin_transaction()
    producer.produce(name, b"committed")
    producer.commit_transaction(PATIENCE_S)

    assert [value for value, _ in committed(services, name)] == [b"committed"]


def test_a_second_producer_with_the_same_id_fences_the_first(services, unique):
    name = topic(services, unique + "fencing")
    first = transactional(services, unique + "writer")
    first.begin_transaction()
    first.produce(name, b"from the first")
    first.flush(PATIENCE_S)

    second = transactional(services, unique + "writer")
    with pytest.raises(KafkaException) as fenced:
        first.commit_transaction(PATIENCE_S)
    second.begin_transaction()
    second.produce(name, b"from the second")
    second.commit_transaction(PATIENCE_S)

    assert fenced.value.args[0].fatal()
    assert [value for value, _ in committed(services, name)] == [b"from the second"]


def test_records_of_any_time_are_accepted_as_they_are(services, unique):
    name = topic(services, unique + "times")
    producer = Producer({"bootstrap.servers": services.bootstrap})
    year_1971, year_2100 = 31_536_000_000, 4_102_444_800_000

    for stamp in (year_2100, year_1971):
        producer.produce(name, b"x", timestamp=stamp)
    assert producer.flush(PATIENCE_S) == 0

    assert [stamp for _, stamp in committed(services, name)] == [year_2100, year_1971]


def test_a_topic_nobody_created_does_not_come_into_being(services, unique):
    admin = AdminClient({"bootstrap.servers": services.bootstrap})

    admin.list_topics(unique + "typo", timeout=PATIENCE_S)

    assert unique + "typo" not in admin.list_topics(timeout=PATIENCE_S).topics


def test_the_registry_returns_what_was_registered_and_refuses_what_would_break_readers(services, unique):
    registry = SchemaRegistryClient({"url": services.registry_url})
    fields = [{"name": "amount", "type": "double"}]
    first = {"type": "record", "name": "Payment", "fields": fields}
    breaking = {"type": "record", "name": "Payment", "fields": [*fields, {"name": "added", "type": "string"}]}

    number = registry.register_schema(unique + "value", Schema(json.dumps(first), "AVRO"))

    assert json.loads(registry.get_schema(number).schema_str) == first
    with pytest.raises(SchemaRegistryError) as rejected:
        registry.register_schema(unique + "value", Schema(json.dumps(breaking), "AVRO"))
    assert rejected.value.http_status_code == 409


def test_valkey_answers_runs_scripts_and_writes_nothing_to_disk(services, unique):
    with redis.Redis.from_url(services.redis_url) as store:
        assert store.ping()
        script = "redis.call('HSET', KEYS[1], 'v', ARGV[1]) return redis.call('HGET', KEYS[1], 'v')"
        assert store.eval(script, 1, unique + "key", "000123") == b"000123"
        assert store.config_get("save", "appendonly") == {"save": "", "appendonly": "no"}


def test_everything_listens_on_the_loopback_address_only(services):
    children = [process for process in psutil.Process().children(recursive=True) if process.name() in NAMES]
    addresses = [
        connection.laddr.ip for process in children for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]

    assert len(addresses) >= 5  # broker, controller, registry, its management, store
    assert set(addresses) == {"127.0.0.1"}


def test_kill_9_of_the_owner_leaves_no_process_and_no_open_port(tmp_path):
    owner = subprocess.Popen([sys.executable, OWNER, tmp_path], stdout=subprocess.PIPE, text=True)
    where = json.loads(owner.stdout.readline())
    children = [process for process in psutil.Process(owner.pid).children(recursive=True) if process.name() in NAMES]

    owner.send_signal(signal.SIGKILL)
    owner.communicate()

    assert len(children) == 3
    wait_until(lambda: all(map(gone, children)), "they are gone")
    addresses = (where["bootstrap"], where["redis"], where["registry_url"].split("/")[2])
    wait_until(lambda: all(map(refused, addresses)), "their ports are closed")


def test_ctrl_c_while_the_services_come_up_leaves_nothing(tmp_path):
    owner = subprocess.Popen([sys.executable, OWNER, tmp_path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    services = psutil.Process(owner.pid).children
    wait_until(lambda: len(services(recursive=True)) == 3, "three are on their way")
    children = services(recursive=True)

    owner.send_signal(signal.SIGINT)
    output, _ = owner.communicate(timeout=PATIENCE_S)

    assert (output, owner.returncode) == (b"", -signal.SIGINT)  # it never got ready, and ended by the interrupt
    assert all(map(gone, children))


def test_a_port_that_was_asked_for_and_is_taken_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as stranger, Children() as children:
        port = stranger.getsockname()[1]

        with pytest.raises(ServiceError, match=rf"port {port} on 127\.0\.0\.1, asked for Valkey, is taken"):
            valkey.start_valkey(children, tmp_path, port)


def test_a_free_port_that_a_stranger_takes_first_is_replaced_by_another(tmp_path):
    strangers = []

    def start_behind_a_stranger(ports):
        if not strangers:
            strangers.append(socket.create_server(("127.0.0.1", ports[0])))
        return valkey._start(children, tmp_path, ports[0], False)

    with Children() as children:
        address = start_on_ports("Valkey", [0], start_behind_a_stranger)
        with strangers[0], redis.Redis.from_url(f"redis://{address}") as store:
            assert store.ping()
            assert address != f"127.0.0.1:{strangers[0].getsockname()[1]}"


def test_a_durable_store_remembers_across_starts(tmp_path):
    for expected in (None, b"kept"):
        with Children() as children:
            address = valkey.start_valkey(children, tmp_path, durable=True)
            with redis.Redis.from_url(f"redis://{address}") as store:
                assert store.get("k") == expected
                store.set("k", "kept")


def test_a_taken_port_stops_the_services_that_already_run(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        with pytest.raises(ServiceError, match="is taken"), embedded_services(tmp_path, valkey_port=port):
            pass

    ours = [process for process in psutil.Process().children(recursive=True) if str(tmp_path) in str(process.cmdline())]
    assert ours == []
