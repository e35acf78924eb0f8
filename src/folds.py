"""Folds of the training manifest: drawn once, stratified by target, never splitting a group, kept in a file.

Of a detection manifest an image's target is the rarest class in it (by images that have it) and about how many objects
it has, so that every fold has rare classes, full and empty images. Of a caption manifest it is whether it has captions.

A fold number k >= 0 says: validated by the model of fold k; -1: never validated. The draw depends on the seed
and the set of rows, not on their order. Test rows have no fold.
"""

import csv
import hashlib
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from src.atomic import atomic_path
from src.errors import ProjectError
from src.tables import differing_ids, missing_column, read_table

CANDIDATES = 64  # orders of the groups among which a grouped hold-out is chosen; fewer where groups are many


def assign_folds(manifest: pd.DataFrame, *, n_folds: int, seed: int, holdout: float, one_class: bool) -> pd.Series:
    """Fold of each training row: int64, named "fold", on the index of the manifest's train rows.

    n_folds >= 2: every row is in exactly one fold; targets are spread evenly (rare ones by label), and rows
    of one group share a fold. A row without a group is a group of its own.

    n_folds == 1: fold 0 is a share `holdout` (0 up to, not including, 1) of the rows, even over targets, in
    whole groups; the rest is -1. With one_class, where training sees normal rows alone, the share is of the
    normal rows, and all labelled defects are in fold 0 too, whatever their group: none is trained on.
    holdout == 0 holds out no normal row. A manifest of detection or of captions has no normal rows: one_class says
    nothing there. An image without captions is never held out (n_folds == 1): there is nothing to compare with.

    Where the manifest has classes to learn (`attrs["classes"]` of the task anomaly, without one_class), every class is
    trained on in every fold: where all images of one would be held out together, a group of them goes to the next fold,
    and a class of a single group is never held out (-1).

    Raises:
        ProjectError: fewer rows or groups than folds, or a fold that would leave no normal row to train on.
    """
    if n_folds < 1 or int(n_folds) != n_folds:
        raise ProjectError(f"folds={n_folds}: expected 1 (a hold-out) or more, such as folds=5.")
    if not 0 <= holdout < 1:
        raise ProjectError(f"data.holdout={holdout}: expected a share from 0 to below 1, such as 0.2.")
    train = manifest[manifest["split"] == "train"]
    rows = train.sort_values("id")
    label = rows["label"].fillna(-1).to_numpy(dtype=np.int64)
    named = [f"{kind} {name}" for kind, name in zip(label, rows["target"], strict=True)]
    target = np.array(named, dtype=object)
    if "counts" in rows:
        target, one_class = _object_strata(rows, n_folds), False
    usable, kind = np.ones(len(rows), dtype=bool), ""
    if "captions" in rows:
        usable, kind, one_class = np.array([bool(texts) for texts in rows["captions"]], dtype=bool), "captioned ", False
        target = usable.astype(str).astype(object)
    elif one_class:
        usable, kind = label != 1, "normal "
    group = _groups(rows)
    if n_folds == 1:
        folds = np.full(len(rows), -1, dtype=np.int64)
        pool = np.flatnonzero(label == 0 if one_class else usable)
        if holdout > 0:
            folds[pool[_hold_out(target[pool], group[pool], holdout, seed, kind)]] = 0
        if one_class:
            folds[label == 1] = 0
    else:
        folds = _split(target, label, group, usable, n_folds, seed, kind)
    if "category" in rows and manifest.attrs.get("classes") and not one_class:
        _leave_some(folds, rows["target"], group, n_folds)
    return pd.Series(folds, index=rows.index, name="fold").loc[train.index]


def write_folds(path: str | Path, manifest: pd.DataFrame, folds: pd.Series) -> None:
    """Write `id,fold` of the train rows as a whole UTF-8 CSV file, in the manifest's order."""
    ids = manifest.loc[folds.index, "id"]
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "fold"])
        writer.writerows(zip(ids, folds.tolist(), strict=True))


def read_folds(path: str | Path, manifest: pd.DataFrame) -> pd.Series:
    """Folds from a file, as `assign_folds` returns them; the file's rows may be in any order.

    Raises:
        ProjectError: a missing column, an id twice, a fold that is no integer from -1 up, or other ids than
            the training rows'.
    """
    table = read_table(path)
    for column in ("id", "fold"):
        if column not in table:
            raise ProjectError(missing_column(path, table.columns, column))
    known: dict[str, int] = {}
    for line, identifier, text in zip(table.index, table["id"], table["fold"], strict=True):
        if identifier in known:
            raise ProjectError(f"{path}, row {line}: the id '{identifier}' occurs twice. Keep one row.")
        try:
            known[identifier] = int(text)
        except ValueError:
            known[identifier] = -2
        if known[identifier] < -1:
            raise ProjectError(f"{path}, row {line}: fold '{text}' is not an integer from -1 (never) up.")
    ids = manifest.loc[manifest["split"] == "train", "id"]
    difference = differing_ids(known, ids)
    if difference:
        raise ProjectError(
            f"{path} does not fit the training set: {difference}. It was made for other data: go back to "
            "those, or delete the file to draw new folds."
        )
    return pd.Series([known[identifier] for identifier in ids], index=ids.index, name="fold", dtype=np.int64)


def fold_hash(manifest: pd.DataFrame, folds: pd.Series) -> str:
    """sha256 (64 hex digits) over the (id, fold) pairs, in whatever order they come."""
    pairs = zip(manifest.loc[folds.index, "id"], folds.tolist(), strict=True)
    return hashlib.sha256("\n".join(sorted(map(repr, pairs))).encode()).hexdigest()


