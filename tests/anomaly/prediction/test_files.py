"""What anomaly adds to the prediction of a folder; the rest is `tests/journeys`'."""

import os

from anomaly.prediction.files import HeatPredictor
from inspection.data.images import image_size, read_image
from tests.rooms import OK, FakeDecider, Place


def test_heat_maps_that_are_not_wanted_leave_no_stale_ones(tmp_path):
    place = Place("anomaly", tmp_path)
    path = place.image("a.png", size=(3000, 20))
    place.image("b.png")
    place.predict()
    assert image_size(place.out / "heat_maps/a.jpg")[0] == 1024
    assert read_image(place.out / place.rows[1]["heat_map"]).shape == (30, 40, 3)
    place.image("a.png", OK)
    os.utime(path, (path.stat().st_mtime + 5,) * 2)
    result = place.predict(by=HeatPredictor(FakeDecider(), heat_maps=False))
    assert (result.done, result.skipped) == (1, 1)
    assert [row["heat_map"] for row in place.rows] == ["", "heat_maps/b.jpg"]
    assert place.all_drawn == place.drawings("b")
    assert place.predict().done == 1
    assert place.all_drawn == place.drawings("a", "b")
