import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import text
from arl.envs import arithmetic
from arl.envs.arithmetic import ArithmeticState, make_arithmetic
from tests.second_tokenizer import second_tokenizer

FORMS = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 3)]  # num_digits, digits_per_action


def question(left, right):
    return ArithmeticState(jnp.int32(left), jnp.int32(right), jnp.int32(0), jnp.int32(0))


def write(environment, state, actions):
    """Returns the states after each action, and the answers."""
    states, answers = [], []
    for action in actions:
        state, answer = environment.step(jax.random.key(0), state, jnp.int32(action))
        states.append(state)
        answers.append(answer)
    return states, answers


@pytest.mark.parametrize("num_digits, digits_per_action", FORMS)
def test_expert_is_always_right_and_random_digits_as_often_as_computed(tokenizer, episodes, uniform, num_digits, digits_per_action):
    environment = make_arithmetic(tokenizer, num_digits, digits_per_action)
    num_actions = 2 * num_digits // digits_per_action
    assert environment.max_steps == num_actions
    returns, num_steps, is_over = episodes(environment, environment.expert, 0, 4000, num_actions + 1)
    assert is_over.all() and set(num_steps) == {num_actions}
    assert np.all(returns == arithmetic.optimal_return(num_digits))
    num_lanes = 100_000 if digits_per_action == 1 else 5_000
    returns, num_steps, is_over = episodes(environment, uniform(environment), 1, num_lanes, num_actions + 1)
    assert is_over.all() and set(num_steps) == {num_actions}
    expected = arithmetic.random_return(num_digits) * len(returns)
    assert abs(returns.sum() - expected) <= 4 * np.sqrt(expected) + 1  # a count of rare events has its mean as variance


@pytest.mark.parametrize("num_digits, digits_per_action", [(1, 1), (1, 2)])
def test_every_answer_to_every_question(tokenizer, num_digits, digits_per_action):
    """Exactly one of all texts is paid, namely the product's: so the baseline is exact, and the largest return 1."""
    environment = make_arithmetic(tokenizer, num_digits, digits_per_action)
    num_actions = 2 * num_digits // digits_per_action
    every = jnp.asarray(list(itertools.product(range(10**digits_per_action), repeat=num_actions)), jnp.int32)

    @jax.jit
    @jax.vmap
    def pay(left, right):
        def play(actions):
            step = lambda state, action: environment.step(jax.random.key(0), state, action)
            return jax.lax.scan(step, ArithmeticState(left, right, jnp.int32(0), jnp.int32(0)), actions)[1].reward.sum()

        return jax.vmap(play)(every)

    factors = np.arange(1, 10)
    left, right = (x.ravel() for x in np.meshgrid(factors, factors))
    paid = np.asarray(pay(jnp.asarray(left), jnp.asarray(right)))
    assert np.array_equal(paid.sum(1), np.ones(81)) and paid.mean() == pytest.approx(arithmetic.random_return(num_digits))
    spelled = np.array([int("".join(f"{a:0{digits_per_action}}" for a in actions)) for actions in np.asarray(every)])
    assert np.array_equal(spelled[paid.argmax(1)], left * right)


@pytest.mark.parametrize("num_digits", [1, 2])
def test_return_without_tools_is_that_of_the_most_frequent_product(num_digits):
    factors = range(10 ** (num_digits - 1), 10**num_digits)
    products = [left * right for left, right in itertools.product(factors, factors)]
    assert arithmetic.blind_return(num_digits) == pytest.approx(max(np.bincount(products)) / len(products))
    assert arithmetic.random_return(num_digits) < arithmetic.blind_return(num_digits) < 0.06


@pytest.mark.parametrize("num_digits", [1, 2, 3])
def test_factors_are_uniform(tokenizer, num_digits):
    environment = make_arithmetic(tokenizer, num_digits)
    low, high = 10 ** (num_digits - 1), 10**num_digits
    state = jax.vmap(environment.reset)(jax.random.split(jax.random.key(0), 20_000))
    for factor in (np.asarray(state.left), np.asarray(state.right)):
        counts = np.bincount(factor, minlength=high)[low:]
        expected = 20_000 / (high - low)
        assert counts.sum() == 20_000 and np.all(np.abs(counts - expected) < 5 * np.sqrt(expected))
    assert abs(np.corrcoef(state.left, state.right)[0, 1]) < 4 / np.sqrt(20_000)


