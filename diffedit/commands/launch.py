"""How a command runs what Hydra composes for it, and what a user is told where that goes wrong."""

import errno
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from functools import partial, wraps
from pathlib import Path
from typing import Any

from diffedit.commands.help import describe_command
from diffedit.commands.include import include_packages
from diffedit.io.files import find_shipped, remove_empty
from diffedit.runs.stop import StopRequested, stop

FULL = "HYDRA_FULL_ERROR"
HINT = f"({FULL}=1 shows where)"
FAILED, REFUSED = 1, 2
OF_SWEEP = "multirun.yaml"  # what Hydra writes above the jobs of a sweep
# Flags of Hydra that take a word.
VALUED = {*("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd")}
OPTIONALLY_VALUED = {"--info", "-i"}
# What to do about a place that cannot be written to; Python's own words say which.
OTHER_PLACE = "or write elsewhere (of a run: runs=DIR); what was saved before is whole"
REMEDIES = {
    errno.EROFS: f"mount it for writing, {OTHER_PLACE}",
    errno.EACCES: f"where it was to be written, ask for the right to, {OTHER_PLACE}",
    errno.ENOSPC: f"make room, {OTHER_PLACE}",
    errno.EDQUOT: f"make room within your quota, {OTHER_PLACE}",
}
RAISED = re.compile(r"^\w+ raised while resolving interpolation: ")
NO_SUCH_CHOICE = re.compile(r"Could not load '([^']+/[^'/]+)'")
NO_SUCH_KEY = re.compile(r"Could not override '([^']+)'\.\s+To append")


def launch(
    name: str,
    task: Callable[[Any], Any],
    argv: Sequence[str],
    config: str | None = None,
    finish: Callable[[Sequence[tuple[Any, Callable[[Exception], None]]]], None] | None = None,
    program: str | None = None,
) -> int:
    """Compose conf/<name>.yaml with the overrides of a command line, and run the task with it; several in a sweep.

    Args:
        name: of the command.
        task: is called with each config; what it raises is told, and a sweep goes on to its next job.
        argv: what stands behind the command's name.
        config: name of the yaml, of a script that is no command of `diffedit`.
        finish: is given at the end what tasks returned, but for None, each with what tells an error of that job.
        program: as it was typed, where that is not `diffedit NAME`.

    Returns:
        the exit code: the largest of a sweep's.
    """
    typed = f"diffedit {name.replace('_', '-')}" if config is None else f"python scripts/{name}.py"
    program = program or typed
    if {"-h", "--help"} & set(argv):
        print(describe_command(program, config or name))
        return 0

    import hydra
    from hydra.core.hydra_config import HydraConfig

    from diffedit.commands.schemas import check_command
    from diffedit.io.checks import refuse_renamed

    codes, left, words, process = [0], [], [], os.getpid()
    missing: dict[str, list[Path]] = {}
    kept = sys.argv, os.environ.get(FULL)
    is_full = wants_traceback()

    def note(where: str, error: Exception) -> None:
        codes.append(tell(error, where, is_full))

    @wraps(task)
    def guarded(cfg: Any) -> None:
        job = HydraConfig.get().overrides.task if is_sweep() else ()
        where = " ".join([program, *job])
        try:
            check_command(cfg, config or name)
            set_limits(cfg)
            if (rest := task(cfg)) is not None:
                left.append((rest, partial(note, where)))
        except Exception as error:
            if os.getpid() != process:  # a launcher's own process: it has to know
                raise
            stop_in_imports(error)
            note(where, error)
            if is_sweep():
                remove_empty(Path(HydraConfig.get().runtime.output_dir), Path(HydraConfig.get().sweep.dir))

    def is_sweep() -> bool:
        return HydraConfig.get().mode is not None and HydraConfig.get().mode.name == "MULTIRUN"

    try:
        words = put_overrides_last(include_packages(list(argv)))
        refuse_renamed(name, words)
        check_before_folders(config or name, missing)
        sys.argv = [program, *words]
        os.environ[FULL] = "1"  # so that what Hydra itself finds wrong comes here
        folder = str(find_shipped("conf").resolve())
        hydra.main(version_base="1.3", config_path=folder, config_name=config or name)(guarded)()
        if finish is not None and left:
            finish(left)
    except Exception as error:
        stop_in_imports(error)
        codes.append(tell(find_nearer(error, config or name, words), program, is_full))
    finally:
        sys.argv = kept[0]
        os.environ.pop(FULL, None)
        if kept[1] is not None:
            os.environ[FULL] = kept[1]
    if REFUSED in codes:
        remove_unused(missing.values())
    return max(codes)


