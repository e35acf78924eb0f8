"""A network that starts from an earlier run of this project: what fits by name and shape is taken over."""

from pathlib import Path

import torch
from torch import nn

from src.errors import ProjectError
from src.runs import in_repository, shown_path

EMBEDDING = "decoder.embedding.weight"  # of networks that learn their subwords: a row a subword


def take_over(network: nn.Module, source: Path) -> str:
    """Copy every parameter and buffer of an earlier run's network that this one has by the same name and shape.

    Of another vocabulary the embeddings of the subwords that both have are taken over, whatever their numbers.

    Args:
        source: a run's folder (its first fold's best checkpoint is used) or a checkpoint file.

    Returns:
        What was taken over, in a line.

    Raises:
        ProjectError: no checkpoint there, or nothing of it fits.
    """
    path = _checkpoint(in_repository(source))
    try:
        kept = torch.load(path, map_location="cpu", weights_only=True)
        state, options = kept["state_dict"], kept["hyper_parameters"]["network"]
    except Exception as error:  # a file cut short or of another kind: the remedy is the same
        first = (str(error).splitlines() or [""])[0]
        raise ProjectError(f"model.start_from={path} cannot be read ({type(error).__name__}: {first}).") from error
    given = {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}
    own, shared = network.state_dict(), 0
    vocabulary = options.get("tokenizer_json")
    if vocabulary is not None and hasattr(network, "adopt_embeddings"):
        shared = network.adopt_embeddings(given.pop(EMBEDDING), vocabulary)
    fitting = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise ProjectError(
            f"model.start_from={path}: none of its {len(given)} arrays fits this network. Start from a run of the same "
            "model, with the same backbone, width and depth."
        )
    network.load_state_dict(fitting, strict=False)
    left = [name for name in own if name not in fitting and not (shared and name == EMBEDDING)]
    words = f", {shared} subwords" if shared else ""
    named = f"; {len(left)} keep their first values, {left[0]} among them" if left else ""
    return f"{len(fitting)} of {len(own)} arrays{words} taken over from {shown_path(path)}{named}"


def learnt_images(folds: Path) -> set[str]:
    """The ids that a folds.csv leaves to training where the first fold is held out; empty where there is none."""
    from src.tables import read_table

    if not folds.is_file():
        return set()
    table = read_table(folds)
    return set(table.loc[table["fold"] != "0", "id"])


def _checkpoint(source: Path) -> Path:
    if source.is_file():
        return source
    found = sorted(source.glob("fold_*/best.ckpt"))
    if not found:
        raise ProjectError(
            f"model.start_from={source}: no such checkpoint. Give a run's folder (outputs/caption/…) or a .ckpt."
        )
    return found[0]
