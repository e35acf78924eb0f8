"""The command line: composes the configuration, explains mistakes in it, prints errors as one message."""

import functools
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from src.errors import ProjectError, nearest

CONF = Path(__file__).resolve().parent.parent / "conf"
OPEN_SECTIONS = (
    "model.backbone_args.", "model.args.", "model.config.", "model.segmenter_config.", "model.text_config.",
    "model.lora.", "model.image_options.",
)  # fmt: skip
TASKS = tuple(sorted(path.stem for path in (CONF / "task").glob("*.yaml")))


def expand_arguments(arguments: list[str]) -> list[str]:
    """Give the short forms their full names: `model=padim` becomes `model=anomaly/padim` for task=anomaly.

    A comma list (`model=padim,patchcore`, with -m) is expanded name by name. Names that match no shipped file are left
    alone, so that the composer reports them. Korean and spaced values are quoted.
    """
    task = next((a.split("=", 1)[1] for a in arguments if a.startswith("task=")), None)
    if task not in TASKS:
        return [_quoted(argument) for argument in arguments]
    folder = CONF / "model" / task

    def full(name: str) -> str:
        return f"{task}/{name}" if (folder / f"{name}.yaml").is_file() else name

    expanded = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if key.startswith(OPEN_SECTIONS) and equals:
            argument = f"++{argument}"  # these hold whatever the library underneath takes: every key may be new
        elif key == "model" and equals and not value.startswith(("{", "[")):
            value = ",".join(full(name) for name in value.split(","))
            argument = f"model={value}"
        expanded.append(_quoted(argument))
    return expanded


def _quoted(argument: str) -> str:
    """A value with Korean letters or spaces in the quotes that Hydra's grammar wants and the shell took away."""
    key, equals, value = argument.partition("=")
    inside = re.fullmatch(r"\[([^\[\]{}'\"]*)\]", value)
    if equals and inside and re.search(r"[^\x21-\x7e]", value):  # a list of plain words, Korean ones among them
        words = [word.strip().replace("\\", "\\\\") for word in inside[1].split(",")]
        return f"{key}=[" + ",".join(f"'{word}'" if re.search(r"[^\x21-\x7e]", word) else word for word in words) + "]"
    plain = not value.startswith(("'", '"', "[", "{", "${"))
    if not (equals and plain and re.search(r"[^\x21-\x7e]", value)):
        return argument
    return f"{key}='" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def command(config_name: str, function: Callable[[dict[str, Any]], Any], *, usage: str) -> None:
    """Run `function` on the composed configuration as a plain dict, once a job.

    Exit status: 0 when all of it stands, 1 after a failure (one message, no traceback for a ProjectError), 2 for a
    mistake on the command line, 130 after Ctrl-C.
    """
    arguments = sys.argv[1:]
    if any(a in {"-h", "--help"} for a in arguments):
        print(usage.strip())
        if config_name == "train":
            print(_choices())
        return
    sys.argv[1:] = expand_arguments(arguments)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us as exceptions; we print them
    import hydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)
    def main(config: Any) -> Any:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
        try:
            return function(plain)
        except ProjectError as error:  # before the framework adds its own words to it
            _fail(str(error), 1)

    try:
        main()
    except (HydraException, OmegaConfBaseException) as error:
        _fail(explain(error, config_name, sys.argv[1:]), 2)
    except KeyboardInterrupt:
        _fail("stopped by Ctrl-C. What was finished is kept; the same command with resume=true continues.", 130)
    except Exception:
        traceback.print_exc()
        _fail("this is a bug or an unforeseen input; the lines above say where it happened.", 1)


def _fail(message: str, status: int) -> NoReturn:
    label = "\033[1;31merror:\033[0m" if sys.stderr.isatty() else "error:"
    print(f"{label} {message}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(status)


def explain(error: Exception, config_name: str, arguments: list[str]) -> str:
    """Turn the composer's error into one that names the nearest known key or option."""
    text = str(error)
    missing_option = re.search(r"Could not find '([^']+)'", text)
    if missing_option:
        group, _, name = missing_option.group(1).rpartition("/")
        return _unknown_option(group, name, arguments)
    if "You must specify" in text:
        group = re.search(r"You must specify '([^']+)'", text)
        key = group.group(1) if group else "task"
        return f"{key} is not given. Add {key}=<name>, one of: {', '.join(_options(key))}."
    bad_key = re.search(r"Could not override '([^']+)'", text) or re.search(r"Key '([^']+)' is not in struct", text)
    if bad_key:
        return _unknown_key(bad_key.group(1), config_name, arguments)
    return text.splitlines()[0] if text else type(error).__name__


def _choices() -> str:
    """What --help lists of the shipped configurations, read from the folders themselves."""
    lines = [
        f"{task} models: {', '.join(p.stem for p in sorted((CONF / 'model' / task).glob('*.yaml')))}" for task in TASKS
    ]
    lines.append(f"competitions: {', '.join(_options('competition'))}")
    lines.append(f"augments: {', '.join(_options('augment'))}")
    return "\n" + "\n".join(lines)


def _options(group: str) -> list[str]:
    folder = CONF / group
    return sorted(str(p.relative_to(folder).with_suffix("")) for p in folder.rglob("*.yaml"))


def _unknown_option(group: str, name: str, arguments: list[str]) -> str:
    options = _options(group)
    if group.startswith("model"):
        task = next((a.split("=", 1)[1] for a in arguments if a.startswith("task=")), None)
        options = [o.split("/", 1)[1] for o in _options("model") if o.startswith(f"{task}/")]
        group = "model"
    shown = f"{group}={name}"
    hint = f" It is looked for as conf/{group}/{name}.yaml." if group == "competition" else ""
    return f"{shown}: there is no such {group}.{nearest(name, options)}{hint} Known: {', '.join(options) or 'none'}."


def _unknown_key(key: str, config_name: str, arguments: list[str]) -> str:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

    choices = [a for a in arguments if re.match(r"(task|model|competition|augment|trainer|logger)=", a)]
    GlobalHydra.instance().clear()
    known: list[str] = []
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            known = flat_keys(OmegaConf.to_container(compose(config_name, overrides=choices)))
    except HydraException:  # the choices themselves are wrong; the key is still named below
        known = []
    tails = {k.rsplit(".", 1)[-1]: k for k in reversed(known)}
    suggestion = nearest(key, known)
    if not suggestion:
        tail = re.search(r"'([^']+)'", nearest(key.rsplit(".", 1)[-1], tails))
        suggestion = f" Did you mean '{tails[tail.group(1)]}'?" if tail else ""
    script = Path(sys.argv[0]).name
    return (
        f"unknown key '{key}'.{suggestion} `python {script} --cfg job` with the same choices prints all keys; "
        f"to add a key that a class accepts, write +{key}=…"
    )


def flat_keys(tree: Any, prefix: str = "") -> list[str]:
    """All dotted keys of a nested dict, the inner nodes among them."""
    keys: list[str] = []
    if isinstance(tree, dict):
        for name, value in tree.items():
            keys.append(f"{prefix}{name}")
            keys.extend(flat_keys(value, f"{prefix}{name}."))
    return keys


@functools.cache
def interactive() -> bool:
    """Whether a person watches: progress bars move only then."""
    return sys.stdout.isatty()
