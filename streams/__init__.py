"""The hosts: everything with a network, a clock or a process in it; for notebooks, what needs none of them."""

__all__ = ["fit", "preview", "scores", "training_set"]


def __getattr__(name: str):
    """Import what notebooks use when it is asked for: workers and the command line start without it."""
    if name in __all__:
        from headrace.streams import notebook, notebook_models

        return getattr(notebook_models if name in notebook_models.__all__ else notebook, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
