"""What the Deploy page says and draws, against numbers that were worked out by hand."""

import math

import pytest

from kdcore.deploy.record import Deployment
from kdcore.views.deploy import (
    better_teacher,
    difference_in_words,
    fastest,
    flips_in_words,
    headline,
    quality,
    variant_rows,
    variants,
    where_lost,
)
from kdcore.views.deploy_costs import Job, cost_rows, cost_sentence, cost_table, energy_in_words, hours_in_words, number
from kdcore.views.maps import DRAWING, drawn_km2
from kdcore.views.pareto import AXES, front, pareto_figure, points_of
from tests.deployment import REFUSED, form, make_deployment, speed, with_bfloat16


def deployment_of(*forms, metres: float | None = 0.5) -> Deployment:
    """A deployment of these forms only."""
    return make_deployment().model_copy(update={"forms": forms, "metres_per_pixel": metres})


# ---- in words ----


def test_the_headline_says_what_is_gained_and_what_is_lost():
    """In one engine: 6.2 against 1.9 megapixels a second; 69.3 - 0.4 = 68.9 against 78.9 - 0.1 = 78.8."""
    found = headline(make_deployment())
    assert found.sentence == (
        "The distilled student maps 3.3 times as many km² an hour as the teacher, both in OpenVINO int8, "
        "but loses 9.9 points of mean AP."
    )
    assert where_lost(make_deployment(), found) == ""
    assert better_teacher(make_deployment(), found) == ""


def test_without_the_same_engine_it_says_in_which_each_runs_and_what_the_form_costs():
    """6.2 against 0.5; 69.3 - 0.4 = 68.9 against 78.9."""
    forms = [each for each in make_deployment().forms if (each.arm, each.kind) != ("teacher", "int8")]
    known = deployment_of(*forms)
    found = headline(known)
    assert found.sentence == (
        "The distilled student in OpenVINO int8 maps 12.4 times as many km² an hour as the teacher in PyTorch, "
        "but loses 10.0 points of mean AP."
    )
    assert where_lost(known, found) == (
        "Of these points, −9.6 are due to the smaller network and −0.4 to its form as a file (ONNX, int8)."
    )


def test_a_teacher_that_is_as_fast_and_better_is_to_be_used_itself():
    def measured(arm, megapixels, slowest, fastest):
        own = speed("openvino", megapixels).model_copy(update={"slowest": slowest, "fastest": fastest})
        return form(arm, "int8", own, points=0.0)

    slower = deployment_of(measured("teacher", 2.0, 1.9, 2.1), measured("distilled", 4.18, 4.0, 4.3))
    assert better_teacher(slower, headline(slower)) == ""
    alike = deployment_of(measured("teacher", 2.55, 2.0, 4.2), measured("distilled", 4.18, 2.4, 4.3))
    found = headline(alike)
    assert "maps about as many km² an hour as the teacher, both in OpenVINO int8" in found.sentence
    assert better_teacher(alike, found) == (
        "Use the teacher in OpenVINO int8: it is as fast as the distilled student in OpenVINO int8, and gains 9.6 points of mean AP."
    )


@pytest.mark.parametrize(
    ("megapixels", "said"),
    [
        (0.2, "maps only 0.40 times as many km² an hour as the teacher, both in PyTorch, and loses 9.6 points of mean AP. "
              "On this machine there is no speed to be gained from it."),
        (0.51, "maps about as many km² an hour as the teacher, both in PyTorch, but loses 9.6 points of mean AP."),
        (70, "maps 140 times as many km² an hour as the teacher, both in PyTorch, but loses 9.6 points of mean AP."),
    ],
)  # fmt: skip
def test_the_headline_is_honest_where_nothing_is_gained(megapixels, said):
    slow = deployment_of(
        form("teacher", "torch", speed("torch", 0.5)), form("distilled", "torch", speed("torch", megapixels))
    )
    assert headline(slow).sentence == f"The distilled student {said}"
    assert where_lost(slow, headline(slow)) == ""


