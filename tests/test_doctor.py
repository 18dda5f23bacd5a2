"""`jaxprim doctor` names whatever JAX does not have, also where `import jaxprim` fails for it."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import jax
import pytest
from jax_versions import IS_OLDER_JAX

from jaxprim import _doctor

USES = _doctor.uses()
NAMES = [use.name for use in USES if use.call is None and use.name != "jax"]
META = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
# Taken away before jaxprim is imported. The first three are needed at once, the last when a batched collective is traced.
BREAKS = {
    "an attribute": "jax._src.interpreters.batching.vectorized_batcher",
    "a class": "jax._src.core.Tracer",
    "a module": "jax.experimental.jet",
}
LATER = "jax._src.core.extend_axis_env_nd"


def python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments, *(["-c", textwrap.dedent(program)] if program else [])]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def without(name: str) -> str:
    """Code that takes a name of JAX away."""
    owner, _, last = name.rpartition(".")
    return (
        f"import importlib, sys, jax\nvars(importlib.import_module({owner!r})).pop({last!r}, None)\n"
        f"sys.modules[{name!r}] = None\n"
    )


def test_nothing_is_missing_here() -> None:
    assert _doctor.missing() == []


def test_the_names_are_those_of_the_source() -> None:
    """Some of each form in which the source names something of JAX."""
    expected = {
        "jax._src.core",  # from jax._src import core
        "jax._src.linear_util.wrap_init",  # ... import linear_util as lu
        "jax._src.interpreters.partial_eval.dce_jaxpr",
        "jax._src.core.trace_ctx.trace",  # of an object in a module
        "jax.interpreters.mlir",
        "jax.sharding.PartitionSpec",
        "jax.make_user_context",
    }
    assert expected <= set(NAMES)
    # What is probed for need not be there.
    assert not {"jax._src.core.ClosedJaxpr", "jax.lax.pvary"} & set(NAMES)


def test_each_name_is_missed_when_it_is_gone() -> None:
    """One process, in which each name is taken away in turn and given back."""
    program = f"""
    import importlib, json, sys
    import jaxprim
    from jaxprim import _doctor

    missed, uses = {{}}, _doctor.uses()
    for name in {NAMES!r}:
        owner_name, _, last = name.rpartition(".")
        owner, module = _doctor._find(owner_name), sys.modules.get(name)
        if isinstance(owner, dict):  # the methods of a table
            continue
        kept = getattr(owner, last)
        try:
            delattr(owner, last)
        except AttributeError:  # of a type that is not Python's
            continue
        if module is not None:
            sys.modules[name] = None
        missed[name] = _doctor.missing(uses)
        setattr(owner, last, kept)
        if module is not None:
            sys.modules[name] = module
    print(json.dumps(missed))
    """
    done = python(program)
    missed: dict[str, list[str]] = json.loads(done.stdout) if done.stdout else pytest.fail(done.stderr)
    assert len(missed) >= len(NAMES) - 8  # methods of tables, and of classes of C++
    assert [
        name for name, lines in missed.items() if not any(line.startswith(f"{name} (used at _jax/") for line in lines)
    ] == []


# Each costs a process that imports JAX. How names are looked for does not depend on JAX; which there are does.
SOME = dict([*BREAKS.items()][:1]) if IS_OLDER_JAX else BREAKS
# Code that hides which JAX it is.
HIDDEN = "import importlib.metadata as m; real = m.version; m.version = lambda p: '99.0' if p == 'jax' else real(p)\n"


@pytest.mark.parametrize("name", SOME.values(), ids=list(SOME))
@pytest.mark.parametrize("release", ["another", "tested"])
def test_import_says_what_is_gone(name: str, release: str) -> None:
    """At the import where the release is another; where it was tested, and yet lacks something, at the first name."""
    begin = {
        "another": f"{HIDDEN}{without(name)}import jaxprim",
        "tested": without(name) + "from jaxprim import Primitive",
    }
    done = python(begin[release])
    last = done.stderr[done.stderr.rindex("ImportError: jaxprim ") :]
    assert f"does not run on JAX {'99.0' if release == 'another' else jax.__version__}" in last
    assert f"\n  missing:  {name} (used at _jax/" in last
    assert "\n  write:    pip install 'jax>=0.8.1,<=" in last
    assert "\n  or run:   jaxprim doctor" in last


@pytest.mark.parametrize("name", SOME.values(), ids=list(SOME))
@pytest.mark.parametrize("start", ["script", "module"])
def test_doctor_runs_where_the_import_fails(name: str, start: str) -> None:
    # What Python sets up for `jaxprim doctor`, and for `python -m jaxprim doctor`.
    begin = {
        "script": "sys.argv = ['/bin/jaxprim', 'doctor']\nfrom jaxprim.cli import main\nmain()",
        "module": "import runpy\nsys.argv = ['-m', 'doctor']; sys.orig_argv = ['python', '-m', 'jaxprim', 'doctor']\n"
        "runpy.run_module('jaxprim', run_name='__main__')",
    }
    done = python(HIDDEN + without(name) + begin[start])
    assert f"this JAX lacks {name} (used at _jax/" in done.stdout
    assert (done.returncode, done.stderr) == (1, "")


def test_doctor_runs_without_click() -> None:
    done = python(
        "import sys; sys.modules['click'] = None; sys.argv = ['jaxprim', 'doctor']\nfrom jaxprim.cli import main"
    )
    assert "names of JAX" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_release_is_told_at_import() -> None:
    """A name that is needed only later is told at once, where JAX is another than was tested."""
    done = python(f"{HIDDEN}{without(LATER)}import jaxprim; print('imported')")
    assert done.stdout == "imported\n"
    assert "RuntimeWarning: jaxprim 0.1.0 may fail on JAX 99.0" in done.stderr
    assert f"\n  missing:  {LATER} (used at _jax/programs.py:" in done.stderr


def test_an_unknown_release_that_has_all_is_taken_silently() -> None:
    done = python(f"{HIDDEN}import jaxprim; from jaxprim import _doctor; print(_doctor.is_tested())")
    assert (done.stdout, done.stderr) == ("False\n", "")


@pytest.mark.parametrize(
    ("source", "gone"),
    [
        ("from jax._src import core\ncore.no_such_name", "jax._src.core.no_such_name"),
        ("from jax._src import no_such_module", "jax._src.no_such_module"),
        ("import jax\njax.lax.no_such_name(1)", "jax.lax.no_such_name"),
        ("from jax._src.no_such_module import name", "jax._src.no_such_module.name"),
        ("from jax._src import core as c\nc.Trace.no_such_method", "jax._src.core.Trace.no_such_method"),
    ],
)
def test_a_name_that_is_gone_is_found(source: str, gone: str, tmp_path: Path) -> None:
    (tmp_path / "room.py").write_text(source)
    (line,) = _doctor.missing(_doctor.uses(tmp_path))
    assert line.startswith(f"{gone} (used at _jax/room.py:")


@pytest.mark.parametrize(
    "call", ["core.eval_jaxpr(a)", "core.mapped_aval(1, 2, 3, no_such_word=4)", "core.mapped_aval(1, 2, 3, 4, 5, *x)"]
)
def test_a_call_with_other_arguments_is_found(call: str, tmp_path: Path) -> None:
    (tmp_path / "room.py").write_text(f"from jax._src import core\n{call}")
    (line,) = _doctor.missing(_doctor.uses(tmp_path))
    assert "takes other arguments now (used at _jax/room.py:2)" in line


@pytest.mark.parametrize(
    "source",
    [
        "from jax._src import core\ngetattr(core, 'no_such_name', None)\nhasattr(core, 'no_such_name')",
        "from jax._src import core\ncore.mapped_aval(*args, **options)",
        "from os import path\npath.no_such_name",
    ],
)
def test_what_is_probed_for_is_not_missed(source: str, tmp_path: Path) -> None:
    (tmp_path / "room.py").write_text(source)
    assert _doctor.missing(_doctor.uses(tmp_path)) == []


def test_the_tested_releases_are_those_of_the_metadata() -> None:
    releases: Any = list(META["tool"]["jaxprim"]["supported"])
    assert (releases[0], releases[-1]) == (_doctor.OLDEST, _doctor.NEWEST)
