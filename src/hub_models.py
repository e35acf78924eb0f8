"""Whole checkpoints of the hub (configuration, weights, tokenizer): found, fetched, and built through transformers.

A checkpoint is a folder with `config.json` and weights. It is looked for in this order: the path given, the weights
folder, the hub's local cache, the hub. A network that was built from one keeps its configuration as a plain dict, so
that it is rebuilt from that dict and a state dict alone: without the folder, the tokenizer or the hub.

python -m src.weights fetch IDEA-Research/grounding-dino-tiny     on a connected machine: into weights/
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.errors import ProjectError, nearest
from src.hub_configs import CONFIG_FILE, build_config, build_model, load_config, part_config, plain_config
from src.weight_sources import Probe, hub_endpoint, hub_is_offline
from src.weights import ResolvedWeights, WeightsNotFound, file_sha256, inspect_weights, resolve_weights

__all__ = [
    "Prepared",
    "build_config",
    "build_model",
    "checkpoint_folder",
    "fetch_checkpoint",
    "load_config",
    "part_config",
    "plain_config",
    "prepare_network",
    "refuse_checkpoint_early",
    "resolve_checkpoint",
    "weight_files",
]

WORDS = ("auto", "pretrained", "random")
_SINGLE = ("model.safetensors", "pytorch_model.bin")
_INDEXED = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_FOLDERS = ("qformer_tokenizer",)  # inside a checkpoint, of small text files: InstructBLIP's second tokenizer


def resolve_checkpoint(
    repo: str,
    weights: str,
    *,
    weights_dir: Path | None,
    bundled: bool,
    warn: Callable[[str], Any] = print,
) -> ResolvedWeights:
    """Decide which checkpoint a network starts from; within 5 seconds when nothing is reachable, may download else.

    The answer's `path` is the checkpoint's folder (None for the kind "random"); its `sha256` is that of the weights
    file, or of the shards' own hashes in the order of their names.

    Args:
        repo: the repository on the hub, `owner/name`, with `@revision` where one is wanted.
        weights: `auto`, `pretrained`, `random`, or a path: a checkpoint's folder, or the weights file inside one.
        weights_dir: folder with `<owner>_<name>/` or `<name>/`, looked into before the cache and the hub.
        bundled: only where this is true may `auto` fall back to random values, by one `warn`. Pass False for a
            network that nobody trains before it predicts: its answers would be noise.

    Raises:
        WeightsNotFound: nothing is here and nothing is reachable; the message names the ways out.
        ProjectError: a path that is no checkpoint, weights that are cut short, a download that failed.
    """
    _check_repo(repo)
    if weights == "random":
        return ResolvedWeights("random", None, "random values, as asked for", None)
    if weights not in WORDS:
        folder = _given_folder(weights)
        kind, source = "file", f"the checkpoint {folder}"
    else:
        try:
            kind, folder, source = _find(repo, weights_dir)
        except WeightsNotFound:
            if weights != "auto" or not bundled:
                raise
            warn(
                f"WARNING: no checkpoint of {repo} is here; on this bundled sample the network starts from random "
                f"values instead. For your own data: python -m src.weights fetch {repo}"
            )
            return ResolvedWeights("random", None, f"random values, for want of {repo}", None)
    files = weight_files(folder)
    for file in files:
        inspect_weights(file)
    return ResolvedWeights(kind, str(folder), source, _sha256(files))


def refuse_checkpoint_early(repo: str, weights: str, *, weights_dir: Path | None) -> None:
    """`resolve_checkpoint`'s refusal before anything heavy is imported; whatever needs a closer look passes.

    Raises:
        WeightsNotFound: a checkpoint is wanted, none is here, and the hub does not answer.
        ProjectError: `repo` is no owner/name.
    """
    _check_repo(repo)
    if weights not in ("auto", "pretrained") or checkpoint_folder(repo, weights_dir):
        return
    if not Probe().answering([hub_endpoint()]):
        raise WeightsNotFound(_ways_out(repo, weights_dir))


def checkpoint_folder(repo: str, weights_dir: Path | None) -> Path | None:
    """A whole checkpoint of `repo` on this machine, in the weights folder or in the hub's cache; else None."""
    name, _, revision = repo.partition("@")
    if weights_dir is not None:
        for stem in (name.replace("/", "_"), name.rsplit("/", 1)[-1]):
            if is_checkpoint(Path(weights_dir) / stem):
                return (Path(weights_dir) / stem).resolve()
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, CONFIG_FILE, revision=revision or None)
    return Path(found).parent if isinstance(found, str) and is_checkpoint(Path(found).parent) else None


