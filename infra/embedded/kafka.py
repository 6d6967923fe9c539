"""One Kafka node, broker and controller in one (KRaft), on the loopback address.

What differs from stock, and why: old events may be replayed (records of any time are accepted and never deleted),
topics are made on purpose only, groups form without waiting, and internal topics fit one small node.

For a proxy (one that loses answers, say) it has another address, and sends who comes by it back to the proxy.
With accounts it has a second address, where clients have to say who they are (SASL, PLAIN or SCRAM-SHA-512, without
TLS): how a cluster of one's own is tried out on one machine.
"""

import base64
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from headrace.infra.embedded.java import java_command
from headrace.infra.embedded.ports import LOOPBACK, start_on_ports
from headrace.infra.embedded.process import Children

FORMAT_TIMEOUT_S = 120.0   # 1 s on an idle machine
READY_TIMEOUT_S = 120.0    # 3 s
PROBE_TIMEOUT_S = 0.5
HEAP_MB = 384
ANY_TIME_MS = 2**63 - 1
NOBODY: Mapping[str, str] = MappingProxyType({})

PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "auto.create.topics.enable": "false",
    # one node
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "group.initial.rebalance.delay.ms": "0",
    # Kafka 4 refuses stamps an hour ahead and deletes by record time: the replay of a past year would vanish
    "log.message.timestamp.before.max.ms": str(ANY_TIME_MS),
    "log.message.timestamp.after.max.ms": str(ANY_TIME_MS),
    "log.retention.ms": "-1",
    "log.retention.bytes": "-1",
    # a machine that slept, or is starved of CPU, must not find its only broker fenced
    "broker.session.timeout.ms": "60000",
    # a small heap, of which the stock cleaner alone would take 128 MB
    "log.cleaner.dedupe.buffer.size": str(16 << 20),
}


def start_kafka(
    children: Children, jars: Sequence[Path], directory: Path, port: int = 0, accounts: Mapping[str, str] = NOBODY,
    proxy_port: int = 0,
) -> tuple[str, str, str]:
    """Start a node with empty logs; blocks until it answers.

    Parameters
    ----------
    children : Children
        Owner of the process.
    jars : sequence of Path
    directory : Path
        For its configuration, logs and topics.
    port : int
        0: any free one.
    accounts : mapping of str to str
        Passwords by user name; with any, there is an address for them.
    proxy_port : int
        With any, there is an address for a proxy that listens there: its clients are sent back to it.

    Returns
    -------
    bootstrap : str
        Address, host:port.
    secured : str
        The one that asks for user and password; empty without accounts.
    proxied : str
        What a proxy passes everything on to; empty without a port of it.

    Raises
    ------
    ServiceError
        The port is taken, or the node does not come up.
    """
    wanted = (port, 0, 0, 0)   # one or two of them may remain unused
    return start_on_ports(
        "Kafka", wanted, lambda ports: _start(children, jars, directory, accounts, proxy_port, *ports))


def _start(
    children: Children, jars: Sequence[Path], directory: Path, accounts: Mapping[str, str], proxy_port: int,
    port: int, controller: int, secured: int, proxied: int,
) -> tuple[str, str, str]:
    cluster = _new_cluster_id()
    home = directory / cluster  # per attempt: the format records the ports
    home.mkdir(parents=True)
    properties = home / "server.properties"
    properties.touch(mode=0o600)
    properties.write_text(_properties(port, controller, home / "logs", secured, accounts, proxied, proxy_port))
    java = (*java_command(HEAP_MB, home / "tmp"), "-cp", ":".join(map(str, jars)))
    tool = (*java, "kafka.tools.StorageTool", "format", "--standalone", "-t", cluster, "-c", properties)
    for user, password in accounts.items():
        tool = (*tool, "--add-scram", f"SCRAM-SHA-512=[name={user},password={password}]")
    children.run("Kafka's storage tool", tool, directory / "format.log", FORMAT_TIMEOUT_S)
    child = children.start("Kafka", (*java, "kafka.Kafka", properties), directory / "kafka.log")
    bootstrap = f"{LOOPBACK}:{port}"
    child.wait_ready(lambda: _answers(bootstrap, cluster), READY_TIMEOUT_S)
    return bootstrap, f"{LOOPBACK}:{secured}" if accounts else "", f"{LOOPBACK}:{proxied}" if proxy_port else ""


def _answers(bootstrap: str, cluster: str) -> bool:
    """Whether this very cluster answers, with its broker unfenced."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, "socket.timeout.ms": 1000})
    try:
        found = admin.list_topics(timeout=PROBE_TIMEOUT_S)
    except KafkaException:
        return False
    return found.cluster_id == cluster and len(found.brokers) == 1


def _new_cluster_id() -> str:
    """Return a random id as Kafka's own tool makes them: 22 characters, none in front that reads as an option."""
    while True:
        name = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not name.startswith("-"):
            return name


def _properties(
    port: int, controller: int, logs: Path, secured: int, accounts: Mapping[str, str], proxied: int, proxy_port: int
) -> str:
    chosen = {
        "controller.quorum.bootstrap.servers": f"{LOOPBACK}:{controller}",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "log.dirs": str(logs),
    }
    if proxy_port:
        chosen["listeners"] += f",PROXIED://{LOOPBACK}:{proxied}"
        chosen["advertised.listeners"] += f",PROXIED://{LOOPBACK}:{proxy_port}"
        chosen["listener.security.protocol.map"] = f"{PROPERTIES['listener.security.protocol.map']},PROXIED:PLAINTEXT"
    if accounts:
        for name in ("listeners", "advertised.listeners"):
            chosen[name] += f",SASL_PLAINTEXT://{LOOPBACK}:{secured}"
        protocols = chosen.get("listener.security.protocol.map", PROPERTIES["listener.security.protocol.map"])
        chosen["listener.security.protocol.map"] = f"{protocols},SASL_PLAINTEXT:SASL_PLAINTEXT"
        chosen["sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-512"
        listener, module = "listener.name.sasl_plaintext", "org.apache.kafka.common.security"
        users = " ".join(f'user_{user}="{password}"' for user, password in accounts.items())
        chosen[f"{listener}.plain.sasl.jaas.config"] = f"{module}.plain.PlainLoginModule required {users};"
        chosen[f"{listener}.scram-sha-512.sasl.jaas.config"] = f"{module}.scram.ScramLoginModule required;"
    return "".join(f"{name}={value}\n" for name, value in {**PROPERTIES, **chosen}.items())
