"""Small tokenizers of every common kind, which differ in how they decode tokens."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]
PIECES = ["▁", "a", "b", "c", ".", "▁a", "ab", "▁ab", "é", "\ufffd"]
ADDED = [
    AddedToken("</s>", special=True),
    AddedToken("<|tool|>", special=False),
    AddedToken("of two words", special=False),
    AddedToken("漢字", special=False),
]


def _with_added(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.add_tokens([token for token in ADDED if not token.special])
    tokenizer.add_special_tokens([token for token in ADDED if token.special])
    return tokenizer


def byte_level() -> Tokenizer:
    """As GPT-2, Llama 3 and Qwen: every byte is a token, and some pairs."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["ab ab cab é 漢漢 😀😀 \ufffd\ufffd"] * 4, trainer)
    return _with_added(tokenizer)


def _byte_fallback_bpe() -> Tokenizer:
    vocab = {token: i for i, token in enumerate(["<unk>", *BYTE_TOKENS, *PIECES])}
    merges = [("▁", "a"), ("a", "b"), ("▁a", "b")]
    return Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True))


def byte_fallback() -> Tokenizer:
    """As Llama 2 and Mistral: spaces belong to words, unknown characters are byte tokens."""
    tokenizer = _byte_fallback_bpe()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return _with_added(tokenizer)


def byte_fallback_without_strip() -> Tokenizer:
    """As Gemma: no space is put before a text."""
    tokenizer = _byte_fallback_bpe()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps)
    return _with_added(tokenizer)


def unigram() -> Tokenizer:
    """As T5 and others made by SentencePiece."""
    vocab = [("<unk>", 0.0), *((piece, -1.0 - i) for i, piece in enumerate(PIECES))]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return _with_added(tokenizer)


def unigram_byte_fallback() -> Tokenizer:
    """Unigram with byte tokens, and Metaspace behind ByteFallback."""
    pieces = [*BYTE_TOKENS, *PIECES]
    vocab = [("<unk>", 0.0), *((piece, -1.0 - i / 100) for i, piece in enumerate(pieces))]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="never")]
    )
    return _with_added(tokenizer)


def _word_piece(cleanup: bool) -> Tokenizer:
    words = ["[UNK]", "a", "ab", "##b", "##c", ".", ",", "?", "n't", "'s", "do", "not", "é", "漢"]
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=cleanup)
    return _with_added(tokenizer)


def word_piece() -> Tokenizer:
    """As BERT."""
    return _word_piece(cleanup=False)


def word_piece_cleaned() -> Tokenizer:
    """As BERT, with spaces before punctuation taken away (clean_up_tokenization_spaces)."""
    return _word_piece(cleanup=True)


def words() -> Tokenizer:
    """Without a decoder: tokens are joined by spaces."""
    vocab = {word: i for i, word in enumerate(["[UNK]", "a", "ab", ".", "é", "\ufffd"])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return _with_added(tokenizer)


def word_ends() -> Tokenizer:
    """As GPT-1: tokens that end a word say so."""
    tokens = ["<unk>", "a", "b", "a</w>", "b</w>", ".</w>", "é</w>"]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, [], unk_token="<unk>"))
    tokenizer.decoder = decoders.BPEDecoder()
    return _with_added(tokenizer)


KINDS = {
    make.__name__: make()
    for make in (
        byte_level,
        byte_fallback,
        byte_fallback_without_strip,
        unigram,
        unigram_byte_fallback,
        word_piece,
        word_piece_cleaned,
        words,
        word_ends,
    )
}