def stop_in_imports(error: BaseException | None) -> None:
    """A StopRequested where a signal came in the midst of an import: half a module is left, and some error of that."""
    while stop.number is not None and error is not None:
        if any("importlib" in frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)):
            raise StopRequested(stop.number) from None
        error = error.__cause__


def remove_unused(made: Iterable[Sequence[Path]]) -> None:
    """Folders that Hydra made for what was refused, if nothing else is there: each innermost first."""
    for folders in made:
        with suppress(OSError):  # one is not empty
            for folder in folders:
                if {path.name for path in folder.iterdir()} == {OF_SWEEP}:
                    (folder / OF_SWEEP).unlink()
                folder.rmdir()


def check_before_folders(name: str, missing: dict[str, list[Path]]) -> None:
    """Let `${checked:...}`, which is its argument, check the config around it, before Hydra makes a folder.

    Of a sweep, the command's own settings are checked, as what else there is may depend on what is swept over. Its jobs
    are not: a mistake here would end all of them.

    Args:
        name: of the yaml.
        missing: is given, by each folder that is to hold all others, those of it and above it that are not there yet.
    """
    from hydra.types import RunMode
    from omegaconf import DictConfig, OmegaConf

    from diffedit.commands.schemas import check_command

    def check(value: Any, *, _root_: DictConfig) -> Any:
        above = Path(str(value)).absolute()
        missing.setdefault(str(value), [path for path in (above, *above.parents) if not path.exists()])
        is_sweep = _root_.hydra.mode == RunMode.MULTIRUN
        if not is_sweep or OmegaConf.is_missing(_root_.hydra.job, "num"):
            check_command(_root_, name, is_whole=not is_sweep)
        return value

    OmegaConf.register_new_resolver("checked", check, replace=True)


def find_nearer(error: Exception, name: str, words: Sequence[str]) -> Exception:
    """Of a key that Hydra does not know: our own error, which names the nearest, where the rest composes.

    Args:
        error: as Hydra raised it.
        name: of the yaml.
        words: of the command line.

    Returns:
        else the same error.
    """
    from hydra.errors import ConfigCompositionException

    from diffedit.commands.schemas import check_command
    from diffedit.io.compose import compose
    from diffedit.io.schema import ConfigError

    if not isinstance(error, ConfigCompositionException) or not (found := NO_SUCH_KEY.match(str(error))):
        return error
    overrides = [f"+{word}" if word.startswith(f"{found[1]}=") else word for word in words if not word.startswith("-")]
    try:
        check_command(compose(name, overrides), name)
    except ConfigError as nearer:
        return nearer
    except ConfigCompositionException as other:
        is_other_key = overrides != words and NO_SUCH_KEY.match(str(other))
        return find_nearer(other, name, overrides) if is_other_key else error
    except Exception:  # of what else is wrong with the words
        return error
    return ConfigError(f"{found[1]}: it is not there yet; +{found[1]}=... adds it")


def set_limits(cfg: Any) -> None:
    """The limits of a config that hold for the whole process."""
    if "max_pixels" in cfg:
        from diffedit.io.images import limit_pixels

        limit_pixels(cfg.max_pixels)


def put_overrides_last(words: Sequence[str]) -> list[str]:
    """Flags first, as Hydra's parser wants all overrides side by side and users put them anywhere."""
    flags, overrides = [], []
    for before, word in zip(["", *words], words, strict=False):
        is_value = before in VALUED or (before in OPTIONALLY_VALUED and "=" not in word)
        (flags if word.startswith("-") or is_value else overrides).append(word)
    return [*flags, *overrides]


