"""What `import arl` gives: every public name, none of which is loaded before it is used."""

import subprocess
import sys

import arl


def test_every_public_name_is_there():
    assert all(getattr(arl, name) is not None for name in arl.__all__)
    assert set(arl.__all__) <= set(dir(arl)) and arl.__version__.count(".") == 2


def test_the_import_alone_loads_nothing():
    program = "import sys, arl; assert not {'jax', 'flax', 'transformers'} & set(sys.modules); print(arl.ArlError.__name__)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "ArlError\n"


def test_a_name_that_is_not_there_is_an_attribute_error():
    assert not hasattr(arl, "trian")
