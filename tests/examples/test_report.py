"""Reports: valid JSON with what repeats the numbers; metrics that are not finite are named, not written."""

import json
import math
from pathlib import Path

import matplotlib as mpl
import pytest

from tests.examples_run import script


def test_a_report_names_the_metrics_that_are_not_finite(tmp_path: Path) -> None:
    metrics = {"b": 2.0, "a": 1.0, "nan": math.nan, "infinite": math.inf}
    with script("_report") as module:
        path = module.write_report(tmp_path, "some_example", metrics, seed=3, quick=True, wall_seconds=1.26)
    report = json.loads(path.read_text())
    assert report["metrics"] == {"a": 1.0, "b": 2.0}
    assert report["not_finite"] == ["infinite", "nan"]
    assert (report["example"], report["seed"], report["quick"], report["wall_seconds"]) == (
        "some_example",
        3,
        True,
        1.3,
    )
    assert {"python", "torch", "numpy"} <= report["versions"].keys()
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]


def test_seconds_of_an_earlier_run_are_those_of_its_report(tmp_path: Path) -> None:
    with script("_report") as module:
        assert module.earlier_seconds(tmp_path) == 0
        module.write_report(tmp_path, "some_example", {}, seed=0, quick=True, wall_seconds=7.0)
        assert module.earlier_seconds(tmp_path) == 7.0


def test_figures_grow_with_the_font_size_and_never_shrink() -> None:
    with script("_report") as module:
        default = mpl.rcParamsDefault["font.size"]
        for factor, expected in ((1.0, (4.0, 3.0)), (2.0, (8.0, 6.0)), (0.5, (4.0, 3.0))):
            with mpl.rc_context({"font.size": factor * default}):
                assert module.inches(4.0, 3.0) == pytest.approx(expected)
