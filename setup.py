"""The description on the package index is the README with absolute links; all else is in pyproject.toml."""

import re
from pathlib import Path

from setuptools import setup

REPOSITORY = "https://github.com/posterity-uq/posterity"
IMAGE = re.compile(r"(!\[[^\]]*\]\()(?!https?:)")
LINK = re.compile(r"(\]\()(?!https?:|#)")

readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
readme = IMAGE.sub(rf"\1{REPOSITORY}/raw/main/", readme)
setup(long_description=LINK.sub(rf"\1{REPOSITORY}/blob/main/", readme), long_description_content_type="text/markdown")
