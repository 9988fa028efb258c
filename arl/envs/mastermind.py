"""Mastermind: find a hidden code of coloured pegs by guesses of whole codes, each answered by black and white pegs.

    Guess 3 from A to D: A A B 2 0: B A C 0 3: A C B correct

The two numbers after a guess are its black pegs, of the right colour in the right place, and its white pegs, of a right colour in a wrong
place. Each guess costs 1. `information_gain` is the information that its answer gives.
"""

import dataclasses
import functools
import itertools
import math
import string
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from arl import text
from arl.checks import Checked
from arl.task import Bounds, Environment, Limits, Step, Task, bounds_of_search
from arl.types import ArlError, Text, select

MAX_CODES = 125  # of the exact solution, which takes up to ten seconds on the host for many colours, and one second for 3 pegs of 5


class MastermindState(NamedTuple):
    """The hidden code, and what the answers of this attempt reveal.

    Attributes:
      code: int32 `[]`, index of the hidden code.
      possible: bool `[num_codes]`, whether a code agrees with all answers.
      answer: int32 `[]`, the last text: 0 for the question, `1 + i` for answer `i` of `answers_to`.
    """

    code: jax.Array
    possible: jax.Array
    answer: jax.Array


def make_mastermind(tokenizer: Any, num_pegs: int = 3, num_colors: int = 4) -> Environment:
    """Returns the game as an environment whose action `i` is the code `i` in alphabetical order, " A A A", " A A B", ...

    The expert is optimal from the first guess on. After guesses that are not optimal it takes the guess that leaves the fewest codes in
    expectation (Irving, 1978-79, "Towards an optimum Mastermind strategy"), which is nearly optimal.

    Args:
      tokenizer: a fast tokenizer.
      num_pegs: number of pegs of a code.
      num_colors: number of colours, at most 26; there must be 2 to `MAX_CODES` codes, `num_colors**num_pegs`.

    Raises:
      ArlError: if there are too few codes, or too many.
    """
    _check_sizes(num_pegs, num_colors)
    num_codes = num_colors**num_pegs
    table, pegs = answers_to(num_pegs, num_colors)
    found = len(pegs)  # the last answer
    mixer = np.random.default_rng(0).integers(2**32, size=num_codes, dtype=np.uint32)

    def reset(key: jax.Array) -> MastermindState:
        return MastermindState(jax.random.randint(key, (), 0, num_codes), jnp.ones(num_codes, bool), jnp.int32(0))

    def step(key: jax.Array, state: MastermindState, action: jax.Array) -> tuple[MastermindState, Step]:
        del key  # the answers are deterministic
        is_over = state.answer == found
        row = jnp.asarray(table)[action]
        answer = row[state.code]
        state = select(is_over, state, MastermindState(state.code, state.possible & (row == answer), 1 + answer))
        return state, Step(jnp.where(is_over, 0.0, -1.0), state.answer == found, jnp.bool_(False))

    def legal(state: MastermindState) -> jax.Array:
        return jnp.ones(num_codes, bool)

    def state_hash(state: MastermindState) -> jax.Array:
        return jnp.sum(jnp.where(state.possible, mixer, 0), dtype=jnp.uint32)  # hash of a set (Zobrist, 1970)

    names = ["".join(f" {string.ascii_uppercase[color]}" for color in code) for code in codes(num_pegs, num_colors)]
    grammar = text.legal_strings(tokenizer, names)
    describe, expert = _descriptions(tokenizer, num_pegs, num_colors), _make_expert(num_pegs, num_colors)
    return Environment(reset, step, describe, grammar, legal, max_steps=None, expert=expert, state_hash=state_hash, worst_reward=-1.0)


def information_gain(before: MastermindState, after: MastermindState) -> jax.Array:
    """Returns the information that an answer gives about the code.

    All codes that agree with the answers are equally likely, so an attempt that terminates gives `log2(num_codes)` in all.

    Args:
      before: state before the guess.
      after: state after its answer.

    Returns:
      Bits, float32 `[]`.
    """
    return jnp.log2(jnp.sum(before.possible) / jnp.sum(after.possible))


def codes(num_pegs: int, num_colors: int) -> np.ndarray:
    """Returns the colours of all codes in alphabetical order, int `[num_codes, num_pegs]`.

    Args:
      num_pegs: number of pegs of a code.
      num_colors: number of colours.
    """
    return np.array(list(itertools.product(range(num_colors), repeat=num_pegs)))


