"""Every argument of `python -m ci` has a help text."""

from __future__ import annotations

import argparse

import pytest

from ci.__main__ import find_commands

COMMANDS = find_commands()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_argument_has_a_help_text(name):
    parser = argparse.ArgumentParser()
    COMMANDS[name].configure(parser)
    assert [action.dest for action in parser._actions if not action.help] == []
