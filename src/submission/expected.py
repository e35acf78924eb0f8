"""Which rows a grader asks for: those of the sample submission, held against the test table."""

from collections import Counter
from collections.abc import Sequence

from src.competition import Competition
from src.errors import ProjectError
from src.submission.formats import Context, Format
from src.submission.formats.base import Key
from src.submission.formats.table import sample_keys, shown
from src.submission.reading import listed
from src.submission.row_ids import sample_problems


def expected_keys(
    grammar: Format, spec: Competition, test_ids: Sequence[str] | None, context: Context
) -> tuple[list[Key] | None, list[str]]:
    """The keys that the grader asks for, in order, and how the sample submission differs from the test table."""
    own = None if test_ids is None else list(grammar.owners(test_ids, context))
    if spec.submission.sample is None:
        return own, []
    try:
        keys = sample_keys(spec, grammar.key_columns(context))
    except ProjectError as error:
        return own, [f"the sample submission is unusable: {error}"]
    problems = []
    repeated = [f"'{shown(key)}' ({count} times)" for key, count in Counter(keys).items() if count > 1]
    if repeated and not grammar.repeats(context):
        problems.append(listed(f"ids repeat in {spec.submission.sample.name}", repeated, "Download it again"))
    if own is not None:
        problems += sample_problems(spec.submission.sample.name, list(map(shown, keys)), list(map(shown, own)))
    return list(dict.fromkeys(keys)), problems
