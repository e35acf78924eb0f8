"""What the targets of a competition's rows mean: normal or not, which category, which classes there are."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from src.competition import Competition
from src.errors import ProjectError, nearest
from src.listing import natural_key, nfc
from src.rows import Answers, Rows, listed
from src.target_pattern import Parts, parse_pattern, split_targets, suggested_pattern

if TYPE_CHECKING:
    import pandas as pd

LISTED = 8  # targets or categories that a message names
NORMAL, ANOMALOUS = 0, 1


def train_targets(spec: Competition, rows: Rows) -> tuple[list[int | None], list[str | None]]:
    """(labels, categories) of the training rows, None where unknown.

    A label is 0 where the target, or with a pattern its state, is one of `data.normal`, and else 1. Where a training
    set has no targets at all, all of it is normal.

    Raises:
        ProjectError: a target does not fit the pattern, or its category is not the row's; two targets that differ by
            spaces or Unicode form alone, where targets are classes or have a pattern; no normal row; a row without a
            category where others have one.
    """
    if spec.data.target_pattern is not None or spec.submission.format == "class":
        _check_twins(rows)
    if all(target is None for target in rows.targets) and spec.data.target is None:
        _check_whole(spec, rows, rows.categories)
        return [NORMAL] * len(rows.ids), rows.categories
    parts = _parts(spec, "training", "data.target_pattern", rows.targets, rows.categories, rows.sources)
    states = [None if part is None else part.state for part in parts]
    labels = _labels(states, spec.data.normal)
    if NORMAL not in labels:
        _fail_no_normal(spec, states)
    categories = _categories(parts, rows.categories)
    _check_whole(spec, rows, categories)
    return labels, categories


def check_test_categories(spec: Competition, train: Iterable[str | None], test: Rows) -> None:
    """Refuse a test image of a category that no training image has."""
    known = set(train)
    strange = [row for row, category in enumerate(test.categories) if category not in known and category is not None]
    if strange:
        names = sorted(filter(None, known), key=natural_key)
        name = test.categories[strange[0]]
        places = listed([f"{test.sources[row]} '{test.categories[row]}'" for row in strange])
        if spec.data.category is not None:
            remedy = "Correct the table; an empty cell says that the category is not known"
        else:
            remedy = f"Add its folder {name}/{spec.data.train}, or leave it out of data.categories"
        raise spec.error(
            "data.category" if spec.data.category is not None else "data.categories",
            f"{len(strange)} test images have a category that no training image has: {places}."
            f"{nearest(name, names)} Categories: {_some(names)}. {remedy}.",
        )


def answer_targets(spec: Competition, answers: Answers, test: Rows | None, train: Rows | None) -> tuple[list, list]:
    """(labels, categories) of the answers, in their order.

    Args:
        test: the test rows, whose categories are taken where the answers have none.
        train: the training rows, whose targets say how those with several readings are split; needed with a pattern.
    """
    given = list(answers.categories)
    if test is not None:
        known = dict(zip(test.ids, test.categories, strict=True))
        given = [own or known.get(name) for name, own in zip(answers.ids, given, strict=True)]
    learnt: dict[str, Parts | None] = {}
    if train is not None and spec.data.target_pattern is not None:
        pattern, targets = parse_pattern(spec.data.target_pattern), filter(None, train.targets)
        named = filter(None, train.categories)
        learnt = split_targets(pattern, targets, normal=spec.data.normal, categories=named)
    parts = _parts(spec, "answered", "solution", answers.targets, given, answers.sources, learnt)
    normal = set(spec.data.normal)
    if spec.solution is not None and spec.data.target is None:
        normal |= {spec.submission.labels.get("normal", "0")}  # the targets are then a submission's values
    return _labels([part.state for part in parts], normal), _categories(parts, given)


def class_names(targets: Iterable[str | None]) -> list[str]:
    """The distinct targets in natural order."""
    return sorted({target for target in targets if target is not None}, key=natural_key)


def class_notes(manifest: "pd.DataFrame") -> list[str]:
    """Sentences about training sets that are legal and hard to learn from; [] where there is nothing to say.

    Classes (of the format `class`) of one image, which cannot be both learnt and validated, and categories without a
    normal or without a labelled image.
    """
    train = manifest[manifest["split"] == "train"]
    notes = []
    if manifest.attrs.get("classes"):
        single = sorted((name for name, n in Counter(train["target"].dropna()).items() if n == 1), key=natural_key)
        if single:
            notes.append(
                f"{len(single)} of {len(manifest.attrs['classes'])} classes have one training image, which cannot be "
                f"both learnt and validated: {_some(single)}"
            )
    if "category" in manifest and train["category"].notna().any():
        normal = set(train.loc[(train["label"] == NORMAL).fillna(False).astype(bool), "category"])
        bare = sorted(set(train["category"].dropna()) - normal, key=natural_key)
        if bare:
            notes.append(f"no normal training image in {len(bare)} categories: {_some(bare)}")
    return notes


def _parts(
    spec: Competition,
    which: str,
    key: str,
    targets: Sequence[str | None],
    categories: Sequence[str | None],
    sources: Sequence[str],
    learnt: dict[str, Parts | None] | None = None,
) -> list[Parts | None]:
    """A target's parts, by row; without a pattern the whole target is the state."""
    if spec.data.target_pattern is None:
        return [None if target is None else Parts(None, target) for target in targets]
    pattern = parse_pattern(spec.data.target_pattern)
    learnt = learnt or {}
    known = [*filter(None, categories), *(part.category for part in learnt.values() if part is not None)]
    split = split_targets(pattern, filter(None, targets), normal=spec.data.normal, categories=known)
    split |= {target: part for target, part in learnt.items() if target in split}
    odd = [row for row, target in enumerate(targets) if target is not None and split[target] is None]
    if odd:
        raise spec.error(key, _unfit(spec, which, [f"{sources[row]} '{targets[row]}'" for row in odd], list(split)))
    result, own = [], {}
    for row, (target, category) in enumerate(zip(targets, categories, strict=True)):
        part = split.get(target)
        if part is not None and category is not None and pattern.has_category and part.category != category:
            if (target, category) not in own:
                same = [way for way in pattern.ways(target) if way.category == category]
                if not same:
                    raise spec.error(key, _contradiction(spec, sources[row], target, part, category))
                own[target, category] = same[0]
            part = own[target, category]
        result.append(part)
    return result


