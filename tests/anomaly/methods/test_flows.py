"""Every flow inverts, and its log-determinant is that of the Jacobian that autodiff gives."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from anomaly.features.extractor import FeatureExtractor, Source
from anomaly.methods.cfa import SphereLoss
from anomaly.methods.cs_flow import SIZES, CSFlow, flow_network, likelihood_network
from anomaly.methods.fastflow import FastFlow
from anomaly.methods.parts.coupling_flow import CouplingFlow, PositionCode, position_code
from anomaly.methods.parts.cross_scale_flow import CrossScaleFlow
from anomaly.models.model import AnomalyModel
from anomaly.models.scores import Reference
from inspection.data.images import write_image
from inspection.data.preparation import Preparation
from inspection.errors import InputError
from inspection.models.gradients import value_and_gradients
from tests.anomaly.conftest import small_backbone, tile

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
    counted = [keras.Input(shape[1:3]) for shape in SHAPES]
    every = [np.ones(shape[:3], np.float32) for shape in SHAPES]
    found = likelihood_network(network, counted)([*maps, *every])
    assert float(found[0]) == pytest.approx(float(wanted), rel=1e-5)


def test_the_reduced_model_is_under_400_mb():
    """304 channels, as EfficientNet-B5 gives; float32."""
    shapes = [(8, 8, 304), (4, 4, 304), (2, 2, 304)]
    reduced = flow_network(shapes, {"hidden": 512, "kernels": (5,)}).count_params() * 4 / 1e6
    assert 200 < reduced < 300  # and 105 MB of backbone


def test_options_out_of_range():
    with pytest.raises(InputError, match="model huge: must be full, reduced, small"):
        CSFlow(None, model="huge")


FLOWS = {
    "fastflow": {"kernels": (3, 1), "mixing": "permute"},
    "cflow": {"kernels": (1, 1, 1), "ratio": 2.0, "clamp": 1.9, "mixing": "rotate"},
}


def coupling_flow(kind: str, seed: int, condition: int = 0) -> CouplingFlow:
    """Away from the mixing that it starts as."""
    flow = CouplingFlow(**FLOWS[kind], seed=seed)
    flow.build((1, 3, 2, 5), (1, 3, 2, condition) if condition else None)
    rng = np.random.default_rng(seed)
    for weight in flow.trainable_weights:
        weight.assign(rng.normal(0, 0.5, weight.shape))
    return flow


@pytest.mark.parametrize("kind", FLOWS)
@pytest.mark.parametrize("condition", [0, 4])
def test_a_coupling_flow_inverts_and_knows_its_jacobian(kind, condition):
    flow = coupling_flow(kind, 1, condition)
    rng = np.random.default_rng(2)
    maps = rng.normal(size=(1, 3, 2, 5)).astype(np.float32)
    told = [rng.normal(size=(1, 3, 2, condition)).astype(np.float32)] if condition else []
    latent, change = flow(maps, *told)
    assert float(ops.max(ops.abs(latent - maps))) > 0.1
    np.testing.assert_allclose(np.asarray(flow.inverse(latent, *told)), maps, atol=2e-4)
    rows = []
    for index in range(maps.size):
        _, (found,) = value_and_gradients(
            lambda x, i=index: ops.reshape(flow(x, *told)[0], (-1,))[i], [maps]
        )
        rows.append(found.ravel())
    jacobian = np.array(rows, np.float64)
    wanted = np.linalg.slogdet(jacobian)[1]
    assert abs(wanted) > 0.1
    assert float(ops.sum(change)) == pytest.approx(wanted, rel=1e-4)
    if kind == "cflow":  # each position alone: its own value is that of its own block
        for cell, value in enumerate(np.asarray(change).ravel()):
            block = jacobian[5 * cell : 5 * cell + 5, 5 * cell : 5 * cell + 5]
            assert value == pytest.approx(np.linalg.slogdet(block)[1], rel=1e-3, abs=1e-4)


def test_a_condition_changes_what_a_flow_does():
    flow = coupling_flow("cflow", 1, 4)
    maps = np.random.default_rng(2).normal(size=(1, 3, 2, 5)).astype(np.float32)
    one, other = (flow(maps, np.full((1, 3, 2, 4), v, np.float32))[0] for v in (0, 1))
    assert float(ops.max(ops.abs(one - other))) > 0.1


def test_a_position_code_is_sines_and_cosines_of_column_and_row():
    code = position_code(5, 7, 8)
    for row, column in ((0, 0), (3, 6), (4, 1)):
        wanted = [
            *(np.sin(column * f) for f in (1, 0.01)),
            *(np.cos(column * f) for f in (1, 0.01)),
            *(np.sin(row * f) for f in (1, 0.01)),
            *(np.cos(row * f) for f in (1, 0.01)),
        ]
        np.testing.assert_allclose(code[row, column], wanted, atol=1e-6)
    assert len(np.unique(code.reshape(35, 8).round(4), axis=0)) == 35, "no place has another's code"
    found = PositionCode(8)(np.zeros((2, 5, 7, 3), np.float32))
    np.testing.assert_array_equal(np.asarray(found), np.stack([code, code]))


def test_the_sphere_loss_is_the_papers_equation():
    rng = np.random.default_rng(0)
    squared = np.sort(rng.uniform(0, 2, (2, 3, 4, 6)), axis=-1).astype(np.float32)
    loss = SphereLoss()
    counted = np.ones((2, 3, 4), np.float32)
    loss(squared, counted)
    loss.radius.assign(1.1)
    pull = np.maximum(squared[..., :3] - 1.1**2, 0).mean(axis=(1, 2, 3))
    push = np.maximum(1.1**2 - squared[..., 3:] - 0.1, 0).mean(axis=(1, 2, 3))
    assert min(pull.min(), push.min()) > 1e-3
    np.testing.assert_allclose(loss(squared, counted), (pull + push) / 1e-3, rtol=1e-5)


def backbone_with_dead_channels() -> keras.Model:
    """`small_backbone`, two of whose last stage's channels are always 0."""
    backbone = small_backbone()
    layer = backbone.get_layer("conv2")
    kernel, bias = layer.get_weights()
    kernel[..., [3, 7]], bias[[3, 7]] = 0, -1
    layer.set_weights([kernel, bias])
    return backbone


