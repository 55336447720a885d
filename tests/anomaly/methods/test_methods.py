"""What every method must do: find what is near the noise, reload alike, export alike."""

from __future__ import annotations

from dataclasses import replace

import cv2
import keras
import numpy as np
import pytest
from keras import ops
from scipy.spatial.distance import cdist, mahalanobis
from scipy.stats import multivariate_normal

from anomaly.export.write import onnx_graph
from anomaly.features.extractor import FeatureExtractor, Source, graphs
from anomaly.features.maps import patches
from anomaly.methods.base import FeatureMethod
from anomaly.methods.fitting import MapSet, run_epochs
from anomaly.methods.ocr_gan import frequencies
from anomaly.methods.padim import PaDiM
from anomaly.methods.pooled import pooled
from anomaly.methods.pretraining import LOGIT, Pretraining, pretrain
from anomaly.methods.self_supervised import SelfSupervised
from anomaly.methods.vae import kl_divergence
from anomaly.models.model import METHODS, AnomalyModel, method_class
from anomaly.models.scores import aggregate, auroc
from inspection.data.images import write_image
from inspection.data.masks import encode_mask
from inspection.data.preparation import Preparation
from inspection.errors import InputError
from tests.anomaly.conftest import small_backbone, spoiled, tile

RNG = np.random.default_rng(0)
OPTIONS = {
    "patchcore": {"ratio": 0.1, "most": 500, "block": 5000},
    "cs-flow": {"epochs": 15, "lr": 2e-3, "batch_size": 10},
    "cfa": {"epochs": 4},
    "padim": {"dimensions": 20},
    "fastflow": {"steps": 2, "epochs": 10, "lr": 3e-3, "batch_size": 10},
    "cflow": {"steps": 2, "epochs": 10, "lr": 3e-3, "batch_size": 5},
    "vae": {"side": 32, "width": 8, "latent": 4, "epochs": 2, "batch_size": 10},
    "vae-denoising": {"side": 32, "width": 4, "latent": 4, "epochs": 2, "batch_size": 10},
    "ocr-gan": {"side": 32, "width": 4, "epochs": 2, "batch_size": 10},
}
FINDS_FAINT = (
    "patchcore",
    "self-supervised",
    "cs-flow",
    "cfa",
    "padim",
    "fastflow",
    "cflow",
    "oc-svm",
)
NOT_EXPORTED = ("ocr-gan", "isolation-forest")


def products(folder, seed: int, count: int, rough: int = 0) -> Source:
    """Tiles; in a square of `rough` pixels there is noise of 10 grey levels instead of 4."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        rgb = tile(rng)
        y, x = rng.integers(8, 36, 2)
        square = rgb[y : y + rough, x : x + rough]
        square[...] = (square + rng.normal(0, 9, (rough, rough, 1))).clip(0, 255)
        write_image(folder / f"{index:02d}.png", rgb)
    return Source(tuple(sorted(folder.iterdir())), Preparation(64))


def dark(folder, seed: int, count: int) -> Source:
    """Tiles with a dark spot, which needs no features to be found."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        write_image(folder / f"{index:02d}.png", spoiled(tile(rng), rng)[0])
    return Source(tuple(sorted(folder.iterdir())), Preparation(64))


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, Source]:
    folder = tmp_path_factory.mktemp("타일")
    train = products(folder / "train", 1, 30)
    return {
        "train": replace(train, cache=folder / "cache"),
        "good": products(folder / "good", 2, 15),
        "bad": products(folder / "bad", 3, 15, rough=22),
        "dark": dark(folder / "dark", 4, 15),
    }


@pytest.fixture(scope="module", params=METHODS)
def fitted(request, sources):
    kind = method_class(request.param)
    options = dict(OPTIONS.get(request.param, {}))
    if kind is SelfSupervised:
        backbone = pretrain(sources["train"], Pretraining(75, 8), seed=0)
        options["extractor"] = FeatureExtractor(backbone, [LOGIT])
    elif issubclass(kind, FeatureMethod):
        taps = kind.taps_of(["out0", "out1", "out2"][-kind.stages :])
        options["extractor"] = FeatureExtractor(small_backbone(), taps)
    method = kind(**options)
    method.fit(sources["train"], seed=0)
    return method


