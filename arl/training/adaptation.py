"""Adaptation: what an agent earns, and when it changes its mind, around an unannounced change of the rules.

All of it is on the host, from streams that hold one whole life in each lane.
"""

from typing import NamedTuple

import numpy as np

from arl.training.evaluation import written_segments
from arl.types import Interaction, Kind, Stream


class Course(NamedTuple):
    """What an episode asks and when its rules change, which its agent is not told; `T` steps.

    Attributes:
      is_shift: bool `[T]`, whether the rules of a step are not those of the step before.
      asked: int32 `[T]`, the question of each step: the same number where the same is asked.
    """

    is_shift: np.ndarray
    asked: np.ndarray


def since_shift(is_shift: np.ndarray) -> np.ndarray:
    """Returns int `[N, T]`: steps since the last shift, 0 at the first step under new rules; before any, minus those to the first.

    Args:
      is_shift: bool `[N, T]`. In a life without a shift every step is as far before one as the life is long, or further.
    """
    step = np.arange(is_shift.shape[1])
    last = np.maximum.accumulate(np.where(is_shift, step, -1), axis=1)
    first = np.where(is_shift.any(1), is_shift.argmax(1), 2 * len(step))[:, None]
    return step - np.where(last >= 0, last, first)


def rewards_by_step(stream: Stream, num_steps: int) -> np.ndarray:
    """Returns float32 `[N, num_steps]`: what each action of a life earned, its outcome alone.

    Args:
      stream: `[N, T]`, one life in each lane, of at least `num_steps` actions.
      num_steps: of an episode.

    Raises:
      ValueError: if a life has fewer actions.
    """
    is_action = np.asarray(stream.ends_segment & (stream.kind == Kind.ACTION))
    if is_action.sum(1).min() < num_steps:
        raise ValueError(f"a life has {is_action.sum(1).min()} actions; give lives of at least {num_steps}")
    return np.stack([row[here][:num_steps] for row, here in zip(np.asarray(stream.reward.outcome), is_action, strict=True)])


def switches(interaction: Interaction, stream: Stream, asked: np.ndarray) -> np.ndarray:
    """Returns bool `[N, T]`: whether a step's answer is another than the last one to the same question; False where there was none.

    Args:
      interaction: what the lives did.
      stream: one life in each lane.
      asked: int `[N, T]`, as in `Course`.
    """
    said = written_segments(interaction, stream, Kind.ACTION)
    rows = np.where(np.arange(said.ids.shape[-1]) < np.asarray(said.length)[..., None], np.asarray(said.ids), -1)
    found = np.zeros(asked.shape, bool)
    for now in range(1, asked.shape[1]):
        is_same = asked[:, :now] == asked[:, now, None]
        last = now - 1 - np.argmax(is_same[:, ::-1], axis=1)
        differs = (rows[:, now] != np.take_along_axis(rows, last[:, None, None], axis=1)[:, 0]).any(1)
        found[:, now] = is_same.any(1) & differs
    return found


def around_shift(values: np.ndarray, is_shift: np.ndarray, before: int, after: int) -> list[float]:
    """Returns the mean of values by their distance from a shift, from `-before` to `after - 1`; nan where there are none.

    Args:
      values: `[N, T]`.
      is_shift: bool `[N, T]`.
      before: steps before the first shift.
      after: steps from a shift on.
    """
    since = since_shift(is_shift)
    at = [np.asarray(values)[since == distance] for distance in range(-before, after)]
    return [float(found.mean()) if len(found) else float("nan") for found in at]
