"""From a captioner's plain configuration to a task ready to train: options checked, weights found, subwords learnt."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src.captions.soundness import Soundness
from src.data.transforms import PreprocessSpec
from src.errors import ProjectError
from src.tasks.caption import CaptionTask
from src.tasks.create import image_size, split_options
from src.tasks.found_weights import find_weights
from src.tasks.networks import network_options
from src.weights import ResolvedWeights


def create_caption_task(
    model: dict[str, Any],
    *,
    captions: Sequence[Sequence[str]],
    monitor: str,
    weights_dir: Path,
    bundled: bool,
    decoding: dict[str, Any],
    retry: dict[str, Any] | None = None,
    captions_per_image: int | None = None,
    scorer: dict[str, Any] | None = None,
) -> tuple[CaptionTask, ResolvedWeights]:
    """Build the caption task that a model configuration describes.

    A network that takes `tokenizer_json` gets subwords learnt from all training captions, those of the held-out fold
    among them: they fix which pieces words are made of, and nothing of how pictures and words go together.

    Args:
        model: the flat model configuration (conf/model/caption/<name>.yaml with overrides).
        captions: the training images' references.
        monitor: the competition's metric, which picks the best epoch.
        weights_dir: looked in before the hub.
        bundled: whether the competition is a bundled sample, the one case in which `auto` may fall back to `random`.
        decoding, retry: options of `src.captions.decoding.Decoding`.
        scorer: {"checkpoint", "weights"} of an image-text model that scores candidates, or None.
    """
    height, width = image_size(model["image_size"])
    network, preprocess, optimization = split_options(model)
    if "tokenizer_json" in network_options(network["_target_"]):
        from src.models.caption.subwords import train_subwords

        known = [text for texts in captions for text in texts]
        network["tokenizer_json"] = train_subwords(known, vocab_size=network["vocab_size"])
    found = find_weights(network, model["weights"], weights_dir=weights_dir, bundled=bundled)
    spec = PreprocessSpec(
        height=height,
        width=width,
        resize=preprocess["resize"],
        interpolation=preprocess["interpolation"],
        mean=tuple(preprocess["mean"] or found.usual["mean"]),
        std=tuple(preprocess["std"] or found.usual["std"]),
    )
    scorer_options, scorer_initial = _scorer(scorer, weights_dir)
    task = CaptionTask(
        network={**found.options, "image_size": [height, width]},
        preprocess=spec.to_dict(),
        optimization=optimization,
        decoding=decoding,
        retry=retry,
        monitor=monitor,
        soundness=Soundness.of([text for texts in captions for text in texts]).to_dict(),
        captions_per_image=captions_per_image,
        scorer=scorer_options,
        initial=found.initial,
        scorer_initial=scorer_initial,
    )
    if model.get("start_from"):
        from src.tasks.start_from import take_over

        task.taken_over = take_over(task.network, Path(model["start_from"]))
    return task, found.resolved


def _scorer(options: dict[str, Any] | None, weights_dir: Path) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The options of the scorer and what its first construction gets; (None, None) without one."""
    if options is None or not options.get("checkpoint"):
        return None, None
    unknown = set(options) - {"checkpoint", "weights"}
    if unknown:
        raise ProjectError(f"scorer.{min(unknown)} is not an option. Known: checkpoint, weights.")
    from src.models.caption.clip_scores import prepare_scorer

    kept, initial, _ = prepare_scorer(options["checkpoint"], options.get("weights") or "pretrained", weights_dir)
    return {"_target_": "src.models.caption.clip_scores.ClipScorer", **kept}, initial
