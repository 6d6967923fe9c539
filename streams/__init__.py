"""The hosts: everything with a network, a clock or a process in it; for notebooks, what needs none of them."""

__all__ = ["preview", "training_set"]


def __getattr__(name: str):
    """Import what notebooks use when it is asked for: workers and the command line start without it."""
    if name in __all__:
        from headrace.streams import notebook

        return getattr(notebook, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
