"""What is made once and then known by its name: a primitive or a kernel copies to itself and pickles by module and name."""

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Iterator
from typing import Any, Self

from jaxprim._errors import message
from jaxprim._origin import Origin

_MAIN = ("__main__", "__mp_main__")  # another program in each process


class ByName:
    """Base class of what copies to itself and pickles by module and name.

    Attributes:
        name: what messages call it.
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
                why=f"a {type(self).__name__} pickles by module and name",
                defined=self._origin.place,
                write=f"{self.name} = ...  # at the top level of a module that can be imported",
            )
        )


def _candidates(thing: Any) -> Iterator[tuple[str, str]]:
    """Modules, and names in them, under which a thing may be found: first where it was made, then everywhere."""
    origin: Origin = thing._origin
    home = [str(thing.__module__), origin.top_module, origin.module]
    yield home[0], str(thing.__qualname__)  # also in a class
    for module in [*dict.fromkeys(home), *(name for name in list(sys.modules) if name not in (*home, *_MAIN))]:
        yield from ((module, name) for name in _names(module, thing))


def _names(module: str, thing: Any) -> list[str]:
    """The names of a thing in a module, its own before others: IPython keeps what it printed as `_` and `_3`."""
    found = [name for name, value in _attributes(sys.modules.get(module)) if value is thing]
    return sorted(found, key=lambda name: (name != thing.name, name.startswith("_")))


def _attributes(module: Any) -> list[tuple[str, Any]]:
    try:
        # Not `vars`: asking a module that is imported lazily for anything imports it.
        return list(object.__getattribute__(module, "__dict__").items())
    except AttributeError:  # whatever else programs put into `sys.modules`
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
    """How it came to be out of reach."""
    origin: Origin = thing._origin
    if origin.module not in sys.modules:
        return f"module '{origin.module}', which is not imported"
    if isinstance(other := _at(sys.modules.get(origin.top_module), thing.name), ByName):
        return f"'{thing.name}' of module '{origin.top_module}' is now another {type(other).__name__}"
    if origin.function is not None:
        return f"a {type(thing).__name__} made in the function '{origin.function}' of module '{origin.module}'"
    return f"a {type(thing).__name__} made in module '{origin.module}', which has no name for it"
