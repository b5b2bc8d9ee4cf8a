"""`fit(mesh=…)`: many devices compute what one would."""

import os
import subprocess
import sys

import jax
import pytest

from probgen import fit
from probgen.flows import real_nvp

MANY = """
import jax, jax.numpy as jnp, numpy as np, numpyro, optax, pathlib, sys
import numpyro.distributions as dist
import probgen
from jax.sharding import AxisType, Mesh
from numpyro.infer.autoguide import AutoNormal

assert jax.device_count() == 8
x = jax.random.normal(jax.random.key(1), (128, 2)) * 2 + 1
flow = probgen.flows.real_nvp(2, layers=2, hidden=(8,), key=jax.random.key(2))  # a mask of dropout hashes roundings
integers = jax.random.bernoulli(jax.random.key(1), 0.4, (128, 6)).astype(jnp.uint8)
vae = probgen.latent.vae((6,), 2, latent_dim=2, hidden=(8,), key=jax.random.key(3))

def program(x):
    loc = numpyro.sample("loc", dist.Normal(0, 10).expand([2]).to_event(1))
    with numpyro.plate("N", len(x)):
        numpyro.sample("x", dist.Normal(loc, numpyro.param("scale", 1.0)).to_event(1), obs=x)

class Batches:
    def __iter__(self):
        return (np.asarray(x[i : i + 32]) for i in range(0, 128, 32))

def same(one, other):
    np.testing.assert_allclose(one.losses, other.losses, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params)):
        assert b.devices() == {jax.devices()[0]}
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)

options = {"key": jax.random.key(0), "progress": False, "batch_size": 32, "steps": 10}
metrics = {"mean": lambda model, key, rows: model.log_prob(rows).mean()}
for model, data, more in [
    (flow, x, {"validation": x[:50], "ema": 0.9, "metrics": metrics}),
    (flow, x, {"batch_size": None}),
    (vae, integers, {}),
    (program, x, {"guide": AutoNormal(program), "validation": x[:64]}),
    (flow, Batches(), {"batch_size": None}),
]:
    one = probgen.fit(model, data, **(options | more))
    many = probgen.fit(model, data, mesh=8, **(options | more))
    same(one, many)
    if "validation" in more:
        np.testing.assert_allclose(one.history["validation"], many.history["validation"], rtol=1e-5)

def simple(x):
    with numpyro.plate("N", len(x)):
        numpyro.sample("x", dist.Normal(numpyro.param("loc", jnp.zeros(2)), 1.0).to_event(1), obs=x)

mesh = Mesh(np.array(jax.devices()[4:]).reshape(2, 2), ("a", "b"), axis_types=(AxisType.Explicit,) * 2)
same(probgen.fit(simple, x, **options), probgen.fit(simple, x, mesh=mesh, **options))
folder = pathlib.Path(sys.argv[1])
whole = probgen.fit(simple, x, mesh=8, **options)
probgen.fit(simple, x, mesh=8, checkpoint=folder, **(options | {"steps": 7}))
resumed = probgen.fit(simple, x, mesh=8, checkpoint=folder, resume=True, **options)
np.testing.assert_array_equal(whole.losses, resumed.losses)
one = probgen.fit(simple, x, checkpoint=folder, resume=True, **(options | {"steps": 15}))
np.testing.assert_allclose(one.losses, probgen.fit(simple, x, **(options | {"steps": 15})).losses, rtol=1e-5)
print("the same")
"""


def test_eight_devices_compute_what_one_does(tmp_path):
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", MANY, str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert found.stdout.strip() == "the same", found.stderr


@pytest.mark.parametrize(("mesh", "message"), [
    (0, "mesh: expected an integer of at least 1, got 0"),
    (10_000, r"mesh: expected at most \d+, the devices that there are, got 10000"),
    ("all", "mesh: expected a jax.sharding.Mesh or a number of devices, got 'all'"),
    (2.0, "mesh: expected a jax.sharding.Mesh or a number of devices, got 2.0"),
])  # fmt: skip
def test_what_is_no_mesh_is_refused(mesh, message):
    flow, x = real_nvp(2, layers=2, hidden=(8,), key=jax.random.key(2)), jax.random.normal(jax.random.key(1), (8, 2))
    with pytest.raises(ValueError, match=f"^{message}"):
        fit(flow, x, steps=1, key=jax.random.key(0), mesh=mesh, progress=False)