def is_checkpoint(folder: Path) -> bool:
    """Whether the folder holds a configuration and weights."""
    return (folder / CONFIG_FILE).is_file() and any((folder / name).is_file() for name in (*_SINGLE, *_INDEXED))


def weight_files(folder: Path) -> list[Path]:
    """The files with tensors of a checkpoint: one, or its shards in the order of their names.

    Raises:
        ProjectError: the folder has none, or a shard that its index names is missing.
    """
    folder = Path(folder)
    for single, indexed in zip(_SINGLE, _INDEXED, strict=True):
        if (folder / single).is_file():
            return [folder / single]
        if (folder / indexed).is_file():
            names = sorted(set(json.loads((folder / indexed).read_text(encoding="utf-8"))["weight_map"].values()))
            if missing := [name for name in names if not (folder / name).is_file()]:
                raise ProjectError(f"{folder / indexed} names {missing[0]}, which is not there. Copy the whole folder.")
            return [folder / name for name in names]
    raise ProjectError(f"the folder {folder} holds no weights: expected {' or '.join(_SINGLE)} in it.")


def _sha256(files: Sequence[Path]) -> str:
    digests = [file_sha256(file) for file in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _check_repo(repo: str) -> None:
    owner, _, name = repo.partition("@")[0].partition("/")
    if not owner or not name or "/" in name:
        raise ProjectError(
            f"model.checkpoint={repo!r} is no repository of the hub: write owner/name, such as "
            "IDEA-Research/grounding-dino-tiny. A folder on this machine goes into model.weights."
        )


def _given_folder(weights: str) -> Path:
    path = Path(weights).expanduser()
    folder = path.parent if path.is_file() else path
    if is_checkpoint(folder):
        return folder.resolve()
    if not path.exists():
        hint = nearest(weights, WORDS) if not path.suffix and len(path.parts) == 1 else ""
        raise ProjectError(
            f"model.weights={weights}: there is no such folder.{hint} Give a checkpoint's folder "
            f"({CONFIG_FILE} and {' or '.join(_SINGLE)}) or one of {', '.join(WORDS)}."
        )
    missing = CONFIG_FILE if not (folder / CONFIG_FILE).is_file() else " or ".join(_SINGLE)
    raise ProjectError(
        f"model.weights={weights}: {folder} is no whole checkpoint, it lacks {missing}. Copy the folder that "
        "save_pretrained or `python -m src.weights fetch` wrote, with its tokenizer files."
    )


def _find(repo: str, weights_dir: Path | None) -> tuple[str, Path, str]:
    probe = Probe()
    probe.ask(hub_endpoint())
    if local := checkpoint_folder(repo, weights_dir):
        inside = weights_dir is not None and local.is_relative_to(Path(weights_dir).resolve())
        place = "the weights folder" if inside else "the local cache"
        return ("file" if inside else "cache"), local, f"{local.name if inside else repo} in {place}"
    if not probe.answering([hub_endpoint()]):
        raise WeightsNotFound(_ways_out(repo, weights_dir))
    return "hub", download_checkpoint(repo), f"downloaded from {repo}"


def _ways_out(repo: str, weights_dir: Path | None) -> str:
    offline = "offline mode is set (HF_HUB_OFFLINE)"
    state = offline if hub_is_offline() else f"no answer from {hub_endpoint()}"
    stem = repo.partition("@")[0].replace("/", "_")
    folder = f"not in {weights_dir} ({stem}/), " if weights_dir else ""
    ways = [
        ("model.weights=/path/to/folder", f"a checkpoint that you have: {CONFIG_FILE}, weights and tokenizer files"),
        (f"python -m src.weights fetch {repo}", "on a connected machine; copy its weights/ folder here"),
        ("model.weights=random", "an untrained network: for a smoke test, not for a score"),
    ]
    width = max(len(command) for command, _ in ways)
    lines = "\n".join(f"  {command:{width}}  {what}" for command, what in ways)
    return f"no checkpoint of {repo}: {folder}not in the local cache, and {state}. Ways out:\n{lines}"


def wanted_files(names: Sequence[str]) -> list[str]:
    """Of a repository's files, those that building the network needs: one form of the weights, and small text files.

    Raises:
        ProjectError: no configuration, or no weights that transformers reads.
    """
    top = [name for name in names if "/" not in name]
    tensors = [n for n in top if n.startswith("model") and n.endswith((".safetensors", ".safetensors.index.json"))]
    tensors = tensors or [n for n in top if n.startswith("pytorch_model") and n.endswith((".bin", ".bin.index.json"))]
    if CONFIG_FILE not in top or not tensors:
        raise ProjectError(
            f"the repository has no {CONFIG_FILE} with {' or '.join(_SINGLE)} beside it: it is no transformers "
            f"checkpoint. It has {', '.join(sorted(top)[:8]) or 'no files'}."
        )
    indices = {*_INDEXED}
    texts = [n for n in top if n.endswith((".json", ".txt", ".jinja")) and n not in indices and n not in tensors]
    inside = [n for n in names if n.partition("/")[0] in _FOLDERS and n.endswith((".json", ".txt"))]
    return sorted({*tensors, *texts, *inside, *(n for n in top if n.endswith((".model", ".spm")))})


def download_checkpoint(repo: str) -> Path:
    """Fetch a checkpoint into the hub's local cache; returns its folder there.

    Raises:
        ProjectError: the download failed or the repository is no checkpoint; the message says why.
    """
    from huggingface_hub import HfApi, snapshot_download

    name, _, revision = repo.partition("@")
    try:
        files = wanted_files(HfApi().list_repo_files(name, revision=revision or None))
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=files))
    except (OSError, RuntimeError, ValueError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise ProjectError(
            f"the download of {repo} failed: {type(error).__name__}: {first}. Check the name, try again, or give the "
            "path of a checkpoint's folder: model.weights=/path/to/folder."
        ) from error


def fetch_checkpoint(repo: str, folder: Path) -> Path:
    """Put a whole checkpoint into `folder/<owner>_<name>/`, from the cache or the hub; returns that folder."""
    _check_repo(repo)
    _, found, _ = _find(repo, Path(folder))
    target = Path(folder) / repo.partition("@")[0].replace("/", "_")
    if found.is_relative_to(Path(folder).resolve()):
        return found
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for file in sorted(found.iterdir()):
        if file.is_file():
            shutil.copyfile(file, part / file.name)
        elif file.name in _FOLDERS:
            shutil.copytree(file, part / file.name)
    for file in weight_files(part):
        inspect_weights(file)
    part.rename(target)
    return target


@dataclass(frozen=True)
class Prepared:
    """What a network is built from: `network_class(num_classes=, image_size=, **options, **initial)`.

    options: plain keyword arguments, whole; a checkpoint stores them and rebuilds from them and a state dict.
    initial: what only the first construction gets (folders of checkpoints, first values); None when rebuilding.
    resolved: the decision about each checkpoint, by the argument that takes its folder.
    """

    options: dict[str, Any]
    initial: dict[str, Any]
    resolved: dict[str, ResolvedWeights]


def prepare_network(
    network_class: type,
    options: Mapping[str, Any],
    *,
    weights: str,
    weights_dir: Path | None,
    bundled: bool,
    class_names: Sequence[str],
    warn: Callable[[str], Any] = print,
) -> Prepared:
    """Find the checkpoints of a network and complete its options.

    The class says what must be found (`checkpoints(options, weights)`: argument → name, word or path; owner/name is a
    checkpoint of the hub, any other name a backbone) and completes its options from the folders
    (`prepare(options, folders, class_names)`). Where it has `first_values(options, folders)`, that says what the first
    construction gets; else it is the folders. A class with `zero_shot` never starts from random values unasked. Where
    it has `find`, that looks for the weights instead of the hub's and timm's sources. Where `source` is among its
    `filled_in` arguments, it is told each checkpoint's name, folder and hash, by the argument that takes the folder.
    """
    if hasattr(network_class, "find"):
        resolved = network_class.find(options, weights, weights_dir=weights_dir, bundled=bundled, warn=warn)
        looked_for: dict[str, tuple[str, str]] = {}
    else:
        resolved, looked_for = {}, network_class.checkpoints(options, weights)
    for argument, (name, word) in looked_for.items():
        may_fall_back = bundled and not network_class.zero_shot
        if _is_repo(name):
            found = resolve_checkpoint(name, word, weights_dir=weights_dir, bundled=may_fall_back, warn=warn)
        else:
            found = resolve_weights(
                name, word, weights_dir=weights_dir, bundled=may_fall_back, warn=warn, fallback="random"
            )
        resolved[argument] = found
    folders = {argument: found.path for argument, found in resolved.items()}
    completed = network_class.prepare(dict(options), folders, list(class_names))
    if "source" in getattr(network_class, "filled_in", ()):  # where frozen weights can be found again
        names = network_class.checkpoints(options, weights)
        sources = {
            argument: {"checkpoint": names[argument][0], "path": found.path, "sha256": found.sha256}
            for argument, found in resolved.items()
            if found.sha256 is not None
        }
        completed["source"] = sources or None
    first = network_class.first_values(completed, folders) if hasattr(network_class, "first_values") else folders
    return Prepared(completed, dict(first), resolved)


def _is_repo(name: str) -> bool:
    return "/" in name and not name.startswith(("hf-hub:", "torchvision/"))