def test_a_student_that_is_better_gains_points_and_one_point_is_singular():
    teacher = form("teacher", "torch", speed("torch", 0.5))
    for mean_ap, words in ((0.799, "and gains 1.0 point of mean AP."), (0.7894, "with the same mean AP.")):
        student = form("distilled", "torch", speed("torch", 1)).model_copy(update={"mean_ap": mean_ap})
        assert headline(deployment_of(teacher, student)).sentence.endswith(f", {words}")


def test_without_a_teacher_the_student_is_compared_with_itself():
    """6.2 / 1.55 = 4."""
    found = headline(make_deployment(teacher=False))
    assert found.sentence == (
        "The distilled student in OpenVINO int8 maps 4.0 times as many km² an hour as itself in PyTorch, "
        "but loses 0.4 points of mean AP."
    )


def test_a_teacher_that_only_exists_as_onnx_is_a_reference_too():
    foreign = form("teacher", "onnx", speed("onnxruntime", 0.5)).model_copy(update={"file": ""})
    found = headline(deployment_of(foreign, form("distilled", "torch", speed("torch", 1))))
    assert "maps 2.0 times as many km² an hour as the teacher in ONNX Runtime" in found.sentence


def test_a_headline_needs_a_student_that_was_measured_and_no_test_split():
    teacher = form("teacher", "torch", speed("torch", 0.5))
    assert headline(deployment_of(teacher)) is None
    assert headline(deployment_of(teacher, form("distilled", "torch"))) is None
    unscored = form("distilled", "torch", speed("torch", 1)).model_copy(update={"mean_ap": None})
    assert headline(deployment_of(teacher, unscored, metres=None)).sentence == (
        "The distilled student maps 2.0 times as many pixels an hour as the teacher, both in PyTorch."
    )


def test_a_refused_form_is_never_the_fastest():
    refused = form("distilled", "int8", speed("openvino", 9.0), refused=REFUSED, points=-2.4)
    offered = form("distilled", "onnx", speed("openvino", 4.0), points=0.0)
    assert fastest(deployment_of(refused, offered), "distilled").form is offered
    assert fastest(deployment_of(refused), "distilled") is None


def test_a_form_that_was_not_scored_is_expected_where_its_difference_puts_it():
    found = make_deployment()
    forms = {(each.arm, each.kind): each for each in found.forms}
    assert quality(forms["alone", "int8"], found) == pytest.approx((0.679 - 0.024, True))
    assert quality(forms["distilled", "int8"], found) == pytest.approx((0.689, False))
    assert quality(form("alone", "int8", refused=REFUSED), found) is None


def test_the_table_holds_every_variant_and_says_what_is_refused():
    rows = variant_rows(make_deployment())
    assert len(rows) == len(variants(make_deployment())) == 14
    assert [row["Megapixels a second"] for row in rows[-5:]] == [6.2, 4.1, 3.5, 3.1, 1.55]
    (refused,) = [row for row in rows if "refused" in row["Form"]]
    assert (refused["Network"], refused["Runs in"], refused["Mean AP"]) == ("Student alone", "not run", None)


def test_the_table_names_devices_only_where_there_are_several():
    gpu = speed("torch", 50).model_copy(update={"device": "cuda:0"})
    both = deployment_of(form("teacher", "torch", gpu, speed("torch", 0.5)))
    assert [row["Runs in"] for row in variant_rows(both)] == ["PyTorch, cuda:0", "PyTorch, cpu"]


def test_differences_and_flips_in_words():
    assert difference_in_words(form("distilled", "int8", points=-0.4)) == "−0.4 (−0.9 to 0.1)"
    assert difference_in_words(form("distilled", "torch")) == "–"
    assert [flips_in_words(share) for share in (None, 0.0, 1e-6, 0.000312, 0.0123)] == [
        "–", "none", "under 0.001 %", "0.031 %", "1.2 %",
    ]  # fmt: skip


# ---- the chart ----


