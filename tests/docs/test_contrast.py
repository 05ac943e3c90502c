"""Whether code on the site can be read: WCAG 2.1's contrast, level AA."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CONF = Path(__file__).parents[2] / "docs/conf.py"
LEAST = 4.5
# What a Python or shell example consists of.
KINDS = ("Comment", "Keyword", "Literal.Number", "Literal.String", "Name.Builtin", "Name.Function")
KINDS += ("Name.Namespace", "Operator", "Generic.Prompt", "Generic.Output")


def luminance(color):
    parts = (int(color[at : at + 2], 16) / 255 for at in (0, 2, 4))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("setting", ["pygments_style", "pygments_dark_style"])
def test_code_stands_out_from_its_background(setting):
    styles = pytest.importorskip("pygments.styles", reason="pygments comes with Sphinx")
    (name,) = re.findall(rf'^{setting} = "(.+)"$', CONF.read_text(), re.M)
    style = styles.get_style_by_name(name)
    background = style.background_color.lstrip("#")
    colors = {str(kind): of["color"] for kind, of in style if of["color"]}
    found = {kind: contrast(colors[f"Token.{kind}"], background) for kind in KINDS}
    assert {kind: value for kind, value in found.items() if value < LEAST} == {}
