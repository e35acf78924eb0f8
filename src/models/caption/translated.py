"""Korean captions without training: an English captioner, a translator, and a look at what came out."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from src.captions.cleaning import clean_caption
from src.captions.decoding import Candidate, Decoding
from src.captions.degenerate import problems_of
from src.hub_models import resolve_checkpoint
from src.models.caption.image_text import ImageTextCaptioner
from src.translation import CachedTranslator, NllbTranslator, PapagoTranslator, Translator
from src.translation.nllb import CHECKPOINT as NLLB
from src.translation.papago import ID_VARIABLE, SECRET_VARIABLE
from src.weights import ResolvedWeights

AUTO, PAPAGO = "auto", "papago"
_FOR_CAPTIONER = ("checkpoint", "config", "prompt", "image_options", "special_tokens", "attention")


class TranslatedCaptioner(nn.Module):
    """English candidates of a captioner, each translated into Korean; none that failed is kept, and no English.

    A picture without a sound Korean candidate is captioned again, first by a beam search that forbids repetition, then
    by sampling. The translator has further decodings of its own (`NllbTranslator`). A candidate's score is that of its
    English text. Where all of it fails, the answer is one empty text.

    Args:
        image_size: (height, width) of the canvas in pixels.
        checkpoint, config, prompt, image_options, special_tokens, attention: the English captioner, see
            ImageTextCaptioner.
        translator: auto (Papago where its keys are in the environment, else NLLB) | papago | a checkpoint of NLLB's
            kind, by its name on the hub or its folder. `prepare` turns auto into what it found.
        translations: file that keeps translations, so that a sentence is translated once; null = none.
        image_mean, image_std, files: filled by `prepare`, see ImageTextCaptioner.
        translator_folder: filled by `prepare`: where the translator's checkpoint lies. The translator is no part of the
            state dict: it is loaded from there when first needed, elsewhere by its name.
        weights: the English captioner's folder; None leaves random values, to be filled by a state dict.

    Attributes: report, the LoadReport of the captioner or None.
    """

    zero_shot = True
    kind = "gradient"
    filled_in = ("files", "image_mean", "image_std", "translator_folder")

    def __init__(
        self,
        *,
        image_size: Sequence[int],
        checkpoint: str = "Salesforce/blip-image-captioning-base",
        config: Mapping[str, Any] | None = None,
        prompt: str | None = None,
        image_options: Mapping[str, Any] | None = None,
        special_tokens: Mapping[str, str] | None = None,
        attention: str = "sdpa",
        translator: str = AUTO,
        translations: str | None = None,
        image_mean: Sequence[float] | None = None,
        image_std: Sequence[float] | None = None,
        files: Mapping[str, str] | None = None,
        translator_folder: str | None = None,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.captioner = ImageTextCaptioner(
            image_size=image_size,
            checkpoint=checkpoint,
            config=config,
            prompt=prompt,
            image_options=image_options,
            special_tokens=special_tokens,
            attention=attention,
            image_mean=image_mean,
            image_std=image_std,
            files=files,
            weights=weights,
        )
        self.captioner.requires_grad_(False)
        self.report = self.captioner.report
        self.image_size = self.captioner.image_size
        self.translator_name, self.translator_folder = translator, translator_folder
        self.translations = translations
        self.translator: Translator | None = None

    # -- the hub ----------------------------------------------------------------------------------------------------
    @classmethod
    def checkpoints(cls, options: Mapping[str, Any], weights: str) -> dict[str, tuple[str, str]]:
        """What is looked for: {argument: (repository, weights word or path)}; of a service nothing."""
        name = _chosen(str(options["translator"]))
        own = ImageTextCaptioner.checkpoints(options, weights)
        return own if name == PAPAGO else {**own, "translator": _repository(name)}

    @classmethod
    def find(
        cls,
        options: Mapping[str, Any],
        weights: str,
        *,
        weights_dir: Path | None,
        bundled: bool,
        warn: Callable[[str], Any] = print,
    ) -> dict[str, ResolvedWeights]:
        """The captioner's folders, and the translator's as `translator` unless that is a service.

        Raises:
            WeightsNotFound: a checkpoint is not here and the hub is not reachable; the message names the ways out.
        """
        found = ImageTextCaptioner.find(options, weights, weights_dir=weights_dir, bundled=bundled, warn=warn)
        name = _chosen(str(options["translator"]))
        if name == PAPAGO:
            PapagoTranslator()  # refuses missing keys now rather than after the pictures were captioned
        else:
            found["translator"] = _find_translator(name, weights_dir, warn)
        return found

    @classmethod
    def prepare(
        cls, options: Mapping[str, Any], folders: Mapping[str, str | None], class_names: Sequence[str] = ()
    ) -> dict[str, Any]:
        """The options with all that rebuilding needs; the translator is named, not auto."""
        asked = {name: options[name] for name in (*_FOR_CAPTIONER, "files") if name in options}
        completed = ImageTextCaptioner.prepare(asked, folders)
        found = {"translator": _chosen(str(options["translator"])), "translator_folder": folders.get("translator")}
        return {**options, **completed, **found}

    @staticmethod
    def first_values(options: Mapping[str, Any], folders: Mapping[str, str | None]) -> dict[str, Any]:
        """What the first construction alone gets."""
        return {"weights": folders.get("weights")}

    @staticmethod
    def normalization(options: Mapping[str, Any]) -> dict[str, Sequence[float]]:
        """`mean` and `std` (RGB, unit range) of prepared options."""
        return ImageTextCaptioner.normalization(options)

    # -- captions ---------------------------------------------------------------------------------------------------
    @torch.inference_mode()
    def generate(
        self, images: Tensor, decoding: Decoding, *, seeds: Sequence[int] | None = None
    ) -> list[list[Candidate]]:
        """Korean candidates of normalised images B×3×H×W, best first; [Candidate("", 0.0)] where everything failed.

        Raises:
            ProjectError: the translator cannot be loaded or reached.
        """
        found: list[list[Candidate]] = [[] for _ in images]
        missing = list(range(len(images)))
        for attempt in (decoding, *other_decodings(decoding)):
            if not missing:
                break
            chosen = None if seeds is None else [seeds[index] for index in missing]
            english = self.captioner.generate(images[missing], attempt, seeds=chosen)
            for index, candidates in zip(missing, self._translated(english), strict=True):
                found[index] = candidates
            missing = [index for index in missing if not found[index]]
        return [candidates or [Candidate("", 0.0)] for candidates in found]

    def _translated(self, groups: Sequence[Sequence[Candidate]]) -> list[list[Candidate]]:
        """The sound Korean candidates of each group of English ones, different and in their order."""
        prompts = [[(as_sentence(each.text), each.score) for each in group] for group in groups]
        sound = list(dict.fromkeys(t for group in prompts for t, _ in group if t and not problems_of(t, korean=False)))
        if self.translator is None:
            self.translator = self._load_translator()
        answers = self.translator.try_translate(sound, "en", "ko") if sound else []
        korean = {text: tidy(answer) for text, answer in zip(sound, answers, strict=True) if answer is not None}
        kept: list[list[Candidate]] = []
        for group in prompts:
            best: dict[str, Candidate] = {}
            for text, score in group:
                if text in korean and not problems_of(korean[text]):
                    best.setdefault(korean[text], Candidate(korean[text], score))
            kept.append(list(best.values()))
        return kept

    def _load_translator(self) -> Translator:
        """The translator, on the captioner's device, behind its cache."""
        loaded: Translator
        if self.translator_name == PAPAGO:
            loaded = PapagoTranslator()
        else:
            folder = self.translator_folder
            if folder is None or not Path(folder).is_dir():
                folder = _find_translator(self.translator_name, Path("weights"), print).path
            device = next(self.captioner.parameters()).device
            loaded = NllbTranslator.load(str(folder), device=str(device))
            loaded.name = self.translator_name  # caches go by the network's name, wherever it lies
        return loaded if self.translations is None else CachedTranslator(loaded, self.translations)


