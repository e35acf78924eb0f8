"""Make or check a leaderboard file: `python make_submission.py runs=[outputs/anomaly/a,outputs/anomaly/b]`."""

from src.cli import command

USAGE = """
usage: python make_submission.py runs=[<run folder>,...] [key=value ...]
       python make_submission.py check=<csv> competition=<name>

With runs=: blends the runs' test predictions, tunes the threshold on their blended OOF scores, writes the rows in the
order of the sample submission, validates the file as the grader would read it, and enters it in outputs/ledger.csv.
With check=: validates a file, and grades it where the competition has a solution. Exit status 1 when it is not valid.

  blend=rank|mean (anomaly), wbf|nms|soft_nms (detection)  weights=[2,1]  out=<file>

examples:
  python make_submission.py runs=[outputs/anomaly/a,outputs/anomaly/b]
  python make_submission.py check=my.csv competition=sample_anomaly
"""


def main(config: dict) -> None:
    if config["check"]:
        from src.submission.build import check

        check(config)
    else:
        from src.submission.build import make

        make(config)


if __name__ == "__main__":
    command("submit", main, usage=USAGE)
