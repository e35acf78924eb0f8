"""Which pretrained weights a run uses: the policy, the check of a file, and a command line.

python -m src.weights fetch resnet18 wide_resnet50_2     on a connected machine: into weights/
python -m src.weights fetch owner/name                   a whole checkpoint of the hub: into weights/owner_name/
python -m src.weights list                               what is found where
"""

import argparse
import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from src.atomic import atomic_path
from src.errors import ProjectError, nearest
from src.weight_sources import (
    EXTRAS,
    HUB_FILES,
    Probe,
    download,
    find_in_cache,
    hub_endpoint,
    hub_is_offline,
    source_of,
    torch_checkpoints,
)

WORDS = ("auto", "pretrained", "builtin", "random")
BUILTIN = "filter_bank"
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".pckl")
# Arguments of timm.create_model under which the weights of the plain model still fit.
HARMLESS_ARGUMENTS = frozenset({"pad_type", "drop_rate", "drop_path_rate", "act_layer", "img_size", "output_stride"})
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model")


class WeightsNotFound(ProjectError):
    """Pretrained weights are neither here nor to be had; the message names the ways out."""


@dataclass(frozen=True)
class ResolvedWeights:
    """The decision. `path` is a state-dict file for the kinds file, cache and hub, else None.

    `kind` is "file" (a path or the weights folder), "cache" (the hub's or torch's), "hub" (downloaded now),
    "builtin" (this project's filter bank) or "random". `sha256` is the file's, in hexadecimal.
    """

    kind: str
    path: str | None
    source: str
    sha256: str | None


def resolve_weights(
    backbone: str,
    weights: str,
    *,
    weights_dir: Path | None,
    bundled: bool,
    fallback: Literal["builtin", "random"] = "builtin",
    warn: Callable[[str], Any] = print,
) -> ResolvedWeights:
    """Decide about weights, within 5 seconds when nothing is reachable; may download when something is.

    Args:
        backbone: a timm model name, `torchvision/<name>`, or another name that `source_of` knows.
        weights: `auto`, `pretrained`, `builtin`, `random`, or a path: a state-dict file or a folder with one.
        weights_dir: folder with `<backbone>.safetensors` (.pth, .pt, or `<backbone>/`), looked into first.
        bundled: the data are our own sample; only then may `auto` fall back, by one `warn`.
        fallback: to what: the built-in filters, or random values where a task trains its features itself.

    Raises:
        WeightsNotFound: nothing is here and nothing is reachable; the message names the ways out.
        ProjectError: a path that is missing, cut short or no state dict; an unknown backbone.
    """
    if weights == "random":
        return ResolvedWeights("random", None, "random values, as asked for", None)
    if weights == "builtin" or backbone == BUILTIN:
        return ResolvedWeights("builtin", None, "the built-in filter bank (classical filters)", None)
    if weights not in WORDS:
        path = _given_path(weights)
        kind, source = "file", f"the file {path}"
    else:
        try:
            kind, path, source = _find(backbone, weights_dir)
        except WeightsNotFound:
            if weights != "auto" or not bundled:
                raise
            own_data = f"For your own data: python -m src.weights fetch {backbone}"
            if fallback == "random":
                warn(
                    f"WARNING: no pretrained weights for {backbone} are here; on this bundled sample it is trained "
                    f"from scratch. {own_data}"
                )
                return ResolvedWeights("random", None, f"random values, for want of {backbone}", None)
            warn(
                f"WARNING: no pretrained weights for {backbone} are here; on this bundled sample the "
                f"built-in filter bank takes its place. {own_data}"
            )
            return ResolvedWeights("builtin", None, f"the built-in filter bank, for want of {backbone}", None)
    inspect_weights(path)
    return ResolvedWeights(kind, str(path), source, file_sha256(path))


def _given_path(weights: str) -> Path:
    path = Path(weights).expanduser()
    if path.is_dir():
        if found := _file_in(path):
            return found.resolve()
        raise ProjectError(f"the folder {path} holds no weights: expected {' or '.join(HUB_FILES)} in it.")
    if not path.is_file():
        hint = nearest(weights, WORDS) if not path.suffix and len(path.parts) == 1 else ""
        raise ProjectError(
            f"model.weights={weights}: there is no such file.{hint} "
            f"Give the path of a state dict (.safetensors, .pth, .pt) or one of {', '.join(WORDS)}."
        )
    return path.resolve()