def wants_traceback() -> bool:
    """Whether the user asked for all that there is to know of an error."""
    return os.environ.get(FULL, "0") != "0"


def tell(error: Exception, where: str, is_full: bool | None = None) -> int:
    """Say what went wrong, in a line where the user can mend it and with a traceback where only we can.

    Args:
        error: what was raised.
        where: the command, as it was typed.
        is_full: whether a traceback is printed in any case; None asks the environment.

    Returns:
        the exit code.
    """
    cause = find_cause(error)
    code = find_exit_code(cause)
    if code is None or (wants_traceback() if is_full is None else is_full):
        traceback.print_exception(error)
    if code is None:
        return FAILED
    print(f"{where}: {describe(cause)}\n{HINT}", file=sys.stderr)
    return code


def find_cause(error: Exception) -> Exception:
    """What an object raised when it was made from a config; else the error itself."""
    from hydra.errors import InstantiationException

    while isinstance(error, InstantiationException) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


def find_exit_code(error: Exception) -> int | None:
    """The exit code of an error that its message explains; None for a fault of the code."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(code := getattr(error, "exit_code", None), int):
        return code
    if type(error.__cause__).__name__ == "OutOfMemoryError" or isinstance(error, FloatingPointError):
        return FAILED  # while it computed; the message has the remedy
    if isinstance(error, OSError) and not is_of_a_path(error):
        return FAILED
    if isinstance(error, ValueError | OSError | ImportError | HydraException | OmegaConfBaseException):
        return REFUSED
    return REFUSED if isinstance(error, TypeError) and "unexpected keyword argument" in str(error) else None


def is_of_a_path(error: OSError) -> bool:
    """Whether a path is at fault, and not a disk that is full or broken."""
    return error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)


def describe_choice(chosen: str, options: Sequence[str]) -> str:
    """That a group, which stands before the last slash, has no such yaml; and which it has."""
    group, _, name = chosen.rpartition("/")
    near = get_close_matches(name, options, 3, 0.4)
    question = f"; did you mean {' or '.join(near)}?" if near else "."
    return f"{group}={name}: there is no such choice{question} There are {', '.join(sorted(options))}"


def describe(error: Exception) -> str:
    """The message of an error: in our words where Hydra's are about its own insides."""
    from hydra.errors import ConfigCompositionException, MissingConfigException
    from omegaconf.errors import (
        InterpolationKeyError,
        InterpolationResolutionError,
        MissingMandatoryValue,
        OmegaConfBaseException,
    )

    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        return describe_choice(error.missing_cfg_file, error.options)
    if isinstance(error, MissingConfigException) and (found := NO_SUCH_CHOICE.search(str(error))):  # one of a list
        shipped = [path.stem for path in find_shipped(f"conf/{found[1].rpartition('/')[0]}").glob("*.yaml")]
        return describe_choice(found[1], shipped)
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key}: it has no default; say {error.full_key}=..."
    if isinstance(error, ConfigCompositionException) and (found := NO_SUCH_KEY.match(str(error))):
        return f"{found[1]}: there is no such setting; --cfg job lists all"
    text = str(error).strip()
    if isinstance(error, OSError) and error.errno in REMEDIES:
        named = (
            f"{error.filename}: {error.strerror}" if error.filename else text.removeprefix(f"[Errno {error.errno}] ")
        )
        return f"{named}: {REMEDIES[error.errno]}"
    if isinstance(error, InterpolationResolutionError) and (error.full_key or "").startswith("hydra."):
        return RAISED.sub("", text.partition("\n    full_key:")[0])  # by a check of ours, of a folder's name or of all
    if isinstance(error, OmegaConfBaseException):
        words = text.partition("\n    full_key:")[0]
        is_named = not error.full_key or isinstance(error, InterpolationKeyError) or error.full_key in words
        text = words if is_named else f"{error.full_key}: {words}"
    if isinstance(error, ConfigCompositionException) and error.__cause__ is not None:
        text += f"\n{error.__cause__}".partition("\n    full_key:")[0] * (str(error.__cause__) not in text)
    return text