def answers_to(num_pegs: int, num_colors: int) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Returns the answers to each guess.

    Args:
      num_pegs: number of pegs of a code.
      num_colors: number of colours.

    Returns:
      Index of the answer to a guess (row) for a hidden code (column), int32 `[num_codes, num_codes]`; and black and white pegs of each
      answer, ascending, the last of which is the answer to the right guess.
    """
    code = codes(num_pegs, num_colors)
    black = np.sum(code[:, None] == code[None], axis=-1)
    count = np.sum(code[..., None] == np.arange(num_colors), axis=1)  # pegs of each colour
    white = np.minimum(count[:, None], count[None]).sum(-1) - black
    pegs, table = np.unique(black * (num_pegs + 1) + white, return_inverse=True)
    return table.reshape(black.shape).astype(np.int32), [divmod(int(peg), num_pegs + 1) for peg in pegs]


def _descriptions(tokenizer: Any, num_pegs: int, num_colors: int) -> Callable[[MastermindState], Text]:
    """Returns `describe`, which selects the constant texts of the question and the answers."""
    question = f"Guess {num_pegs} from A to {string.ascii_uppercase[num_colors - 1]}:"
    _, pegs = answers_to(num_pegs, num_colors)
    options = [question, *(f" {black} {white}:" for black, white in pegs[:-1]), " correct\n"]
    say = text.template(tokenizer, "{answer}", answer=text.choice(options))
    return lambda state: say(answer=state.answer)


def _make_expert(num_pegs: int, num_colors: int) -> Callable[[jax.Array, MastermindState], jax.Array]:
    """Returns the expert `(key, state) -> action`; see `make_mastermind`."""
    sets, guesses = optimal_policy(num_pegs, num_colors)
    table, pegs = answers_to(num_pegs, num_colors)
    is_answer = (table[:, None] == np.arange(len(pegs))[:, None]).astype(np.float32)  # `[guess, answer, code]`

    def expert(key: jax.Array, state: MastermindState) -> jax.Array:
        is_known = jnp.all(jnp.asarray(sets) == state.possible, axis=-1)
        left = jnp.sum(
            (is_answer @ state.possible.astype(jnp.float32)) ** 2, axis=-1
        )  # expected number of codes left, times their present number
        smallest = jnp.argmin(left - 0.5 * state.possible)  # prefers possible codes among equals, as the sums are whole numbers
        return jnp.where(jnp.any(is_known), jnp.asarray(guesses)[jnp.argmax(is_known)], smallest).astype(jnp.int32)

    return expert


def _check_sizes(num_pegs: int, num_colors: int) -> None:
    """Raises an `ArlError` unless there are 2 to `MAX_CODES` codes."""
    if num_pegs < 1 or not 1 <= num_colors <= len(string.ascii_uppercase):
        raise ArlError(f"{num_pegs} pegs of {num_colors} colours make no code; set num_pegs to 1 or more and num_colors to 1, ..., 26.")
    if not 2 <= num_colors**num_pegs <= MAX_CODES:
        raise ArlError(
            f"{num_pegs} pegs of {num_colors} colours make {num_colors**num_pegs} codes, which is not 2, ..., {MAX_CODES}; "
            "set num_pegs and num_colors so that num_colors**num_pegs is."
        )


# ---------------------------------------------------------------- optimal return and baseline, exact
def optimal_num_guesses(num_pegs: int, num_colors: int, num_steps: int | None = None) -> float:
    """Returns the smallest expected number of guesses, including the right one.

    Args:
      num_pegs: number of pegs of a code.
      num_colors: number of colours.
      num_steps: number of guesses after which an attempt is truncated; None for no limit.

    Raises:
      ArlError: if there are too few codes, or too many.
    """
    num_codes = num_colors**num_pegs
    return _solve(num_pegs, num_colors)((1 << num_codes) - 1, math.inf if num_steps is None else num_steps)[0] / num_codes


def random_num_guesses(num_pegs: int, num_colors: int, num_steps: int | None = None) -> float:
    """Returns the expected number of guesses that are uniform over all codes.

    Args:
      num_pegs: number of pegs of a code.
      num_colors: number of colours.
      num_steps: number of guesses after which an attempt is truncated; None for no limit.
    """
    num_codes = num_colors**num_pegs
    miss = 1.0 - 1.0 / num_codes
    return num_codes * (1.0 - (0.0 if num_steps is None else miss**num_steps))


def optimal_policy(num_pegs: int, num_colors: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the policy that needs the fewest guesses in expectation.

    Args:
      num_pegs: number of pegs of a code.
      num_colors: number of colours.

    Returns:
      The sets of possible codes that this policy can reach before the right guess, bool `[N, num_codes]`; and its guess for each, int32
      `[N]`.

    Raises:
      ArlError: if there are too few codes, or too many.
    """
    solve, masks = _solve(num_pegs, num_colors), _masks(num_pegs, num_colors)
    num_codes, policy = num_colors**num_pegs, {}
    unseen = [(1 << num_codes) - 1]
    while unseen:
        left = unseen.pop()
        policy[left] = solve(left, math.inf)[1]
        unseen += [part for mask in masks[policy[left]] if (part := left & mask)]
    return np.array([[left >> code & 1 for code in range(num_codes)] for left in policy], bool), np.array(list(policy.values()), np.int32)