def _labels(states: Sequence[str | None], normal: Iterable[str]) -> list[int | None]:
    normal = set(normal)
    return [None if state is None else NORMAL if state in normal else ANOMALOUS for state in states]


def _categories(parts: Sequence[Parts | None], given: Sequence[str | None]) -> list[str | None]:
    """The rows' own categories, else those that the targets name."""
    return [own or (part.category if part is not None else None) for part, own in zip(parts, given, strict=True)]


def _check_whole(spec: Competition, rows: Rows, categories: Sequence[str | None]) -> None:
    if spec.data.category is None:
        return
    empty = [source for source, category in zip(rows.sources, categories, strict=True) if category is None]
    if empty:
        problem = f"{len(empty)} training rows have no category: {listed(empty)}. Give each one."
        raise spec.error("data.category", problem)


def _check_twins(rows: Rows) -> None:
    """Refuse targets that a reader takes for one and a grader does not."""
    first: dict[str, str] = {}
    for target, source in zip(rows.targets, rows.sources, strict=True):
        if target is None:
            continue
        start = first.setdefault(nfc(target.strip()), target)
        if start != target:
            how = "spaces" if start.strip() == target.strip() else "their Unicode form"
            other = rows.sources[rows.targets.index(start)]
            raise ProjectError(
                f"{other}, {source}: the targets {start!r} and {target!r} differ by {how} alone, and would be two "
                "classes. Write one of them in all rows."
            )


def _unfit(spec: Competition, which: str, places: Sequence[str], targets: Sequence[str]) -> str:
    pattern = spec.data.target_pattern
    other = suggested_pattern(targets)
    hint = f" All of them fit '{other}'." if other is not None and other != pattern else ""
    whole = f"{len(places)} {which} targets do not fit '{pattern}'"
    return f"{whole}: {listed(places)}.{hint} Correct them, or write data.target_pattern as all targets are written."


def _contradiction(spec: Competition, source: str, target: str, part: Parts, category: str) -> str:
    where = f"the column '{spec.data.category}'" if spec.data.category is not None else "its folder"
    remedy = "or data.category: null, to go by the target" if spec.data.category is not None else "or the pattern"
    return (
        f"{source}: the target '{target}' names the category '{part.category}', and {where} '{category}'. "
        f"Correct the row, {remedy}."
    )


def _fail_no_normal(spec: Competition, states: Sequence[str | None]) -> None:
    counts = Counter(state for state in states if state is not None).most_common(LISTED)
    found = ", ".join(f"'{state}' ({count})" for state, count in counts) or "none"
    near = nearest(spec.data.normal[0], [state for state, _ in counts])
    what = "target" if spec.data.target_pattern is None else "state"
    raise spec.error(
        "data.normal",
        f"no training image is normal: {', '.join(spec.data.normal)} is not among the {what}s.{near} "
        f"{what.capitalize()}s found: {found}. List those that mean normal.",
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
