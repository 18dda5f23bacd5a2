"""A user's decorated functions keep their types: pyright, strict, on tests/typing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tools import needs

pytestmark = needs("pyright")
ROOT = Path(__file__).parents[1]


def diagnostics(path: Path) -> list[str]:
    """What pyright says of a file. It comes with its Node.js from the package index: nothing is downloaded."""
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == 1, done.stderr
    return [
        f"{path.name}:{row['range']['start']['line'] + 1}: {row['message']}" for row in report["generalDiagnostics"]
    ]


def test_decorated_functions_keep_their_types():
    assert diagnostics(ROOT / "tests" / "typing" / "authors.py") == []


def test_a_wrong_type_is_caught(tmp_path):
    """The test above, tested with a fault."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text("from jaxprim import Primitive\nx: int = Primitive('p').name\n")
    assert len(diagnostics(wrong)) == 1