def most_bits(num_pegs: int, num_colors: int) -> float:
    """Returns the largest expected information of a first guess, bits: the entropy of its answer.

    Args:
      num_pegs: number of pegs of a code.
      num_colors: number of colours.
    """
    table, pegs = answers_to(num_pegs, num_colors)
    chance = np.mean(table[..., None] == np.arange(len(pegs)), axis=1)
    return float(np.max(-np.sum(chance * np.log2(np.where(chance > 0, chance, 1.0)), axis=-1)))


def _masks(num_pegs: int, num_colors: int) -> list[list[int]]:
    """Returns the codes left by each answer to each guess, as bits of an integer, without the answer to the right guess."""
    table, pegs = answers_to(num_pegs, num_colors)
    return [[sum(1 << code for code in np.flatnonzero(row == answer).tolist()) for answer in range(len(pegs) - 1)] for row in table]


def _first_guesses(num_pegs: int, num_colors: int) -> list[int]:
    """Returns one first guess of each kind, as colours are exchangeable before any answer, and so are places."""
    counts = lambda code: np.bincount(code, minlength=num_colors)
    is_first = lambda code: np.all(np.diff(code) >= 0) and np.all(np.diff(counts(code)) <= 0)
    return [index for index, code in enumerate(codes(num_pegs, num_colors)) if is_first(code)]


def _solve(num_pegs: int, num_colors: int) -> Callable[[int, float], tuple[int, int]]:
    """Returns the solution `(codes left as bits, guesses left) -> (guesses summed over those codes, best guess)`.

    It is dynamic programming over sets of codes. Of guesses that split a set in the same way only one is examined. A guess is skipped if
    its lower bound, for answers that split the rest as evenly as possible, exceeds the best total found so far.
    """
    _check_sizes(num_pegs, num_colors)
    masks, num_codes = _masks(num_pegs, num_colors), num_colors**num_pegs
    everything, first_guesses = (1 << num_codes) - 1, _first_guesses(num_pegs, num_colors)

    @functools.cache
    def bound(size: int, num_steps: float) -> int:
        found, total = 1, 0
        while size > 0 and num_steps > 0:  # all codes left need this guess, which can find one per history of answers
            total, size, found, num_steps = total + size, size - found, found * len(masks[0]), num_steps - 1
        return total

    @functools.cache
    def solve(left: int, num_steps: float) -> tuple[int, int]:
        if num_steps <= 0 or left.bit_count() <= 2:  # with two codes left either guess is optimal
            return bound(left.bit_count(), num_steps), (left & -left).bit_length() - 1
        kinds: dict[tuple[int, ...], int] = {}
        for guess in first_guesses if left == everything else range(num_codes):
            parts = tuple(sorted(part for mask in masks[guess] if (part := left & mask)))
            if parts != (left,):  # a guess without information is never better
                kinds.setdefault(parts, guess)
        at_least = lambda parts: left.bit_count() + sum(bound(part.bit_count(), num_steps - 1) for part in parts)
        fewest, best = math.inf, 0
        for total, guess, parts in sorted((at_least(parts), guess, parts) for parts, guess in kinds.items()):
            for part in parts:
                if total >= fewest:
                    break
                total += solve(part, num_steps - 1)[0] - bound(part.bit_count(), num_steps - 1)
            if total < fewest:
                fewest, best = total, guess
        return int(fewest), best

    return solve


# ---------------------------------------------------------------- the task
@dataclasses.dataclass(frozen=True)
class Mastermind(Checked):
    """A hidden code, to be found by guesses that cost 1 each.

    Attributes:
      num_pegs: number of pegs of the code.
      num_colors: number of colours of a peg.
    """

    num_pegs: int = 2
    num_colors: int = 4

    def make(self, tokenizer: Any) -> Task:
        """Returns the task.

        Args:
          tokenizer: a fast tokenizer.
        """
        environment = make_mastermind(tokenizer, self.num_pegs, self.num_colors)
        colors = (f" {name}" for name in string.ascii_uppercase[: self.num_colors])
        symbols = (*colors, *(f" {i}" for i in range(self.num_pegs + 1)))
        hidden = lambda state: state.code
        return Task(environment, tokenizer, bounds=self._bounds, note_symbols=symbols, hidden=hidden, information_gain=information_gain)

    def _bounds(self, limits: Limits) -> Bounds:
        size = (self.num_pegs, self.num_colors)
        least, random = optimal_num_guesses, random_num_guesses
        return bounds_of_search(lambda steps: least(*size, steps), lambda steps: random(*size, steps), limits)
