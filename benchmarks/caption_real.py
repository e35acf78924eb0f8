"""Korean captions of real photographs: nearest neighbour, an encoder-decoder on a pretrained backbone, and re-ranking.

python benchmarks/caption_real.py --root <folder> --weights <mobilenetv2_100 state dict> [--only nearest decoder …]

The folder holds images/, train.csv and val.csv (image_id, caption; several rows an image) and train_english.csv of the
same training images. train.csv trains; val.csv is the test, graded afterwards. Each step is a usual run of train.py or
make_submission.py, kept under --outputs and not repeated where it is there:

nearest     the most similar training picture's first caption; the captions on which 30 neighbours agree most, five or
            thirty of them to choose from
decoder     frozen backbone, small decoder learnt from nothing; 20 samples an image, the choice tuned out of fold
english     the same network first trained on the English captions of the training images, then on the Korean ones
blend       its candidates and those of the nearest neighbours pooled

The table gives CIDEr-D (morphemes), BLEU-4 and ROUGE-L of the submitted captions, and of what beam search (five beams)
puts first with the very same weights.
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from src.cli import CONF, expand_arguments

BACKBONE = (
    "model.backbone=mobilenetv2_100", "model.backbone_args.pad_type=same", "model.mean=[0.5,0.5,0.5]",
    "model.std=[0.5,0.5,0.5]", "model.image_size=224",
)  # fmt: skip
DECODER = (
    "model=encoder_decoder_pretrained", *BACKBONE, "model.freeze=all", "model.strides=[32]", "model.width=256",
    "model.heads=4", "model.depth=2", "model.visual_depth=0", "model.dropout=0.3", "model.label_smoothing=0.1",
    "model.vocab_size=1000", "model.lr=0.001", "model.weight_decay=0.05", "model.ema=0.99", "model.max_epochs=20",
    "data.batch_size=32", "captions_per_image=null", "decoding.max_tokens=30", "augment=caption",
    "augment.transforms=[{name: MirrorWithWords, p: 0.5}]", "model.word_dropout=0",
)  # fmt: skip
SAMPLES = ("decoding.method=nucleus", "decoding.candidates=20", "decoding.temperature=0.8")
NEAREST = ("model=nearest", *BACKBONE, "augment=none")
STEPS = ("nearest", "decoder", "english", "blend")
SHOWN = ("cider_d", "bleu4", "rouge_l")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--outputs", type=Path, default=Path("outputs/benchmarks"))
    parser.add_argument("--only", nargs="*", choices=STEPS, default=STEPS)
    arguments = parser.parse_args()
    bench = Bench(arguments.root.resolve(), arguments.weights.resolve(), arguments.outputs.resolve())
    for step in arguments.only:
        getattr(bench, step)()
    bench.table()


class Bench:
    """The runs of one folder, each trained once."""

    def __init__(self, root: Path, weights: Path, outputs: Path) -> None:
        self.outputs, self.rows = outputs, []
        self.shared = [
            "task=caption", "competition=captions_csv", f"competition.root={root}", "competition.name=photographs",
            "competition.data.id=image_id", "competition.data.path=image_id", "competition.data.images=images",
            "competition.data.captions.id=image_id", "competition.data.test=val.csv", "competition.solution=val.csv",
            f"model.weights={weights}", f"outputs={outputs}", "logger=csv", "report=false",
        ]  # fmt: skip

    def nearest(self) -> None:
        self.run("nearest_1", *NEAREST, "model.neighbors=1", "choice=first")
        self.run("nearest", *NEAREST)
        self.run("nearest_30", *NEAREST, "decoding.candidates=30")

    def decoder(self) -> None:
        self.beam(self.run("decoder", *DECODER, *SAMPLES))

    def english(self) -> None:
        # what is held out stays unseen in both steps: else the out-of-fold value, and all that is tuned on it, is wrong
        folds = f"data.folds_file={self.outputs}/caption/decoder/folds.csv"
        english = self.run(
            "english", *DECODER, "competition.data.train=train_english.csv", "competition.solution=null", folds,
            "model.max_epochs=15", "competition.metric=cider_d@word",
        )  # fmt: skip
        self.beam(self.run("english_then_korean", *DECODER, *SAMPLES, f"model.start_from={english}", folds))

    def blend(self) -> None:
        from src.submission.build import make

        runs = [str(self.outputs / "caption" / name) for name in ("english_then_korean", "nearest_30")]
        config = compose("submit", [f"runs=[{','.join(runs)}]", f"outputs={self.outputs}"])
        made = make(config)
        self.rows.append(("pool with nearest_30", "submitted", {"cider_d": made["graded"]}, None))

    def run(self, name: str, *overrides: str) -> Path:
        """Train a run of this name unless it is there, and note its figures."""
        folder = self.outputs / "caption" / name
        start = time.perf_counter()
        if not (folder / "metrics.json").is_file():
            from src.training import train

            resume = ["resume=true"] if folder.is_dir() else []
            train(compose("train", [*self.shared, *overrides, f"run={name}", *resume]))
        seconds = time.perf_counter() - start
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        if metrics["graded"]:
            self.rows.append((name, "submitted", metrics["graded"], seconds))
        return folder

    def beam(self, run: Path) -> None:
        """What beam search writes with the run's weights, first candidates, without any choice."""
        from src.inference import infer

        out = run / "infer" / "beam"
        if not (out / "predictions.parquet").is_file():
            options = ["decoding.method=beam", "decoding.beams=5", "decoding.candidates=5", "heatmaps=0"]
            infer(compose("infer", [f"run={run}", f"out={out}", *options]))
        self.rows.append((run.name, "beam search", first_candidates(run, out / "predictions.parquet"), None))

    def table(self) -> None:
        print(f"\n{'run':<24}{'captions':<18}" + "".join(f"{name:>10}" for name in SHOWN) + "   seconds")
        for name, what, figures, seconds in self.rows:
            cells = "".join(f"{figures[key]:>10.4f}" if key in figures else f"{'':>10}" for key in SHOWN)
            print(f"{name:<24}{what:<18}{cells}   {'' if seconds is None else f'{seconds:.0f}'}")


def compose(config_name: str, overrides: list[str]) -> dict:
    """What the entry point would hand over for these overrides."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra_compose(config_name, overrides=expand_arguments(overrides))
    return OmegaConf.to_container(config, resolve=True, throw_on_missing=False)


def first_candidates(run: Path, predictions: Path) -> dict[str, float]:
    """The metrics of first candidates on the solution of a run's competition."""
    from src.competition import from_config
    from src.flows.caption_panel import judged
    from src.manifest import read_solution
    from src.metrics.caption.measure import evaluate_captions
    from src.predictions import read_predictions
    from src.runs import open_run, read_config

    competition = from_config(read_config(open_run(run))["competition"])
    rows = judged(read_predictions(predictions, "caption"), read_solution(competition)).known()
    return evaluate_captions([each[0] for each in rows.frame["candidates"]], rows.references)


if __name__ == "__main__":
    main()