def _chosen(translator: str) -> str:
    """papago or a checkpoint's name, for auto by what the environment has."""
    if translator != AUTO:
        return translator
    return PAPAGO if all(os.environ.get(name, "").strip() for name in (ID_VARIABLE, SECRET_VARIABLE)) else NLLB


def _repository(translator: str) -> tuple[str, str]:
    """(repository, weights word or folder) of a translator's checkpoint."""
    folder = Path(translator).expanduser()
    return (NLLB, str(folder)) if folder.is_dir() else (translator, "pretrained")


def _find_translator(name: str, weights_dir: Path | None, warn: Callable[[str], Any]) -> ResolvedWeights:
    repo, word = _repository(name)
    return resolve_checkpoint(repo, word, weights_dir=weights_dir, bundled=False, warn=warn)


def other_decodings(decoding: Decoding) -> tuple[Decoding, Decoding]:
    """What is tried when a decoding gave nothing sound: beams that may not repeat themselves, then samples."""
    beams = max(decoding.beams, 3)
    strict = replace(decoding, method="beam", beams=beams, no_repeat_ngram=2, repetition_penalty=1.3)
    return strict, replace(strict, method="nucleus", top_p=0.9, temperature=1.0, seed=decoding.seed + 1)


def as_sentence(text: str) -> str:
    """An English caption as translators expect one: a capital letter at the start, a full stop at the end.

    BLIP's large checkpoint is known to write "arafed" where an article belongs: it becomes "a".
    """
    text = re.sub(r"\b(?:an?\s+)?araff?ed\b", "a", " ".join(text.split()), flags=re.IGNORECASE)
    text = text.strip()
    if text and text[-1].isalnum():
        text += "."
    return text[:1].upper() + text[1:]


def tidy(text: str) -> str:
    """A translation without odd characters, spaces before punctuation, or marks that stand twice."""
    text, _ = clean_caption(text)
    text = re.sub(r"\s+([.,!?])", r"\1", text)
    return re.sub(r"([.,!?])\1+", r"\1", text)
