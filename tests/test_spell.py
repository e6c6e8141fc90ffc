"""How the page spells expressions and numbers: what is read back is what was meant."""

import pytest

from conveyor.explain.page.bundle import script

pytestmark = pytest.mark.xdist_group("spell")

ENTRY = """import { ATOM, spelled } from "./spell.js";
import { constant } from "./dom.js";
const written = (tree) =>
  Array.isArray(tree) ? spelled(tree[0], tree.slice(1).map(written)) : { text: tree, level: ATOM };
Object.assign(globalThis, { constant, spell: (tree) => written(tree).text });
"""


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    file = tmp_path_factory.mktemp("spell") / "page.html"
    code = script("entry.js", {"entry.js": ENTRY})
    file.write_text(f'<meta charset="utf-8"><link rel="icon" href="data:,"><script>{code}</script>', encoding="utf-8")
    browser.open(file)
    return browser


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        (["add", ["mul", "a", "b"], "c"], "a × b + c"),
        (["mul", ["add", "a", "b"], "c"], "(a + b) × c"),
        (["sub", "a", ["sub", "b", "c"]], "a − (b − c)"),
        (["div", "a", ["mul", "b", "c"]], "a ÷ (b × c)"),
        (["neg", ["neg", "a"]], "−(−a)"),
        (["neg", "−1"], "−(−1)"),
        (["neg", ["add", "a", "b"]], "−(a + b)"),
        (["neg", ["mul", "a", "b"]], "−a × b"),
        (["mul", "a", ["neg", "b"]], "a × (−b)"),
        (["mul", "u", ["mod", "u", "v"]], "u × (u mod v)"),
        (["mod", ["mul", "u", "u"], "v"], "(u × u) mod v"),
        (["mod", ["mod", "u", "v"], "w"], "(u mod v) mod w"),
        (["mod", "−1", "v"], "(−1) mod v"),
        (["neg", ["mod", "u", "v"]], "−(u mod v)"),
        (["add", "a", ["mod", "u", "v"]], "a + (u mod v)"),
        (["lt", ["mod", "u", "v"], "w"], "u mod v < w"),
        (["eq", ["lt", "a", "b"], "c"], "(a < b) = c"),
        (["where", ["lt", "a", "b"], "c", ["neg", "d"]], "if(a < b, c, −d)"),
    ],
)
def test_expressions(tree, text, page):
    assert page.run("return spell(arguments[0])", tree) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"), (1, "1"), (10, "10"), (100, "100"), (-20, "−20"), (0.5, "0.5"), (0.25, "0.25"), (1.702, "1.702"),
        (1e-10, "1e−10"), (1.5e-10, "1.5e−10"), (1e10, "1e+10"), (1.2e20, "1.2e+20"), (-1e-20, "−1e−20"),
    ],
)  # fmt: skip
def test_numbers_of_equations(number, text, page):
    assert page.run("return constant(arguments[0])", number) == text
