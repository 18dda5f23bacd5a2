from __future__ import annotations

import sys
from pathlib import Path

import pytest

from jaxprim.checking import targets

SCALE = 'from jaxprim import Primitive\nscale = Primitive("the_scale")\nalias = scale\nother = Primitive("other")\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


def write(name: str, text: str) -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return name


@pytest.mark.parametrize(
    ("target", "where", "name"),
    [
        ("a.py", "a.py", ""),
        ("a.py:scale", "a.py", "scale"),
        ("package.ops:group.scale", "package.ops", "group.scale"),
        ("C:\\folder\\a.py", "C:\\folder\\a.py", ""),
        ("C:\\folder\\a.py:scale", "C:\\folder\\a.py", "scale"),
    ],
)
def test_split(target: str, where: str, name: str):
    assert targets.split(target) == (where, name)


def test_each_primitive_of_a_file_once_in_order():
    assert [p.name for p in targets.find(write("ops_in_a_file.py", SCALE))] == ["the_scale", "other"]


@pytest.mark.parametrize("name", ["scale", "alias", "the_scale"])
def test_one_by_its_attribute_or_its_own_name(name: str):
    assert [p.name for p in targets.find(write("ops_by_name.py", SCALE) + f":{name}")] == ["the_scale"]


def test_a_file_is_a_module_of_its_own_name_and_not_main():
    path = write("own_name.py", SCALE + 'name = __name__\nif __name__ == "__main__":\n    raise SystemExit("ran")\n')
    targets.find(path)
    assert sys.modules["own_name"].name == "own_name"


def test_a_file_named_like_a_loaded_module_does_not_replace_it():
    import json

    targets.find(write("json.py", SCALE))
    assert sys.modules["json"] is json


def test_a_file_imports_its_neighbour():
    write("folder/neighbour.py", SCALE)
    assert len(targets.find(write("folder/ops_beside.py", "from neighbour import scale\n"))) == 1


def test_a_file_in_a_package_may_import_relatively():
    write("some_package/__init__.py", "")
    write("some_package/core.py", SCALE)
    path = write("some_package/ops.py", "from .core import scale\n")
    assert [p.name for p in targets.find(path)] == ["the_scale"]
    assert "some_package.ops" in sys.modules


def test_a_script_that_ends_in_exit_0_has_run_to_its_end():
    assert len(targets.find(write("exits.py", SCALE + "import sys\nsys.exit(0)\n"))) == 2


@pytest.mark.parametrize("end", ["sys.exit(3)", "1 / 0", "import no_such_module_at_all", "def ("])
def test_a_file_that_fails_says_so_from_its_own_line_on(end: str):
    with pytest.raises(targets.ImportFailed) as error:
        targets.find(write("fails.py", f"import sys\n{end}\n"))
    assert str(error.value).startswith("fails.py could not be imported:\n")
    assert "targets.py" not in str(error.value)
    assert "fails" not in sys.modules


def test_a_module_that_is_there_but_imports_one_that_is_not_has_failed():
    write("imports_missing.py", "import no_such_module_at_all\n")
    with pytest.raises(targets.ImportFailed, match="no_such_module_at_all"):
        targets.find("imports_missing")


@pytest.mark.parametrize("target", ["nothing.py", "no_such_module_at_all", "no_such_module_at_all.ops"])
def test_what_is_not_there(target: str):
    with pytest.raises(targets.NotFound, match="no such file"):
        targets.find(target)
