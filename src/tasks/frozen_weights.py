"""Published weights that a fine-tuned checkpoint leaves out: found again where they were, and held to their hash."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.errors import ProjectError
from src.runs import in_repository

WEIGHTS_DIR = "weights"  # looked into as training does, beside the place where the weights were found then


def find_frozen(sources: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The folders of a network's checkpoints, by the constructor's argument that takes each.

    Args:
        sources: the network's `frozen_source`: {"checkpoint", "path", "sha256"} an argument.

    Raises:
        WeightsNotFound: a checkpoint is nowhere here and the hub does not answer.
        ProjectError: what was found are other weights than those that the run was fine-tuned on.
    """
    from src.hub_models import is_checkpoint, resolve_checkpoint

    folders = {}
    for argument, source in sources.items():
        path = Path(source["path"])
        found = resolve_checkpoint(
            source["checkpoint"],
            str(path) if is_checkpoint(path) else "pretrained",
            weights_dir=in_repository(WEIGHTS_DIR),
            bundled=False,
        )
        if found.sha256 != source["sha256"]:
            raise ProjectError(
                f"{found.path} holds other weights of {source['checkpoint']} than this run was fine-tuned on (sha256 "
                f"{str(found.sha256)[:12]}…, then {str(source['sha256'])[:12]}…). Put the old ones into weights/, or "
                "train the run again."
            )
        folders[argument] = str(found.path)
    return folders
