"""NLLB-200 as a translator, through transformers: right language codes, batches, and other decodings for bad answers.

Source: NLLB Team, "No Language Left Behind" (2022). Its weights are under CC BY-NC 4.0: see a competition's rules
before they are used. Any sequence-to-sequence model whose tokenizer has `src_lang` and language tokens fits (M2M-100
likewise).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src.errors import ProjectError
from src.translation.base import check_languages, degenerate, refuse_missing

CHECKPOINT = "facebook/nllb-200-distilled-600M"
CODES = {"ko": "kor_Hang", "en": "eng_Latn"}
# tried in this order for the texts whose translation is degenerate
DECODINGS: tuple[dict[str, Any], ...] = (
    {"num_beams": 4, "no_repeat_ngram_size": 4},
    {"num_beams": 1, "repetition_penalty": 1.3},
    {"num_beams": 8, "no_repeat_ngram_size": 2, "length_penalty": 0.6},
)


class NllbTranslator:
    """Translates with a sequence-to-sequence model of transformers.

    Args:
        model: an AutoModelForSeq2SeqLM.
        tokenizer: its tokenizer; the language codes must be tokens of it.
        name: tells caches and reports which weights spoke.
        codes: language → the tokenizer's code of it.
        batch_size: texts a forward pass.
        max_new_tokens: the longest translation.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str = CHECKPOINT,
        codes: dict[str, str] | None = None,
        batch_size: int = 16,
        max_new_tokens: int = 128,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.name = name
        self.codes = dict(codes or CODES)
        self.batch_size = batch_size
        self.max_new_tokens = max_new_tokens
        self._ids = {}
        for language, code in self.codes.items():
            found = tokenizer.convert_tokens_to_ids(code)
            if found is None or found == tokenizer.unk_token_id:
                raise ProjectError(
                    f"the tokenizer of {name} has no language token {code!r} for {language}: it is no translation "
                    f"model of both languages. {CHECKPOINT} is one."
                )
            self._ids[language] = found

    @classmethod
    def load(
        cls, checkpoint: str = CHECKPOINT, *, weights_dir: Path | None = None, device: str = "cpu", **options: Any
    ) -> NllbTranslator:
        """A translator from a checkpoint: a folder, or owner/name, looked for as every checkpoint here is.

        Raises:
            WeightsNotFound: it is nowhere here and the hub is not reachable; the message names the ways out.
        """
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        from src.hub_models import resolve_checkpoint

        is_folder = Path(checkpoint).is_dir()
        resolved = resolve_checkpoint(
            CHECKPOINT if is_folder else checkpoint,
            checkpoint if is_folder else "pretrained",
            weights_dir=weights_dir,
            bundled=False,
        )
        model = AutoModelForSeq2SeqLM.from_pretrained(resolved.path, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(resolved.path, local_files_only=True)
        return cls(model.to(device), tokenizer, name=checkpoint, **options)

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str]:
        """One translation a text; RefusedTranslation where every decoding gave a degenerate one."""
        return refuse_missing(texts, self.try_translate(texts, source, target), self.name)

    def try_translate(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        """One translation a text, None where every decoding gave a degenerate one. An empty text stays empty."""
        check_languages(source, target)
        answers: list[str | None] = [None if text.strip() else "" for text in texts]
        open_ = [index for index, answer in enumerate(answers) if answer is None]
        for decoding in DECODINGS:
            if not open_:
                break
            found = self._decode([texts[index] for index in open_], source, target, decoding)
            for index, answer in zip(open_, found, strict=True):
                if not degenerate(texts[index], answer, target):
                    answers[index] = answer
            open_ = [index for index in open_ if answers[index] is None]
        return answers

    def _decode(self, texts: list[str], source: str, target: str, decoding: dict[str, Any]) -> list[str]:
        import torch

        self.tokenizer.src_lang = self.codes[source]
        # texts of like length together, so that little is padding; the order is restored at the end
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        answers = [""] * len(texts)
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            encoded = self.tokenizer(
                [texts[index] for index in batch], return_tensors="pt", padding=True, truncation=True
            )
            encoded = {key: value.to(self.model.device) for key, value in encoded.items() if key != "token_type_ids"}
            with torch.inference_mode():
                output = self.model.generate(
                    **encoded,
                    forced_bos_token_id=self._ids[target],
                    max_new_tokens=self.max_new_tokens,
                    do_sample=False,
                    **decoding,
                )
            decoded = self.tokenizer.batch_decode(output, skip_special_tokens=True)
            for index, answer in zip(batch, decoded, strict=True):
                answers[index] = " ".join(answer.split())
        return answers
