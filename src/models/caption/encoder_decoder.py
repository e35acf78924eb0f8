"""The compact captioner: feature maps of a timm backbone, read by a small Transformer decoder learnt from nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.captions.decoding import Candidate, Decoding
from src.errors import ProjectError
from src.models.caption.search import search
from src.models.caption.subwords import Codec
from src.models.caption.text_decoder import DecoderStepper, TextDecoder
from src.models.caption.visual_tokens import Concepts, VisualTokens, freeze_stages
from src.models.features import FeatureExtractor, LoadReport, default_normalization, feature_layers
from src.models.parameter_groups import grouped


class EncoderDecoder(nn.Module):
    """A captioner for small data and small machines, after Xu et al. 2015 with the decoder of Vaswani et al. 2017.

    The backbone's maps become visual tokens; a pre-norm decoder attends to them and writes subwords learnt from the
    training captions. An image is encoded once, however many captions it has.

    Args:
        image_size: (height, width) of the canvas in pixels; any size works, maps grow with it.
        tokenizer_json: what `subwords.train_subwords` made of the training captions.
        backbone: any timm model that gives feature maps (vision transformers too); backbone_args reach timm.
        strides: pixels from visual token to visual token, one of the backbone's maps each, e.g. [16] or [16, 32].
        width, heads: of the decoder; heads divides width, which is a multiple of 4.
        depth, visual_depth: layers of the decoder, and of self-attention among the visual tokens before it.
        dropout, label_smoothing: shares.
        word_dropout: share of input tokens hidden while training (Bowman et al. 2016): the image must tell them.
        concept_weight: weight of a second loss, which tells a caption's subwords from single cells of the maps (Fang et
            al. 2015, section 3); a backbone with random weights learns to see much sooner by it. 0 = none.
        vocab_size: subwords to learn; for whoever makes `tokenizer_json`, which then holds the true number.
        max_tokens: tokens that are learnt of a caption.
        freeze: stages of the backbone, from the first on, that do not learn; "all" = the whole backbone.
        backbone_lr: factor on the learning rate of a pretrained backbone; without effect on random weights.
        weights: path of the backbone's state dict, or None for random values.

    Attributes: report, the LoadReport of the weights file or None.
    Raises ProjectError for an unknown backbone or stride, weights that do not fit, or sizes that do not go together.
    """

    zero_shot = False
    kind = "gradient"

    def __init__(
        self,
        *,
        image_size: Sequence[int],
        tokenizer_json: str,
        backbone: str = "mobilenetv4_conv_small",
        backbone_args: Mapping[str, Any] | None = None,
        strides: Sequence[int] = (16,),
        width: int = 128,
        heads: int = 4,
        depth: int = 2,
        visual_depth: int = 0,
        dropout: float = 0.1,
        label_smoothing: float = 0.1,
        word_dropout: float = 0.0,
        concept_weight: float = 0.0,
        vocab_size: int = 1000,
        max_tokens: int = 40,
        freeze: int | str = 0,
        backbone_lr: float = 1.0,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        if width % heads or width % 4:
            raise ProjectError(f"model.width={width} must be a multiple of 4 and of model.heads={heads}.")
        if max_tokens < 1:
            raise ProjectError(f"model.max_tokens={max_tokens}: give a whole number of at least 1.")
        self.image_size, self.max_tokens, self.vocab_size = tuple(image_size), max_tokens, vocab_size
        self.label_smoothing, self.word_dropout, self.backbone_lr = label_smoothing, word_dropout, backbone_lr
        self.codec = Codec(tokenizer_json)
        self.backbone = FeatureExtractor(
            backbone=backbone,
            layers=_layers_for(backbone, backbone_args or {}, strides),
            backbone_args=backbone_args,
            weights=weights,
            trainable=freeze != "all",
        )
        self.report: LoadReport | None = self.backbone.report
        self.frozen = freeze_stages(self.backbone, freeze)
        self.visual = VisualTokens(
            channels=self.backbone.channels, width=width, heads=heads, depth=visual_depth, dropout=dropout
        )
        self.decoder = TextDecoder(size=self.codec.size, width=width, depth=depth, heads=heads, dropout=dropout)
        self.concepts = Concepts(self.backbone.channels, self.codec.size) if concept_weight else None
        self.concept_weight = concept_weight
        # In the state dict, so that a rebuilt network knows it too; a float, so that weight averaging can treat it.
        self.register_buffer("pretrained", torch.tensor(float(weights is not None)))

    @classmethod
    def normalization(cls, options: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
        """Mean and standard deviation that the backbone's pretrained weights expect."""
        mean, std = default_normalization(options["backbone"])
        return {"mean": mean, "std": std}

    def train(self, mode: bool = True) -> EncoderDecoder:
        """Training mode; batch norms of frozen stages keep their statistics."""
        super().train(mode)
        for module in self.frozen:
            module.train(False)
        return self

    def encode(self, images: Tensor) -> Tensor:
        """Normalised images B×3×H×W → visual tokens (B, S, width)."""
        return self.visual(self.backbone(images))

    def loss(self, images: Tensor, captions: Sequence[Sequence[str]]) -> dict[str, Tensor]:
        """{"loss_caption"}: mean cross-entropy a token; each image counts alike, whatever its captions' number.

        images: normalised B×3×H×W. captions: one or more an image; an image with none adds nothing.
        """
        tokens, owner = self._tokens(captions, images.device)
        maps = self.backbone(images)
        visual = self.visual(maps)
        if not len(tokens):
            return {"loss_caption": visual.sum() * 0.0}
        losses = {"loss_concept": self._concept_loss(maps, tokens, owner)} if self.concept_weight else {}
        if len(tokens) % len(images) or not owner.equal(rows_alike(len(images), len(tokens), images.device)):
            visual = visual[owner]  # captions are not equally many an image: each gets its own copy
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
        hidden, _ = self.decoder(self._hide(inputs), self.decoder.look(visual))
        known = targets != self.codec.pad
        logits = self.decoder.logits(hidden[known]).float()
        price = F.cross_entropy(logits, targets[known], label_smoothing=self.label_smoothing, reduction="none")
        image = owner[:, None].expand_as(targets)[known]
        count = torch.bincount(image, minlength=len(images))
        return {"loss_caption": (price / count[image]).sum() / (count > 0).sum(), **losses}

    def _concept_loss(self, maps: Sequence[Tensor], tokens: Tensor, owner: Tensor) -> Tensor:
        """Binary cross-entropy of each subword's share among an image's captions, a subword of an image."""
        images, size = len(maps[0]), self.codec.size
        said = torch.zeros(len(tokens), size, device=tokens.device).scatter_(1, tokens[:, 1:], 1.0)
        said[:, [self.codec.pad, self.codec.bos, self.codec.eos]] = 0.0
        captions = torch.bincount(owner, minlength=images)
        share = torch.zeros(images, size, device=tokens.device).index_add_(0, owner, said)
        share /= captions.clamp(min=1)[:, None]
        losses = F.binary_cross_entropy_with_logits(self.concepts(maps), share, reduction="none").sum(dim=1)
        return self.concept_weight * (losses / share.sum(dim=1).clamp(min=1.0))[captions > 0].mean()

    def _tokens(self, captions: Sequence[Sequence[str]], device: torch.device) -> tuple[Tensor, Tensor]:
        """All captions as (N, 1 + T) ids, begun, ended and padded, and the image of each (N,)."""
        codec = self.codec
        rows, owner = [], []
        for image, group in enumerate(captions):
            for text in group:
                ids = codec.encode(text, self.max_tokens + 1)
                end = [codec.eos] if len(ids) <= self.max_tokens else []  # one that is cut does not end there
                rows.append([codec.bos, *ids[: self.max_tokens], *end])
                owner.append(image)
        longest = max((len(row) for row in rows), default=1)
        padded = [row + [codec.pad] * (longest - len(row)) for row in rows]
        return torch.tensor(padded, device=device, dtype=torch.long), torch.tensor(
            owner, device=device, dtype=torch.long
        )

    def _hide(self, tokens: Tensor) -> Tensor:
        if not self.training or not self.word_dropout:
            return tokens
        hidden = torch.rand(tokens.shape, device=tokens.device) < self.word_dropout
        hidden &= tokens != self.codec.bos
        return tokens.masked_fill(hidden, self.codec.unk)

    def generate(
        self, images: Tensor, decoding: Decoding, *, seeds: Sequence[int] | None = None
    ) -> list[list[Candidate]]:
        """1 to `decoding.candidates` different captions an image, best first; scores: mean log-probability a token.

        images: normalised B×3×H×W. seeds: one an image, for nucleus sampling.
        """
        training = self.training
        self.eval()
        try:
            with torch.inference_mode():
                stepper = DecoderStepper(
                    self.decoder,
                    self.encode(images),
                    begin=self.codec.bos,
                    end=self.codec.eos,
                    banned=(self.codec.pad, self.codec.bos, self.codec.unk),
                )
                return search(stepper, decoding, decode=self.codec.decode, seeds=seeds)
        finally:
            self.train(training)

    def adopt_embeddings(self, rows: Tensor, tokenizer_json: str) -> int:
        """Take over the embeddings of the tokens that another vocabulary shares with this one; returns how many.

        rows: (tokens of the other vocabulary, width); tokenizer_json: that vocabulary.
        """
        own, other = self.codec.vocabulary(), Codec(tokenizer_json).vocabulary()
        shared = [token for token in own if token in other]
        if rows.shape[1] != self.decoder.embedding.embedding_dim or not shared:
            return 0
        with torch.no_grad():
            target = torch.tensor([own[token] for token in shared])
            self.decoder.embedding.weight[target] = rows[torch.tensor([other[token] for token in shared])]
        return len(shared)

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Optimiser groups: a pretrained backbone learns at `lr · backbone_lr`; biases and norms do not decay."""
        return grouped(
            self,
            lr=lr,
            weight_decay=weight_decay,
            factor=self.backbone_lr if self.pretrained > 0.5 else 1.0,
            pretrained=lambda name, _: name.startswith("backbone."),
        )


def rows_alike(images: int, rows: int, device: torch.device) -> Tensor:
    """The image of each row when every image has equally many."""
    return torch.arange(images, device=device).repeat_interleave(rows // images)


def _layers_for(backbone: str, args: Mapping[str, Any], strides: Sequence[int]) -> list[str]:
    """The deepest layer of each stride."""
    deepest = {stride: name for name, stride in feature_layers(backbone, args)}
    strides = list(strides)
    missing = [stride for stride in strides if stride not in deepest]
    if not strides or missing or len(set(strides)) < len(strides):
        raise ProjectError(
            f"model.strides={strides}: give one or more of {backbone}'s strides, each once: "
            f"{', '.join(map(str, sorted(deepest)))}."
        )
    return [deepest[stride] for stride in strides]