def _file_in(folder: Path) -> Path | None:
    """The weights in a hub-like folder: the usual names, else the only file with a known suffix."""
    named = [folder / name for name in HUB_FILES if (folder / name).is_file()]
    others = sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES and p.is_file())
    return (named or (others if len(others) == 1 else [None]))[0]


def find_in_folder(folder: Path | None, backbone: str) -> Path | None:
    """`<backbone>.safetensors`, .pth, …, or the file in `<backbone>/`, of the weights folder; else None."""
    if folder is None or not Path(folder).is_dir():
        return None
    stem = _stem(backbone)
    for suffix in SUFFIXES:
        if (path := Path(folder) / f"{stem}{suffix}").is_file():
            return path.resolve()
    return _file_in(Path(folder) / stem) if (Path(folder) / stem).is_dir() else None


def _stem(backbone: str) -> str:
    return backbone.replace("/", "_").replace(":", "_")


def _find(backbone: str, weights_dir: Path | None) -> tuple[str, Path, str]:
    if local := find_in_folder(weights_dir, backbone):
        return "file", local, f"{local.name} in the weights folder"
    probe = Probe()
    probe.ask(hub_endpoint())  # answered while timm is being imported
    source = source_of(backbone)
    if cached := find_in_cache(source):
        return "cache", cached, f"{source} in the local cache"
    answering = probe.answering(source.remotes)
    if not answering:
        offline = "offline mode is set (HF_HUB_OFFLINE)"
        state = offline if hub_is_offline() else f"no answer from {' or '.join(source.remotes)}"
        raise WeightsNotFound(_ways_out(backbone, weights_dir, state))
    return "hub", download(source, answering), f"downloaded from {source}"


def refuse_early(backbone: str, weights: str, *, weights_dir: Path | None) -> None:
    """`resolve_weights`' refusal without its imports (torch and timm take longer than the decision).

    Speaks only where the answer is plain: pretrained weights are wanted, the weights folder has none, the caches are
    empty and no server answers. Whatever needs a closer look passes.

    Raises:
        WeightsNotFound: as `resolve_weights` would say some seconds later.
    """
    if weights not in ("auto", "pretrained") or backbone == BUILTIN or find_in_folder(weights_dir, backbone):
        return
    from huggingface_hub import constants

    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "torch"
    caches = (Path(constants.HF_HUB_CACHE), Path(home).expanduser() / "hub" / "checkpoints")
    if any(path.is_file() for cache in caches if cache.is_dir() for path in cache.rglob("*")):
        return
    if not Probe().answering([hub_endpoint()]):
        state = "offline mode is set (HF_HUB_OFFLINE)" if hub_is_offline() else f"no answer from {hub_endpoint()}"
        raise WeightsNotFound(_ways_out(backbone, weights_dir, state))


def has_published_shape(backbone_args: dict[str, Any] | None) -> bool:
    """Whether pretrained weights can fit a timm backbone built with these arguments: none changes widths or depths."""
    return set(backbone_args or {}) <= HARMLESS_ARGUMENTS


def refuse_unpublished(backbone: str, backbone_args: dict[str, Any], *, instead: str = "") -> NoReturn:
    """Raise WeightsNotFound for a backbone of another shape than the published one, with the ways out.

    `instead`: a model of the same task whose backbone has weights.
    """
    changed = ", ".join(sorted(set(backbone_args) - HARMLESS_ARGUMENTS))
    raise WeightsNotFound(
        f"{backbone} with other {changed} has no pretrained weights anywhere. For your own data choose "
        f"{f'model={instead}' if instead else 'another model'}, or train from nothing: model.weights=random."
    )


def _ways_out(backbone: str, weights_dir: Path | None, state: str) -> str:
    stem = _stem(backbone)
    folder = f"not in {weights_dir} ({stem}.safetensors, .pth or .pt), " if weights_dir else ""
    ways = [
        (f"model.weights=/path/to/{stem}.safetensors", "a state dict that you have (.pth, .pt as well)"),
        (f"python -m src.weights fetch {backbone}", "on a connected machine; copy its weights/ folder here"),
        ("model.weights=builtin", "the project's own filter bank, where the model takes one; weaker"),
        ("model.weights=random", "untrained features: for a smoke test, not for a score"),
    ]
    if backbone in EXTRAS or backbone.startswith("torchvision/"):
        del ways[2]
    width = max(len(command) for command, _ in ways)
    lines = "\n".join(f"  {command:{width}}  {what}" for command, what in ways)
    where = f"{folder}not in the local caches, and {state}"
    return f"no pretrained weights for {backbone}: {where}. Ways out:\n{lines}"