def test_calculator():
    left, right = np.meshgrid([1, 9, 10, 37, 99, 9999], [1, 84, 99, 1234, 9999])
    product = arithmetic.multiply(jnp.asarray(left), jnp.asarray(right))
    assert product.dtype == jnp.int32 and np.array_equal(product, left.astype(np.int64) * right)
    assert arithmetic.digits(jnp.int32(3108), 4).tolist() == [3, 1, 0, 8]
    assert arithmetic.digits(jnp.array([703, 99980001]), 8).tolist() == [[0, 0, 0, 0, 0, 7, 0, 3], [9, 9, 9, 8, 0, 0, 0, 1]]
    assert arithmetic.digits(jnp.int32(3108), 2, base=100).tolist() == [31, 8]


@pytest.mark.parametrize("load", [text.load_tokenizer, second_tokenizer], ids=["small", "gpt2"])
@pytest.mark.parametrize(
    "num_digits, digits_per_action, left, right, actions, heard",
    [
        (2, 1, 37, 84, (3, 1, 0, 8), " 37 X 84: 3, 1, 0, 8 correct\n"),
        (2, 1, 19, 37, (0, 7, 0, 2), " 19 X 37: 0, 7, 0, 2 wrong\n"),
        (2, 2, 37, 84, (31, 8), " 37 X 84: 31, 08 correct\n"),
        (2, 4, 19, 37, (703,), " 19 X 37: 0703 correct\n"),
        (3, 3, 374, 845, (316, 30), " 374 X 845: 316, 030 correct\n"),
    ],
)
def test_text_of_an_episode(load, num_digits, digits_per_action, left, right, actions, heard):
    tokenizer = load()
    environment = make_arithmetic(tokenizer, num_digits, digits_per_action)
    state = question(left, right)
    parts = [environment.describe(state)]
    for action, after in zip(actions, write(environment, state, actions)[0], strict=True):
        parts += [text.say_choice(environment.grammar, action), environment.describe(after)]
    whole = text.concatenate(*parts)
    assert text.to_string(tokenizer, whole) == heard
    assert text.check_text(tokenizer, whole) == []


def test_a_question_is_four_tokens(tokenizer):
    environment = make_arithmetic(tokenizer)
    assert environment.describe(question(37, 84)).ids.shape == (4,)
    assert text.longest(environment.grammar) == 1


def test_paid_at_the_end_and_once(tokenizer):
    environment = make_arithmetic(tokenizer)
    states, answers = write(environment, question(37, 84), (3, 1, 0, 8, 8, 0))
    assert [float(x.reward) for x in answers] == [0, 0, 0, 1, 0, 0]
    assert [bool(x.terminated) for x in answers] == [False] * 3 + [True] * 3
    assert not any(bool(x.truncated) for x in answers)
    assert [int(x.written) for x in states] == [3, 31, 310, 3108, 3108, 3108]
    for wrong in range(4):  # one wrong digit, wherever it stands, is known only at the end
        actions = [3, 1, 0, 8]
        actions[wrong] += 1
        _, answers = write(environment, question(37, 84), actions)
        assert [bool(x.terminated) for x in answers] == [False] * 3 + [True] and not any(float(x.reward) for x in answers)


def test_question_and_what_was_written_are_the_state_hash(tokenizer):
    environment = make_arithmetic(tokenizer)
    parts = [
        (left, right, written, count) for left in (10, 11, 99) for right in (10, 98, 99) for count in range(5) for written in (0, 7, 9)
    ]
    states = ArithmeticState(*(jnp.asarray(x, jnp.int32) for x in zip(*parts, strict=True)))
    assert len(set(np.asarray(jax.vmap(environment.state_hash)(states)).tolist())) == len(parts)


@pytest.mark.parametrize(
    "options, says",
    [
        (dict(num_digits=0), "set num_digits to 1"),
        (dict(num_digits=5), "set num_digits to 1, ..., 4"),
        (dict(digits_per_action=0), "divisor of 4"),
        (dict(digits_per_action=3), "divisor of 4"),
        (dict(num_digits=3, digits_per_action=6), "set digits_per_action lower"),
    ],
)
def test_bad_arguments(tokenizer, options, says):
    with pytest.raises(ValueError, match=says):
        make_arithmetic(tokenizer, **options)
