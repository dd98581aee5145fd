"""Streaming ETL for small containers on machines that may vanish.

Flat memory, flat disk, exactly once, plain Python: see `Pipeline`.

What stands here is imported when it is first used, so that the process `etl` can handle signals before that.
"""

TYPE_CHECKING = (
    False  # type checkers take it for true; to import `typing` for it would take longer than all else here
)

if TYPE_CHECKING:
    from etl import errors, sources
    from etl.checkpoint import Checkpoint
    from etl.errors import EtlError
    from etl.pipeline import Pipeline, Result
    from etl.records import Mark, Reject, Unreadable
    from etl.reshaping import cast, drop, rename
    from etl.transforms import each

    __version__: str

__all__ = [
    "Checkpoint",
    "EtlError",
    "Mark",
    "Pipeline",
    "Reject",
    "Result",
    "Unreadable",
    "cast",
    "drop",
    "each",
    "errors",
    "rename",
    "sources",
]

_MODULES = {
    "Checkpoint": "etl.checkpoint",
    "EtlError": "etl.errors",
    "Mark": "etl.records",
    "Pipeline": "etl.pipeline",
    "Reject": "etl.records",
    "Result": "etl.pipeline",
    "Unreadable": "etl.records",
    "cast": "etl.reshaping",
    "drop": "etl.reshaping",
    "each": "etl.transforms",
    "rename": "etl.reshaping",
}


if not TYPE_CHECKING:  # who checks types knows all names, and is told of others

    def __getattr__(name: str) -> object:
        """Import what is used for the first time (PEP 562); it is found without this from then on."""
        from importlib import import_module

        if name == "__version__":
            from importlib.metadata import version

            globals()[name] = installed = version("etl-sinks")
            return installed
        if name in _MODULES:
            globals()[name] = found = getattr(import_module(_MODULES[name]), name)
            return found
        try:
            if not name.startswith("_"):
                return import_module(f"etl.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"etl.{name}":
                raise
        raise AttributeError(f"module 'etl' has no attribute {name!r}")

    def __dir__() -> list[str]:
        """Name what there is, be it imported yet or not."""
        return sorted({*globals(), *__all__})
