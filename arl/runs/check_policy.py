"""A check that a policy, its variables and an agent fit together."""

from typing import Any

import jax

from arl import rollout
from arl.models import Policy, Variables
from arl.rollout import RolloutConfig
from arl.runs.check_functions import form
from arl.types import ArlError, Interaction


def check_policy(agent: Interaction, config: RolloutConfig, policy: Policy | None, variables: Any) -> None:
    """Checks that a policy can write for an agent with these variables.

    Args:
      agent: the agent in its environment.
      config: config of the rollout.
      policy: the policy; None for none.
      variables: its variables; None without a policy.

    Raises:
      ArlError: if something is missing, or does not fit.
    """
    if policy is None:
        if variables is not None:
            raise ArlError("there are variables, and no policy that reads them; give live(agent, policy=..., variables=...)")
        return
    if not isinstance(policy, Policy):
        raise ArlError(f"the policy is a {type(policy).__name__}; give an arl.Policy, such as run.experiment.policy")
    if variables is None:
        raise ArlError("the policy has no variables; give live(agent, variables=policy.init(key)), or trained ones")
    rollout.check_rollout(agent, config, policy.vocab_size)
    if policy.context_length is not None and policy.context_length < agent.size.context:
        raise ArlError(f"the policy's context is too short for this agent; set its context_length >= {agent.size.context}")
    if policy.behaviour is None:  # else they may be those with which it rolls out, which have any form
        _check_variables(policy, variables)


def _check_variables(policy: Policy, variables: Any) -> None:
    """Raises `ArlError` if variables are not of the form of those that a policy makes."""
    if not isinstance(variables, Variables):
        raise ArlError(f"the variables are a {type(variables).__name__}; give arl.Variables, such as policy.init(key) or run.variables")
    wanted, found = form(jax.eval_shape(policy.init, jax.random.key(0))), form(variables)
    if wrong := [path for path in {**wanted, **found} if wanted.get(path) != found.get(path)]:
        is_now, should_be = (each.get(wrong[0], "nothing") for each in (found, wanted))
        raise ArlError(
            f"variables{wrong[0]} is {is_now} where this policy has {should_be}; give variables of the same policy, such as run.variables "
            "with run.experiment.policy"
        )
