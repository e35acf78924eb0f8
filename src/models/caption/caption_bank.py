"""The sentence of a bank that fits a picture best, by CLIP, koCLIP or SigLIP: nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from src.captions.decoding import Candidate, Decoding
from src.errors import ProjectError
from src.models.anomaly.maps import SizedByCheckpoint
from src.models.anomaly.neighbors import full_precision
from src.models.caption.bank_sentences import TEMPLATES, TRAINING, check_bank, fill_bank, read_bank
from src.models.caption.constant import sample
from src.models.caption.image_text_encoder import ImageTextEncoder, encoder_options
from src.models.caption.text_memory import TextMemory

KOCLIP = "Bingsu/clip-vit-base-patch32-ko"


class CaptionBank(SizedByCheckpoint):
    """Zero-shot choice among sentences (Radford et al. 2021, arXiv:2103.00020, section 3.1).

    A candidate's score is the cosine similarity of picture and sentence under the image-text model, from -1 to 1.

    Args:
        image_size: (height, width) of the canvas in pixels.
        checkpoint: the hub repository of the image-text model: CLIP, MetaCLIP 2, SigLIP (SigLIP 2 of one picture size),
            or a vision-text dual encoder. OpenAI's CLIP reads no Korean: see `prompt`.
        config: the full plain configuration, as `prepare` writes it. In a YAML: keys that replace the checkpoint's.
        bank: "training" (the training captions, seen in one pass), "templates", or the path of a text file with one
            sentence a line. The last two need no training set at all.
        templates: for bank=templates: sentences with {} where a name stands, see `bank_sentences.fill`.
        names: Korean names for the templates; null = the lexicon's.
        prompt: an English template that the model reads in place of the sentences ("a photo of a {}"); null = none.
        most: training captions kept at most; of more different ones, a sample drawn by `seed`.
        seed: of that sample.
        files, image_mean, image_std: filled by `prepare`: tokenizer files as texts, the pictures' normalisation.
        weights: the checkpoint's folder; None leaves random values, to be filled by a state dict.
        sentences, readings: what a fixed bank holds and what is read in its place; None when rebuilding, as the state
            dict has them.

    Attributes: zero_shot, False with the training captions, else True: then `collect` and `finish` are not needed;
    report, the LoadReport of the checkpoint or None.
    Raises ProjectError for unprepared or unfit options, a training set without captions, when asked before `finish`.
    """

    zero_shot = True  # of the class: an untrained image-text model would answer noise, so none is taken unasked
    kind = "memory"
    fitted = ("embeddings",)
    filled_in = ("files", "image_mean", "image_std", "sentences", "readings")

    def __init__(
        self,
        *,
        image_size: Sequence[int],
        checkpoint: str = KOCLIP,
        config: Mapping[str, Any] | None = None,
        bank: str = TRAINING,
        templates: Sequence[str] = ("이것은 {}(이)다.",),
        names: Sequence[str] | None = None,
        prompt: str | None = None,
        most: int = 20000,
        seed: int = 0,
        files: Mapping[str, str] | None = None,
        image_mean: Sequence[float] | None = None,
        image_std: Sequence[float] | None = None,
        weights: str | None = None,
        sentences: Sequence[str] | None = None,
        readings: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        if most < 1:
            raise ProjectError(f"model.most={most}: give at least 1 caption.")
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self.bank, self.most, self.seed = bank, most, seed
        self.zero_shot = bank != TRAINING
        self.encoder = ImageTextEncoder(config=config, files=files, weights=weights)
        self.report = self.encoder.report
        self.sentences, self.readings = TextMemory(sentences or ()), TextMemory(readings or ())
        self.register_buffer("embeddings", torch.zeros(0, 0))
        self._collected: dict[str, None] = {}

    # -- the hub ----------------------------------------------------------------------------------------------------
    @classmethod
    def checkpoints(cls, options: Mapping[str, Any], weights: str) -> dict[str, tuple[str, str]]:
        """Constructor arguments that are checkpoints' folders: {argument: (repository, weights word or path)}."""
        check_bank(str(options["bank"]))  # before anything is fetched
        return {"weights": (str(options["checkpoint"]), weights)}

    @classmethod
    def prepare(
        cls, options: Mapping[str, Any], folders: Mapping[str, str | None], class_names: Sequence[str] = ()
    ) -> dict[str, Any]:
        """The options with all that rebuilding needs; class names have no part in captions."""
        return {**options, **encoder_options(folders.get("weights"), options.get("config"))}

    @staticmethod
    def first_values(options: Mapping[str, Any], folders: Mapping[str, str | None]) -> dict[str, Any]:
        """What the first construction alone gets: the weights' folder, and the sentences of a fixed bank."""
        values: dict[str, Any] = {"weights": folders.get("weights")}
        bank, prompt = str(options["bank"]), options.get("prompt")
        if prompt is not None and bank != TEMPLATES:
            raise ProjectError(f"model.prompt belongs to model.bank={TEMPLATES}, not to {bank}: set model.prompt=null.")
        if bank == TEMPLATES:
            values["sentences"], values["readings"] = fill_bank(options["templates"], options.get("names"), prompt)
        elif bank != TRAINING:
            values["sentences"] = values["readings"] = read_bank(bank)
        return values

    @staticmethod
    def normalization(options: Mapping[str, Any]) -> dict[str, Sequence[float]]:
        """`mean` and `std` (RGB, unit range) of prepared options."""
        return {"mean": options["image_mean"], "std": options["image_std"]}

    # -- the bank ---------------------------------------------------------------------------------------------------
    def collect(self, images: Tensor, captions: Sequence[Sequence[str]], ids: Sequence[str]) -> None:
        """Remember the captions of a training batch; a fixed bank stays as it is."""
        if not self.zero_shot:
            self._collected |= dict.fromkeys(text for texts in captions for text in texts if text.strip())

    def finish(self) -> None:
        """Embed the sentences, once."""
        if not self.zero_shot:
            texts, self._collected = sample(list(self._collected), self.most, seed=self.seed), {}
            if not texts:
                raise ProjectError("the training images have no captions: the bank has no sentence to choose.")
            self.sentences.set(texts)
            self.readings.set(texts)
        self._embed()

    def _embed(self) -> None:
        with torch.inference_mode(False), torch.no_grad():  # a buffer that outlives the call that first needs it
            self.embeddings = self.encoder.embed_texts(self.readings.texts())

    @torch.no_grad()
    def generate(
        self, images: Tensor, decoding: Decoding, *, seeds: Sequence[int] | None = None
    ) -> list[list[Candidate]]:
        """Candidates of normalised images B×3×H×W, best first; of the decoding only `candidates` is heeded."""
        if not len(self.sentences):
            raise ProjectError("the caption bank is empty: train it, or load a checkpoint.")
        if len(self.embeddings) != len(self.sentences):
            self._embed()
        pictures = self.encoder.embed_images(images)
        with full_precision(pictures.device):
            similarity = pictures @ self.embeddings.T
        return [self._best(row, decoding.candidates) for row in similarity.cpu()]

    def _best(self, similarity: Tensor, count: int) -> list[Candidate]:
        """The best different sentences; one sentence may stand for several readings (배: a pear, a ship)."""
        texts = self.sentences.texts()
        found: dict[str, float] = {}
        for index in similarity.argsort(descending=True, stable=True).tolist():
            found.setdefault(texts[index], float(similarity[index]))
            if len(found) == count:
                break
        return [Candidate(text, score) for text, score in found.items()]
