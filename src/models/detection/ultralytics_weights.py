"""Weights of ultralytics' networks: found without downloading, read without running a pickle that nobody trusts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from src.errors import ProjectError
from src.models.detection.ultralytics_import import ultralytics_module
from src.models.features import LoadReport, read_state_dict
from src.weights import WORDS, ResolvedWeights, WeightsNotFound, file_sha256, find_in_folder, inspect_weights


def find_weights(
    architecture: str,
    weights: str,
    *,
    trust_pickle: bool,
    weights_dir: Path | None,
    bundled: bool,
    warn: Callable[[str], Any] = print,
) -> ResolvedWeights:
    """Decide which weights a network starts from: `auto`, `pretrained`, `random`, or a path.

    `auto` and `pretrained` look for <architecture>.safetensors or .pt in the weights folder alone: ultralytics' own
    files are pickles under AGPL-3.0, which the project neither fetches nor runs unasked.

    Raises:
        WeightsNotFound: none are there, and the data are no bundled sample.
        ProjectError: a path that is missing, no state dict, or a pickle without `trust_pickle`.
    """
    if weights == "random":
        return ResolvedWeights("random", None, "random values, as asked for", None)
    path = Path(weights).expanduser() if weights not in WORDS else find_in_folder(weights_dir, architecture)
    if path is None:
        ways = (
            f"put {architecture}.pt from ultralytics into {weights_dir or 'weights'}/ and set model.trust_pickle=true, "
            "or give model.weights=/path/to/a state dict, or model.weights=random"
        )
        if weights == "auto" and bundled:
            warn(f"WARNING: no weights for {architecture}; on this bundled sample it is trained from scratch.")
            return ResolvedWeights("random", None, f"random values, for want of {architecture}", None)
        raise WeightsNotFound(f"no pretrained weights for {architecture} are here. Ways out: {ways}.")
    if not path.is_file():
        raise ProjectError(f"model.weights={weights}: there is no such file. Give a path of .safetensors or .pt.")
    if not (trust_pickle and path.suffix == ".pt"):
        try:
            inspect_weights(path)
        except ProjectError as error:
            if path.suffix != ".pt":
                raise
            raise ProjectError(
                f"{path} is no plain state dict. If ultralytics wrote it, and you trust where it comes from, set "
                f"model.trust_pickle=true: loading runs code in it. ({error})"
            ) from error
    source = f"{path.name} in the weights folder" if weights in WORDS else f"the file {path}"
    return ResolvedWeights("file", str(path.resolve()), source, file_sha256(path))


def class_branches(network: nn.Module) -> list[str]:
    """Beginnings of the names of parameters whose shapes follow the number of classes; empty for another head."""
    head = len(network.model) - 1
    detect = ultralytics_module("nn.modules.head", asked_for="yolov8").Detect
    plain = type(network.model[-1]) in {detect, *(kind for kind in detect.__subclasses__() if "v10" in kind.__name__)}
    branches = [name for name in ("cv3", "one2one_cv3") if getattr(network.model[-1], name, None) is not None]
    return [f"model.{head}.{name}." for name in branches] if plain else []


def read_weights(network: nn.Module, path: Path, *, trust_pickle: bool) -> LoadReport:
    """Fill a network of ultralytics; the class branches of other classes stay random, and the report names them.

    Raises:
        ProjectError: the file is of another architecture.
    """
    state = _unpickled(path) if trust_pickle and path.suffix == ".pt" else read_state_dict(path)
    own = network.state_dict()
    counters = "num_batches_tracked"
    missing = [name for name in own if name not in state and not name.endswith(counters)]
    mismatched = [name for name in own if name in state and state[name].shape != own[name].shape]
    faults = [name for name in (*missing, *mismatched) if not name.startswith(tuple(class_branches(network)))]
    if faults:
        raise ProjectError(
            f"weights {path} do not fit: {len(faults)} tensors are missing or of another shape, {faults[0]} among "
            "them. Set model.architecture to the network that they were saved from."
        )
    filled = {name: state[name].float() for name in own if name in state and name not in mismatched}
    network.load_state_dict(filled, strict=False)  # checked above; the class branches may be absent
    return LoadReport(
        path=str(path),
        loaded=len(filled),
        missing=tuple(missing),
        mismatched=tuple(mismatched),
        unexpected=tuple(name for name in state if name not in own),
    )


def _unpickled(path: Path) -> dict[str, Tensor]:
    """The state dict of a .pt as ultralytics writes it; runs the pickle, as `trust_pickle` asks for."""
    ultralytics_module("nn.tasks", asked_for=path.stem)
    content = torch.load(path, map_location="cpu", weights_only=False)
    module = (content.get("ema") or content.get("model")) if isinstance(content, dict) else content
    if isinstance(module, nn.Module):
        return module.float().state_dict()
    return read_state_dict(path)
