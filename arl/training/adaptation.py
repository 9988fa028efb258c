"""Adaptation: the rewards of an agent, and when it changes its answers, around an unannounced shift of the rules.

All functions run on the host, on trajectories that hold one whole episode in each lane.
"""

import numpy as np

from arl.training.evaluation import written_segments
from arl.types import ArlError, Interaction, Kind, Trajectory


def since_shift(is_shift: np.ndarray) -> np.ndarray:
    """Counts the steps since the last shift.

    Args:
      is_shift: bool `[N, T]`, the first step under new rules.

    Returns:
      int `[N, T]`: 0 at a shift. Before the first shift, minus the number of steps until it; at most `-T - 1` in an episode without a
      shift.
    """
    step = np.arange(is_shift.shape[1])
    last = np.maximum.accumulate(np.where(is_shift, step, -1), axis=1)
    first = np.where(is_shift.any(1), is_shift.argmax(1), 2 * len(step))[:, None]
    return step - np.where(last >= 0, last, first)


def rewards_by_step(trajectory: Trajectory, num_steps: int) -> np.ndarray:
    """Returns the outcome reward of each action of an episode, float32 `[N, num_steps]`, in the environment's units.

    Args:
      trajectory: `[N, T]`, one episode in each lane, of at least `num_steps` actions.
      num_steps: actions of an attempt.

    Raises:
      ArlError: if an episode has fewer actions.
    """
    is_action = np.asarray(trajectory.ends_segment & (trajectory.kind == Kind.ACTION))
    if is_action.sum(1).min() < num_steps:
        raise ArlError(f"an episode has {is_action.sum(1).min()} actions; give episodes of at least {num_steps}")
    return np.stack([row[here][:num_steps] for row, here in zip(np.asarray(trajectory.reward.outcome), is_action, strict=True)])


def switches(interaction: Interaction, trajectory: Trajectory, asked: np.ndarray) -> np.ndarray:
    """Finds the steps at which an agent changes its answer to a question.

    Args:
      interaction: the agent in its environment.
      trajectory: one episode in each lane.
      asked: int `[N, T]`, question of each step, as in `arl.task.Course`.

    Returns:
      bool `[N, T]`, whether the answer differs from the last one to the same question; False where there was none.
    """
    said = written_segments(interaction, trajectory, Kind.ACTION)
    rows = np.where(np.arange(said.ids.shape[-1]) < np.asarray(said.length)[..., None], np.asarray(said.ids), -1)
    found = np.zeros(asked.shape, bool)
    for now in range(1, asked.shape[1]):
        is_same = asked[:, :now] == asked[:, now, None]
        last = now - 1 - np.argmax(is_same[:, ::-1], axis=1)
        differs = (rows[:, now] != np.take_along_axis(rows, last[:, None, None], axis=1)[:, 0]).any(1)
        found[:, now] = is_same.any(1) & differs
    return found


def around_shift(values: np.ndarray, is_shift: np.ndarray, before: int, after: int) -> list[float]:
    """Returns the mean of values by their distance from a shift.

    Args:
      values: `[N, T]`, in any unit.
      is_shift: bool `[N, T]`, the first step under new rules.
      before: number of steps before the first shift.
      after: number of steps from a shift on.

    Returns:
      `before + after` means, for distances from `-before` to `after - 1`; nan where no step has that distance.
    """
    since = since_shift(is_shift)
    at = [np.asarray(values)[since == distance] for distance in range(-before, after)]
    return [float(found.mean()) if len(found) else float("nan") for found in at]
