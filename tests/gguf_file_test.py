"""What the package `gguf` writes is read; what is no GGUF file, or only the beginning of one, is refused."""

import gguf
import numpy as np
import pytest

from arl.gguf_file import find_gguf, read_gguf


@pytest.fixture
def file(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    for add, value in ((writer.add_uint8, 200), (writer.add_int8, -3), (writer.add_uint16, 60_000), (writer.add_int16, -300)):
        add(f"small.{add.__name__}", value)
    writer.add_uint64("big", 2**60)
    writer.add_int64("negative", -(2**60))
    writer.add_float32("epsilon", 1e-5)
    writer.add_float64("double", 0.1)
    writer.add_bool("yes", True)
    writer.add_string("text", "Ġé\n")
    writer.add_array("strings", ["a", "", "é"])
    writer.add_array("whole", [3, -1, 2])
    writer.add_array("floats", [0.5, -2.0])
    writer.add_tensor("matrix", np.arange(6, dtype=np.float32).reshape(2, 3))
    writer.add_tensor("vector", np.arange(5, dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path / "x.gguf"


def test_metadata_and_tensors_are_those_that_were_written(file):
    told = read_gguf(file)
    expected = {"general.architecture": "llama", "big": 2**60, "negative": -(2**60), "epsilon": 1e-5, "double": 0.1, "yes": True}
    expected |= {"small.add_uint8": 200, "small.add_int8": -3, "small.add_uint16": 60_000, "small.add_int16": -300, "text": "Ġé\n"}
    assert told.metadata == {**expected, "strings": ["a", "", "é"], "whole": [3, -1, 2], "floats": [0.5, -2.0]}
    assert {name: place.shape for name, place in told.tensors.items()} == {"matrix": (2, 3), "vector": (5,)}
    read = {one.name: (one.data_offset, one.tensor_type) for one in gguf.GGUFReader(file).tensors}
    assert {name: (place.offset, place.kind) for name, place in told.tensors.items()} == read


def test_every_truncated_beginning_is_refused(file):
    whole, beginning = file.read_bytes(), read_gguf(file).tensors["matrix"].offset
    for size in range(4, beginning - gguf.GGUF_DEFAULT_ALIGNMENT, 7):
        file.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=f"x.gguf is damaged or truncated at {size} bytes; copy it again"):
            read_gguf(file)


def test_other_files_are_refused(file):
    whole = file.read_bytes()
    file.write_bytes(b"GGML" + whole[4:])
    with pytest.raises(ValueError, match="x.gguf is no GGUF file; copy it again"):
        read_gguf(file)
    file.write_bytes(whole[:4] + b"\x01" + whole[5:])
    with pytest.raises(ValueError, match="x.gguf is of version 1 of GGUF; convert it to version 3, little-endian"):
        read_gguf(file)
    file.write_bytes(whole.replace(b"negative", b"\xff" * 8))
    with pytest.raises(ValueError, match="damaged"):
        read_gguf(file)


def test_a_part_of_several_is_refused(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_uint16("split.count", 3)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ValueError, match="x.gguf is one of 3 parts; join them by llama.cpp's gguf-split --merge"):
        read_gguf(tmp_path / "x.gguf")


def test_a_path_means_a_file_or_the_only_one_of_a_folder(file):
    assert find_gguf(str(file)) == find_gguf(file.parent) == file
    assert find_gguf(file.parent / "elsewhere") is None
    second = file.with_name("a.gguf")
    second.write_bytes(b"")
    with pytest.raises(ValueError, match="holds 2 GGUF files; give the path to one of them, such as a.gguf"):
        find_gguf(file.parent)
    (file.parent / "config.json").write_text("{}")
    assert find_gguf(file.parent) is None
    with pytest.raises(ValueError, match="there is no file '.*b.gguf'; give the path to a GGUF file"):
        find_gguf(file.with_name("b.gguf"))
