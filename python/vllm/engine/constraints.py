"""What a sequence may not, or has to, say next: tokens by themselves, words, a grammar."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Tuple
from typing import Sequence as SequenceOf

from vllm.sampling_params import SamplingParams
from vllm.text.grammars import Grammar
from vllm.text.tokenizer import Tokenizer

FORBIDDEN = -float("inf")


class Bias(NamedTuple):
    """What to add to the logit of a token: `FORBIDDEN` where it may not come.

    after: only behind this token; -1 behind any.
    """

    token: int
    amount: float
    after: int = -1


class Constraints:
    """Of one sequence, beside its penalties.

    bad_words: token ids of each.
    grammar: None where the output may be anything.
    allowed: a bit for each token that `allowed_token_ids` has, the lowest first; None for all.
    """

    def __init__(
        self,
        params: SamplingParams,
        bad_words: SequenceOf[Tuple[int, ...]],
        grammar: Optional[Grammar],
        vocab_size: int,
    ) -> None:
        self.grammar = grammar
        self._biases = [Bias(token, bias) for token, bias in params.logit_bias.items()]
        self._bad_words = bad_words
        self.allowed = _bits(params.allowed_token_ids, vocab_size)

    def biases(self, token_ids: List[int], start: int, end: int) -> List[Bias]:
        """Of the token at `end`, of an output that begins at `start`. The token before it need not
        be known yet."""
        if not self._bad_words:
            return self._biases
        found = list(self._biases)
        for *beginning, last in self._bad_words:
            first = end - len(beginning)
            if not beginning:
                found.append(Bias(last, FORBIDDEN))
            elif first >= start and token_ids[first : end - 1] == beginning[:-1]:
                found.append(Bias(last, FORBIDDEN, after=beginning[-1]))
        return found

    @property
    def has_mask(self) -> bool:
        """Whether not all tokens may come."""
        return self.grammar is not None or self.allowed is not None

    def is_end(self, token_id: int) -> bool:
        """Whether a token is the one that ends outputs of the grammar."""
        return self.grammar is not None and token_id == self.grammar.eos_token_id

    def accept(self, token_id: int) -> bool:
        """Takes in a token; True if it completes the output. Raises GrammarError."""
        return self.grammar is not None and self.grammar.accept(token_id)


def encode_bad_words(words: SequenceOf[str], tokenizer: Tokenizer) -> List[Tuple[int, ...]]:
    """The tokens of each word, at the start of a text and behind a space."""
    found: Dict[Tuple[int, ...], None] = {}
    for word in words:
        for text in (word, " " + word.lstrip()):
            ids = tuple(tokenizer.encode(text, add_special_tokens=False))
            if ids:
                found[ids] = None
    return list(found)


def _bits(token_ids: SequenceOf[int], vocab_size: int) -> Optional[bytes]:
    """None for no tokens, which is no constraint."""
    if not token_ids:
        return None
    bits = bytearray(-(-vocab_size // 32) * 4)
    for token in token_ids:
        bits[token >> 3] |= 1 << (token & 7)
    return bytes(bits)