def _groups(rows: pd.DataFrame) -> np.ndarray:
    """A number per row, equal within a group; a row without a group is alone in its own."""
    keys = [
        f"i{identifier}" if group is None else f"g{group}"
        for identifier, group in zip(rows["id"], rows["group"], strict=True)
    ]
    return np.unique(np.array(keys, dtype=object), return_inverse=True)[1]


def _object_strata(rows: pd.DataFrame, n_folds: int) -> np.ndarray:
    """A text an image: its rarest class and its objects in powers of two; the class alone where these are few."""
    present = [None if tags is None else np.asarray(tags, dtype=np.int64) for tags in rows["tags"]]
    totals = [None if counts is None else int(np.sum(counts)) for counts in rows["counts"]]
    found = [classes for classes in present if classes is not None]
    images = np.bincount(np.concatenate(found)) if found else np.zeros(0, dtype=np.int64)

    def rarest(classes: np.ndarray | None, total: int | None) -> str:
        if classes is None or (total is None and not len(classes)):
            return "unknown"
        return f"class {classes[np.argmin(images[classes])]:05d}" if len(classes) else "nothing"

    kinds = [rarest(classes, total) for classes, total in zip(present, totals, strict=True)]
    amounts = ["some" if total is None else f"2^{total.bit_length():02d}" for total in totals]
    fine = [f"{kind}, {amount}" for kind, amount in zip(kinds, amounts, strict=True)]
    count = Counter(fine)
    strata = [text if count[text] >= n_folds else kind for text, kind in zip(fine, kinds, strict=True)]
    return np.array(strata, dtype=object)


def _split(
    target: np.ndarray, label: np.ndarray, group: np.ndarray, trained: np.ndarray, n_folds: int, seed: int, kind: str
) -> np.ndarray:
    """Fold of each row; `trained` marks the rows that training may see, `kind` is the word for them."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    grouped = len(np.unique(group)) < len(group)
    unit = "groups" if grouped else "images"
    kind = "" if trained.all() else kind
    count = len(np.unique(group[trained]))
    if count < n_folds:
        raise ProjectError(
            f"folds={n_folds} needs at least {n_folds} {kind}training {unit}, and there are {count}. "
            f"Type folds={max(count, 1)}{', or competition.data.group=null' if grouped else ''}."
        )
    kind_of_split = StratifiedGroupKFold if grouped else StratifiedKFold
    splitter = kind_of_split(n_folds, shuffle=True, random_state=seed % 2**32)
    folds = np.full(len(group), -1, dtype=np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a stratum with fewer rows than folds
        for fold, (_, rows) in enumerate(splitter.split(group, _strata(target, label, n_folds), group)):
            folds[rows] = fold
    for fold in range(n_folds):
        if not (folds == fold).any() or not (trained & (folds != fold)).any():
            raise ProjectError(
                f"folds={n_folds}: fold {fold} would have no {kind}images to train on or none to validate, "
                "because the groups are too uneven. Type fewer folds, or competition.data.group=null."
            )
    return folds


def _leave_some(folds: np.ndarray, target: pd.Series, group: np.ndarray, n_folds: int) -> None:
    """Change `folds` so that no fold holds out all images of a target; groups stay whole."""
    members = {name: np.flatnonzero((target == name).to_numpy()) for name in sorted(set(target.dropna()))}
    for attempt in range(3):  # moving a group may gather another target that is in it; the last attempt moves none
        for rows in members.values():
            fold = folds[rows[0]]
            if fold < 0 or not (folds[rows] == fold).all():
                continue
            groups = np.unique(group[rows])
            free = n_folds > 1 and len(groups) > 1 and attempt < 2
            folds[group == groups[0]] = (fold + 1) % n_folds if free else -1


def _strata(target: np.ndarray, label: np.ndarray, n_folds: int) -> np.ndarray:
    """Targets as numbers; those with fewer rows than folds are pooled by label, or else all together."""
    _, strata, counts = np.unique(target, return_inverse=True, return_counts=True)
    strata = np.where(counts[strata] < n_folds, label - 3, strata)
    largest = np.unique(strata, return_counts=True)[1].max()
    return strata if largest >= n_folds else np.zeros_like(strata)  # which scikit-learn insists on


def _hold_out(target: np.ndarray, group: np.ndarray, share: float, seed: int, kind: str) -> np.ndarray:
    """Positions of about `share` of the rows (one group at least, and not all), even over targets."""
    groups, member = np.unique(group, return_inverse=True)
    total = len(group)
    if len(groups) < 2:
        unit, remedy = ("group", ", or competition.data.group=null") if total > 1 else (f"{kind}image", "")
        raise ProjectError(
            f"data.holdout={share} needs two {unit}s, to learn from and to validate; there is {len(groups)}. "
            f"Type data.holdout=0 to hold out nothing{remedy}."
        )
    random = np.random.default_rng(seed)
    if len(groups) == total:
        order = random.permutation(total)
        order = order[np.argsort(target[order], kind="stable")]
        count = min(max(round(share * total), 1), total - 1)
        evenly = (np.arange(count) + random.random()) * total / count
        return order[evenly.astype(np.int64)]
    strata = np.unique(target, return_inverse=True)[1]
    counts = np.zeros((len(groups), strata.max() + 1), dtype=np.int64)
    np.add.at(counts, (member, strata), 1)
    wanted = share * counts.sum(axis=0)
    best, held = np.inf, member[:0]
    for _ in range(min(CANDIDATES, 1 + 10_000_000 // counts.size)):
        order = random.permutation(len(groups))
        misfit = np.abs(counts[order].cumsum(axis=0)[:-1] - wanted).sum(axis=1)
        cut = int(misfit.argmin())
        if misfit[cut] < best:
            best, held = misfit[cut], order[: cut + 1]
    return np.flatnonzero(np.isin(member, held))