def test_the_front_holds_what_nothing_beats():
    names = [
        (point.variant.form.arm, point.variant.name, point.x)
        for point in front(points_of(make_deployment(), "speed"), 1)
    ]
    assert names == [
        ("teacher", "OpenVINO", 0.9),
        ("teacher", "OpenVINO int8", 1.9),
        ("distilled", "OpenVINO", 4.1),
        ("distilled", "OpenVINO int8", 6.2),
    ]


def test_the_front_of_sizes_goes_to_the_small_and_leaves_out_the_refused():
    """The int8 student alone is as small as the distilled one, is worse, and is refused anyway."""
    points = points_of(make_deployment(), "size")
    assert len(points) == 9  # one a form, whatever engine ran it
    sizes = [point.x for point in front(points, AXES["size"].more)]
    assert sizes == [25.0, 6.25, 0.6, 0.15]
    assert [point.x for point in points if not point.offered] == [0.15]


def test_bfloat16_is_a_point_of_speed_and_no_file_of_its_own():
    known = with_bfloat16(make_deployment())
    best = front(points_of(known, "speed"), 1)[-1]
    assert (best.variant.name, best.x, best.quality.mean_ap) == ("OpenVINO bf16", 7.5, pytest.approx(0.691))
    assert points_of(known, "size") == points_of(make_deployment(), "size")


def test_a_measurement_that_is_hardly_faster_and_worse_is_not_on_the_front():
    """1 % is what two measurements of one network differ by; 10 % is a gain."""
    better, worse = form("distilled", "torch", speed("torch", 10)), form("alone", "torch", speed("torch", 10.1))
    assert [point.x for point in front(points_of(deployment_of(better, worse), "speed"), 1)] == [10]
    faster = form("alone", "torch", speed("torch", 11))
    assert [point.x for point in front(points_of(deployment_of(better, faster), "speed"), 1)] == [10, 11]


@pytest.mark.parametrize("measure", list(AXES))
def test_the_chart_draws_every_point_right_is_better_and_refused_is_hollow(measure):
    found = make_deployment()
    figure = pareto_figure(found, measure).to_dict()
    arms = {trace["name"]: trace for trace in figure["data"] if trace["mode"] == "markers+text"}
    assert sum(len(trace["x"]) for trace in arms.values()) == len(points_of(found, measure))
    left, right = figure["layout"]["xaxis"]["range"]
    assert (right > left) == (measure == "speed")
    for trace in arms.values():
        for x in trace["x"]:
            assert min(left, right) < math.log10(x) < max(left, right)
    hollow = [symbol for trace in arms.values() for symbol in trace["marker"]["symbol"] if symbol.endswith("-open")]
    assert len(hollow) == (0 if measure == "speed" else 1)


def test_what_a_point_tells_is_text():
    hostile = form("distilled", "int8", speed("openvino", 1), refused="<b onclick=x>too bad</b>", points=-3.0)
    torch = form("distilled", "torch", speed("torch", 1))
    figure = pareto_figure(deployment_of(torch, hostile), "speed").to_dict()
    told = next(trace for trace in figure["data"] if trace["name"] == "Distilled student")["customdata"]
    assert any("&lt;b onclick=x&gt;too bad" in text for text in told)
    assert not any("<b onclick" in text for text in told)


def test_an_empty_chart_is_no_error():
    assert pareto_figure(deployment_of(), "speed").data[0]["x"] == ()


# ---- costs ----


