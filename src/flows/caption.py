"""The caption task's flow: candidates an image, the choice among them tuned on OOF, runs pooled by agreement."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from src.competition import Competition
from src.errors import ProjectError
from src.flows.base import Flow, Prepared
from src.flows.missing_weights import refuse_missing_weights
from src.flows.shared_rows import common_rows
from src.job import Job
from src.metrics.registry import Metric
from src.predictions import read_predictions
from src.runs import RunFolder, in_repository, read_config, read_record, shown_path

CHOICES = ("auto", "first", "consensus")
UNREAD = "unread"  # flag of an image that could not be read; it gets the fallback caption


class CaptionFlow(Flow):
    """Candidates per image; which one is submitted, and how it is edited, is decided on OOF rows."""

    task = "caption"

    # -- before and during training ---------------------------------------------------------------------------------
    def refuse_early(self, config: dict[str, Any], *, bundled: bool, weights_dir: Path) -> None:
        if config["choice"] not in CHOICES:
            raise ProjectError(f"choice={config['choice']!r} is not known. Known: {', '.join(CHOICES)}.")
        from src.captions.decoding import Decoding

        Decoding.from_dict({**config["decoding"], **(config["retry"] or {})})
        Decoding.from_dict(config["decoding"])
        each = config["captions_per_image"]
        if each is not None and (isinstance(each, bool) or not isinstance(each, int) or each < 1):
            raise ProjectError(f"captions_per_image={each!r}: give a whole number of at least 1, or null for all.")
        if bundled:
            return
        scorer = config["scorer"]
        if scorer["checkpoint"]:
            from src.hub_models import refuse_checkpoint_early

            refuse_checkpoint_early(scorer["checkpoint"], scorer["weights"], weights_dir=weights_dir)
        refuse_missing_weights(config["model"], weights_dir)

    def check_inputs(self, config: dict[str, Any], manifest: pd.DataFrame, solution: pd.DataFrame | None) -> None:
        from src.tasks.create import check_model
        from src.tasks.networks import network_class

        check_model(config["model"])
        epochs = config["trainer"]["max_epochs"]
        if epochs and not hasattr(network_class(config["model"]["_target_"]), "loss"):
            raise ProjectError(
                f"trainer.max_epochs={epochs}: model={config['model']['name']} is not trained. "
                "Leave it out, or choose a model that learns, such as model=encoder_decoder or model=blip."
            )
        reports = manifest.attrs["caption_reports"]
        if reports:
            first = reports[0]
            print(
                f"captions  {len(reports)} mended or set aside, all in the report; the first: {first['source']}: "
                f"{first['problem']} ({first['action']})"
            )

    def create(
        self, config: dict[str, Any], competition: Competition, manifest: pd.DataFrame, *, weights_dir: Path
    ) -> tuple[Any, Any]:
        from src.tasks.create_caption import create_caption_task

        if config["model"].get("start_from"):
            _warn_of_leak(config, manifest)
        return create_caption_task(
            config["model"],
            captions=_training(manifest),
            monitor=competition.metric,
            weights_dir=weights_dir,
            bundled=competition.bundled,
            decoding=config["decoding"],
            retry=config["retry"],
            captions_per_image=config["captions_per_image"],
            scorer=config["scorer"],
        )

    def data_arguments(self, config: dict[str, Any], task: Any, *, epochs: int) -> dict[str, Any]:
        return task.samples

    def augment(self, config: dict[str, Any], task: Any) -> Any:
        """None for networks that keep the training pictures: what they keep are the pictures as they are."""
        return None if task.kind == "memory" else config["augment"]

    def monitor_mode(self, metric: Metric, val_rows: pd.DataFrame) -> str | None:
        return "max" if any(captions for captions in val_rows["captions"]) else None

    # -- after the last fold ----------------------------------------------------------------------------------------
    def merge_test(self, parts: Sequence[pd.DataFrame], folder: Path) -> pd.DataFrame:
        """Every fold's candidates, those that more folds propose first."""
        from src.flows.caption_pool import pooled

        return pooled(parts)

    def fill_unread(
        self, frame: pd.DataFrame, unread: Sequence[str], oof: pd.DataFrame, sizes: pd.DataFrame | None
    ) -> pd.DataFrame:
        """A mark in place of a caption: the decision's fallback sentence takes its place."""
        if not len(unread):
            return frame
        rows = [
            {"id": name, "fold": -1, "candidates": ["?"], "candidate_scores": [0.0], "image_scores": None,
             "flags": [UNREAD]}
            for name in unread
        ]  # fmt: skip
        print(
            f"WARNING   {len(unread)} image(s) could not be read and get the sentence that fits most training "
            f"pictures: {', '.join(map(str, unread[:5]))}"
        )
        return pd.concat([frame, pd.DataFrame(rows)], ignore_index=True)

    def measure(self, job: Job, oof: pd.DataFrame, test: pd.DataFrame, spec: Any) -> dict[str, Any]:
        from src.flows.caption_panel import FREQUENCIES_FILE, caption_metric, judged, panel, troubles, tuned
        from src.metrics.caption.measure import Frequencies

        metric, training = caption_metric(job.competition.metric), _training(job.manifest)
        frequencies = Frequencies.of(training, metric.tokenizer)
        frequencies.to_file(job.run.path / FREQUENCIES_FILE)
        whole = judged(oof, job.train_rows)
        decision = tuned(
            whole, metric=metric, training=training, frequencies=frequencies, how=job.config["choice"],
            seed=job.config["seed"],
        )  # fmt: skip

        def figures(rows: Any) -> dict[str, Any]:
            return panel(rows, decision, metric=metric, frequencies=frequencies)

        overall = {**figures(whole), **_honest(decision)}
        folds = [{"fold": k, **figures(judged(oof[oof["fold"] == k], job.train_rows))} for k in job.folds]
        return {
            "metric": {
                "name": metric.name,
                "value": overall["metric"],
                "mode": metric.mode,
                "signature": metric.signature,
            },
            "oof": overall,
            "folds": folds if len(folds) > 1 else [{"fold": job.folds[0], **overall}],
            "threshold": None,
            "decision": decision.to_dict(),
            "degenerate": {
                "oof": troubles(oof, decision, frequencies),
                "test": troubles(test, decision, frequencies),
            },
            "graded": figures(judged(test, job.solution)) if job.solution is not None else None,
        }

    def closing(self, metrics: dict[str, Any]) -> list[tuple[str, str]]:
        name, oof, graded = metrics["metric"]["name"], metrics["oof"], metrics["graded"]
        if metrics["metric"]["value"] is None:
            lines = [("OOF", f"{name} undefined: no held-out image with captions")]
        else:
            lines = [("OOF", f"{name} {metrics['metric']['value']:.4f}{_beside(oof)}")]
        lines.append(("signature", metrics["metric"]["signature"]))
        lines.append(("choice", _choice_text(metrics["decision"])))
        for split, count in metrics["degenerate"].items():
            if count["retried"] or count["replaced"] or count["fallback"]:
                kinds = ", ".join(f"{kind} {number}" for kind, number in count["kinds"].items())
                lines.append(
                    (
                        "mended",
                        f"{split}: {count['retried']} decoded again, {count['replaced']} replaced by another "
                        f"candidate, {count['fallback']} by the fallback sentence{f' ({kinds})' if kinds else ''}",
                    )
                )
        if graded and graded.get("metric") is not None:
            lines.append(("graded", f"{name} {graded['metric']:.4f}{_beside(graded)} (on the solution)"))
        return lines

    # -- submission and inference -----------------------------------------------------------------------------------
    def prepare(
        self,
        runs: Sequence[RunFolder],
        competition: Competition,
        manifest: pd.DataFrame,
        *,
        method: str | None,
        weights: Sequence[float] | None,
        target_false_alarm: float,
    ) -> Prepared:
        """One run keeps its own decision. Of several, the candidates are pooled and the choice is tuned on the pool.

        Without given weights a few are tried, and those of the best cross-validated value out of fold are taken.
        """
        from src.captions.decision import CaptionDecision
        from src.flows.caption_panel import caption_metric, choose, honest_value, judged, read_frequencies, tuned
        from src.flows.caption_pool import pooled, spread
        from src.metrics.caption.measure import Frequencies

        if method not in (None, "auto", "consensus"):
            raise ProjectError(f"blend={method!r}: captions are pooled and one is chosen. Known: auto, consensus.")
        metric, notes = caption_metric(competition.metric), []
        oof = [read_predictions(run.predictions / "oof.parquet", self.task) for run in runs]
        test = [read_predictions(run.predictions / "test.parquet", self.task) for run in runs]
        if len(runs) == 1:
            kept = read_record(runs[0].path / "metrics.json")
            decision, value, frame = CaptionDecision.from_dict(kept["decision"]), kept["metric"]["value"], test[0]
            frequencies = read_frequencies(runs[0].path) or Frequencies.of(_training(manifest), metric.tokenizer)
        else:
            training = _training(manifest)
            frequencies = Frequencies.of(training, metric.tokenizer)
            spreads = [spread(rows) for rows in oof]
            common, train = common_rows(runs, oof), manifest[manifest["split"] == "train"]
            best = None
            for shares in [weights] if weights is not None else _shares_to_try(runs):
                blended = judged(pooled(common, weights=shares, spreads=spreads), train)
                choice = tuned(
                    blended, metric=metric, training=training, frequencies=frequencies, how=method or "auto",
                    runs=sum(map(bool, shares)),
                )  # fmt: skip
                reached = honest_value(blended, choice, metric=metric, frequencies=frequencies)
                if best is None or (reached is not None and best[0] is not None and reached > best[0]):
                    best = (reached, choice, list(shares))
            value, decision, shares = best
            frame = pooled(test, weights=shares, spreads=spreads)
            notes.append(("weights", ", ".join(f"{share / sum(shares):.2f}" for share in shares)))
        texts = [chosen.text for chosen in choose(frame, decision, frequencies)]
        return Prepared(
            ids=frame["id"].tolist(),
            values=texts,
            threshold=None,
            oof=value,
            decision=decision.to_dict(),
            notes=[*notes, ("choice", _choice_text(decision.to_dict()))],
        )

    def answer(
        self, frame: pd.DataFrame, rows: pd.DataFrame, *, run: RunFolder, config: dict[str, Any], out: Path
    ) -> tuple[pd.DataFrame, str]:
        from src.captions.decision import CaptionDecision
        from src.flows.caption_panel import choose, read_frequencies

        decision = CaptionDecision.from_dict(read_record(run.path / "metrics.json")["decision"])
        chosen = choose(frame, decision, read_frequencies(run.path))
        table = rows.merge(
            pd.DataFrame(
                {
                    "id": frame["id"],
                    "caption": [each.text for each in chosen],
                    "state": [each.state for each in chosen],
                    "candidates": [" | ".join(each) for each in frame["candidates"]],
                }
            ),
            on="id",
        )
        if config["heatmaps"]:
            from src.report.caption.album import write_album

            shown = table.head(config["heatmaps"]).assign(candidates=frame["candidates"].head(config["heatmaps"]))
            title = read_config(run)["competition"]["name"]
            write_album(shown[["id", "path", "caption", "candidates"]], out / "album.html", title=title)
        replaced = sum(each.state != "kept" for each in chosen)
        return table, f", {replaced} captions replaced" if replaced else ""


