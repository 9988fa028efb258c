"""The format as the package `safetensors` reads and writes it."""

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from arl.models.tensor_file import read_header, write_tensors

TENSORS = {"b": np.arange(6.0).reshape(2, 3), "a": np.array(3.0), "c/d": np.linspace(0, 1, 5)}


@pytest.mark.parametrize("dtype", [np.float32, np.float16, jnp.bfloat16])
def test_what_is_written_is_read_by_the_package_and_by_us(tmp_path, dtype):
    file = tmp_path / "x.safetensors"
    write_tensors(file, {name: x.shape for name, x in TENSORS.items()}, dtype, TENSORS.__getitem__)
    assert list(read_header(file)) == list(TENSORS)
    for name, expected in TENSORS.items():
        theirs, ours = load_file(file)[name], read_header(file)[name]
        assert theirs.dtype == ours.dtype == dtype and ours.shape == expected.shape
        np.testing.assert_array_equal(theirs, expected.astype(dtype))
    np.testing.assert_array_equal(read_header(file)["b"].rows(1, 2), TENSORS["b"][1:].astype(dtype))


def test_what_the_package_writes_is_read(tmp_path):
    save_file({"x": np.arange(12, dtype=np.float32).reshape(3, 2, 2)}, tmp_path / "x", {"format": "pt"})
    np.testing.assert_array_equal(read_header(tmp_path / "x")["x"].rows(1, 3), np.arange(4, 12).reshape(2, 2, 2))


@pytest.mark.parametrize(
    "content",
    [b"", b"\x02", b"\x02" + bytes(7) + b"[]", b"\xff" * 8, b"\x09" + bytes(7) + b'{"x": {}}', b"\x0a" + bytes(7) + b'{"x": [1]}'],
)
def test_what_is_no_such_file_is_refused(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match=f"x is damaged or truncated at {len(content)} bytes; copy it again"):
        read_header(tmp_path / "x")
