"""A fine-tuned captioner as a plain transformers folder, adapters merged: for other programs, or to train on from.

python -m src.models.caption.export run=outputs/caption/blip_lora out=exported/blip fold=0
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.errors import ProjectError, nearest

if TYPE_CHECKING:
    from src.models.caption.hub_captioner import HubCaptioner

OPTIONS = ("run", "out", "fold", "weights")


def main(arguments: list[str]) -> int:
    """Read `key=value` arguments and export; the exit status."""
    values = {"fold": "0"}
    try:
        for argument in arguments:
            key, equals, value = argument.partition("=")
            if not equals or key not in OPTIONS:
                raise ProjectError(
                    f"{argument!r}: write key=value with one of {', '.join(OPTIONS)}.{nearest(key, OPTIONS)}"
                )
            values[key] = value
        if "run" not in values or "out" not in values:
            raise ProjectError(
                "say which run and where to: python -m src.models.caption.export run=outputs/caption/… out=folder"
            )
        checkpoint = Path(values["run"]) / f"fold_{values['fold']}" / "best.ckpt"
        folder = export_checkpoint(checkpoint, Path(values["out"]), weights=values.get("weights"))
    except ProjectError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(folder)
    return 0


def export_checkpoint(checkpoint: Path, out: Path, *, weights: str | None = None) -> Path:
    """Write the network of a run's checkpoint as a transformers folder.

    weights: the folder of the base checkpoint, where the run saved only what it trained and the base has moved.

    Raises:
        ProjectError: no such checkpoint, a network of another kind, or a base that is not the one trained on.
    """
    if not checkpoint.is_file():
        raise ProjectError(f"there is no {checkpoint}. Give the run's folder and a fold that it trained.")
    if out.exists() and any(out.iterdir()):
        raise ProjectError(f"{out} is not empty: give another folder.")
    import torch

    stored = torch.load(checkpoint, map_location="cpu", weights_only=True)
    options = dict(stored["hyper_parameters"]["network"])
    state = {
        name.removeprefix("network."): value
        for name, value in stored["state_dict"].items()
        if name.startswith("network.")
    }
    return rebuild(options, state, frozen=stored.get("frozen_source"), weights=weights).export(out)


def rebuild(
    options: Mapping[str, Any],
    state: Mapping[str, Any],
    *,
    frozen: Mapping[str, Mapping[str, str]] | None,
    weights: str | None = None,
) -> HubCaptioner:
    """A hub captioner in full precision from its options and its state.

    frozen: the checkpoints that hold what the state leaves out, as `HubCaptioner.frozen_source` names them.

    Raises:
        ProjectError: the options are of another network, or the base is not the one that was trained on.
    """
    from src.models.caption.hub_captioner import HubCaptioner

    options = {**options}
    module, _, name = str(options.pop("_target_")).rpartition(".")
    network_class = getattr(import_module(module), name, None) if module.startswith("src.models.") else None
    if not (isinstance(network_class, type) and issubclass(network_class, HubCaptioner)):
        raise ProjectError(f"{module}.{name} is no network of transformers, and its run has nothing to export.")
    if "quantization" in options:
        options["quantization"] = None  # adapters of a rounded base are merged into the exact one
    if frozen is None:
        network = network_class(**options)
        network.load_state_dict(state)
        return network.eval()
    network = network_class(**options, **{key: _base(said, weights) for key, said in frozen.items()})
    network.load_trainable_state(state)
    return network.eval()


def _base(said: Mapping[str, str], weights: str | None) -> str:
    """The folder of a checkpoint that was trained from, its hash compared."""
    from src.hub_models import is_checkpoint, resolve_checkpoint

    word = weights or (said["path"] if is_checkpoint(Path(said["path"])) else "pretrained")
    found = resolve_checkpoint(said["checkpoint"], word, weights_dir=Path("weights"), bundled=False)
    if found.sha256 != said["sha256"]:
        raise ProjectError(
            f"{found.path} is not the checkpoint that the run was trained from (sha256 {str(found.sha256)[:12]}…, then "
            f"{said['sha256'][:12]}…). Give that checkpoint's folder: weights=/path/to/folder."
        )
    return str(found.path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
