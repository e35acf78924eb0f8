"""Subwords learnt from the training captions, kept as text: the tokenizer of decoders that start from nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from src.errors import ProjectError

PAD, BOS, EOS, UNK = "<pad>", "<bos>", "<eos>", "<unk>"
SPECIALS = (PAD, BOS, EOS, UNK)  # ids 0 to 3
SPACE = "▁"  # U+2581, how a space is written inside subwords; in a caption itself it reads as a space


def train_subwords(captions: Iterable[str], *, vocab_size: int) -> str:
    """The JSON text of a byte-pair tokenizer (Sennrich et al. 2016) learnt from captions; the same for any order.

    Every character of the captions is a subword of its own, so none of them is unknown, even where that makes more
    than `vocab_size` entries; few captions make fewer.

    Raises:
        ProjectError: no caption holds any text, or `vocab_size` is not above the number of special tokens.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    texts = sorted(text for text in captions if text.strip())  # duplicates count: a common caption is worth subwords
    if not texts:
        raise ProjectError("no training caption holds any text, so no subwords can be learnt. Check data.captions.")
    if isinstance(vocab_size, bool) or not isinstance(vocab_size, int) or vocab_size <= len(SPECIALS):
        raise ProjectError(f"model.vocab_size={vocab_size!r}: give a whole number above {len(SPECIALS)}, such as 1000.")
    tokenizer = Tokenizer(models.BPE(unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme="always")
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[AddedToken(name, special=True) for name in SPECIALS],
            show_progress=False,
        ),
    )
    return json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))


class Codec:
    """Captions to token ids and back, from the text that `train_subwords` made.

    Attributes: size, the number of ids; pad, bos, eos, unk, the ids of the special tokens.
    Raises ProjectError where the text is no tokenizer with these special tokens.
    """

    def __init__(self, text: str) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_str(text)
        except Exception as error:  # the library raises bare Exception
            raise ProjectError(
                f"model.tokenizer_json is no tokenizer ({error}). Leave it out: it is learnt from the captions."
            ) from error
        self._tokenizer.encode_special_tokens = True  # a caption that says "<eos>" does not end there
        ids = [self._tokenizer.token_to_id(name) for name in SPECIALS]
        if None in ids:
            raise ProjectError(f"model.tokenizer_json lacks one of the tokens {', '.join(SPECIALS)}.")
        self.pad, self.bos, self.eos, self.unk = ids
        self.size = self._tokenizer.get_vocab_size()

    def encode(self, text: str, max_tokens: int) -> list[int]:
        """The first `max_tokens` ids of a caption, without the marks of beginning and end."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids[:max_tokens]

    def decode(self, ids: Sequence[int]) -> str:
        """The caption of these ids, special tokens left out, stripped."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True).strip()

    def vocabulary(self) -> dict[str, int]:
        """Every token and its id."""
        return dict(self._tokenizer.get_vocab())