def test_an_area_costs_what_speed_overlap_and_resolution_make_of_it():
    """1.55 MPx/s at 0.5 m without overlap are 1.55 * 0.25 = 0.3875 km2 a second, 1,395 km2 an hour."""
    job = Job(km2=1395, metres_per_pixel=0.5, overlap=1.0, price_per_hour=3.0, watts=20.0)
    rows = cost_rows(make_deployment(), job)
    assert [(row.variant.form.arm, row.variant.name) for row in rows] == [
        ("teacher", "PyTorch"),
        ("teacher", "OpenVINO int8"),
        ("alone", "PyTorch"),
        ("alone", "OpenVINO"),
        ("distilled", "PyTorch"),
        ("distilled", "OpenVINO int8"),
    ]
    torch, best = rows[-2:]
    assert torch.cost.hours == pytest.approx(1.0)
    assert best.cost.hours == pytest.approx(0.25)  # 6.2 / 1.55 = 4
    assert (best.cost.price, best.cost.watt_hours) == pytest.approx((0.75, 5.0))
    assert cost_table(rows)[-1] == {
        "Network": "Distilled student",
        "Runs in": "OpenVINO int8",
        "km² an hour": "5,580",
        "Time": "15.0 min",
        "Price": "0.75",
        "Energy": "5.0 Wh",
    }
    assert cost_sentence(rows, job.km2) == (  # each in its fastest engine: 1.9 MPx/s are 1,710 km2 an hour
        "For 1,395 km² the teacher in OpenVINO int8 needs 48.9 min, and the distilled student in OpenVINO int8 needs 15.0 min."
    )


def test_measured_power_counts_where_none_is_typed_and_unknown_columns_are_left_out():
    job = Job(km2=1395, metres_per_pixel=0.5, overlap=1.0)
    powered = cost_table(cost_rows(make_deployment(watts=10.0), job))
    assert powered[-1]["Energy"] == "2.5 Wh"
    assert powered[-3]["Energy"] == "–"  # the student alone was not measured with a meter
    assert "Price" not in powered[-1]
    assert "Energy" not in cost_table(cost_rows(make_deployment(), job))[-1]


def test_a_network_that_is_fastest_in_torch_has_one_row():
    rows = cost_rows(deployment_of(form("distilled", "torch", speed("torch", 2))), Job(1, 0.5, 1.0))
    assert len(rows) == 1
    assert cost_sentence(rows, 1).startswith("For 1.0 km² the distilled student in PyTorch needs")
    assert cost_sentence([], 1) == ""


def test_times_energies_and_numbers_as_people_read_them():
    hours = (5 / 3600, 0.5, 3.25, 72.0, 24 * 365 * 2.0)
    assert [hours_in_words(value) for value in hours] == ["5.0 s", "30.0 min", "3.2 h", "3.0 days", "2.0 years"]
    assert [energy_in_words(value) for value in (None, 4.25, 1250.0, 2.5e6)] == ["–", "4.2 Wh", "1.2 kWh", "2.5 MWh"]
    values = (None, 0.0, 0.00042, 0.042, 0.35, 1.25, 12.5, 1250.0)
    assert [number(value) for value in values] == ["–", "0", "0.00042", "0.042", "0.35", "1.2", "12.5", "1,250"]


# ---- the box ----


def box(west, south, east, north):
    """What streamlit-folium hands over for a rectangle."""
    ring = [[west, south], [west, north], [east, north], [east, south], [west, south]]
    return {DRAWING: {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}}}


def test_a_box_has_the_area_of_the_ellipsoid():
    """One degree is 111.32 by 110.57 km at the equator, and 54.96 by 111.42 km at 60.5 degrees (WGS 84)."""
    assert drawn_km2(box(10, 0, 11, 1)) == pytest.approx(111.32 * 110.57, rel=1e-3)
    assert drawn_km2(box(10, 60, 11, 61)) == pytest.approx(54.956 * 111.42, rel=1e-3)


@pytest.mark.parametrize(
    "returned",
    [
        None,
        {},
        {DRAWING: None},
        {DRAWING: {"geometry": {"coordinates": []}}},
        {DRAWING: {"geometry": {"coordinates": [[["x", 1]]]}}},
        {DRAWING: {"geometry": {"coordinates": [[[1, 2, 3]]]}}},
        box(10, 20, 10, 21),
        box(0, 89, 1, 91),
        box(float("nan"), 0, 1, 1),
    ],
)
def test_whatever_a_browser_sends_is_a_number_or_none(returned):
    assert drawn_km2(returned) is None
