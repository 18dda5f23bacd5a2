"""Find the target of a check: import a file or a module under its own name, and list its primitives."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from jaxprim._errors import JaxprimError, message
from jaxprim.checking.subject import Primitive, place_of


class NotFound(JaxprimError, LookupError):
    """There is no such file, module, or primitive."""


class ImportFailed(JaxprimError, ImportError):
    """The file or module raised during its import; the message has the traceback from its own lines on."""


def find(target: str) -> list[Primitive]:
    """The primitives that ``FILE_OR_MODULE[:name]`` names.

    A file is imported as a module of its own name, with its folder on the path, as with ``python FILE``; code
    under ``if __name__ == "__main__"`` does not run. A primitive is found as an attribute of the module.
    """
    where, name = split(target)
    module = load(where)
    found = primitives(module)
    if name:
        return [_named(module, found, name, where)]
    if not found:
        raise NotFound(
            message(
                f"{where}: no primitive in it.",
                got=f"a module with {len(vars(module))} attributes, none of them a Primitive",
                expected="a Primitive at the top level of the module",
                write='scale = jaxprim.Primitive("scale")',
            )
        )
    return found


def files(target: str) -> list[Path] | None:
    """The Python files that use jaxprim in a folder and its subfolders; None if the target is no folder.

    Hidden folders and virtual environments are left out.
    """
    root = Path(target)
    if not root.is_dir():
        return None
    found: list[Path] = []
    for folder, names, here in os.walk(root):
        names[:] = sorted(
            name for name in names if not name.startswith((".", "__")) and not _is_venv(Path(folder, name))
        )
        found += [Path(folder, name) for name in sorted(here) if name.endswith(".py")]
    using = [path for path in found if "jaxprim" in path.read_text(encoding="utf-8", errors="replace")]
    if not using:
        raise NotFound(message(f"{target}: no file that uses jaxprim.", got=f"a folder with {len(found)} Python files"))
    return using


def _is_venv(folder: Path) -> bool:
    return (folder / "pyvenv.cfg").is_file()


def split(target: str) -> tuple[str, str]:
    """``FILE_OR_MODULE`` and ``name``; a colon inside a path is not a separator."""
    where, colon, name = target.rpartition(":")
    if colon and all(part.isidentifier() for part in name.split(".")):
        return where, name
    return target, ""


def load(where: str) -> ModuleType:
    """Import a file or a module."""
    path = Path(where)
    if path.suffix == ".py" or path.is_file():
        if not path.is_file():
            raise NotFound(message(f"{where}: no such file.", expected="a Python file, or the name of a module"))
        return _load_file(path.resolve())
    return _load_module(where)


def _load_module(name: str) -> ModuleType:
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise NotFound(
                message(f"{name}: no such file or module.", expected="a Python file, or the name of a module")
            ) from error
        raise _failed(name, error) from error
    except (Exception, SystemExit) as error:
        raise _failed(name, error) from error


def _load_file(path: Path) -> ModuleType:
    """Import a file under its own name; inside a package, as a module of that package."""
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").exists():
        root, parts = root.parent, [root.name, *parts]
    if parts[-1] == "__init__":
        parts = parts[:-1]
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    if len(parts) > 1:
        return _load_module(".".join(parts))
    loaded = sys.modules.get(parts[0])
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):  # this file is loaded already
        return loaded
    return _execute(path, parts[0] if loaded is None else f"{parts[0]}_checked")


def _execute(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise NotFound(message(f"{path.name}: not a Python file.", expected="a file whose name ends in .py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and not error.code:  # a script that ends in sys.exit(main())
            return module
        del sys.modules[name]
        raise _failed(path.name, error) from error
    return module


def _failed(where: str, error: BaseException) -> ImportFailed:
    """The traceback without the frames of the import machinery, which do not help an author."""
    frames: TracebackType | None = error.__traceback__
    while frames is not None and _is_machinery(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    lines = traceback.format_exception(type(error), error, frames)
    return ImportFailed(f"{where} could not be imported:\n" + "".join(lines).rstrip())


def _is_machinery(filename: str) -> bool:
    return filename in (__file__, importlib.__file__) or filename.startswith("<frozen importlib")


def primitives(module: ModuleType) -> list[Primitive]:
    """The primitives among the attributes of a module, each once, in the order of definition."""
    found = {id(value): value for value in vars(module).values() if isinstance(value, Primitive)}
    return list(found.values())


def function(target: str, where: str) -> Callable[..., Any]:
    """The function that ``FILE_OR_MODULE:name`` names, or a bare name in another file or module."""
    module, name = split(target)
    module, name = (module, name) if name else (where, target)
    value: Any = load(module)
    for part in name.split("."):
        value = getattr(value, part, None)
    if not callable(value):
        raise NotFound(message(f"{module}: no function '{name}' in it.", got=type(value).__name__))
    return value


def is_imported(primitive: Primitive, path: Path) -> bool:
    """Whether a primitive in this file was imported from another file, where it is defined and also an attribute."""
    home = Path(place_of(primitive).rpartition(":")[0]).resolve()
    return home != path.resolve() and any(
        value is primitive
        for module in list(sys.modules.values())
        if getattr(module, "__file__", None) == str(home)
        for value in vars(module).values()
    )


def _named(module: ModuleType, found: list[Primitive], name: str, where: str) -> Primitive:
    value: object = module
    for part in name.split("."):
        value = getattr(value, part, None)
    if isinstance(value, Primitive):
        return value
    for primitive in found:
        if primitive.name == name:
            return primitive
    if callable(value):
        raise NotFound(
            message(
                f"{where}: '{name}' is a function, not a Primitive.",
                why="a function carries no examples, so the command line cannot check it",
                write=f"jaxprim.check({name}, x, ...)",
            )
        )
    names = ", ".join(sorted({p.name for p in found})) or "none"
    raise NotFound(message(f"{where}: no primitive '{name}' in it.", got=f"primitives {names}"))
