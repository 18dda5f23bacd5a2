"""Build the site: ``uv run --group docs python docs/site/build.py [FOLDER]``, by default into ``dist/site``.

`FOLDER/pages` holds the pages as Sphinx reads them, and `FOLDER/html` the site. A warning is an error.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # The reference imports JAX, and needs no accelerator.

from layout import ROOT, Pages
from sphinx.cmd.build import main as sphinx

HERE = Path(__file__).parent


def main(out: Path = ROOT / "dist" / "site") -> int:
    Pages(out / "pages").lay_out()
    options = ["--builder=html", "--write-all", "--quiet", "--fail-on-warning", "--keep-going", f"--conf-dir={HERE}"]
    status = sphinx([*options, f"--doctree-dir={out / 'read'}", str(out / "pages"), str(out / "html")])
    print(out / "html" / "index.html" if status == 0 else "The warnings above are errors.")
    return status


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
