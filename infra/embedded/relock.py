"""Write ``artifacts.lock`` anew: ``python -m headrace.infra.embedded.relock``.

Change the versions in `ROOTS`, run this, and read the difference before committing it. Run-time dependencies are
resolved here, once, by jgo (checked against Maven's own ``dependency:list``: the same 45 files for Kafka 4.3.1);
whoever fetches later only compares.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from jgo.maven import Artifact, MavenContext

from headrace.infra.embedded.artifacts import LOCK, LockedFile, sha256_of

# service: (coordinates, whether its run-time dependencies belong to it)
ROOTS = {
    "kafka": (("org.apache.kafka:kafka_2.13:jar:4.3.1", True), ("org.slf4j:slf4j-simple:jar:1.7.36", False)),
    "registry": (("io.apicurio:apicurio-registry-app:tar.gz:all:3.3.3", False),),
}
RUNTIME_SCOPES = ("compile", "runtime")
HEADER = """\
# The Java programs, file by file. Written by `python -m headrace.infra.embedded.relock`; do not edit.
# Every file is compared with its SHA-256 before it is used.
"""


def resolved(context: MavenContext, coordinates: str, with_dependencies: bool) -> list[Artifact]:
    """Return the artifact and, if asked, everything it needs at run time."""
    group, artifact, packaging, classifier, version = LockedFile(coordinates, "", 0).parts
    root = context.project(group, artifact).at_version(version).artifact(classifier, packaging)
    if not with_dependencies:
        return [root]
    _, dependencies = context.resolver.resolve([context.create_dependency(f"{group}:{artifact}:{version}")])
    return [root, *(one.artifact for one in dependencies if one.scope in RUNTIME_SCOPES and not one.optional)]


def locked(artifact: Artifact) -> LockedFile:
    """Fetch one file and return its entry."""
    path = artifact.resolve()
    parts = (artifact.groupId, artifact.artifactId, artifact.packaging, artifact.classifier, artifact.version)
    return LockedFile(":".join(filter(None, parts)), sha256_of(path), path.stat().st_size)


def written(services: dict[str, Sequence[LockedFile]]) -> str:
    """Return the text of the lock."""
    tables = [
        f'[[{service}]]\ncoordinates = "{file.coordinates}"\nsize_bytes = {file.size_bytes}\nsha256 = "{file.sha256}"\n'
        for service, files in services.items()
        for file in sorted(files, key=lambda file: file.coordinates)
    ]
    return "\n".join([HEADER, *tables])


def main() -> None:
    """Resolve, fetch, hash, write."""
    with tempfile.TemporaryDirectory() as folder:
        context = MavenContext(repo_cache=Path(folder), timeout=60)
        services = {
            service: [locked(artifact) for root in roots for artifact in resolved(context, *root)]
            for service, roots in ROOTS.items()
        }
    LOCK.write_text(written(services))
    sys.stdout.write(f"{LOCK}: {', '.join(f'{len(files)} files for {name}' for name, files in services.items())}\n")


if __name__ == "__main__":
    main()
