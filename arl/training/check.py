"""Whether what a learner is given fits together. What does not is refused in a sentence: at once, or when a user's function is traced."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from arl.rollout import RolloutConfig
from arl.training.config import LearnerConfig, check_config
from arl.training.credit import ESTIMATORS, GROUPED, Credit, Estimator
from arl.types import Interaction, LanguageModel, check_whole


def check_parts(
    interaction: Interaction, model: LanguageModel, rollout_config: RolloutConfig, config: LearnerConfig, setting: Any, first_step: int
) -> None:
    """Raises a `ValueError` for a part that is none, stands in another's place or does not fit; arguments as `make_learner`."""
    kinds = {
        "interaction": (interaction, Interaction),
        "model": (model, LanguageModel),
        "rollout_config": (rollout_config, RolloutConfig),
        "config": (config, LearnerConfig),
    }
    for name, (part, kind) in kinds.items():
        if not isinstance(part, kind):
            raise ValueError(f"{name} is {_described(part)}; give {_with_article(kind.__name__)}")
    check_config(config)
    if setting is not None and not isinstance(setting, dict):
        raise ValueError(f"setting is {_described(setting)}; give a dict, by the names of the interaction's parts")
    check_whole(first_step=first_step)
    if first_step < 0:
        raise ValueError(f"first_step is {first_step}; set it >= 0")
    if model.context_length is not None and model.context_length < interaction.size.context:
        raise ValueError(
            f"a model for contexts of {model.context_length} tokens cannot score those of {interaction.size.context} that a life can hold; "
            f"set its context_length >= {interaction.size.context}"
        )
    if rollout_config.decoding.temperature == 0:
        raise ValueError("a greedy choice has no other beside it, so nothing is learned from it; set rollout.decoding.temperature > 0")


def check_estimate(rollout_config: RolloutConfig, config: LearnerConfig, estimate: Estimator | None) -> None:
    """Raises a `ValueError` for credit that cannot be given to what is rolled out; `estimate` None stands for `config.credit`."""
    if estimate is None:
        _check_credit_by_name(rollout_config, config)
    elif not callable(estimate):
        raise ValueError(f"estimate is {_described(estimate)}; give a function (stream, reward, config) -> Credit, or set learner.credit")
    if (config.credit in GROUPED or config.group_size > 1) and rollout_config.restarts:
        raise ValueError(
            "lives of a group must begin together; set rollout.restarts=False, or learner.group_size=1 and another learner.credit"
        )


def _check_credit_by_name(rollout_config: RolloutConfig, config: LearnerConfig) -> None:
    if config.credit not in ESTIMATORS:
        raise ValueError(f"learner.credit is {config.credit!r}; set it to one of {', '.join(ESTIMATORS)}")
    if rollout_config.expert != (config.credit == "cloning"):
        raise ValueError(
            "what an expert writes is cloned, and nothing else is; set rollout.expert=True and learner.credit='cloning', or neither"
        )
    if config.credit == "cloning" and config.normalize:
        raise ValueError("nothing is left of advantages that are all 1 when they are standardised; set learner.normalize=False")
    if config.credit in GROUPED and config.group_size < 2:
        raise ValueError(
            f"learner.credit={config.credit!r} compares the lanes of a group, and a group of {config.group_size} has nothing to "
            "compare; set learner.group_size >= 2"
        )


def check_devices(config: LearnerConfig, num_shares: int, num_devices: int, axis_name: str | None, mesh: Mesh | None) -> None:
    """Raises a `ValueError` for lanes that do not divide among devices, or devices that are told in no way or in two.

    Args:
      config: of the learner.
      num_shares: into which the lanes are divided.
      num_devices, axis_name, mesh: as `make_learner`.
    """
    check_whole(num_devices=num_devices)
    if num_devices < 1:
        raise ValueError(f"num_devices is {num_devices}; set it >= 1")
    if config.blocks % num_shares:
        raise ValueError(f"{config.blocks} blocks of lanes do not divide among {num_shares} devices; set learner.blocks to a multiple")
    if config.num_lanes // num_shares % config.group_size:
        raise ValueError(
            f"a group of {config.group_size} lanes does not fit on one of {num_shares} devices; set more lanes or smaller groups"
        )
    if num_devices > 1 and axis_name is None:
        raise ValueError(
            f"nothing tells the {num_devices} devices apart; set axis_name to that of jax.shard_map or jax.pmap, or give a mesh"
        )
    if mesh is not None and axis_name is not None:
        raise ValueError("a mesh divides the lanes of the whole program, axis_name belongs to the program of one device; give one of them")


def check_credit(credit: Any, shape: tuple[int, ...]) -> None:
    """Raises a `ValueError` for what an estimator returned, if it is no `Credit` for streams of a shape.

    Args:
      credit: what it returned.
      shape: `[B, T]` of the stream.
    """
    wanted = f"Credit(advantage, target, is_kept, metrics), the first three of shape {shape}, as the stream is ([B, T])"
    if not isinstance(credit, Credit):
        raise ValueError(f"estimate returned {_described(credit)}; return a {wanted}")
    types = {"advantage": jnp.floating, "target": jnp.floating, "is_kept": jnp.bool_}
    for name, kind in types.items():
        array = getattr(credit, name)
        if getattr(array, "shape", None) != shape:
            raise ValueError(f"estimate returned {_described(array)} as {name}; return a {wanted}")
        if not jnp.issubdtype(array.dtype, kind):
            word = "bool" if kind is jnp.bool_ else "float32"
            raise ValueError(f"estimate returned {array.dtype} as {name}; return it as {word}")
    if not isinstance(credit.metrics, dict):
        raise ValueError(f"estimate returned {_described(credit.metrics)} as metrics; return a dict of numbers by name, {{}} for none")
    for name, value in credit.metrics.items():
        is_number = isinstance(value, int | float) or getattr(value, "shape", None) == ()
        if not isinstance(name, str) or not is_number:
            raise ValueError(f"estimate returned {_described(value)} as metrics[{name!r}]; return a number, float32 [], under each name")


def check_adapted(before: Any, after: Any) -> None:
    """Raises a `ValueError` if `adapt` was given a setting `before` and returned one `after` of another form."""
    old, new = _form(before), _form(after)
    if old != new:
        raise ValueError(f"interaction.adapt was given a setting of {old}, and returned one of {new}; return one of the same form")


def _form(setting: Any) -> str:
    """Returns the names, types and shapes of what a setting holds, such as "goals.count int32[8]"."""
    leaves = ((jax.tree_util.keystr(path, simple=True, separator="."), x) for path, x in jax.tree.leaves_with_path(setting))
    types = ((name, x.dtype if hasattr(x, "dtype") else jnp.result_type(x), list(jnp.shape(x))) for name, x in leaves)
    return ", ".join(f"{name} {dtype}{shape}" for name, dtype, shape in types) or "nothing"


def _described(value: Any) -> str:
    """Returns words for what somebody gave instead of something else."""
    if value is None or isinstance(value, str | int | float):
        return repr(value)
    shape = getattr(value, "shape", None)
    return _with_article(type(value).__name__) if shape is None else f"an array of shape {tuple(shape)}"


def _with_article(word: str) -> str:
    return f"{'an' if word[0] in 'AEIOUaeiou' else 'a'} {word}"
