"""HTML for notebooks: escaped, without scripts, in colours that light and dark themes share."""

import math
from xml.etree import ElementTree

from posterity.display import count, listing, panel, paragraph, short, table


def cells(html: str, tag: str = "td") -> list[str]:
    return ["".join(cell.itertext()) for cell in ElementTree.fromstring(html).iter(tag)]


def test_every_text_is_escaped():
    bad = "<script>&\"'"
    html = panel(bad, paragraph(bad), table([bad], [[bad]], bad), listing(bad, [bad]), listing(bad, [bad], code=True))
    assert "<script" not in html
    assert "".join(ElementTree.fromstring(html).itertext()).count(bad) == 9


def test_a_table_has_its_cells_and_numbers_are_short():
    html = panel(
        "title", table(["name", "value"], [["a", 0.123456], ["b", 12], ["c", math.nan], ["d", (2, 3)]], "more")
    )
    assert cells(html, "th") == ["name", "value"]
    assert cells(html) == ["a", "0.1235", "b", "12", "c", "–", "d", "(2, 3)"]
    assert html.count("text-align:right") == 3
    assert "more" in html


def test_empty_parts_are_left_out():
    assert listing("nothing", []) == ""
    assert panel("title", "", "") == panel("title")


def test_colours_are_those_of_the_notebook():
    html = panel("title", table(["a"], [["b"]]), listing("c", ["d"], code=True))
    assert "color:inherit" in html
    assert "#" not in html  # no fixed colour
    assert "rgb(" not in html


def test_numbers_with_nouns():
    assert [count(1, "row"), count(0, "row"), count(1234, "row")] == ["1 row", "0 rows", "1,234 rows"]
    assert count(2, "process", "processes") == "2 processes"
    assert [short(1e-9), short("text"), short(3)] == ["1e-09", "text", "3"]
