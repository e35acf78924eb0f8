"""Train one run: `python train.py task=anomaly` ends with a validated submission."""

from src.cli import command

USAGE = """
usage: python train.py task=<task> [key=value ...]

Trains, predicts out-of-fold and test rows, tunes threshold, count rule or choice of captions, writes and validates
submission.csv and report.html into outputs/<task>/<run>/.

  task=anomaly|caption|detection    its bundled sample competition from start to submission
  model=<name>                      conf/model/<task>/<name>.yaml; model.<option>=<value> changes an option
  competition=<name>                conf/competition/<name>.yaml; competition.root=<folder> says where its data lie
  augment=<name>                    conf/augment/<name>.yaml, an Albumentations pipeline
  folds=5 fold=all                  cross-validation
  run=<name> resume=true            name the run's folder; continue a stopped one
  logger=wandb|tensorboard|csv|all  W&B works offline without an account
  data.batch_size=16 trainer.max_epochs=20 trainer.precision=bf16-mixed seed=0

examples:
  python train.py task=anomaly
  python train.py task=anomaly model=padim competition=mvtec competition.root=/data/bottle run=bottle_padim
  python train.py task=detection competition=coco competition.root=/data/pcb model.image_size=640
  python train.py task=caption model=blip model.lora.rank=16 competition=coco_captions competition.root=/data/coco
  python train.py task=anomaly --cfg job            print the whole configuration and stop
  python train.py -m task=anomaly model=patchcore,padim     one run after the other
"""


def main(config: dict) -> float | None:
    from src.training import train

    return train(config).objective


if __name__ == "__main__":
    command("train", main, usage=USAGE)
