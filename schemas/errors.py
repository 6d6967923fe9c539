"""The root of every error headrace raises on purpose.

    HeadraceError
    ├── DeclarationError      a source, view, model or pipeline contradicts itself or its schema   (features, models)
    ├── SchemaError           an Avro schema that cannot be used, or is unknown to the registry    (schemas)
    ├── ArtifactError         a model artifact that is damaged or does not fit the pipeline        (models)
    ├── SettingsError         a setting is missing or contradicts another                          (streams)
    └── ServiceError          Kafka, the registry or the store cannot do what is asked             (streams, infra)

Bad events are not errors: they are values with a reason code (see ``headrace.features.admission``).
"""


class HeadraceError(Exception):
    """Something headrace refuses to do; the message says what, where, what was expected and what to do."""


class DeclarationError(HeadraceError):
    """A declaration contradicts itself or the schema it names."""


class SchemaError(HeadraceError):
    """An Avro schema cannot be used, or is unknown to the registry."""


class ArtifactError(HeadraceError):
    """A model artifact is damaged, or does not fit the pipeline that wants to use it."""


class SettingsError(HeadraceError):
    """A setting is missing, or contradicts another."""


class ServiceError(HeadraceError):
    """Kafka, the schema registry or the online store cannot do what is asked of it."""
