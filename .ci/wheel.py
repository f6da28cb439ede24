"""Run in a clean environment, from another directory: is the installed wheel whole, and does it keep to its name?"""

import importlib.metadata
import importlib.util
import re
import sys
from pathlib import Path

import posterity
import posterity.data
import posterity.inference.diagnostics
import posterity.inference.mcmc
import posterity.inference.plots
import posterity.models

prefix = Path(sys.argv[1]).resolve()
where = Path(posterity.__file__).resolve()
if prefix not in where.parents:
    sys.exit(f"expected posterity from {prefix}, got {where}")
if not (where.parent / "py.typed").is_file():
    sys.exit("expected py.typed in the wheel")
if len(posterity.data.mcycle()) != 133:
    sys.exit("expected the tables in the wheel")
bare = [name for name in ("models", "inference", "data") if importlib.util.find_spec(name)]
if bare:
    sys.exit(f"expected no bare top-level modules, got {bare}")
description = importlib.metadata.metadata("posterity").get_payload()
relative = re.findall(r"\]\((?!https?:|#)[^)]*\)", description)
if relative or "# posterity" not in description:
    sys.exit(f"expected the README with absolute links as description, got {relative or description[:60]!r}")
