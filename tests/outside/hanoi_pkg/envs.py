"""Towers of Hanoi: all discs go from the first peg to the last, one at a time, and none onto a smaller one."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from arl import text
from arl.task import Bounds, Environment, Limits, Step, Task

MOVES = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]  # from a peg to another


@dataclasses.dataclass(frozen=True)
class Hanoi:
    """Towers of Hanoi; every move costs 1. The state is int32 `[]`, the index of where the discs are."""

    num_discs: int = 3

    def make(self, tokenizer) -> Task:
        """Returns the task; its expert takes the shortest way."""
        places = list(np.ndindex(*[3] * self.num_discs))  # the peg of each disc, the smallest first
        after = np.array([[self._move(places, place, *move) for move in MOVES] for place in places])
        best, goal = np.nanargmax(values(after, len(places), np.nanmax)[1], axis=1), len(places) - 1
        say = text.template(tokenizer, "{place}", place=text.choice([f" {' '.join('ABC'[peg] for peg in place)}:" for place in places]))

        def step(key, state, action):
            moved = jnp.maximum(jnp.asarray(after, jnp.int32)[state, action], 0)
            return moved, Step(jnp.float32(-1), moved == goal, jnp.bool_(False))

        def bounds(limits: Limits) -> Bounds:
            moves = (values(after, limits.time_limit, choose)[0][0] * limits.num_attempts for choose in (np.nanmean, np.nanmax))
            return Bounds(*((1.0 + limits.step_cost) * float(number) for number in (*moves, 0.5 - limits.time_limit)))

        environment = Environment(
            reset=lambda key: jnp.int32(0),
            step=step,
            describe=lambda state: say(place=state),
            grammar=text.legal_strings(tokenizer, [f" {'ABC'[a]} {'ABC'[b]}" for a, b in MOVES]),
            legal=lambda state: jnp.asarray(after >= 0)[state],
            max_steps=None,
            expert=lambda key, state: jnp.asarray(best, jnp.int32)[state],
            worst_reward=-1.0,
        )
        return Task(environment, tokenizer, bounds)

    def _move(self, places: list, place: tuple, a: int, b: int) -> int:
        """Returns where the discs are when the topmost of peg `a` has gone to peg `b`, -1 where it cannot."""
        top = [place.index(peg) if peg in place else self.num_discs for peg in (a, b)]
        return places.index((*place[: top[0]], b, *place[top[0] + 1 :])) if top[0] < top[1] else -1


def values(after: np.ndarray, num_steps: int, choose) -> tuple[np.ndarray, np.ndarray]:
    """Returns the value of each place with so many moves left, and of each move there, by backward induction."""
    value, moves = np.zeros(len(after)), np.zeros(after.shape)
    for _ in range(num_steps):
        moves = np.where(after >= 0, value[after] - 1.0, np.nan)
        value = np.append(choose(moves, axis=1)[:-1], 0.0)
    return value, moves
