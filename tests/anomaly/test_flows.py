"""Every flow inverts, and its log-determinant is that of the Jacobian that autodiff gives."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from anomaly.cross_scale_flow import CrossScaleFlow
from anomaly.methods.cs_flow import CSFlow, flow_network, likelihood_network
from inspection.errors import InputError
from inspection.gradients import value_and_gradients

SHAPES = [(1, 4, 4, 2), (1, 2, 2, 2), (1, 1, 1, 2)]


def flow_with_weights(seed: int = 0) -> CrossScaleFlow:
    """Away from the identity that it starts as."""
    keras.utils.set_random_seed(seed)
    flow = CrossScaleFlow(hidden=8, kernels=(3, 5), seed=seed)
    flow.build(SHAPES)
    rng = np.random.default_rng(seed)
    for weight in flow.weights:
        weight.assign(rng.normal(0, 0.4, weight.shape))
    return flow


def maps_of(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in SHAPES]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_inverts(seed):
    flow, maps = flow_with_weights(seed), maps_of(seed)
    latent, _ = flow(maps)
    assert max(float(ops.max(ops.abs(z - x))) for z, x in zip(latent, maps, strict=True)) > 0.1
    for back, one in zip(flow.inverse(latent), maps, strict=True):
        np.testing.assert_allclose(np.asarray(back), one, atol=2e-4)


def test_its_log_determinant_is_the_jacobians():
    flow, maps = flow_with_weights(1), maps_of(1)

    def latent_vector(*inputs):
        return ops.concatenate([ops.reshape(one, (-1,)) for one in flow(list(inputs))[0]])

    rows = []
    for index in range(sum(one.size for one in maps)):
        _, found = value_and_gradients(lambda *x, i=index: latent_vector(*x)[i], maps)
        rows.append(np.concatenate([one.ravel() for one in found]))
    _, wanted = np.linalg.slogdet(np.array(rows, np.float64))
    assert float(flow(maps)[1][0]) == pytest.approx(wanted, rel=1e-4)
    assert abs(wanted) > 0.1


def test_untrained_it_is_a_permutation():
    keras.utils.set_random_seed(0)
    flow = CrossScaleFlow(hidden=8, kernels=(3,), seed=0)
    latent, change = flow(maps_of(0))
    for z, x in zip(latent, maps_of(0), strict=True):
        np.testing.assert_allclose(np.sort(np.asarray(z), axis=-1), np.sort(x, axis=-1))
    assert float(change[0]) == 0


def test_the_likelihood_is_the_papers_equation():
    keras.utils.set_random_seed(0)
    network = flow_network([shape[1:] for shape in SHAPES], {"hidden": 8, "kernels": (3,)})
    for weight in network.weights:
        weight.assign(np.random.default_rng(1).normal(0, 0.3, weight.shape))
    maps = maps_of(3)
    *latent, change = (np.asarray(one) for one in network(maps))
    dimensions = sum(one.size for one in maps)
    wanted = (0.5 * sum((one**2).sum() for one in latent) - change[0]) / dimensions
    assert float(likelihood_network(network)(maps)[0]) == pytest.approx(float(wanted), rel=1e-5)


def test_the_reduced_model_is_under_400_mb():
    """304 channels, as EfficientNet-B5 gives; float32."""
    shapes = [(8, 8, 304), (4, 4, 304), (2, 2, 304)]
    reduced = flow_network(shapes, {"hidden": 512, "kernels": (5,)}).count_params() * 4 / 1e6
    assert 200 < reduced < 300  # and 105 MB of backbone


def test_options_out_of_range():
    with pytest.raises(InputError, match="model huge: must be full, reduced, small"):
        CSFlow(None, model="huge")
