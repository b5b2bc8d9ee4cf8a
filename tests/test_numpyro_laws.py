"""The laws of `numpyro_laws.py`, row by row."""

import numpyro_laws
import pytest


@pytest.mark.parametrize("name", numpyro_laws.models())
def test_laws(name):
    broken = []
    for law in numpyro_laws.LAWS:
        try:
            numpyro_laws.ask(law, name)
        except AssertionError as error:
            broken.append(f"{law.__name__}: {error}")
    assert not broken, "\n".join(broken)
