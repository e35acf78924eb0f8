"""How soon the command line answers, as a ratio to the time that `import torch` alone takes.

python benchmarks/startup.py            medians of 5 runs each, after one warm-up
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
CASES = {
    "python -c 'import torch'": ["-c", "import torch"],
    "python train.py --help": ["train.py", "--help"],
    "python train.py task=anomoly": ["train.py", "task=anomoly"],
    "python train.py task=anomaly modle.lr=1": ["train.py", "task=anomaly", "modle.lr=1"],
    "python train.py task=anomaly --cfg job": ["train.py", "task=anomaly", "--cfg", "job"],
    "python make_submission.py --help": ["make_submission.py", "--help"],
}


def seconds(arguments: list[str]) -> float:
    """Wall seconds of one run."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=REPOSITORY, capture_output=True, check=False)
    return time.perf_counter() - start


def main(repeats: int = 5) -> None:
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for repeat in range(repeats + 1):
        for name, arguments in CASES.items():  # in turn, so that a slow minute of the machine hits all alike
            taken = seconds(arguments)
            if repeat:
                times[name].append(taken)
    reference = statistics.median(times["python -c 'import torch'"])
    print(f"{'command':<45} {'median s':>9} {'of import torch':>16}")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:<45} {median:>9.2f} {median / reference:>15.2f}x")


if __name__ == "__main__":
    main()
