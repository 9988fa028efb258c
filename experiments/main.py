"""What the binaries share: flags, the compilation cache, and errors of one line."""

import os
import pathlib
import signal
import sys
import sysconfig
import traceback
import types
import warnings
from collections.abc import Callable

from absl import flags, logging

_ROOT = pathlib.Path(__file__).absolute().parents[1]
# Folders of files that no user wrote.
_NOT_OF_USERS = tuple(f"{folder}/" for folder in (_ROOT / "arl", _ROOT / "experiments", *map(sysconfig.get_path, ("stdlib", "purelib"))))

CACHE = flags.DEFINE_bool("compilation_cache", True, "Whether compiled programs are kept in the user's cache folder.")


class UsageError(Exception):
    """An invalid flag or config; the message says in one sentence what to change."""


def run(body: Callable[[list[str]], int | None], *, takes_config: bool = False) -> int:
    """Parses the flags, calls `body` with the assignments of `--config.field=value`, and returns the exit code.

    Args:
      body: main function of the binary; returns an exit code, or None for success.
      takes_config: whether `--help` describes presets and config fields.

    Returns:
      0 done, 2 bad flags or config, 1 anything else.
    """
    # XLA reports a harmless difference of machine features for every program that it loads from its cache (jax#38445).
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    # Orbax also logs the errors that are reported here in one sentence; --verbosity=0 shows its logs.
    logging.set_verbosity(logging.FATAL)
    warnings.showwarning = lambda message, *place: print(f"warning: {message}", file=sys.stderr)
    if {"--help", "-h"} & set(sys.argv[1:]):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # help is piped to a pager, which may close early
        print(sys.modules["__main__"].__doc__, flags.FLAGS.main_module_help(), flags.FLAGS.module_help(sys.modules[__name__]), sep="\n")
        if takes_config:
            from experiments.usage import usage

            print(usage())
        return 0
    try:
        assignments = [argument.removeprefix("--config.") for argument in sys.argv[1:] if argument.startswith("--config.")]
        for assignment in assignments:
            if "=" not in assignment:
                raise UsageError(f"--config.{assignment} has no value; give it one, as in {_example(assignment)}")
        rest = flags.FLAGS([sys.argv[0], *(argument for argument in sys.argv[1:] if not argument.startswith("--config."))])
        if len(rest) > 1:
            raise UsageError(f"{rest[1]} is no flag; flags begin with --")
        if CACHE.value:
            _keep_compiled_programs()
        return body(assignments) or 0
    except flags.UnrecognizedFlagError as error:
        return _say(_meant(error.flagname) or " ".join(str(error).split()), 2)
    except flags.Error as error:
        return _say(" ".join(str(error).split()), 2)
    except UsageError as error:
        return _say(str(error), 2)
    except OSError as error:
        return _say(f"{error.filename or 'a file'}: {error.strerror or error}; free what it needs, or name another folder", 1)
    except KeyboardInterrupt:
        return _say("interrupted", 1)
    except Exception as error:  # of the library in one sentence; of a user's function in one sentence and its own frames
        from arl.training import CheckpointError, TrainingError
        from arl.types import ArlError
        from experiments.fields import as_flags

        if isinstance(error, ArlError):
            return _say(as_flags(str(error)), 2)
        if isinstance(error, (CheckpointError, TrainingError)):
            return _say(as_flags(str(error)), 1)
        if (place := _own_place(error)) is None:
            raise
        function = place.tb_frame.f_code
        _say(f"{function.co_qualname} of {pathlib.Path(function.co_filename).name} fails with {type(error).__name__}; mend it", 1)
        traceback.print_exception(error.with_traceback(place))
        return 1


def _own_place(error: BaseException) -> types.TracebackType | None:
    """Returns the traceback of an error from the first function on that a user wrote; None if there is none."""
    place = error.__traceback__
    while place:
        file = place.tb_frame.f_code.co_filename
        if not file.startswith("<") and not os.path.abspath(file).startswith(_NOT_OF_USERS):
            break
        place = place.tb_next
    return place


def read_seeds(words: list[str]) -> list[int]:
    """Returns the seeds of a flag.

    Args:
      words: values of the flag.

    Raises:
      UsageError: if one is no seed, or stands there twice, or there is none.
    """
    is_seed = lambda word: word.isascii() and word.isdigit() and int(word) < 2**31
    if wrong := [word for word in words if not is_seed(word)]:
        raise UsageError(f"{wrong[0]!r} is no seed; set --seeds to whole numbers below {2**31}, such as 0,1,2")
    if not words:
        raise UsageError("--seeds is empty; set it to whole numbers, such as 0,1,2")
    if len({int(word) for word in words}) < len(words):
        raise UsageError("a seed stands twice in --seeds; name each once")
    return [int(word) for word in words]


def _meant(flag: str) -> str:
    """Returns a hint for an unknown flag that has the name of a config field; empty if no field has it."""
    from experiments import config

    if flag == "config":
        return f"--config needs the name of a field, as in {_example('learner.num_updates')}; train.py --help lists them"
    names = [f"--config.{name}" for name in config.fields_called(flag)]
    return f"there is no flag --{flag}; the training takes {' or '.join(names)}" if names else ""


def _example(name: str) -> str:
    from experiments import config, fields

    return fields.example(config.Config(), name)


def _say(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def _keep_compiled_programs() -> None:
    import jax

    folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "arl"
    jax.config.update("jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
