"""What the tests of all environments share: the tokenizer, and whole episodes of a policy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl import text


@pytest.fixture(scope="session")
def tokenizer():
    return text.load_tokenizer()


@pytest.fixture(scope="session")
def episodes():
    """Returns `(environment, policy, seed, num_lanes, num_steps) -> (returns [B], num_steps [B], is_over [B])` of one episode a lane."""

    def run(environment, policy, seed, num_lanes, num_steps):
        def step(carry, key):
            state, is_over = carry
            key_policy, key_step = (jax.random.split(k, num_lanes) for k in jax.random.split(key))
            action = jax.vmap(policy)(key_policy, state)
            state, answer = jax.vmap(environment.step)(key_step, state, action)
            counted = ~is_over
            return (state, is_over | answer.terminated | answer.truncated), (jnp.where(counted, answer.reward, 0.0), counted)

        @jax.jit
        def play(key):
            key_reset, key_steps = jax.random.split(key)
            state = jax.vmap(environment.reset)(jax.random.split(key_reset, num_lanes))
            carry = state, jnp.zeros(num_lanes, bool)
            (_, is_over), (reward, counted) = jax.lax.scan(step, carry, jax.random.split(key_steps, num_steps))
            return reward.sum(0), counted.sum(0), is_over

        return tuple(np.asarray(x) for x in play(jax.random.key(seed)))

    return run


@pytest.fixture(scope="session")
def uniform():
    """Returns the policy that draws uniformly from the legal actions of an environment."""
    return lambda environment: lambda key, state: jax.random.categorical(key, jnp.where(environment.legal(state), 0.0, -jnp.inf))


@pytest.fixture(scope="session")
def agrees():
    """Returns `(samples, expected)`: whether a mean is within four standard errors; by chance it is not once in 16,000 times."""
    return lambda samples, expected: abs(np.mean(samples) - expected) <= 4.0 * np.std(samples) / np.sqrt(len(samples)) + 1e-6
