"""Parts of an example: computed once, stored, and not computed again."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tests.examples_run import script


@pytest.fixture(scope="module")
def parts() -> Iterator[ModuleType]:
    with script("_parts") as module:
        yield module


@pytest.mark.parametrize("jobs", [1, 2])
def test_parts_are_computed_once(parts: ModuleType, tmp_path: Path, jobs: int) -> None:
    """The functions can be imported by other processes: `dict` makes the numbers, and `int` fails if it is called."""
    numbers = {name: (k, partial(dict, value=k)) for k, name in enumerate("abc")}
    first = parts.compute_parts(tmp_path, numbers, jobs=jobs)
    assert {name: row["value"] for name, row in first.items()} == {"a": 0.0, "b": 1.0, "c": 2.0}
    failing = {name: (k, partial(int, "never")) for k, name in enumerate("abc")}
    assert parts.compute_parts(tmp_path, failing, jobs=jobs) == first
    assert parts.compute_part(tmp_path, "a", 0, partial(int, "never")) == first["a"]
    assert parts.total_seconds() > 0


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_of_one_part_is_raised_and_the_others_are_stored(parts: ModuleType, tmp_path: Path, jobs: int) -> None:
    late = partial(eval, "__import__('time').sleep(2) or {'value': 4.0}")  # still running when the other fails
    with pytest.raises(ValueError, match="never"):
        parts.compute_parts(tmp_path, {"good": (1, late), "bad": (2, partial(int, "never"))}, jobs=jobs)
    assert len(list((tmp_path / "parts").glob("good-*.json"))) == 1
    assert not list((tmp_path / "parts").glob("bad-*.json"))


def test_an_interrupted_fit_is_not_finished(parts: ModuleType) -> None:
    parts.finished(SimpleNamespace(interrupted=False))
    with pytest.raises(KeyboardInterrupt):
        parts.finished(SimpleNamespace(interrupted=True))


def test_no_classifier_is_stored_after_an_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with script("_images") as images:
        monkeypatch.setattr(images, "fit_classifier", lambda *args, **settings: SimpleNamespace(interrupted=True))
        with pytest.raises(KeyboardInterrupt):
            images.load_images("mnist", tmp_path, quick=True)
    assert not list(tmp_path.glob("*.pt"))
