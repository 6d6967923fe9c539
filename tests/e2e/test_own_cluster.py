"""The README's "On your own cluster", command by command: embedded services play the cluster, with SASL in front."""

import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner

from headrace.schemas.registry import Registry
from headrace.streams.cli import app
from headrace.streams.offsets import Offsets
from headrace.streams.settings import Settings
from tests.conftest import ACCOUNTS
from tests.e2e.shop_events import write_events
from tests.readme import section

[(USER, PASSWORD)] = ACCOUNTS.items()
TITLE = "On your own cluster"


def commands(verb: str) -> list[str]:
    """The command lines of the section that begin with a verb."""
    lines = [line.strip() for line in section(TITLE).splitlines() if line.startswith(f"    headrace {verb} ")]
    return [line.partition("  #")[0] for line in lines]


@pytest.fixture
def cluster(services, unique, tmp_path, monkeypatch) -> Iterator[Settings]:
    """Where the commands run: a folder with the shop and its events, the cluster in the environment."""
    shutil.copy(Path(__file__).with_name("shop.py"), tmp_path / "shop.py")
    write_events(tmp_path / "events", orders=1_200)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    options = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": USER,
               "sasl.password": PASSWORD}
    variables = {
        "BOOTSTRAP": services.secured, "REGISTRY": services.registry_url, "REDIS": services.redis, "PREFIX": unique,
        "KAFKA_OPTIONS": json.dumps(options), "REGISTRY_OPTIONS": json.dumps({"basic.auth.user.info": "me:any"}),
        "SESSION_TIMEOUT_S": "6",   # a trial's groups are there until these are over
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"HEADRACE_{name}", value)
    yield Settings()
    sys.modules.pop("shop", None)   # other tests have modules of that name


def run(line: str) -> str:
    """Run a command of the README; return what it prints, as one line."""
    outcome = CliRunner().invoke(app, shlex.split(line)[1:], env={"COLUMNS": "300"})
    assert outcome.exit_code == 0, outcome.output
    return " ".join(outcome.output.split())


def left(settings: Settings) -> list[str]:
    """Everything on the services whose name begins with the prefix of this test."""
    admin, registry = AdminClient(settings.client()), Registry(settings.registry)
    names = [*admin.list_topics(timeout=10).topics, *registry.subjects(settings.prefix)]
    names += [group.group_id for group in admin.list_consumer_groups().result().valid]
    with redis.Redis.from_url(f"redis://{settings.redis}") as store:
        keys = [key.decode("latin-1") for key in store.scan_iter(match=f"*{settings.prefix.replace('.', '_')}*")]
    return sorted(name for name in names if name.startswith(settings.prefix)) + keys


def test_a_trial_on_a_secured_cluster_passes_and_leaves_nothing_there(cluster):
    (line,) = commands("trial --external")
    printed = run(f"{line} --partitions 1 --paced 0")
    assert "FAILED" not in printed and "the online store holds the last rows" in printed
    assert f"begins with {cluster.prefix}trial-" in printed and PASSWORD not in printed
    assert left(cluster) == []
    assert json.loads(Path("var/trial/report.json").read_text())["predictions"] > 100


def test_apply_shows_its_plan_carries_it_out_and_has_nothing_to_do_the_second_time(cluster):
    dry, carry_out = commands("apply")
    assert "nothing has been changed (--dry-run)" in run(dry) and left(cluster) == []
    printed = run(carry_out)
    assert f"{cluster.prefix}shop.stage.customer" in printed and "done: " in printed and PASSWORD not in printed
    assert "nothing to do" in run(carry_out)
    assert (Path("feast") / "registry.db").exists()


def test_files_are_produced_to_the_topics_of_a_cluster(cluster):
    run(commands("apply")[1])
    (line,) = commands("produce")
    printed = run(line)
    assert re.search(r"([1-9][\d,]*) of \1 events sent to .*orders", printed) and PASSWORD not in printed
    again = run(f"{line.partition(' --rate')[0]} --source orders --from 2023-11-16 --until 2023-11-17")
    ends = Offsets(cluster, "any").ends([(f"{cluster.prefix}orders", 0)])
    assert "events sent" in again and all(end > 0 for end in ends.values())
    outcome = CliRunner().invoke(app, [*shlex.split(line)[1:], "--source", "oders"], env={"COLUMNS": "300"})
    assert outcome.exit_code == 1 and "did you mean orders?" in outcome.output
