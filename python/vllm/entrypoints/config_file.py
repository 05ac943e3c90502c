"""``--config FILE``: reads a command's options from YAML, under the same names."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, List, Optional, Sequence, Union


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Adds --config. All other options of the parser must have None as their default."""
    parser.add_argument(
        "--config",
        action=_ReadConfig,
        metavar="FILE",
        help="YAML with options, as max-model-len: 4096; the command line overrides it",
    )


def merge_config(args: argparse.Namespace) -> None:
    """Sets the options that were not given on the command line from the file."""
    from_file: Optional[argparse.Namespace] = args.config
    for name, value in vars(from_file or argparse.Namespace()).items():
        if getattr(args, name, None) is None:
            setattr(args, name, value)


class _ReadConfig(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Union[str, Sequence[Any], None],
        option_string: Optional[str] = None,
    ) -> None:
        path = Path(str(values))
        try:
            words = _as_words(path)
        except ValueError as error:
            parser.error(f"--config: {error}")
        from_file, unknown = parser.parse_known_args(words, argparse.Namespace(model=None))
        if from_file.model is not None:  # a list's further items were taken as what has no option
            parser.error(f"--config: {path} has a list where an option has one value")
        if unknown:
            parser.error(f"--config: {path} has options that do not exist: {' '.join(unknown)}")
        setattr(namespace, self.dest, from_file)


def _as_words(path: Path) -> List[str]:
    """The file's options as command-line arguments. Raises ValueError."""
    import yaml

    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if loaded is None:  # nothing but comments
        return []
    if not isinstance(loaded, dict):
        raise ValueError(f"{path} must hold options and their values")
    words: List[str] = []
    for name, value in loaded.items():
        option = "--" + str(name).replace("_", "-")
        if option == "--config":
            raise ValueError(f"{path} names another file, which is not read")
        if value is True:
            words.append(option)
        elif value is False:
            words.append(option.replace("--enable-", "--no-enable-", 1))
        elif isinstance(value, list) and not option.startswith("--allowed-"):
            words += [option, *map(str, value)]
        elif value is not None:
            words.append(f"{option}={value if isinstance(value, str) else json.dumps(value)}")
    return words
