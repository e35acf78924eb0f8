"""One run from configuration to validated submission: checks first, then the folds, then the conclusion."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pandas as pd

from src.cli import flat_keys
from src.competition import Competition, from_config
from src.errors import ProjectError
from src.flows import flow_of
from src.job import Clock, Job
from src.runs import RunFolder, config_hash, in_repository, read_config, shown_path, write_config

if TYPE_CHECKING:
    from src.conclusion import RunResult


def train(config: dict[str, Any]) -> "RunResult":
    """Run everything that a configuration asks for.

    Raises:
        ProjectError: any mistake in configuration or input; nothing half-written is left under a final name.
    """
    competition = _load_competition(config)
    folds = _folds_to_run(config)
    RunFolder.refuse(in_repository(config["outputs"]), config["task"], config["run"], resume=config["resume"])
    flow = flow_of(config["task"])
    weights_dir = in_repository(config["weights_dir"])
    flow.refuse_early(config, bundled=competition.bundled, weights_dir=weights_dir)
    manifest, solution = _read_data(competition)
    quiet_libraries()
    flow.check_inputs(config, manifest, solution)

    clock = Clock()
    with clock.phase("build"):
        task, weights = _create(config, competition, manifest)
    run = RunFolder.create(in_repository(config["outputs"]), config["task"], config["run"], resume=config["resume"])
    if config["resume"]:
        _refuse_other_config(run, config)
    else:
        write_config(run, config)
    loaded = [str(report) for report in task.loaded_weights]
    print(f"run       {run.shown()}")
    print("\n          ".join([f"weights   {weights.source}", *loaded]))

    from src.conclusion import conclude
    from src.loggers import RunLoggers

    loggers = RunLoggers(config["logger"], run, config)
    job = Job(run, config, competition, manifest, solution, folds, loggers, clock)
    try:
        broken = _run_folds(job, _assign_folds(job, one_class=task.one_class), task)
        return conclude(job, broken, {**asdict(weights), "loaded": loaded})
    except BaseException:
        loggers.close(failed=True)
        raise


def _load_competition(config: dict[str, Any]) -> Competition:
    competition = from_config(config["competition"])
    if competition.task != config["task"]:
        raise ProjectError(
            f"competition={competition.name} is for task={competition.task}, but task={config['task']} was asked for."
        )
    return competition


def _read_data(competition: Competition) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    from src.manifest import read_manifest, read_solution

    if competition.bundled:
        from src.data.sample import ensure_sample

        ensure_sample(competition)
    return read_manifest(competition), read_solution(competition)


def _folds_to_run(config: dict[str, Any]) -> list[int]:
    count, fold = config["folds"], config["fold"]
    if not isinstance(count, int) or count < 1:
        raise ProjectError(f"folds={count!r}: give a whole number of at least 1.")
    if fold == "all":
        return list(range(count))
    if not isinstance(fold, int) or not 0 <= fold < count:
        raise ProjectError(f"fold={fold!r}: give all, or a number from 0 to {count - 1} (folds={count}).")
    return [fold]


def _create(config: dict[str, Any], competition: Competition, manifest: pd.DataFrame) -> tuple[Any, Any]:
    import lightning.pytorch as pl

    pl.seed_everything(config["seed"], workers=True, verbose=False)
    return flow_of(config["task"]).create(
        config, competition, manifest, weights_dir=in_repository(config["weights_dir"])
    )


def quiet_libraries() -> None:
    """Lightning's banners and hints say nothing about this run; errors and our own lines remain."""
    import logging
    import warnings

    import lightning.pytorch  # noqa: F401  its import sets these levels, so it comes first

    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "anomalib"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(timm|anomalib)\..*")
    warnings.filterwarnings("ignore", message=r".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")
    warnings.filterwarnings("ignore", message=r".*The number of training batches .* is smaller than the logging.*")
    warnings.filterwarnings("ignore", message=r".*configure_optimizers.*returned.*None.*")
    warnings.filterwarnings("ignore", message=r".*module\(s\) in eval mode at the start of training.*")
    warnings.filterwarnings("ignore", message=r".*Total length of `list` across ranks is zero.*")
    warnings.filterwarnings("ignore", message=r".*Checkpoint directory .* exists and is not empty.*")


def _refuse_other_config(run: RunFolder, config: dict[str, Any]) -> None:
    """A run continues only under the configuration that it was started with."""
    kept = read_config(run)
    if config_hash(kept) == config_hash(config):
        return
    different = [
        key
        for key in dict.fromkeys(flat_keys(kept) + flat_keys(config))
        if _value(kept, key) != _value(config, key)
        and not isinstance(_value(config, key), dict)
        and key.split(".")[0] not in {"run", "resume", "outputs", "logger", "report"}
    ]
    listed = ", ".join(f"{k} ({_value(kept, k)!r} then, {_value(config, k)!r} now)" for k in different[:5])
    raise ProjectError(
        f"resume=true, but {run.shown()} was started with other settings: {listed}. "
        "Repeat the first command with resume=true added, or start a new run under another name."
    )


def _value(tree: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(tree, dict) or part not in tree:
            return None
        tree = tree[part]
    return tree


def _assign_folds(job: Job, *, one_class: bool) -> pd.Series:
    """The run's folds: read back on resume or from a given file, else drawn; always kept in the run."""
    from src.folds import assign_folds, read_folds, write_folds

    settings = job.config["data"]
    kept = job.run.path / "folds.csv"
    if kept.is_file():
        return read_folds(kept, job.manifest)
    if settings["folds_file"]:
        fold_of = read_folds(in_repository(settings["folds_file"]), job.manifest)
    else:
        fold_of = assign_folds(
            job.manifest,
            n_folds=job.config["folds"],
            seed=job.config["seed"],
            holdout=settings["holdout"],
            one_class=one_class,
        )
    write_folds(kept, job.manifest, fold_of)
    if settings["save_folds"]:
        beside = job.competition.root / "folds.csv"
        write_folds(beside, job.manifest, fold_of)
        print(f"folds     also written to {shown_path(beside)}")
    return fold_of


def _run_folds(job: Job, fold_of: pd.Series, task: Any) -> list[dict[str, str]]:
    """Train and predict every fold that is not finished yet; answers the images that could not be read."""
    from src.data.datamodule import DataModule
    from src.data.transforms import build_augmentation
    from src.fold_run import FoldRun, epochs_of

    config, settings, flow = job.config, job.config["data"], flow_of(job.config["task"])
    data = DataModule(
        job.manifest,
        fold_of,
        job.folds[0],
        task.preprocess,
        augment=build_augmentation(flow.augment(config, task), task.preprocess),
        batch_size=settings["batch_size"],
        num_workers=settings["num_workers"],
        seed=config["seed"],
        cache=settings["cache"],
        cache_dir=in_repository(config["outputs"]) / ".cache",
        verify=settings["verify"],
        **flow.data_arguments(config, task, epochs=epochs_of(config, task)),
    )
    with job.clock.phase("read images"):
        data.setup()
    for position, fold in enumerate(job.folds):
        part = FoldRun(job, fold)
        label = f"fold {fold + 1} of {config['folds']}"
        if part.is_finished():
            print(f"{label} was finished before; kept")
            continue
        if config["folds"] > 1:
            print(label)
        if position:
            task, _ = _create(config, job.competition, job.manifest)  # a fold never starts from another fold's weights
        data.use_fold(fold)
        part.execute(task, data)
        job.loggers.finish_fold(last=len(job.folds) == 1)
    return [{"id": b.id, "path": str(b.path), "reason": b.reason, "split": b.split} for b in data.broken]