def test_defects_near_the_noise_rank_above_normals(fitted, sources):
    truth = np.arange(30) >= 15
    # Those that work on pixels and are trained for two epochs only, and a weak baseline, are to
    # find what is plain.
    faint = fitted.name in FINDS_FAINT
    scores, light = [], []
    for source in (sources["good"], sources["bad" if faint else "dark"]):
        for index in range(15):
            # As its paper has it, the strongest cell or the mean; half trained, the strongest.
            name = fitted.aggregation if faint else "max"
            scores.append(aggregate(fitted.score(source, index), 0, (name,))[name])
            light.append(abs(source.prepared(index).views.mean() - 120))
    assert auroc(np.array(scores), truth) > 0.9
    if faint:
        assert auroc(np.array(light), truth) < 0.75


def test_save_and_reload_gives_the_same_scores(fitted, sources, tmp_path):
    model = AnomalyModel(fitted, Preparation(64))
    model.save(tmp_path / "모델.anomaly")
    again = AnomalyModel.load(tmp_path / "모델.anomaly")
    views = sources["bad"].prepared(3).views
    found = again.score_views(views)
    np.testing.assert_allclose(found, fitted.score_views(views), rtol=1e-5, atol=1e-6)
    assert found.dtype == np.float32
    assert found.ndim == 3
    assert again.method.options == fitted.options
    # What is kept on disk is what is computed.
    source = sources["train"]
    kept, fresh = fitted.score(source, 1), fitted.score(replace(source, cache=None), 1)
    np.testing.assert_allclose(kept, fresh, rtol=1e-4, atol=1e-5)


def test_the_exported_graph_scores_alike_or_is_refused(fitted, sources):
    import onnxruntime

    model = AnomalyModel(fitted, Preparation(64))
    if fitted.name in NOT_EXPORTED:
        with pytest.raises(InputError, match="cannot be exported"):
            onnx_graph(model)
        return
    session = onnxruntime.InferenceSession(onnx_graph(model).SerializeToString())
    views = np.concatenate([sources["bad"].prepared(index).views for index in range(3)])
    wanted, weights = fitted.weighted_views(views)
    names = ["scores"] if weights is None else ["scores", "weights"]
    assert sorted(output.name for output in session.get_outputs()) == names
    found = session.run(names, {"views": views})
    np.testing.assert_allclose(found[0], wanted, atol=2e-3 * np.abs(wanted).max())
    if weights is not None:
        np.testing.assert_allclose(found[1], weights, atol=2e-3)


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("patchcore", {"ratio": 2}, "ratio"),
        ("cs-flow", {"model": "huge"}, "model huge"),
        ("cfa", {"epochs": 0}, "epochs"),
        ("padim", {"dimensions": 0}, "dimensions"),
        ("fastflow", {"steps": 0}, "steps"),
        ("cflow", {"ratio": 0}, "ratio"),
        ("vae", {"side": 50}, "side"),
        ("vae-denoising", {"noise": -1}, "noise"),
        ("ocr-gan", {"side": 50}, "side"),
        ("oc-svm", {"nu": 0}, "nu"),
        ("isolation-forest", {"trees": 0}, "trees"),
    ],
)
def test_options_out_of_range(method, options, words):
    kind = method_class(method)
    extractor = {"extractor": None} if issubclass(kind, FeatureMethod) else {}
    with pytest.raises(InputError, match=words):
        kind(**extractor, **options)


