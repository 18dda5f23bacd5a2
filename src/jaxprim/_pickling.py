"""Objects known by name: a primitive or kernel copies to itself, and pickles by module and name."""

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Iterator
from typing import Any, Self

from jaxprim._errors import message
from jaxprim._origin import Origin

_MAIN = ("__main__", "__mp_main__")  # a different program in each process


class ByName:
    """Base class of objects that copy to themselves and pickle by module and name.

    Attributes:
        name: the name in messages.
    """

    name: str
    _origin: Origin

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        for module, path in _candidates(self):
            if _at(sys.modules.get(module), path) is self:
                return _find, (module, path)
        raise pickle.PicklingError(
            message(
                f"{self.name}: it cannot be pickled, because it is not an attribute of a module.",
                got=_got(self),
                why=f"a {type(self).__name__} is pickled by module and name",
                defined=self._origin.place,
                write=f"{self.name} = ...  # at the top level of a module that can be imported",
            )
        )


def _candidates(thing: Any) -> Iterator[tuple[str, str]]:
    """Modules and names in them that may hold a thing: first where it was made, then everywhere else."""
    origin: Origin = thing._origin
    home = [str(thing.__module__), origin.top_module, origin.module]
    yield home[0], str(thing.__qualname__)  # this also finds it in a class
    for module in [*dict.fromkeys(home), *(name for name in list(sys.modules) if name not in (*home, *_MAIN))]:
        yield from ((module, name) for name in _names(module, thing))


def _names(module: str, thing: Any) -> list[str]:
    """The names of a thing in a module, its own name first. (IPython also binds its outputs to `_` and `_3`.)"""
    found = [name for name, value in _attributes(sys.modules.get(module)) if value is thing]
    return sorted(found, key=lambda name: (name != thing.name, name.startswith("_")))


def _attributes(module: Any) -> list[tuple[str, Any]]:
    try:
        # `vars` would trigger the import of a lazily imported module.
        return list(object.__getattribute__(module, "__dict__").items())
    except AttributeError:  # `sys.modules` may hold objects that are not modules
        return []


def _at(module: Any, path: str) -> Any:
    for part in path.split("."):
        module = getattr(module, part, None)
    return module


def _find(module: str, path: str) -> Any:
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found


def _got(thing: Any) -> str:
    """Why no module attribute leads to it."""
    origin: Origin = thing._origin
    if origin.module not in sys.modules:
        return f"module '{origin.module}', which is not imported"
    if isinstance(other := _at(sys.modules.get(origin.top_module), thing.name), ByName):
        return f"'{thing.name}' of module '{origin.top_module}' is now another {type(other).__name__}"
    if origin.function is not None:
        return f"a {type(thing).__name__} made in the function '{origin.function}' of module '{origin.module}'"
    return f"a {type(thing).__name__} made in module '{origin.module}', which has no name for it"
