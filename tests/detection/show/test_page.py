import re
from pathlib import Path

import numpy as np
import pytest

from detection.data.dataset import read_labels
from detection.data.table import classes_of
from detection.models.anchors import AnchorGrid, AnchorSettings
from detection.settings import TrainSettings
from detection.show import page as show_module
from detection.show.anchor_reach import Reach, match_image
from detection.show.page import choose_images, show
from detection.training import samples as samples_module
from detection.training.augment import Sample
from detection.training.samples import draw_sample, write_samples
from detection.training.shown_boxes import ShownBoxes
from inspection.data.boxes import ImageLabels
from inspection.data.images import read_image, write_image
from inspection.errors import InputError
from tests.places import DATA

ANCHORS = AnchorSettings()
NORMAL = np.zeros((0, 4), np.float32)
RNG = np.random.default_rng(0)


class Page:
    """Images and labels, the page made of them, and every view drawn on it."""

    def __init__(self, root: Path, monkeypatch) -> None:
        self.images, self.path = root / "사진", root / "out" / "show.html"
        self.labels: list[ImageLabels] = []
        self.views: list[np.ndarray] = []
        draw_view = show_module.draw_view

        def watched(rgb, *args, **options):
            self.views.append(rgb)
            return draw_view(rgb, *args, **options)

        for module in (show_module, samples_module):
            monkeypatch.setattr(module, "draw_view", watched)

    def image(self, name: str, boxes=NORMAL, label=(), side: int = 128) -> None:
        write_image(self.images / name, RNG.integers(0, 256, (side, side, 3), np.uint8))
        self.labels.append(ImageLabels(name, boxes, label))

    def show(self, classes=None, limit=4, **settings) -> str:
        usual = {"images": self.images, "size": 128, "augment": "none", "anchors": "default"}
        settings = TrainSettings(**usual | settings)
        classes = classes_of(self.labels) if classes is None else classes
        path = show(self.labels, settings, classes, self.path, limit)
        assert path == self.path
        return path.read_text("utf-8")


@pytest.fixture
def page(tmp_path, monkeypatch):
    return Page(tmp_path, monkeypatch)


def test_one_self_contained_page_with_all_images(page):
    page.image("웨이퍼.png", [[20, 20, 60, 60]], ("긁힘",))
    page.image("clean.png")
    html = page.show()
    # Annotated, augmented twice, and anchors: with a detail where there is a box.
    assert html.count("data:image/jpeg") == 5 + 4
    assert html.count("data:image/png") == 3
    assert not re.search(r"""(src|href)=["'](?!data:)|@import|url\(""", html)
    assert '<meta name="viewport"' in html
    for text in ("웨이퍼.png", "128 x 128 px, 1 긁힘", "clean.png", "128 x 128 px, normal"):
        assert text in html
    assert "Normal image: every anchor is background." in html
    assert list(page.path.parent.iterdir()) == [page.path]


def test_says_which_boxes_anchors_reach(page):
    page.image("a.png", [[20, 20, 60, 60], [80, 80, 84, 84]], ("dust", "dust"))
    html = page.show()
    assert re.search(r"1 box reached by \d+ anchors; 1 box only by a forced match", html)
    assert "1 of 2 boxes (as labelled) are reached by no anchor at IoU .5" in html
    assert "50.0 %" in html


def test_names_are_escaped(page):
    page.image("a&b.png", [[20, 20, 60, 60]], ("<script>alert(1)</script>",))
    html = page.show()
    assert "<script" not in html
    assert "a&amp;b.png" in html


def test_samples_are_what_training_makes(page):
    page.image("a.png", [[20, 20, 60, 60]], ("dust",), side=96)
    page.show(crop=64)
    shapes = [view.shape for view in page.views]
    assert shapes.count((64, 64, 3)) == 2  # windows
    assert shapes.count((128, 128, 3)) == 2  # fitted, for the anchors
    assert shapes.count((96, 96, 3)) == 1  # the annotated original
    page.views.clear()
    page.show()
    samples, fitted = page.views[:2], page.views[-1]
    assert all(np.array_equal(sample, fitted) for sample in samples)
    page.views.clear()
    page.show(augment="heavy")
    samples = page.views[:2]
    assert not all(np.array_equal(sample, fitted) for sample in samples)


def test_the_same_seed_gives_the_same_images(page):
    for index in range(3):
        page.image(f"{index}.png", [[20, 20, 60, 60]], ("dust",))
    images = [re.findall('data:image/jpeg[^"]+', page.show(augment="heavy")) for _ in range(2)]
    assert images[0] == images[1]


def test_every_class_and_normal_images_come_up():
    labels = [ImageLabels(f"{i}.png", [[0, 0, 9, 9]], ("common",)) for i in range(50)]
    labels += [ImageLabels("rare.png", [[0, 0, 9, 9]], ("rare",)), ImageLabels("n.png", NORMAL)]
    chosen = choose_images(labels, 3)
    assert {labels[index].label for index in chosen} == {("common",), ("rare",), ()}
    assert sorted(choose_images(labels, 100)) == list(range(52))
    assert choose_images(labels, 3) == chosen


