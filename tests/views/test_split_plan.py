"""The plan of a split: what is drawn where."""

from kdcore.views.split_plan import split_chart, visible_rectangles


def scene(name, left=0.0, top=0.0, crs="EPSG:32633", size=100, **boxes):
    rectangles = [
        {"part": part, "row": box[0], "column": box[1], "height": box[2], "width": box[3]}
        for part, box in boxes.items()
    ]
    return {
        "id": name,
        "height": size,
        "width": size,
        "left": left,
        "top": top,
        "pixel": 0.5,
        "crs": crs,
        "rectangles": rectangles,
    }


def drawn(figure):
    """The rectangles of a plan: their part, and their edges from the upper left corner."""
    boxes = []
    for trace in figure.data:
        if trace.type == "bar":
            for x, width, base, height in zip(trace.x, trace.width, trace.base, trace.y, strict=True):
                edges = {"x": x - width / 2, "x2": x + width / 2, "y": -base - height, "y2": -base}
                boxes.append({"part": trace.name} | edges)
    return boxes


def test_neighbouring_scenes_are_drawn_where_they_lie():
    scenes = [
        scene("west", left=0, top=50, train=(0, 0, 100, 100)),
        scene("east", left=60, top=50, test=(0, 0, 100, 100)),
    ]
    west, east = (next(box for box in drawn(split_chart(scenes)) if box["part"] == part) for part in ("train", "test"))
    assert (west["x"], west["x2"], east["x"], east["x2"]) == (0, 50, 60, 110)  # metres
    assert (east["y"], east["y2"], east["part"]) == (0, 50, "test")


def test_scenes_far_apart_are_drawn_in_rows():
    scenes = [scene("here", train=(0, 0, 100, 100)), scene("far", left=1e6, test=(0, 0, 100, 100))]
    here, far = (next(box for box in drawn(split_chart(scenes)) if box["part"] == part) for part in ("train", "test"))
    assert far["x2"] < 400
    assert here["x2"] <= far["x"] or here["y2"] <= far["y"]


def test_scenes_without_georeference_never_overlap():
    scenes = [scene(f"s{index}", crs=None, size=50 + 7 * index, train=(0, 0, 50, 50)) for index in range(9)]
    boxes = [box for box in drawn(split_chart(scenes)) if box["part"] == "not used"]
    assert len(boxes) == 8  # all but the first, which is covered
    for index, a in enumerate(boxes):
        for b in boxes[index + 1 :]:
            assert a["x2"] <= b["x"] or b["x2"] <= a["x"] or a["y2"] <= b["y"] or b["y2"] <= a["y"]


def test_what_is_hidden_is_not_drawn():
    whole = scene("a", buffer=(0, 0, 100, 100), train=(0, 0, 100, 100))
    assert [box["part"] for box in visible_rectangles(whole)] == ["train"]
    cut = scene("a", buffer=(0, 0, 100, 50), train=(0, 0, 100, 40))
    assert [box["part"] for box in visible_rectangles(cut)] == ["not used", "buffer", "train"]


def test_a_part_has_its_colour_and_tells_its_scene_as_plain_text():
    figure = split_chart([scene("<img src=x>", train=(0, 0, 100, 100))])
    (train,) = [trace for trace in figure.data if trace.type == "bar"]
    assert train.marker.color == "rgba(86,180,233,1)"  # of SPLIT_COLOURS: #56B4E9
    assert train.hovertext == ("&lt;img src=x&gt;<br>train, 100 × 100 px",)
    (names,) = [trace for trace in figure.data if trace.type == "scatter"]
    assert names.text == ("&lt;img src=x&gt;<br>train",)


def test_pictures_lie_under_their_scenes_and_shine_through():
    figure = split_chart([scene("a", train=(0, 0, 100, 100)) | {"picture": "data:image/png;base64,AAAA"}])
    (picture,) = figure.layout.images
    assert (picture.x, picture.y, picture.sizex, picture.sizey, picture.layer) == (0, 0, 50, 50, "below")  # metres
    assert figure.data[0].marker.color.endswith("0.45)")
