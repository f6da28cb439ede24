"""Tables in files."""

import pytest


@pytest.fixture
def table(tmp_path):
    """A function that writes a text to a CSV file and returns its path."""

    def write(text: str):
        path = tmp_path / "mine.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return write