def test_an_unreadable_image_is_noted_and_left_out(page):
    page.image("good.png", [[20, 20, 60, 60]], ("dust",))
    page.image("bad.png", [[20, 20, 60, 60]], ("dust",))
    content = (page.images / "bad.png").read_bytes()
    (page.images / "bad.png").write_bytes(content[: len(content) // 2])
    html = page.show()
    assert "bad.png: is damaged or truncated" in html
    assert html.count("data:image/jpeg") == 5
    page.labels = page.labels[1:]
    with pytest.raises(InputError, match=r"bad\.png"):
        page.show()


def test_only_normal_images_need_no_figures(page):
    page.image("a.png")
    html = page.show(classes=())
    assert "data:image/png" not in html
    assert not re.search(r">\s*nan", html)


def test_nothing_to_show_and_unknown_classes_are_errors(page):
    with pytest.raises(InputError, match="no labelled image"):
        page.show()
    page.image("a.png", [[20, 20, 60, 60]], ("dust",))
    with pytest.raises(InputError, match="'dust' of 1 boxes is not among scratch"):
        page.show(classes=("scratch",))
    assert not page.path.exists()


def test_matches_count_anchors_and_keep_forced_ones():
    grid = AnchorGrid(ANCHORS, 128, 128)
    matched = match_image(grid, np.array([[20, 20, 60, 60], [80, 80, 84, 84]], np.float32))
    assert matched.count[0] > 0
    assert matched.count[1] == 0
    forced = matched.iou[matched.box == 1]
    assert len(forced) >= 1
    assert (forced < 0.5).all()
    assert matched.count[0] == (matched.iou[matched.box == 0] >= 0.5).sum()


def test_reach_counts_every_box_where_there_is_time():
    boxes = np.array([[20, 20, 60, 60], [0, 0, 50, 40], [80, 80, 84, 84]], np.float32)
    labels = [
        ImageLabels("a.png", boxes[:2], ("x", "y")),
        ImageLabels("b.png", NORMAL),
        ImageLabels("c.png", boxes[2:], ("x",)),
    ]
    images = tuple(item.xyxy for item in labels)
    names = tuple(item.label for item in labels)
    reach = Reach(ShownBoxes(boxes, images, names, 128, False, "as labelled"), ANCHORS, seed=0)
    assert reach.images == 3
    assert len(reach.count) == 3
    assert reach.recall == pytest.approx(2 / 3)
    assert (reach.count == 0).sum() == 1


def test_reach_is_that_of_the_boxes_as_they_are_turned(page):
    """A box that lies only: reached as labelled, by no anchor upright."""
    page.image("a.png", [[20, 60, 100, 72]], ("crack",))
    assert "1 boxes (as labelled) are reached by no anchor" not in page.show(
        augment="flip", anchors="auto"
    )
    html = page.show(augment="basic")  # the paper's anchors reach neither
    assert "2 of 2 boxes (as labelled, also turned a quarter) are reached by no anchor" in html
    assert "--augment flip" in html


def test_samples_show_classes_and_boxes_that_no_anchor_reaches(tmp_path):
    image = np.full((128, 128, 3), 90, np.uint8)
    boxes = np.array([[20, 20, 60, 60], [80, 80, 84, 84], [100, 10, 128, 40]], np.float32)
    sample = Sample(image, boxes, np.array([0, 0, -1]))
    drawn = draw_sample(sample, ("dust",), ANCHORS)
    assert (drawn == (244, 67, 54)).all(axis=2).any()  # red, for the second box alone
    plain = draw_sample(Sample(image, boxes[:1], np.array([0])), ("dust",), ANCHORS)
    assert not (plain == (244, 67, 54)).all(axis=2).any()
    path = tmp_path / "표본.jpg"
    write_samples(path, [sample] * 5, ("dust",), ANCHORS)
    assert read_image(path).shape == (2 * drawn.shape[0], 4 * drawn.shape[1], 3)
    write_samples(path, [sample], ("dust",), ANCHORS)
    assert read_image(path).shape == drawn.shape


def test_real_labels(tmp_path):
    data = DATA
    folder = data / "neu_det"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; INSPECTION_DATA names the folder of data sets")
    labels = read_labels(folder / "annotations", folder / "images", say=lambda text: None)[::200]
    settings = TrainSettings(size=200, augment="basic", images=folder / "images")
    path = show(labels, settings, classes_of(labels), tmp_path / "show.html", limit=2)
    assert path.read_text("utf-8").count("data:image/jpeg") == 10
    assert read_image(folder / "images" / labels[0].image).shape == (200, 200, 3)
