"""Checks that the arguments of `make_learner` fit together, when it is called and when a user's function is traced."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arl.checks import check_whole
from arl.models import Policy
from arl.rollout import RolloutConfig, Writer
from arl.training.config import LearnerConfig, check_config
from arl.training.credit import ESTIMATORS, Credit, Estimator
from arl.training.layout import LANE_AXES, TENSOR_AXIS, Layout
from arl.types import ArlError, Interaction, Kind


def check_parts(
    interaction: Interaction, policy: Policy, rollout_config: RolloutConfig, config: LearnerConfig, curriculum: Any, first_step: int
) -> None:
    """Checks the type of each argument, and that the learner can score the interaction; arguments as `make_learner`.

    Raises:
      ArlError: if an argument has the wrong type or value, or the policy's context is too short.
    """
    kinds = {
        "interaction": (interaction, Interaction),
        "policy": (policy, Policy),
        "rollout_config": (rollout_config, RolloutConfig),
        "config": (config, LearnerConfig),
    }
    for name, (part, kind) in kinds.items():
        if not isinstance(part, kind):
            raise ArlError(f"{name} is {_described(part)}; give {_with_article(kind.__name__)}")
    check_config(config)
    if curriculum is not None and not isinstance(curriculum, dict):
        raise ArlError(f"curriculum is {_described(curriculum)}; give a dict, by names of layers")
    if interaction.writes and (idle := [name for name in config.rules if Kind[name.upper()] not in interaction.writes]):
        written = ", ".join(kind.name.lower() for kind in interaction.writes)
        raise ArlError(f"LearnerConfig.rules names {idle[0]}, and this agent writes {written} alone; take it out of the rules")
    check_whole(first_step=first_step)
    if first_step < 0:
        raise ArlError(f"first_step is {first_step}; set it >= 0")
    if "value" not in policy.heads:
        raise ArlError('the policy has no head "value"; add it to Policy.heads, or one that returns zeros')
    if config.confidence_weight and "confidence" not in policy.heads:
        raise ArlError('the policy has no head "confidence"; set ModelConfig.confidence_head=True, or LearnerConfig.confidence_weight=0')
    if policy.context_length is not None and policy.context_length < interaction.size.context:
        raise ArlError(
            f"a policy for contexts of {policy.context_length} tokens cannot score those of {interaction.size.context} of an episode; "
            f"set its context_length >= {interaction.size.context}"
        )
    if rollout_config.decoding.temperature == 0:
        raise ArlError("greedy decoding leaves no alternative to learn from; set Decoding.temperature > 0")


def check_estimator(rollout_config: RolloutConfig, config: LearnerConfig, estimator: Estimator | None) -> None:
    """Checks that advantages can be estimated from the trajectories of a rollout; arguments as `make_learner`.

    Raises:
      ArlError: if `estimator` or `config.estimator` is not an estimator, or does not fit the rollout.
    """
    if estimator is not None and not callable(estimator):
        raise ArlError(
            f"estimator is {_described(estimator)}; give a function (trajectory, reward, config) -> Credit, or set LearnerConfig.estimator"
        )
    if estimator is not None:
        _check_takes("estimator", estimator, ("trajectory", "reward", "config"))
    by_name = {f"rules.{kind}.estimator": rule.estimator for kind, rule in config.rules.items() if rule.estimator}
    by_name |= {} if estimator else {"estimator": config.estimator}
    for field, name in by_name.items():
        _check_credit_by_name(field, name, config)
    for kind, rule in config.rules.items():
        if estimator and not rule.estimator:
            continue  # nothing is known of a function
        name = rule.estimator or config.estimator
        if rule.span != "episode" and ESTIMATORS[name].compares_groups:
            raise ArlError(f"{name!r} compares whole episodes; set LearnerConfig.rules.{kind}.span='episode', or another estimator")
        if rule.span == "segment" and ESTIMATORS[name].uses_values:
            raise ArlError(
                f"{name!r} subtracts values, which are not those of one segment; set LearnerConfig.rules.{kind}.estimator='monte_carlo'"
            )
        if rule.gae_lambda is not None and not ESTIMATORS[name].uses_lambda:
            raise ArlError(f"{name!r} has no lambda; leave LearnerConfig.rules.{kind}.gae_lambda out, or set its estimator to 'gae'")
    compares_groups = any(ESTIMATORS[name].compares_groups for name in by_name.values())
    if (compares_groups or config.group_size > 1) and rollout_config.restarts:
        raise ArlError(
            "episodes of a group must begin together; set RolloutConfig.restarts=False, or LearnerConfig.group_size=1 and another estimator"
        )


def _check_takes(name: str, function: Any, arguments: tuple[str, ...]) -> None:
    """Raises an `ArlError` if a function cannot be called with so many arguments."""
    try:
        inspect.signature(function).bind(*arguments)
    except ValueError:  # of a builtin, whose signature is not known
        return
    except TypeError as error:
        raise ArlError(f"the {name} does not take ({', '.join(arguments)}): {error}; give it these arguments") from None


def _check_credit_by_name(field: str, name: str, config: LearnerConfig) -> None:
    """Raises an `ArlError` if `LearnerConfig.<field>` names no estimator, or one that lacks what it needs."""
    if name not in ESTIMATORS:
        raise ArlError(f"LearnerConfig.{field} is {name!r}; set it to one of {', '.join(ESTIMATORS)}")
    if ESTIMATORS[name].uses_values and config.value_weight == 0:
        raise ArlError(
            f"LearnerConfig.{field}={name!r} subtracts values that nothing trains; set LearnerConfig.value_weight > 0, or "
            f"{field}='monte_carlo'"
        )
    if ESTIMATORS[name].compares_groups and config.group_size < 2:
        raise ArlError(
            f"LearnerConfig.{field}={name!r} compares the lanes of a group, and a group of {config.group_size} has nothing to compare; set "
            "LearnerConfig.group_size >= 2"
        )


def check_writer(rollout_config: RolloutConfig, config: LearnerConfig, writer: Writer | None) -> None:
    """Checks that what others write is learned, and that a group has one writer; arguments as `make_learner`.

    Raises:
      ArlError: if one of these does not hold, or there are two writers.
    """
    writes = writer is not None or rollout_config.expert_fraction > 0
    if writer is not None and (not isinstance(writer, Writer) or rollout_config.expert_fraction):
        what = "and the experts write too" if rollout_config.expert_fraction else f"which is {_described(writer)}"
        raise ArlError(f"a writer is given, {what}; give a rollout.Writer, with RolloutConfig.expert_fraction=0")
    if writes != (config.imitation_weight > 0):
        what = "nothing is learned of what others write" if writes else "the policy writes everything, and there is nothing to imitate"
        raise ArlError(
            f"{what}; set LearnerConfig.imitation_weight > 0 and RolloutConfig.expert_fraction > 0 (or give a writer), or neither"
        )
    if writer is not None:
        if not callable(writer.write):
            raise ArlError(f"Writer.write is {_described(writer.write)}; give a function that returns a rollout.Proposal")
        _check_takes("writer", writer.write, ("variables", "curriculum", "request", "is_waiting"))
        check_whole(**{"Writer.num_lanes": writer.num_lanes})
        if writer.num_lanes < 0:
            raise ArlError(f"Writer.num_lanes is {writer.num_lanes}; set it >= 0")
        if rollout_config.decoding.narrows:
            raise ArlError(
                "a writer may write what top-k, top-p and min-p drop; set Decoding.top_k=0, top_p=1 and min_p=0, or leave the writer out"
            )
    if rollout_config.expert_fraction and rollout_config.expert_unit == "segment" and config.group_size > 1:
        raise ArlError("a group has one writer; set RolloutConfig.expert_unit='episode', or LearnerConfig.group_size=1")


def check_importance_cap(importance_cap: float) -> None:
    """Raises an `ArlError` if `importance_cap`, the largest importance weight, is not above 0."""
    if isinstance(importance_cap, bool) or not isinstance(importance_cap, int | float | np.number) or not importance_cap > 0:
        raise ArlError(f"importance_cap is {importance_cap!r}; set it above 0, or to math.inf for no truncation")


def check_layout(config: LearnerConfig, layout: Layout) -> None:
    """Checks that lanes divide among devices, and that devices are named by either an axis or a mesh; arguments as `make_learner`.

    Raises:
      ArlError: if one of these does not hold.
    """
    if not isinstance(layout, Layout):
        raise ArlError(f"layout is {_with_article(type(layout).__name__)}; give a Layout, such as Layout(mesh)")
    mesh, num_devices = layout.mesh, layout.num_devices
    check_whole(**{"Layout.num_devices": num_devices})
    if num_devices < 1:
        raise ArlError(f"Layout.num_devices is {num_devices}; set it >= 1")
    if mesh is not None:
        known = (*LANE_AXES, TENSOR_AXIS)
        if unknown := [axis for axis in mesh.axis_names if axis not in known]:
            raise ArlError(f"the mesh has an axis {unknown[0]!r}; name its axes {', '.join(map(repr, known))}")
        if layout.device_axis is not None:
            raise ArlError("a mesh divides the whole program, device_axis belongs to the program of one device; give one of them")
    shards = layout.num_shards
    if config.num_blocks % shards:
        raise ArlError(
            f"{config.num_blocks} blocks of lanes do not divide among {shards} devices; set LearnerConfig.num_blocks to a multiple"
        )
    if config.num_lanes // shards % config.group_size:
        raise ArlError(
            f"a group of {config.group_size} lanes does not fit on one of {shards} devices; set LearnerConfig.num_lanes higher, or its "
            "group_size lower"
        )
    if mesh is not None and config.num_lanes % mesh.size:
        raise ArlError(f"{config.num_lanes} lanes do not divide among {mesh.size} devices; set LearnerConfig.num_lanes to a multiple")
    if num_devices > 1 and layout.device_axis is None:
        raise ArlError(
            f"nothing tells the {num_devices} devices apart; set Layout.device_axis to that of jax.shard_map or jax.pmap, or Layout.mesh"
        )


def check_credit(credit: Any, shape: tuple[int, ...]) -> None:
    """Checks what an estimator returned.

    Args:
      credit: the value to check.
      shape: `[B, T]` of the trajectory.

    Raises:
      ArlError: if it is not a `Credit` for trajectories of that shape.
    """
    wanted = f"Credit(advantage, target, policy_mask, metrics), the first three of shape {shape}, as the trajectory is ([B, T])"
    if not isinstance(credit, Credit):
        raise ArlError(f"the estimator returned {_described(credit)}; return a {wanted}")
    types = {"advantage": jnp.floating, "target": jnp.floating, "policy_mask": jnp.bool_}
    for name, kind in types.items():
        array = getattr(credit, name)
        if getattr(array, "shape", None) != shape:
            raise ArlError(f"the estimator returned {_described(array)} as {name}; return a {wanted}")
        if not jnp.issubdtype(array.dtype, kind):
            word = "bool" if kind is jnp.bool_ else "float32"
            raise ArlError(f"the estimator returned {array.dtype} as {name}; return it as {word}")
    if not isinstance(credit.metrics, dict):
        raise ArlError(f"the estimator returned {_described(credit.metrics)} as metrics; return a dict of numbers by name, {{}} for none")
    for name, value in credit.metrics.items():
        is_number = isinstance(value, int | float) or getattr(value, "shape", None) == ()
        if not isinstance(name, str) or not is_number:
            raise ArlError(f"the estimator returned {_described(value)} as metrics[{name!r}]; return a number, float32 [], under each name")


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
