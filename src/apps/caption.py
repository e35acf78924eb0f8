"""Korean captions of pictures without a competition and without training.

python -m src.apps.caption images=photos/                                  koCLIP names what it sees
python -m src.apps.caption images=photos/ model.bank=my_sentences.txt      … or chooses among your sentences
python -m src.apps.caption images=photos/ model=blip_translated out=captions.csv     BLIP in English, then a translator
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.captions.decoding import Candidate, Decoding
from src.captions.degenerate import problems_of
from src.errors import ProjectError, nearest

MODELS = Path(__file__).resolve().parents[2] / "conf" / "model" / "caption"
ZERO_SHOT = ("CaptionBank", "TranslatedCaptioner")  # classes that answer untrained
WITHOUT_TRAINING = {"bank": "templates"}  # what a model that would learn from training captions uses instead
OPTIONS: dict[str, Any] = {
    "images": None,
    "model": "koclip_bank",
    "weights": "auto",
    "weights_dir": "weights",
    "candidates": 1,
    "batch_size": 8,
    "out": None,
}
USAGE = """
usage: python -m src.apps.caption images=<folder|image> [key=value ...]

  images=<…>            folder (searched below), or one image
  model=koclip_bank     koclip_bank | clip_bank | blip_translated
  weights=auto          auto | pretrained | a checkpoint's folder
  weights_dir=weights   looked into before the hub
  candidates=1          captions of a picture, best first
  batch_size=8          pictures at once
  out=<file>.csv        also written there: id, rank, caption, score
  model.<option>=…      an option of conf/model/caption/<model>.yaml: model.bank=sentences.txt "model.names=[사과, 책]"
  decoding.<option>=…   how blip_translated writes: decoding.beams=3
