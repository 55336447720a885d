import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from inspection.data.boxes import ImageLabels, box_area, box_iou, clip_boxes, valid_boxes
from inspection.prediction.detections import Detections

CORNERS = hnp.arrays(
    np.int64,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=6).map(lambda s: (s[0], 4)),
    elements=st.integers(0, 40),
)


def boxes_from(corners: np.ndarray) -> np.ndarray:
    low = np.minimum(corners[:, :2], corners[:, 2:])
    high = np.maximum(corners[:, :2], corners[:, 2:]) + 1
    return np.concatenate([low, high], axis=1).astype(np.float32)


def pixels(box: np.ndarray) -> set[tuple[int, int]]:
    x1, y1, x2, y2 = (int(edge) for edge in box)
    return {(x, y) for x in range(x1, x2) for y in range(y1, y2)}


@given(CORNERS, CORNERS)
def test_iou_counts_shared_pixels(first, second):
    a, b = boxes_from(first), boxes_from(second)
    iou = box_iou(a, b)
    assert iou.shape == (len(a), len(b))
    for i, box in enumerate(a):
        for j, other in enumerate(b):
            mine, theirs = pixels(box), pixels(other)
            assert iou[i, j] == pytest.approx(len(mine & theirs) / len(mine | theirs), abs=1e-12)


@given(CORNERS)
def test_iou_is_one_with_itself_and_symmetric(corners):
    boxes = boxes_from(corners)
    iou = box_iou(boxes, boxes)
    assert np.all(np.diag(iou) == 1)
    assert np.array_equal(iou, iou.T)


def test_an_iou_of_one_half_is_exactly_one_half():
    assert box_iou([[0.1, 0, 10.1, 10]], [[0.1, 0, 10.1, 5]])[0, 0] == 0.5


def test_empty_inputs_keep_their_shapes():
    assert box_iou([], [[0, 0, 1, 1]]).shape == (0, 1)
    assert box_area([]).shape == (0,)
    assert clip_boxes([], 4, 4).shape == (0, 4)


def test_boxes_without_area_overlap_nothing():
    assert box_iou([[3, 3, 3, 8], [5, 5, 2, 2]], [[0, 0, 9, 9], [3, 3, 3, 8]]).max() == 0
    assert box_area([[5, 5, 2, 2]])[0] == 0


@given(
    hnp.arrays(np.float32, (5, 4), elements=st.floats(-50, 150, width=32)),
    st.integers(1, 100),
    st.integers(1, 100),
)
def test_clipped_boxes_lie_within_the_image(boxes, width, height):
    clipped = clip_boxes(boxes, width, height)
    assert clipped.dtype == np.float32
    assert (clipped >= 0).all()
    assert (clipped[:, 0::2] <= width).all()
    assert (clipped[:, 1::2] <= height).all()
    assert np.array_equal(clip_boxes(clipped, width, height), clipped)


def test_edges_on_the_border_are_valid():
    boxes = [[0, 0, 8, 6], [0, 0, 9, 6], [-1, 0, 8, 6], [2, 2, 2, 4], [0, 0, np.nan, 6]]
    assert valid_boxes(boxes, (8, 6)).tolist() == [True, False, False, False, False]


def test_detections_are_kept_by_descending_score():
    found = Detections([[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3]], [0.2, 0.9, 0.5], "abc")
    assert found.label == ("b", "c", "a")
    assert found.xyxy[:, 2].tolist() == [2, 3, 1]
    assert np.all(np.diff(found.score) <= 0)
    assert len(found.above(0.5)) == 2


def test_equal_scores_keep_their_order():
    found = Detections(np.ones((3, 4)), [0.1, 0.7, 0.7], ("a", "b", "c"))
    assert found.label == ("b", "c", "a")


def test_labels_fill_in_what_a_normal_image_lacks():
    normal = ImageLabels("a.png", [])
    assert normal.xyxy.shape == (0, 4)
    assert normal.difficult.shape == (0,)
    assert normal.is_normal
    assert normal == ImageLabels("a.png", np.zeros((0, 4)), (), np.zeros(0, bool), "")
    assert normal != ImageLabels("b.png", [])


@pytest.mark.parametrize("label", [(), ("a", "b")])
def test_labels_must_be_as_many_as_boxes(label):
    with pytest.raises(ValueError, match="must be equal"):
        ImageLabels("a.png", [[0, 0, 1, 1]], label)
    with pytest.raises(ValueError, match="must be equal"):
        Detections([[0, 0, 1, 1]], [0.5], label)


def test_boxes_of_the_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"\(N, 4\)"):
        box_area([[1, 2, 3]])
