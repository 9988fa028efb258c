"""Checks that the arguments of `make_learner` fit together, when it is called and when a user's function is traced."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from arl.models import LanguageModel
from arl.rollout import RolloutConfig
from arl.training.config import LearnerConfig, check_config
from arl.training.credit import ESTIMATORS, Credit, Estimator
from arl.types import ArlError, Interaction, check_whole


def check_parts(
    interaction: Interaction, model: LanguageModel, rollout_config: RolloutConfig, config: LearnerConfig, curriculum: Any, first_step: int
) -> None:
    """Checks the type of each argument, and that the learner can score the interaction; arguments as `make_learner`.

    Raises:
      ArlError: if an argument has the wrong type or value, or the model's context is too short.
    """
    kinds = {
        "interaction": (interaction, Interaction),
        "model": (model, LanguageModel),
        "rollout_config": (rollout_config, RolloutConfig),
        "config": (config, LearnerConfig),
    }
    for name, (part, kind) in kinds.items():
        if not isinstance(part, kind):
            raise ArlError(f"{name} is {_described(part)}; give {_with_article(kind.__name__)}")
    check_config(config)
    if curriculum is not None and not isinstance(curriculum, dict):
        raise ArlError(f"curriculum is {_described(curriculum)}; give a dict, by names of layers")
    check_whole(first_step=first_step)
    if first_step < 0:
        raise ArlError(f"first_step is {first_step}; set it >= 0")
    if model.context_length is not None and model.context_length < interaction.size.context:
        raise ArlError(
            f"a model for contexts of {model.context_length} tokens cannot score those of {interaction.size.context} of an episode; "
            f"set its context_length >= {interaction.size.context}"
        )
    if rollout_config.decoding.temperature == 0:
        raise ArlError("greedy decoding leaves no alternative to learn from; set Decoding.temperature > 0")


def check_estimate(rollout_config: RolloutConfig, config: LearnerConfig, estimate: Estimator | None) -> None:
    """Checks that advantages can be estimated from the trajectories of a rollout; arguments as `make_learner`.

    Raises:
      ArlError: if `estimate` or `config.credit` is not an estimator, or does not fit the rollout.
    """
    if estimate is None:
        _check_credit_by_name(rollout_config, config)
    elif not callable(estimate):
        raise ArlError(
            f"estimate is {_described(estimate)}; give a function (trajectory, reward, config) -> Credit, or set LearnerConfig.credit"
        )
    compares_groups = estimate is None and ESTIMATORS[config.credit].compares_groups
    if (compares_groups or config.group_size > 1) and rollout_config.restarts:
        raise ArlError(
            "episodes of a group must begin together; set RolloutConfig.restarts=False, or LearnerConfig.group_size=1 and another credit"
        )


def _check_credit_by_name(rollout_config: RolloutConfig, config: LearnerConfig) -> None:
    if config.credit not in ESTIMATORS:
        raise ArlError(f"LearnerConfig.credit is {config.credit!r}; set it to one of {', '.join(ESTIMATORS)}")
    named = ESTIMATORS[config.credit]
    if rollout_config.expert != named.clones:
        raise ArlError(
            "cloning needs an expert that writes, and an expert is only cloned; set RolloutConfig.expert=True and "
            "LearnerConfig.credit='cloning', or neither"
        )
    if named.clones and config.normalize:
        raise ArlError("the advantages of cloning are all 1, which standardises to 0; set LearnerConfig.normalize=False")
    if named.uses_values and config.value_weight == 0:
        raise ArlError(
            f"LearnerConfig.credit={config.credit!r} subtracts values that nothing trains; set LearnerConfig.value_weight > 0, or "
            "credit='monte_carlo'"
        )
    if named.compares_groups and config.group_size < 2:
        raise ArlError(
            f"LearnerConfig.credit={config.credit!r} compares the lanes of a group, and a group of {config.group_size} has nothing to "
            "compare; set LearnerConfig.group_size >= 2"
        )


def check_devices(config: LearnerConfig, num_shares: int, num_devices: int, axis_name: str | None, mesh: Mesh | None) -> None:
    """Checks that lanes divide among devices, and that devices are named by either an axis or a mesh.

    Args:
      config: config of the learner.
      num_shares: number of devices among which the lanes are divided.
      num_devices: as `make_learner`.
      axis_name: as `make_learner`.
      mesh: as `make_learner`.

    Raises:
      ArlError: if one of these does not hold.
    """
    check_whole(num_devices=num_devices)
    if num_devices < 1:
        raise ArlError(f"num_devices is {num_devices}; set it >= 1")
    if config.blocks % num_shares:
        raise ArlError(f"{config.blocks} blocks of lanes do not divide among {num_shares} devices; set LearnerConfig.blocks to a multiple")
    if config.num_lanes // num_shares % config.group_size:
        raise ArlError(
            f"a group of {config.group_size} lanes does not fit on one of {num_shares} devices; set more lanes or smaller groups"
        )
    if num_devices > 1 and axis_name is None:
        raise ArlError(f"nothing tells the {num_devices} devices apart; set axis_name to that of jax.shard_map or jax.pmap, or give a mesh")
    if mesh is not None and axis_name is not None:
        raise ArlError("a mesh divides the lanes of the whole program, axis_name belongs to the program of one device; give one of them")


def check_credit(credit: Any, shape: tuple[int, ...]) -> None:
    """Checks what an estimator returned.

    Args:
      credit: the value to check.
      shape: `[B, T]` of the trajectory.

    Raises:
      ArlError: if it is not a `Credit` for trajectories of that shape.
    """
    wanted = f"Credit(advantage, target, is_kept, metrics), the first three of shape {shape}, as the trajectory is ([B, T])"
    if not isinstance(credit, Credit):
        raise ArlError(f"estimate returned {_described(credit)}; return a {wanted}")
    types = {"advantage": jnp.floating, "target": jnp.floating, "is_kept": jnp.bool_}
    for name, kind in types.items():
        array = getattr(credit, name)
        if getattr(array, "shape", None) != shape:
            raise ArlError(f"estimate returned {_described(array)} as {name}; return a {wanted}")
        if not jnp.issubdtype(array.dtype, kind):
            word = "bool" if kind is jnp.bool_ else "float32"
            raise ArlError(f"estimate returned {array.dtype} as {name}; return it as {word}")
    if not isinstance(credit.metrics, dict):
        raise ArlError(f"estimate returned {_described(credit.metrics)} as metrics; return a dict of numbers by name, {{}} for none")
    for name, value in credit.metrics.items():
        is_number = isinstance(value, int | float) or getattr(value, "shape", None) == ()
        if not isinstance(name, str) or not is_number:
            raise ArlError(f"estimate returned {_described(value)} as metrics[{name!r}]; return a number, float32 [], under each name")


def check_adapted(before: Any, after: Any) -> None:
    """Checks that `update_curriculum` keeps the form of a curriculum.

    Args:
      before: the curriculum that `update_curriculum` was given.
      after: the curriculum that it returned.

    Raises:
      ArlError: if their names, types or shapes differ.
    """
    old, new = _form(before), _form(after)
    if old != new:
        raise ArlError(f"interaction.update_curriculum was given a curriculum of {old}, and returned one of {new}; return one of that form")


def _form(curriculum: Any) -> str:
    """Returns the names, types and shapes of a curriculum's values, such as "goals.count int32[8]"."""
    leaves = ((jax.tree_util.keystr(path, simple=True, separator="."), x) for path, x in jax.tree.leaves_with_path(curriculum))
    types = ((name, x.dtype if hasattr(x, "dtype") else jnp.result_type(x), list(jnp.shape(x))) for name, x in leaves)
    return ", ".join(f"{name} {dtype}{shape}" for name, dtype, shape in types) or "nothing"


def _described(value: Any) -> str:
    """Returns words for a value in an error message."""
    if value is None or isinstance(value, str | int | float):
        return repr(value)
    shape = getattr(value, "shape", None)
    return _with_article(type(value).__name__) if shape is None else f"an array of shape {tuple(shape)}"


def _with_article(word: str) -> str:
    return f"{'an' if word[0] in 'AEIOUaeiou' else 'a'} {word}"