TINY = {"hidden": 4, "kernels": (3,)}  # to be built and trained in a second


@pytest.fixture(scope="module")
def tiles(tmp_path_factory) -> Source:
    folder = tmp_path_factory.mktemp("tiles")
    rng = np.random.default_rng(0)
    for index in range(8):
        write_image(folder / f"{index}.png", tile(rng))
    return Source(tuple(sorted(folder.iterdir())), Preparation(64))


@pytest.mark.parametrize(("kind", "options"), [(CSFlow, {}), (FastFlow, {"steps": 2})])
def test_dead_channels_are_dropped(kind, options, tiles, tmp_path, monkeypatch):
    monkeypatch.setitem(SIZES, "small", TINY)
    extractor = FeatureExtractor(backbone_with_dead_channels(), kind.taps_of(["out2"]))
    method = kind(extractor, epochs=1, **options)
    method.fit(tiles)
    for live, (_, deviation) in zip(method.live, method.moments, strict=True):
        assert not {3, 7} & set(live.tolist())
        assert len(live) == len(deviation) > 2
        assert deviation.min() > 1e-6
    features = tiles.features(0, extractor)
    wanted = method.score_features(features)
    for one in features:
        one[..., [3, 7]] = 50  # on normal images it says nothing, so nothing is made of it
    np.testing.assert_array_equal(method.score_features(features), wanted)
    AnomalyModel(method, Preparation(64)).save(tmp_path / "m.anomaly")
    again = AnomalyModel.load(tmp_path / "m.anomaly").method
    np.testing.assert_allclose(again.score_features(features), wanted, rtol=1e-5)


def test_cs_flows_image_score_is_the_mean_over_all_scales(tiles, monkeypatch):
    monkeypatch.setitem(SIZES, "small", TINY)
    method = CSFlow(FeatureExtractor(small_backbone(), CSFlow.taps_of(["out2"])), epochs=1)
    method.fit(tiles)
    model = AnomalyModel(method, Preparation(64), "mean", reference=Reference(0, 64, 0, raw=True))
    features = tiles.features(2, method.extractor)
    latent = method.network(method.scaled(features))[:3]
    every = np.concatenate([np.asarray(one, np.float64).ravel() for one in latent])
    assert model.predict(tiles.paths[2]).score == pytest.approx((every**2 / 2).mean(), rel=1e-4)
    # The coarse scales stand in the map, too.
    bare = method.score_features(features)
    features[2][0, 0, 0] += 5
    assert np.abs(method.score_features(features) - bare)[0, :2, :2].min() > 0.05


def test_cs_flows_smallest_model_is_as_deep_as_the_papers():
    sizes = [flow_network([s[1:] for s in SHAPES], SIZES[name]) for name in ("small", "full")]
    assert len({len(one.get_layer("flow").first) for one in sizes}) == 1
