"""A check that JAX computes correctly on this machine; some releases do not."""

import jax
import jax.numpy as jnp
import numpy as np

LARGEST = 2**15  # its square is exact in float32; the fault needs more than 2**15 rows


@jax.jit
def _squared_norms(rows: jax.Array) -> jax.Array:
    matrix = jnp.eye(rows.shape[1], dtype=rows.dtype)
    return jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2))(rows)


def backend_fault() -> str | None:
    """Checks JAX's default backend with a small program whose result is known.

    JAX 0.10.2 miscompiles this program, a mapped product followed by a sum, on CPUs (jax#39103).

    Returns:
      One sentence that says what is wrong; None if the result is correct.
    """
    rows = np.zeros((LARGEST + 1, 3), np.float32)
    rows[:, 0] = np.arange(LARGEST + 1)
    with jax.ensure_compile_time_eval():
        found = float(_squared_norms(rows)[-1])
    if found == LARGEST**2:
        return None
    return (
        f"JAX {jax.__version__} computes wrong sums on this {jax.default_backend()} ({found:.0f} for {LARGEST**2}, jax#39103), so nothing "
        "that is trained here can be trusted; install another version of jax and jaxlib"
    )
