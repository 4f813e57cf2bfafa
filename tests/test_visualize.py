"""Drawing: what is coloured and what is not, where labels go, the grid, and which images are shown."""

import numpy as np
import pycocotools.mask as mask_util
import pytest

from reg_d2 import visualize
from reg_d2.visualize import (
    PALETTE,
    Objects,
    annotated_objects,
    color_of,
    draw_instances,
    place_label,
    prediction_grid,
    save_picture,
    select_images,
)

# isort: split
from detectron2.structures import BoxMode

NAMES = ("sign", "bus stop", "rail")
GREY = np.full((200, 300, 3), 128, np.uint8)


@pytest.fixture
def unlabelled(monkeypatch):
    monkeypatch.setattr(visualize, "_draw_labels", lambda *args: None)


def changed(picture, image=GREY):
    return (picture != image).any(2)


def disc(height=200, width=300):
    yy, xx = np.mgrid[:height, :width]
    return (yy - 100) ** 2 + (xx - 150) ** 2 <= 40**2


def test_box_only_objects_get_no_fill(unlabelled):
    for masks in (None, [None]):
        picture = draw_instances(GREY, [[110, 60, 190, 140]], [1], NAMES, [0.5], masks)
        where = changed(picture)
        assert where[60, 110:190].all() and where[60:140, 110].all()
        assert not where[66:135, 116:185].any() and not where[:55].any() and not where[:, 196:].any()


def test_masks_are_coloured_only_inside(unlabelled):
    mask = disc()
    picture = draw_instances(GREY, [[100, 50, 200, 150]], [0], NAMES, None, [mask])
    yy, xx = np.mgrid[:200, :300]
    radius = np.hypot(yy - 100, xx - 150)
    assert changed(picture)[mask].all()
    # Between the outline's own width and the box, nothing.
    assert not changed(picture)[(radius > 44) & (radius < 48)].any()
    inner = picture[100, 150].astype(float)
    np.testing.assert_allclose(inner, 128 * 0.6 + np.array(color_of(0)) * 0.4, atol=1)


def test_masks_and_boxes_follow_an_enlargement(unlabelled):
    small = np.full((50, 100, 3), 128, np.uint8)
    mask = np.zeros((50, 100), bool)
    mask[10:30, 20:60] = True
    picture = draw_instances(small, [[20, 10, 60, 30]], [2], NAMES, None, [mask], width=400)
    assert picture.shape == (200, 400, 3)
    rows, columns = np.nonzero(changed(picture, np.full_like(picture, 128)))
    np.testing.assert_allclose([columns.min(), rows.min(), columns.max(), rows.max()], [80, 40, 240, 120], atol=3)


def test_the_given_image_is_not_changed():
    image = GREY.copy()
    draw_instances(image, [[10, 10, 50, 50]], [0], NAMES, [0.9], [disc()])
    assert (image == 128).all()


def test_no_objects_leave_the_image_as_it_is():
    assert not changed(draw_instances(GREY, np.zeros((0, 4)), [], NAMES, [], [])).any()


def test_a_label_is_written_on_the_colour_of_its_class():
    picture = draw_instances(GREY, [[50, 100, 250, 190]], [1], NAMES, [0.87])
    strip = picture[80:98, 50:100].reshape(-1, 3)
    assert (strip == color_of(1)).all(1).mean() > 0.3
    assert (strip.min(1) > 200).any()


@pytest.mark.parametrize("box", [(0, 0, 30, 30), (290, 0, 300, 10), (-20, 190, 20, 220), (280, 180, 300, 200)])
def test_labels_stay_inside_the_image(box):
    x0, y0, x1, y1 = place_label((120, 18), box, (200, 300), [])
    assert x0 >= 0 and y0 >= 0 and x1 <= 300 and y1 <= 200 and (x1 - x0, y1 - y0) == (120, 18)


def test_labels_of_one_place_do_not_overlap():
    taken = []
    for _ in range(4):
        taken.append(place_label((80, 15), (100, 80, 180, 140), (200, 300), taken))
    for i, a in enumerate(taken):
        for b in taken[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_white_text_is_readable_on_every_colour():
    for color in PALETTE:
        c = np.array(color) / 255
        linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        assert 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) >= 3, color
    assert len(set(PALETTE)) == len(PALETTE) and color_of(len(PALETTE)) == PALETTE[0]


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="uint8"):
        draw_instances(GREY.astype(float), [], [], NAMES)
    with pytest.raises(ValueError, match=r"\(200, 300\)"):
        draw_instances(GREY, [[0, 0, 9, 9]], [0], NAMES, None, [np.zeros((50, 50), bool)])


def test_grid_has_its_width_and_shows_both_sides():
    truth = Objects(np.array([[50, 50, 250, 150.0]]), np.array([0]))
    nothing = Objects(np.zeros((0, 4)), np.array([], int), np.array([]), [])
    grid = prediction_grid([(GREY, truth, nothing)] * 3, NAMES, title="a title", width=1000, pairs_per_row=1)
    cell = (1000 - 2 * 16 - 4) // 2
    picture_height = round(200 * cell / 300)
    assert grid.dtype == np.uint8 and grid.shape[1:] == (1000, 3) and grid.shape[0] > 3 * picture_height
    blue = (grid == color_of(0)).all(2)
    assert blue[100 : 100 + 3 * picture_height, :500].any()
    assert not blue[: 74 + 3 * picture_height, 504:].any()
    assert blue[-60:].any(), "the legend shows the class"
    two = prediction_grid([(GREY, truth, nothing)] * 3, NAMES, width=1000, pairs_per_row=2)
    assert two.shape[1] == 1000 and two.shape[0] < grid.shape[0]
    with pytest.raises(ValueError, match="no images"):
        prediction_grid([], NAMES)


def test_ground_truth_of_all_kinds():
    polygon = [[10.0, 10.0, 60.0, 10.0, 60.0, 40.0, 10.0, 40.0]]
    rle = mask_util.encode(np.asfortranarray(disc().astype(np.uint8)))
    common = {"bbox_mode": BoxMode.XYWH_ABS, "iscrowd": 0}
    annotations = [
        {**common, "bbox": [10, 10, 50, 30], "category_id": 0, "segmentation": polygon},
        {**common, "bbox": [110, 60, 81, 81], "category_id": 2, "segmentation": rle},
        {**common, "bbox": [5, 5, 10, 20], "category_id": 1},
        {**common, "bbox": [0, 0, 99, 99], "category_id": 1, "iscrowd": 1},
    ]
    objects = annotated_objects({"height": 200, "width": 300, "annotations": annotations})
    assert objects.boxes.tolist() == [[10, 10, 60, 40], [110, 60, 191, 141], [5, 5, 15, 25]]
    assert objects.classes.tolist() == [0, 2, 1]
    assert objects.masks[0].shape == (200, 300) and objects.masks[0].sum() == 50 * 30
    assert (objects.masks[1] == disc()).all() and objects.masks[2] is None


def test_images_shown_cover_the_rare_classes():
    records = [{"annotations": [{"category_id": c} for c in classes]} for classes in [[0], [0, 1], [], [0, 1], [2]]]
    chosen = select_images(records, 2)
    assert chosen == [records[1], records[4]]
    assert select_images(records, 2) == chosen and len(select_images(records, 99)) == 5


def test_pictures_that_cannot_be_written(tmp_path):
    save_picture(tmp_path / "a.png", GREY)
    for name in ("a.nothing", "missing/a.png"):
        with pytest.raises(OSError, match="cannot be written"):
            save_picture(tmp_path / name, GREY)
