"""``headrace up``: all roles of a pipeline on this machine, with or without the services, under one supervisor."""

import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headrace.features.topology import Topology
from headrace.infra.embedded.process import Children
from headrace.infra.embedded.services import embedded_services
from headrace.models import Pipeline, compile_pipeline
from headrace.models.locking import Difference, refuse
from headrace.schemas.errors import HeadraceError
from headrace.streams.apply import create_topics, register_schemas, topic_plans
from headrace.streams.cluster import Cluster, compact_plan, default_plan
from headrace.streams.errors import SettingsError
from headrace.streams.feast_setup import apply_feast
from headrace.streams.offsets import Offsets
from headrace.streams.pipelines import load_pipeline
from headrace.streams.registry import open_registry
from headrace.streams.settings import Settings, environment_settings
from headrace.streams.status import StatusFile
from headrace.streams.supervisor import Supervisor
from headrace.streams.up_folder import UpFolder

OWN_FOLDERS = ("status", "services", "state")   # emptied at every start: of what ran before
Tell = Callable[[str], None]


@dataclass(frozen=True)
class UpPlan:
    """What to run.

    Attributes
    ----------
    pipeline : str
        MODULE:OBJECT.
    folder : Path
    workers : int
        Processes of every stateful role.
    compact : bool
        Several roles per process: as few processes as there are workers.
    embedded : bool
        Kafka, registry and Valkey as well, empty, with the pipeline's topics.
    partitions : int
        Of those topics.
    sink : bool
        The offline sink as well.
    """

    pipeline: str
    folder: Path
    workers: int = 1
    compact: bool = False
    embedded: bool = False
    partitions: int = 2
    sink: bool = False


def run_up(plan: UpPlan, tell: Tell) -> None:
    """Run a pipeline until SIGTERM or SIGINT; everything is stopped when this returns or raises.

    Raises
    ------
    ServiceError
        Another supervisor runs in the folder, a service or topic is missing, or a worker has failed too often.
    SettingsError
        The folder is not ours, or a model is missing.
    """
    folder = UpFolder(plan.folder)
    with folder.held() as record:
        _make_room(folder)
        facts = {"pipeline": plan.pipeline, "embedded": plan.embedded}
        record.write({**facts, "state": "starting", "ready": False, "failure": None, "workers": []})
        try:
            _run(plan, folder, record, facts, tell)
        except (HeadraceError, KeyboardInterrupt) as error:
            ended = {"state": "over", "failure": str(error) if isinstance(error, HeadraceError) else None}
            record.write({**folder.record(), **ended})
            raise


def _make_room(folder: UpFolder) -> None:
    """Empty what an earlier run left; refuse where one has never been."""
    found = [folder.path / name for name in OWN_FOLDERS if (folder.path / name).exists()]
    if found and not folder.record():
        raise SettingsError(
            f"{folder} holds {', '.join(path.name for path in found)}, made by no supervisor, where a supervisor puts "
            "folders of its own; choose another --folder"
        )
    for path in found:
        shutil.rmtree(path)


def _run(plan: UpPlan, folder: UpFolder, record: StatusFile, facts: dict, tell: Tell) -> None:
    pipeline = load_pipeline(plan.pipeline)
    refuse(pipeline, [Difference.CHANGED])   # as every worker would
    topology = compile_pipeline(pipeline)
    _models_are_there(pipeline, environment_settings())
    with Children() as services, Children() as children:
        if plan.embedded:
            settings = _embed(plan, folder, pipeline, topology, services, tell)
            facts |= {"registry": settings.registry, "redis": settings.redis}
        else:
            settings = environment_settings()
            plans = topic_plans(topology, pipeline, settings, plan.partitions)
            Offsets(settings, "headrace.up").require([each.name for each in plans])
        facts |= {"bootstrap": settings.bootstrap, "prefix": settings.prefix}
        plans = (compact_plan if plan.compact else default_plan)(plan.workers, plan.sink)
        tell(f"starting {len(plans)} process(es): {', '.join(each.name for each in plans)}")
        cluster = Cluster(children, plan.pipeline, settings, folder.path)
        supervisor = Supervisor(cluster, plans, record, facts, services if plan.embedded else None)
        with _until_told() as stop:
            supervisor.run(stop, lambda: tell(f"all workers have reported; logs are in {folder.logs}"))


def _models_are_there(pipeline: Pipeline, settings: Settings) -> None:
    missing = [m.name for m in pipeline.models if not (Path(settings.models_dir) / m.name / "manifest.json").exists()]
    if missing:
        raise SettingsError(
            f"no model {', '.join(missing)} in {Path(settings.models_dir).absolute()}; say where they are with "
            "HEADRACE_MODELS_DIR, or train them: `headrace trial` leaves them in the folder of its report, in models/"
        )


def _embed(
    plan: UpPlan, folder: UpFolder, pipeline: Pipeline, topology: Topology, children: Children, tell: Tell
) -> Settings:
    """Start the services and prepare them; they end with `children`."""
    tell("starting Kafka, the schema registry and Valkey")
    with embedded_services(folder.path / "services", children=children) as services:
        settings = Settings(
            bootstrap=services.bootstrap, registry=services.registry_url, redis=services.redis,
            state_url=str(folder.path / "state"), kafka_options={}, registry_options={},
        )
    create_topics(settings, topic_plans(topology, pipeline, settings, plan.partitions))
    register_schemas(topology, pipeline, settings, open_registry(settings))
    apply_feast(folder.path / "feast", topology, settings)
    for name in ("bootstrap", "registry", "redis"):
        tell(f"export HEADRACE_{name.upper()}={getattr(settings, name)}")
    return settings


@contextmanager
def _until_told() -> Iterator[threading.Event]:
    """Set an event at the first SIGTERM or SIGINT; a second one is KeyboardInterrupt: children then get 2 s."""
    stop = threading.Event()

    def heard(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, heard) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