"""


@dataclass(frozen=True)
class Captioned:
    """A picture and its candidates, best first; `problem` says why there are none."""

    id: str
    candidates: list[Candidate]
    problem: str = ""


class ZeroShotCaptioner:
    """A captioner that needs no training, ready for any picture.

    Args:
        network: of `src.models.caption`, zero-shot, in eval mode.
        spec: the PreprocessSpec of its canvas.
    """

    def __init__(self, network: Any, spec: Any) -> None:
        self.network, self.spec = network, spec

    def caption(self, images: Sequence[Any], decoding: Decoding) -> list[list[Candidate]]:
        """Sound Korean candidates of canvases (height×width×3 uint8 RGB, as `spec` says), best first; maybe none."""
        import numpy as np
        import torch

        device = next(self.network.parameters()).device
        batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(device)
        found = self.network.generate(self.spec.normalize(batch), decoding, seeds=list(range(len(images))))
        return [[each for each in candidates if not problems_of(each.text)] for candidates in found]


def load_captioner(
    model: str = "koclip_bank",
    *,
    weights: str = "auto",
    weights_dir: Path | None = None,
    device: str | None = None,
    changes: Mapping[str, Any] | None = None,
) -> ZeroShotCaptioner:
    """The captioner of conf/model/caption/<model>.yaml with its pretrained weights.

    Args:
        weights: auto | pretrained | random | a checkpoint's folder.
        device: where it runs; None is a GPU where there is one.
        changes: keys of the YAML that are replaced.

    Raises:
        ProjectError: a model that has to be trained, an unknown option, or a checkpoint that is not here (with the ways
            out).
    """
    import yaml

    shipped = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in MODELS.glob("*.yaml")}
    known = sorted(name for name, options in shipped.items() if options["_target_"].endswith(ZERO_SHOT))
    if model not in known:
        raise ProjectError(
            f"model={model}: choose one that needs no training: {', '.join(known)}.{nearest(model, known)} The others "
            "are trained first: python train.py task=caption."
        )
    options = shipped[model]
    for key in changes or {}:
        if key not in options or key in ("_target_", "name", "start_from", "weights"):
            raise ProjectError(f"model.{key}: {model} has no such option.{nearest(key, options)}")
    if options.get("bank") == "training":
        options |= WITHOUT_TRAINING
    if options.get("seed") is not None:
        options["seed"] = 0  # the file refers to a run's seed
    options |= dict(changes or {})
    if options.get("bank") == "training":
        raise ProjectError("model.bank=training: here is no training set. Give templates, or a file of sentences.")

    import torch

    from src.data.transforms import PreprocessSpec
    from src.hub_models import prepare_network
    from src.tasks.create import image_size, split_options
    from src.tasks.networks import build_network, network_class

    network, preprocess, _ = split_options(options)
    height, width = image_size(options["image_size"])
    prepared = prepare_network(
        network_class(network["_target_"]),
        network,
        weights=weights,
        weights_dir=weights_dir,
        bundled=False,
        class_names=[],
    )
    usual = network_class(network["_target_"]).normalization(prepared.options)
    spec = PreprocessSpec(
        height=height,
        width=width,
        resize=preprocess["resize"],
        interpolation=preprocess["interpolation"],
        mean=tuple(preprocess["mean"] or usual["mean"]),
        std=tuple(preprocess["std"] or usual["std"]),
    )
    built = build_network({**prepared.options, "image_size": [height, width]}, initial=prepared.initial)
    return ZeroShotCaptioner(built.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval(), spec)


def find_images(images: str) -> list[tuple[str, str]]:
    """(name below the folder, path) of the images of a folder, or of one file.

    Raises:
        ProjectError: there are none.
    """
    from src.listing import IMAGE_SUFFIXES, Tree, is_image

    path = Path(images).expanduser()
    found = list(Tree(path.resolve()).images()) if path.is_dir() else []
    if path.is_file() and is_image(path.name):
        found = [(path.name, str(path))]
    if not found:
        raise ProjectError(
            f"images={images}: no image there. Give a folder or an image; known suffixes: {', '.join(IMAGE_SUFFIXES)}."
        )
    return found


def caption_images(
    captioner: ZeroShotCaptioner, images: Sequence[tuple[str, str]], decoding: Decoding, *, batch_size: int = 8
) -> Iterator[Captioned]:
    """The candidates of each picture, in order; a file that cannot be read has a problem instead."""
    from src.data.images import ImageError, read_resized

    for start in range(0, len(images), batch_size):
        part = images[start : start + batch_size]
        pixels, problems = {}, {}
        for name, path in part:
            try:
                pixels[name] = read_resized(path, captioner.spec)[0]
            except ImageError as error:
                problems[name] = str(error)
        answers = dict(zip(pixels, captioner.caption(list(pixels.values()), decoding), strict=True)) if pixels else {}
        for name, _ in part:
            candidates = answers.get(name, [])
            yield Captioned(name, candidates, problems.get(name, "" if candidates else "no sound caption was found"))


def read_arguments(arguments: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """`key=value` arguments as (options, changes to the model, changes to the decoding).

    Raises:
        ProjectError: an argument without =, an unknown key, or a number that is none.
    """
    import yaml

    options, model, decoding = dict(OPTIONS), {}, {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals:
            raise ProjectError(f"{argument!r} is no key=value. Example: images=photos/ model=koclip_bank")
        section, dot, name = key.partition(".")
        if dot and section in ("model", "decoding"):
            (model if section == "model" else decoding)[name] = yaml.safe_load(text)
        elif key in OPTIONS:
            options[key] = yaml.safe_load(text) if isinstance(OPTIONS[key], int) else text
        else:
            raise ProjectError(f"{key} is not an option.{nearest(key, OPTIONS)} Known: {', '.join(OPTIONS)}, model.….")
    for key in ("candidates", "batch_size"):
        if isinstance(options[key], bool) or not isinstance(options[key], int) or options[key] < 1:
            raise ProjectError(f"{key}={options[key]}: give a whole number of at least 1.")
    if options["images"] is None:
        raise ProjectError("images=<folder or image> is missing: say which pictures are captioned.")
    return options, model, decoding


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 0 all captioned, 1 an error or a picture without a caption."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or any(argument in ("-h", "--help") for argument in arguments):
        print(USAGE.strip())
        return 0 if arguments else 1
    try:
        return _run(*read_arguments(arguments))
    except ProjectError as error:
        print("error: " + str(error).replace("model.weights=", "weights="), file=sys.stderr)
        return 1


def _run(options: dict[str, Any], model: dict[str, Any], decoding: dict[str, Any]) -> int:
    images = find_images(options["images"])
    wanted = Decoding.from_dict({"candidates": options["candidates"], **decoding})
    captioner = load_captioner(
        options["model"], weights=options["weights"], weights_dir=Path(options["weights_dir"]), changes=model
    )
    rows, failed = [], 0
    for each in caption_images(captioner, images, wanted, batch_size=options["batch_size"]):
        failed += bool(each.problem)
        if each.problem:
            print(f"{each.id}: {each.problem}", file=sys.stderr)
        for rank, candidate in enumerate(each.candidates, start=1):
            print(f"{each.id}: {candidate.text}")
            rows.append((each.id, rank, candidate.text, candidate.score))
    if options["out"] is not None:
        _write(Path(options["out"]), rows)
    return int(failed > 0)


def _write(path: Path, rows: Sequence[tuple[str, int, str, float]]) -> None:
    """A CSV of UTF-8 that spreadsheets read as such."""
    import csv

    from src.atomic import atomic_path

    with atomic_path(path) as part, Path(part).open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "rank", "caption", "score"])
        writer.writerows((name, rank, text, f"{score:.6g}") for name, rank, text, score in rows)
    print(f"written: {path}")


if __name__ == "__main__":
    sys.exit(main())
