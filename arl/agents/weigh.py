"""Weights of what is paid: how much each component of the reward counts, fixed or over the course of training."""

from collections.abc import Mapping, Sequence

from arl.types import Interaction, Reward, Setting, State, Written, follow


def weigh(
    inner: Interaction, weights: Mapping[str, float] | None = None, *, scheduled: Sequence[str] = (), name: str = "reward"
) -> Interaction:
    """Returns `inner`, where each component of the reward is multiplied by its weight.

    The weights hold for all that is earned within, so this is the outermost combinator. The metrics `return/<component>` show what is
    learned from: the weighted components. Of a component of weight 0 nothing is seen there.

    Args:
      inner: the interaction whose rewards are weighed.
      weights: fixed ones, by component: "outcome", "process", "exploration", "efficiency"; 1 for those that are neither here nor scheduled.
      scheduled: components whose weight is `setting[name][component]`.
      name: key of this combinator's part of `setting`.

    Returns:
      The interaction; its state is that of `inner`.

    Raises:
      ValueError: if there is nothing to weigh, a component does not exist, has two weights, or a weight is negative.
    """
    weights = dict(weights or {})
    _check(weights, scheduled)

    def weigh_component(component: str, value, setting: Setting):
        return value * follow(setting, name, component) if component in scheduled else value * weights.get(component, 1.0)

    def advance(key, setting, state: State, written: Written):
        state, turn = inner.advance(key, setting, state, written)
        weighed = {component: weigh_component(component, value, setting) for component, value in turn.reward._asdict().items()}
        return state, turn._replace(reward=Reward(**weighed))

    return inner._replace(advance=advance)


def _check(weights: Mapping[str, float], scheduled: Sequence[str]) -> None:
    """Raises ValueError for weights that weigh nothing, contradict each other, or turn a reward into its opposite."""
    if isinstance(scheduled, str):
        raise ValueError(f"scheduled is the string {scheduled!r}; set it to a tuple of components, such as ({scheduled!r},)")
    if not weights and not scheduled:
        raise ValueError("weights of nothing change nothing; give a component a weight or a schedule, or leave weigh() out")
    for component in (*weights, *scheduled):
        if component not in Reward._fields:
            raise ValueError(f"the reward has no component {component!r}; weigh one of {', '.join(Reward._fields)}")
    if twice := set(weights) & set(scheduled):
        raise ValueError(f"the weight of {min(twice)!r} is fixed and scheduled as well; take it out of weights or out of scheduled")
    for component, weight in weights.items():
        if not 0 <= weight < float("inf"):
            raise ValueError(f"a weight of {weight} for {component!r} would not let it count for what it is; set it to a number >= 0")