def inspect_weights(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a state-dict file's tensors, without their values; nothing in it is executed.

    Raises:
        ProjectError: the file is missing, empty, cut short, a git-LFS pointer, a web page, or no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise ProjectError(f"weights file {path} does not exist.")
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    again = "Copy or download the file again."
    if not start:
        raise ProjectError(f"weights file {path} is empty. {again}")
    if start.startswith(b"version https://git-lfs"):
        raise ProjectError(f"{path} is a git-LFS pointer, not the weights. Run `git lfs pull` where it came from.")
    if start.startswith((b"<!doctype", b"<html")):
        raise ProjectError(f"{path} is a web page, not weights: the download went wrong. {again}")
    try:
        shapes = _read_shapes(path)
    except Exception as error:  # each reader has its own errors for a file cut short or of another kind
        first = (str(error).splitlines() or [""])[0][:200]
        raise ProjectError(
            f"could not read weights from {path}: cut short or no state dict "
            f"({type(error).__name__}: {first}). "
            f"Expected a whole .safetensors, .pth or .pt file. {again}"
        ) from error
    if not shapes:
        raise ProjectError(
            f"{path} holds no state dict, no mapping of names to tensors. Save model.state_dict() instead."
        )
    return shapes


def _read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    import torch

    content = torch.load(path, map_location="meta", weights_only=True)
    if isinstance(content, dict):
        wrapper = next((key for key in _WRAPPERS if isinstance(content.get(key), dict)), None)
        content = content[wrapper] if wrapper else content
    items = content.items() if isinstance(content, dict) else ()
    return {str(name): tuple(value.shape) for name, value in items if isinstance(value, torch.Tensor)}


def file_sha256(path: Path) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(backbone: str, folder: Path) -> Path:
    """Put a backbone's weights into `folder` as `<backbone>.<suffix>`, from the caches or the hub."""
    if local := find_in_folder(folder, backbone):
        return local
    _, found, _ = _find(backbone, None)
    inspect_weights(found)
    target = Path(folder) / f"{_stem(backbone)}{found.suffix if found.suffix in SUFFIXES else '.pth'}"
    with atomic_path(target) as temporary:
        shutil.copyfile(found, temporary)
    return target


def _fetched(name: str, folder: Path) -> list[Path]:
    """The weights files of a backbone or, for owner/name, of a whole checkpoint, now in the folder."""
    if "/" not in name or name.startswith(("torchvision/", "hf-hub:")):
        return [fetch(name, folder)]
    from src.hub_models import fetch_checkpoint, weight_files

    return weight_files(fetch_checkpoint(name, folder))


def list_weights(folder: Path) -> list[tuple[str, str, int]]:
    """(place, file, bytes) of every weights file in the folder, the hub's cache and torch's cache."""
    from huggingface_hub import constants

    places = (
        ("weights folder", Path(folder), "**/*"),
        ("hub cache", Path(constants.HF_HUB_CACHE), "models--*/snapshots/*/*"),
        ("torch cache", torch_checkpoints(), "*"),
    )
    return [
        (place, str(path.relative_to(root)), path.stat().st_size)
        for place, root, pattern in places
        for path in sorted(root.glob(pattern))
        if path.suffix in SUFFIXES and path.is_file()
    ]


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m src.weights", description="Fetch and list pretrained weights.")
    commands = parser.add_subparsers(dest="command", required=True)
    fetching = commands.add_parser("fetch", help="download weights on a connected machine")
    names = f"timm name, torchvision/<name>, owner/name of a hub checkpoint, {', '.join(EXTRAS)}"
    fetching.add_argument("backbone", nargs="+", help=names)
    fetching.add_argument("--to", type=Path, default=Path("weights"), help="folder (default: weights)")
    listing = commands.add_parser("list", help="show the weights that are found, and where")
    listing.add_argument("--in", dest="folder", type=Path, default=Path("weights"), help="the weights folder")
    options = parser.parse_args(arguments)
    try:
        if options.command == "fetch":
            for backbone in options.backbone:
                for path in _fetched(backbone, options.to):
                    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, sha256 {file_sha256(path)}")
            return 0
        rows = list_weights(options.folder)
        for place, name, size in rows:
            print(f"{place:15} {size / 1e6:9.1f} MB  {name}")
        if not rows:
            print(f"no weights found: not in {options.folder}/, nor in the hub's cache, nor in torch's")
    except ProjectError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