def test_padims_distance_is_scipys(sources):
    extractor = FeatureExtractor(small_backbone(), ["out1"])
    method = PaDiM(extractor, dimensions=6)
    method.fit(sources["train"], seed=3)
    source = replace(sources["train"], cache=None)
    every = np.concatenate(
        [patches(source.features(i, extractor), pool=1) for i in range(len(source))]
    )[..., method.chosen]
    found = method.score(sources["bad"], 0)[0]
    vectors = patches(sources["bad"].features(0, extractor), pool=1)[0][..., method.chosen]
    for row, column in ((0, 0), (3, 9), (15, 4)):
        cell = every[:, row, column].astype(np.float64)
        covariance = np.cov(cell, rowvar=False) + 0.01 * np.eye(6)
        inverse = np.linalg.inv(covariance)
        wanted = mahalanobis(vectors[row, column], cell.mean(axis=0), inverse)
        assert found[row, column] == pytest.approx(wanted, rel=1e-3)


def test_cfas_nearest_centres_are_scipys(sources):
    method = method_class("cfa")(FeatureExtractor(small_backbone(), ["out2"]), epochs=1)
    method.fit(sources["train"])
    given = method.scaled(method.inputs(sources["bad"].features(0, method.extractor)))[0]
    spheres = method.network.get_layer("spheres")
    told = keras.Model(method.network.input, method.network.get_layer("descriptor").output)(given)
    vectors = np.asarray(told, np.float64).reshape(-1, told.shape[-1])
    wanted = np.sort(cdist(vectors, np.asarray(spheres.centres), "sqeuclidean"), axis=1)[:, :6]
    found = np.asarray(method.network(given)).reshape(-1, 6)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


def test_the_kl_divergence_is_the_closed_form():
    """Against the general formula for Gaussians, and against what sampling gives."""
    mean, log_variance = RNG.normal(size=(3, 5)), RNG.normal(0, 0.5, (3, 5))
    found = np.asarray(kl_divergence(mean.astype("float32"), log_variance.astype("float32")))
    for row in range(3):
        covariance = np.diag(np.exp(log_variance[row]))
        general = 0.5 * (
            np.trace(covariance) + mean[row] @ mean[row] - 5 - np.linalg.slogdet(covariance)[1]
        )
        assert found[row] == pytest.approx(general, rel=1e-5)
        own, prior = multivariate_normal(mean[row], covariance), multivariate_normal(np.zeros(5))
        drawn = own.rvs(200_000, random_state=row)
        assert found[row] == pytest.approx(
            (own.logpdf(drawn) - prior.logpdf(drawn)).mean(), abs=0.05
        )


@pytest.mark.parametrize("method", ["oc-svm", "isolation-forest"])
def test_baselines_score_as_scikit_learn(method, sources):
    from sklearn.ensemble import IsolationForest
    from sklearn.svm import OneClassSVM

    extractor = FeatureExtractor(small_backbone(), ["out2"])
    fitted = method_class(method)(extractor)
    fitted.fit(sources["train"], seed=5)

    def vectors(name: str) -> np.ndarray:
        source = sources[name]
        rows = [pooled(source.features(i, extractor)) for i in range(len(source))]
        return (np.concatenate(rows) - fitted.fitted["mean"]) / fitted.fitted["deviation"]

    if method == "oc-svm":
        peer = OneClassSVM(gamma="scale", nu=fitted.nu).fit(vectors("train"))
        wanted = -peer.decision_function(vectors("bad"))
    else:
        peer = IsolationForest(n_estimators=fitted.trees, random_state=5).fit(vectors("train"))
        wanted = -peer.score_samples(vectors("bad"))
    found = [float(fitted.score(sources["bad"], i).max()) for i in range(15)]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_frequencies_add_up_without_wrapping():
    images = RNG.uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    low, high = frequencies(images)
    np.testing.assert_allclose(low + high, images, atol=1e-6)
    assert high.min() < 0 < high.max()
    assert low.std() < images.std()


class Killed(Exception):
    """Stands for Ctrl-C or a power cut."""


