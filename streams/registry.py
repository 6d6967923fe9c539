"""The schema registry of the settings: its address, and what it asks of a client."""

from headrace.schemas.registry import Registry
from headrace.streams.settings import Settings


def open_registry(settings: Settings) -> Registry:
    """Return a client of the registry; it connects when it is first asked.

    Raises
    ------
    ServiceError
        The address or an option is none of a registry client.
    """
    return Registry(settings.registry, options=settings.registry_options)
