"""Whether outputs constrained by a schema conform to it, on the JSON-Schema-Test-Suite.

    pip download --no-deps --no-binary :all: jsonschema && tar -xzf jsonschema-*.tar.gz
    python -m benchmarks.schema_validity jsonschema-*/json

Every schema of the suite's draft 2020-12 becomes a grammar, or is refused with a reason. For each
grammar `--outputs` outputs are sampled: at every position a random token of those that the mask
allows, with a preference for tokens that end something. Outputs that end within `--tokens` tokens
are parsed and validated by jsonschema. Writes schema_validity.json in this folder.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import re
import tempfile
from pathlib import Path
from typing import Any, Counter, Dict, Iterator, List, Optional, Tuple

import jsonschema

from tests.models.support import VOCAB_SIZE, write_tokenizer
from vllm.structured_outputs import StructuredOutputsParams
from vllm.text.grammars import Grammar, GrammarCompiler, fill_masks
from vllm.text.tokenizer import Tokenizer

DRAFT = "draft2020-12"
_ENDS = '"}],:0'


def schemas(suite: Path) -> Iterator[Tuple[str, Any]]:
    """The location of each schema, and the schema."""
    for path in sorted((suite / "tests" / DRAFT).glob("*.json")):
        for case in json.loads(path.read_text(encoding="utf-8")):
            yield f"{path.stem}: {case['description']}", case["schema"]


def draw(grammar: Grammar, tokenizer: Tokenizer, num_tokens: int, source: random.Random) -> Any:
    """The text of one output; None if it has not finished by then."""
    nbytes = -(-VOCAB_SIZE // 32) * 4
    memory = memoryview(bytearray(nbytes))
    ends = {tokenizer.encode(char, add_special_tokens=False)[0] for char in _ENDS}
    drawn: List[int] = []
    for _ in range(num_tokens):
        fill_masks([(grammar, 0)], nbytes, memory)
        bits = int.from_bytes(memory, "little")
        allowed = [token for token in range(VOCAB_SIZE) if bits >> token & 1]
        likely = [token for token in allowed if token in ends or token == grammar.eos_token_id]
        token = source.choice(likely if likely and source.random() < 0.6 else allowed)
        if token == grammar.eos_token_id:
            return tokenizer.decode(drawn)
        drawn.append(token)
        if grammar.accept(token):
            return tokenizer.decode(drawn)
    return None


def why_not(text: str, schema: Any) -> Optional[str]:
    """Describes an error in an output; None if there is none."""
    try:
        value = json.loads(text)
    except ValueError as error:
        return f"no JSON: {error}"
    error = jsonschema.exceptions.best_match(
        jsonschema.Draft202012Validator(schema).iter_errors(value)
    )
    return None if error is None else error.message


def reason(error: ValueError) -> str:
    """Of a refusal, without what is particular to one schema."""
    text = str(error).replace("structured_outputs: ", "")
    return re.sub(r"['\"`].*|[\[{(].*", "…", text)[:60]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("suite", type=Path)
    parser.add_argument("--outputs", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=400)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        write_tokenizer(Path(made))
        tokenizer = Tokenizer(Path(made))
        (end,) = tokenizer.encode("<|end|>", add_special_tokens=False)
        compiler = GrammarCompiler(tokenizer, VOCAB_SIZE, frozenset([end]))
        counts: Counter[str] = collections.Counter()
        refused: Counter[str] = collections.Counter()
        invalid: List[Dict[str, str]] = []
        for place, (name, schema) in enumerate(schemas(args.suite)):
            counts["schemas"] += 1
            try:
                grammar = compiler.compile(StructuredOutputsParams(json=json.dumps(schema)))
            except ValueError as error:
                refused[reason(error)] += 1
                continue
            for number in range(args.outputs):
                counts["outputs"] += 1
                source = random.Random(f"{place}/{number}")
                text = draw(grammar.copy(), tokenizer, args.tokens, source)
                if text is None:
                    continue
                counts["finished"] += 1
                wrong = why_not(text, schema)
                if wrong is not None:
                    invalid.append({"schema": name, "output": text[:200], "why": wrong[:200]})
    record = {
        "suite": f"{args.suite.absolute().parent.name}, {DRAFT}",
        **counts,
        "refused": sum(refused.values()),
        "reasons": dict(refused.most_common()),
        "invalid": len(invalid),
        "invalid_outputs": invalid,
    }
    path = Path(__file__).with_name("schema_validity.json")
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print({key: value for key, value in record.items() if key != "invalid_outputs"})


if __name__ == "__main__":
    main()
