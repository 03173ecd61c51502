"""Flame graphs from folded stacks made here."""

from xml.etree import ElementTree

from lab.bench.flame import WIDTH, svg, tree

FOLDED = """main;run;proxy.stack.received;proxy.sip.parse 60
main;run;proxy.stack.received 20
main;run;trio.wait 20
"""
SVG = "{http://www.w3.org/2000/svg}"


def boxes(text: str) -> dict[str, float]:
    """Widths by the first word of each box's tooltip."""
    found = {}
    for group in ElementTree.fromstring(text).iter(f"{SVG}g"):
        title, box = group.find(f"{SVG}title"), group.find(f"{SVG}rect")
        assert title is not None and title.text is not None and box is not None
        found[title.text.partition(":")[0]] = float(box.get("width", "0"))
    return found


def test_samples_add_up_and_what_all_share_is_cut_off() -> None:
    root = tree(FOLDED.splitlines())
    assert root.samples == 100
    assert {name: box.samples for name, box in root.inside.items()} == {"proxy.stack.received": 80, "trio.wait": 20}
    assert root.inside["proxy.stack.received"].inside["proxy.sip.parse"].samples == 60
    assert root.depth == 3


def test_width_is_share() -> None:
    found = boxes(svg(FOLDED, "a title"))
    assert found.keys() == {"all", "proxy.stack.received", "proxy.sip.parse", "trio.wait"}
    assert abs(found["proxy.sip.parse"] - 0.6 * WIDTH) < 1.0
    assert abs(found["trio.wait"] - 0.2 * WIDTH) < 1.0


def test_what_cannot_be_seen_is_left_out() -> None:
    assert "tiny" not in boxes(svg("a;big 100000\na;tiny 1\nb 1000\n", "x"))


def test_names_are_escaped() -> None:
    text = svg("m.<listcomp>;n 1\nm.other 1\n", "P2 & more")
    assert "m.<listcomp>" in boxes(text)
    assert "P2 &amp; more" in text


def test_a_single_function_and_none_at_all() -> None:
    assert "lonely" in boxes(svg("lonely 3\n", "x"))
    assert boxes(svg("", "x")) == {"all": 0.2} or boxes(svg("", "x")) == {}
