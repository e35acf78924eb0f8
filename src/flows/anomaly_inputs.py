"""What an anomaly run is refused for before anything is trained, and what it learns from the manifest."""

from typing import Any

import pandas as pd

from src.class_set import ClassSet, class_set
from src.errors import ProjectError, nearest
from src.flows.anomaly_panel import check_masks
from src.flows.anomaly_scores import check_settings
from src.listing import natural_key
from src.row_targets import class_notes


def check_inputs(config: dict[str, Any], manifest: pd.DataFrame, solution: pd.DataFrame | None) -> None:
    """Refuse options and data that the run cannot use.

    Raises:
        ProjectError: names the key or the file.
    """
    from src.data.training_choice import TrainingChoice
    from src.tasks.create import SAMPLINGS, check_model

    model = config["model"]
    check_model(model)
    check_settings(config["calibration"])
    TrainingChoice(shots=config["data"]["shots"], shots_normal=config["data"]["shots_normal"])
    sampling = model.get("sampling", "natural")
    if sampling not in SAMPLINGS:
        raise ProjectError(
            f"model.sampling={sampling!r} is not known.{nearest(str(sampling), SAMPLINGS)} "
            f"Known: {', '.join(SAMPLINGS)}."
        )
    check_masks(manifest)
    if solution is not None:
        check_masks(solution.merge(manifest.loc[manifest["split"] == "test", ["id", "path"]], on="id"))
    for note in class_notes(manifest):
        print(f"note      {note}")
    classes_to_learn(config, manifest)
    if config["per_category"]:
        if "adapter" in model:
            raise ProjectError(
                f"per_category=true is for this project's own models of normal images, and model={model.get('name')} "
                "is another library's. Choose model=patchcore, padim, cfa or fastflow, or per_category=false."
            )
        categories_to_train(manifest)


def classes_to_learn(config: dict[str, Any], manifest: pd.DataFrame) -> ClassSet | None:
    """The classes of a model that has the option `classes`; None for others, and for null.

    Where the competition asks for classes, null learns them too.
    """
    model = config["model"]
    way = model.get("classes")
    if way is None and "classes" in model and manifest.attrs.get("classes"):
        way = "targets"
    return None if way is None else class_set(manifest, way)


def categories_to_train(manifest: pd.DataFrame) -> list[str]:
    """The categories of the training images, in natural order.

    Raises:
        ProjectError: fewer than two, an image that has none, or a category without a normal image.
    """
    train = manifest[manifest["split"] == "train"]
    unknown = train.loc[train["category"].isna(), "id"]
    if len(unknown):
        raise ProjectError(
            f"per_category=true needs the category of each training image, and {len(unknown)} of {len(train)} have "
            f"none, first '{unknown.iloc[0]}'. Name a column (competition.data.category), a pattern "
            "(competition.data.target_pattern) or folders (competition.data.categories)."
        )
    names = sorted(set(train["category"]), key=natural_key)
    bare = sorted(set(names) - set(train.loc[train["label"] == 0, "category"]), key=natural_key)
    if bare:
        raise ProjectError(
            f"per_category=true trains on normal images, and {len(bare)} of {len(names)} categories have none: "
            f"{', '.join(bare[:5])}. Add some, or train one model for all (per_category=false)."
        )
    if len(names) < 2:
        raise ProjectError(f"per_category=true needs two categories or more, and all images are of '{names[0]}'.")
    return names
