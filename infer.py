"""Predict new images with a trained run: `python infer.py run=outputs/anomaly/<run> images=<folder>`."""

from src.cli import command

USAGE = """
usage: python infer.py run=<run folder> [images=<folder|glob|image|csv>] [key=value ...]

Rebuilds the model from the run's checkpoints alone and writes into <run>/infer/<name>/ (or out=<folder>)
  anomaly    predictions.csv (id, path, score, verdict), predictions.parquet, maps/ and heatmaps/
  detection  predictions.csv (id, path, objects, a count a class), boxes.csv, predictions.parquet and pictures in boxes/
  caption    predictions.csv (id, path, caption, state, candidates), predictions.parquet and album.html

  images=<…>            folder (searched below), glob pattern in quotes, one image, or CSV with a path column;
                        left out: the competition's test set
  fold=all|<k>          average over folds, or one fold's model
  threshold=<number>    instead of what the run tuned (detection: boxes of at least this score are counted)
  decoding.method=beam  captions: how they are written, with decoding.beams, decoding.candidates …
  heatmaps=24 maps=true batch_size=16 accelerator=auto

examples:
  python infer.py run=outputs/anomaly/bottle_padim images=/data/new_parts
  python infer.py run=outputs/anomaly/bottle_padim 'images=/data/line 3/*.JPG' out=/tmp/line3
"""


def main(config: dict) -> None:
    from src.inference import infer

    infer(config)


if __name__ == "__main__":
    command("infer", main, usage=USAGE)