def _warn_of_leak(config: dict[str, Any], manifest: pd.DataFrame) -> None:
    """Say so where the run that is started from may have learnt images that are held out here."""
    from src.tasks.start_from import learnt_images

    kept, given = in_repository(config["model"]["start_from"]) / "folds.csv", config["data"]["folds_file"]
    learnt, once = learnt_images(kept), config["folds"] == 1
    if once and (not config["data"]["holdout"] or given and learnt_images(in_repository(given)) == learnt):
        return
    shared = learnt & set(manifest.loc[manifest["split"] == "train", "id"])
    if shared:
        print(
            f"WARNING   {len(shared)} training images were learnt by the run of model.start_from already: where one is "
            "held out here, the out-of-fold value is too good. Hold out the same ones: folds=1 "
            f"data.folds_file={shown_path(kept)}"
        )


def _shares_to_try(runs: Sequence[RunFolder]) -> list[list[float]]:
    """Equal weights, weights that follow the runs' own OOF values, more and more, and the best run alone."""
    values = [read_record(run.path / "metrics.json")["metric"]["value"] or 0.0 for run in runs]
    equal, top = [1.0] * len(runs), max(values)
    if top <= 0:
        return [equal]
    relative = [max(value, 0.0) / top for value in values]
    alone = [float(place == values.index(top)) for place in range(len(runs))]
    return [equal, relative, [share**4 for share in relative], alone]


def _training(manifest: pd.DataFrame) -> list[list[str]]:
    """The references of the training images that have any."""
    train = manifest.loc[manifest["split"] == "train", "captions"]
    return [list(captions) for captions in train if captions]


def _honest(decision: Any) -> dict[str, Any]:
    """The cross-validated value of what was tuned on the same rows, in place of the one in sight of them."""
    value = decision.summary.get("cross_validated")
    return {} if value is None else {"metric": value}


def _beside(figures: dict[str, Any]) -> str:
    text = "".join(
        f", {name} {figures[name]:.4f}" for name in ("bleu4", "rouge_l", "exact_match") if figures.get(name) is not None
    )
    if figures.get("first") is not None:
        text += f"; first candidate {figures['first']:.4f}, one sentence for all {figures['constant']:.4f}"
    return text


def _choice_text(decision: dict[str, Any]) -> str:
    weights = {name: value for name, value in decision["weights"].items() if value}
    how = " + ".join(f"{value:g} {name}" for name, value in weights.items()) or "1 model"
    edits = ", ".join(f"{name} {value}" for name, value in decision["edits"].items() if value)
    return f"{how}{f'; edits: {edits}' if edits else ''}"
