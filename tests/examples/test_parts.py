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


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_clock_of_a_killed_run_is_kept(parts: ModuleType, tmp_path: Path, jobs: int) -> None:
    """The second part sees the time of the first in a file: it is not lost if the process is killed."""
    clocks = f"list(__import__('pathlib').Path({str(tmp_path)!r}).glob('parts/clock-*.json'))"
    seen = f"next((1.0 for _ in range(600) if {clocks} or __import__('time').sleep(0.1)), 0.0)"  # waits up to a minute
    first, second = partial(dict, value=1.0), partial(eval, f"{{'clocks': {seen}}}")
    found = parts.compute_parts(tmp_path, {"first": (1, first), "second": (1, second)}, jobs=jobs)
    assert found["second"]["clocks"] == 1


def test_stages_are_computed_in_order_and_named_by_part(parts: ModuleType, tmp_path: Path) -> None:
    order: list[str] = []

    def part(name: str) -> dict[str, float]:
        order.append(name)
        return {"value": float(len(order))}

    stages = [{name: partial(part, name)} for name in ("late", "early")]
    found = parts.compute_stages(tmp_path, "settings", stages, jobs=1)
    assert order == ["late", "early"]
    assert {name: value for name, value in found.items() if not name.endswith("seconds")} == {
        "late.value": 1.0,
        "early.value": 2.0,
    }


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