def test_a_killed_training_goes_on_and_ends_alike(tmp_path):
    def made() -> keras.Model:
        keras.utils.set_random_seed(1)
        network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        network.compile(keras.optimizers.Adam(0.01), loss="mse")
        return network

    def trained(network: keras.Model, checkpoint, stop: int | None = None) -> np.ndarray:
        def epoch(rng: np.random.Generator) -> float:
            x = rng.normal(size=(8, 3)).astype(np.float32)
            return float(network.train_on_batch(x, x[:, :2]))

        def told(what: str, done: int, total: int) -> None:
            if done == stop:
                raise Killed

        run_epochs({"n": network}, epoch, 6, 7, "test", told, checkpoint)
        return np.concatenate([np.ravel(weight) for weight in network.get_weights()])

    wanted = trained(made(), None)
    path = tmp_path / "state.npz"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("anomaly.methods.fitting._SAVE_SECONDS", 0)
        with pytest.raises(Killed):
            trained(made(), path, stop=3)
        assert path.is_file()
        np.testing.assert_allclose(trained(made(), path), wanted, rtol=1e-6)
    assert not path.exists(), "an unfinished state is left behind"


@pytest.mark.parametrize("method", ["cs-flow", "cfa", "fastflow", "cflow"])
def test_a_loss_is_the_mean_over_the_cells_that_count(method):
    """Half the cells count; each view's loss is that of its own counted cells alone."""
    kind = method_class(method)
    fitted = kind(None, epochs=1)
    shapes = [(8, 8, 6), (4, 4, 6), (2, 2, 6)][: 1 if method == "cfa" else 3]
    if method == "cfa":
        fitted._spheres = 32
    network = fitted.build(shapes, 0)
    rng = np.random.default_rng(0)
    for weight in network.weights:
        if "mix" not in weight.name:
            weight.assign(rng.normal(0, 0.1, weight.shape))
    maps = [rng.normal(size=(2, *shape)).astype(np.float32) for shape in shapes]
    half = [np.ones((2, *shape[:2]), np.float32) for shape in shapes]
    for one in half:
        one[0, :, one.shape[2] // 2 :] = 0
    inputs = [keras.Input(shape[:2]) for shape in shapes]
    found = np.asarray(fitted.loss(network, inputs)([*maps, *half]))
    told = network(maps if len(maps) > 1 else maps[0])
    told = [np.asarray(one, np.float64) for one in (told if len(maps) > 1 else [told])]
    if method == "cfa":
        sphere = 1e-5**2
        pull = np.maximum(told[0][..., :3] - sphere, 0).mean(axis=-1)
        push = np.maximum(sphere - told[0][..., 3:] - 0.1, 0).mean(axis=-1)
        cells = [1e3 * (pull + push)]
    elif method == "cflow":
        cells = [np.log1p(np.exp(-one)) / 3 for one in told]
    elif method == "fastflow":
        cells = [
            (0.5 * (z**2).sum(axis=-1) - change) / 6
            for z, change in zip(told[::2], told[1::2], strict=True)
        ]
    else:
        latent, changes = network.get_layer("flow").cells(maps)
        squares = [0.5 * (np.asarray(z, np.float64) ** 2).sum(axis=-1) for z in latent]
        # One mean over all numbers of all scales.
        share = [one.sum(axis=(1, 2)) for one in half]
        cells = [
            (square - np.asarray(change)) / 6 * (count / sum(share))[:, None, None]
            for square, change, count in zip(squares, changes, share, strict=True)
        ]
    wanted = sum(
        (one * inside).sum(axis=(1, 2)) / inside.sum(axis=(1, 2))
        for one, inside in zip(cells, half, strict=True)
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_an_exported_graph_shrinks_as_opencv(factor):
    views = RNG.integers(0, 256, (2, 96, 96, 3)).astype(np.uint8)
    size = (96 // factor, 96 // factor)
    wanted = [cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in views]
    found = graphs.shrunk(views.astype(np.float32), factor)
    np.testing.assert_array_equal(np.asarray(found), np.stack(wanted))


def test_masked_cells_and_views_are_not_learnt():
    given = np.zeros((3, 4, 4, 2), np.float32)
    given[:, :, :2] = np.random.default_rng(0).normal(5, 2, (3, 4, 2, 2))
    given[:, :, 2:] = 1000
    cells = np.zeros((3, 4, 4), bool)
    cells[:2, :, :2] = True
    maps = MapSet(1, lambda index: [given], lambda *told: None, lambda index, size: cells)
    assert len(maps) == 2, "a view without any cell is left out"
    mean, deviation = maps.moments()[0]
    np.testing.assert_allclose(mean, given[cells].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(deviation, given[cells].std(axis=0), rtol=1e-4)
    np.testing.assert_array_equal(maps.counted([1])[0][0], cells[1])


def test_baselines_pool_over_what_a_mask_keeps(tmp_path):
    source = products(tmp_path / "a", 1, 6)
    mask = np.full((64, 64, 3), 255, np.uint8)
    mask[:, 32:] = 0
    write_image(tmp_path / "mask.png", mask)
    masked = Preparation(64, roi_mask=encode_mask(tmp_path / "mask.png"))
    method = method_class("oc-svm")(FeatureExtractor(small_backbone(), ["out2"]))
    method.fit(replace(source, preparation=masked))
    (features,) = method.extractor(masked(source.paths[0]).views)
    features = features.astype(np.float32)
    wanted = method.score_features([features])
    np.testing.assert_allclose(np.asarray(method.feature_graph([features])), wanted, rtol=1e-3)
    features[:, :, 4:] += 100
    np.testing.assert_array_equal(method.score_features([features]), wanted)


def test_padim_learns_counted_cells_alone(tmp_path):
    source = products(tmp_path / "a", 1, 6)
    mask = np.full((64, 64, 3), 255, np.uint8)
    mask[:, 32:] = 0
    write_image(tmp_path / "mask.png", mask)
    masked = replace(
        source, preparation=Preparation(64, roi_mask=encode_mask(tmp_path / "mask.png"))
    )
    methods = [PaDiM(FeatureExtractor(small_backbone(), ["out1"]), 6) for _ in range(2)]
    for method, one in zip(methods, (source, masked), strict=True):
        method.fit(one)
    whole, half = (one.score(masked, 0)[0] for one in methods)
    assert (half[:, 8:] == 0).all(), "of masked cells nothing is known"
    assert whole[:, 8:].min() > 0
    # Further than the backbone sees from the mask, nothing has changed.
    np.testing.assert_allclose(half[:, :5], whole[:, :5], rtol=1e-3)


def test_maps_beyond_the_memory_are_read_again():
    reads: list[int] = []

    def read(index: int) -> list[np.ndarray]:
        reads.append(index)
        return [np.full((2, 4, 4, 3), index, np.float16)]

    maps = MapSet(5, read, lambda *told: None, most_bytes=2 * 2 * 4 * 4 * 3 * 2)
    assert len(maps) == 10
    batch = maps[[0, 3, 9]][0]
    assert batch[:, 0, 0, 0].tolist() == [0, 1, 4]
    assert reads == [0, 1, 2, 3, 4, 4], "two images fit, the others are read each time"
    mean, deviation = maps.moments()[0]
    np.testing.assert_allclose(mean, 2)
    np.testing.assert_allclose(deviation, np.sqrt(2), rtol=1e-5)
    covered = np.concatenate(maps.batches(4, np.random.default_rng(0)))
    assert set(covered.tolist()) == set(range(10))
    assert len(covered) == 12


def test_a_loss_that_is_no_number_is_told():
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    network.compile("sgd", loss="mse")
    with pytest.raises(InputError, match="lower lr"):
        run_epochs({"n": network}, lambda rng: float("nan"), 2, 0, "it", lambda *told: None)


def test_ops_take_no_part_in_numpy_scores():
    """An image's score must not depend on the images beside it."""
    extractor = FeatureExtractor(small_backbone(), ["out2"])
    views = RNG.integers(0, 255, (3, 64, 64, 3)).astype(np.uint8)
    together = extractor(views)[0]
    alone = np.concatenate([extractor(view[None])[0] for view in views])
    np.testing.assert_allclose(together, alone, rtol=2e-3, atol=1e-3)
    assert ops.shape(together) == (3, 8, 8, 32)
