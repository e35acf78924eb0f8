"""The nearest classes of a detector to a word: cosine similarity of text embeddings, by CLIP or koCLIP.

The last step for a word that no dictionary gave: whatever it is, it is most like one of the things that the detector
can see. OpenAI's CLIP reads English; koCLIP (Bingsu/clip-vit-base-patch32-ko) reads Korean as well, through the same
class.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from src.errors import ProjectError

if TYPE_CHECKING:
    import numpy as np

CLIP = "openai/clip-vit-base-patch32"
KOCLIP = "Bingsu/clip-vit-base-patch32-ko"


class Embedder(Protocol):
    """Turns texts into vectors that can be compared. `reads_korean` says whether Korean needs no translation first."""

    name: str
    reads_korean: bool

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(N, D) float32, rows of length 1."""
        ...


class ClipEmbedder:
    """Text embeddings of a CLIP model of transformers.

    Args:
        model: an AutoModel with get_text_features.
        tokenizer: its tokenizer.
        name: for reports.
        reads_korean: the model was trained on Korean texts too (koCLIP).
        template: the sentence a name is put into; CLIP was trained on sentences (Radford et al. 2021, section 3.1.4).
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str = CLIP,
        reads_korean: bool = False,
        template: str = "a photo of a {}",
    ) -> None:
        if "{}" not in template:
            raise ProjectError(f"a template needs {{}} where the name goes, found {template!r}")
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.name = name
        self.reads_korean = reads_korean
        self.template = template

    @classmethod
    def load(
        cls,
        checkpoint: str = CLIP,
        *,
        weights_dir: Path | None = None,
        device: str = "cpu",
        reads_korean: bool | None = None,
    ) -> ClipEmbedder:
        """An embedder from a checkpoint: a folder, or owner/name, looked for as every checkpoint here is.

        reads_korean None: true for koCLIP.

        Raises:
            WeightsNotFound: it is nowhere here and the hub is not reachable; the message names the ways out.
        """
        from transformers import AutoModel, AutoTokenizer

        from src.hub_models import resolve_checkpoint

        is_folder = Path(checkpoint).is_dir()
        resolved = resolve_checkpoint(
            CLIP if is_folder else checkpoint,
            checkpoint if is_folder else "pretrained",
            weights_dir=weights_dir,
            bundled=False,
        )
        model = AutoModel.from_pretrained(resolved.path, local_files_only=True).to(device)
        tokenizer = AutoTokenizer.from_pretrained(resolved.path, local_files_only=True)
        korean = checkpoint == KOCLIP if reads_korean is None else reads_korean
        return cls(
            model, tokenizer, name=checkpoint, reads_korean=korean, template="{}" if korean else "a photo of a {}"
        )

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(N, D) float32, rows of length 1."""
        import numpy as np
        import torch

        if not len(texts):
            return np.zeros((0, int(self.model.config.projection_dim)), np.float32)
        sentences = [self.template.format(text) for text in texts]
        encoded = self.tokenizer(sentences, return_tensors="pt", padding=True, truncation=True)
        encoded = {
            key: value.to(self.model.device) for key, value in encoded.items() if key in ("input_ids", "attention_mask")
        }
        with torch.inference_mode():
            features = self.model.get_text_features(**encoded)
        # transformers 5 answers with an output object whose pooler_output is projected, earlier ones with the tensor
        features = getattr(features, "pooler_output", features)
        return torch.nn.functional.normalize(features.float(), dim=-1).cpu().numpy()


def nearest_classes(
    text_embedding: np.ndarray, class_embeddings: np.ndarray, names: Sequence[str], *, top: int = 5
) -> list[tuple[str, float]]:
    """The classes most like a text: (name, cosine similarity from −1 to 1), best first, at most `top`; ties in order.

    Args:
        text_embedding: (D,), any length but zero.
        class_embeddings: (C, D), one row a class.
        names: the C class names.

    Raises:
        ValueError: shapes that do not fit, or a vector that is zero or not finite.
    """
    import numpy as np

    text = np.asarray(text_embedding, np.float64).reshape(-1)
    classes = np.asarray(class_embeddings, np.float64)
    if classes.ndim != 2 or classes.shape != (len(names), len(text)):
        raise ValueError(f"expected {len(names)} class embeddings of length {len(text)}, found shape {classes.shape}")
    lengths = np.linalg.norm(classes, axis=1), np.linalg.norm(text)
    if not (np.isfinite(classes).all() and np.isfinite(text).all() and (lengths[0] > 0).all() and lengths[1] > 0):
        raise ValueError("an embedding is zero or not finite")
    similarity = classes @ text / (lengths[0] * lengths[1])
    order = np.argsort(-similarity, kind="stable")[:top]
    return [(names[index], float(similarity[index])) for index in order]
