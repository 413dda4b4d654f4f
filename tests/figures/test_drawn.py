"""What is drawn is what was measured, read back from the Axes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.figures import found
from unvanish.figures.canvas import encoded
from unvanish.record import RunRecord


def lines(axes: Axes, name: str) -> list[tuple[list[float], list[float]]]:
    """The data of the lines of a name, in the order in which they were drawn."""
    return [(list(one.get_xdata()), list(one.get_ydata())) for one in axes.lines if one.get_gid() == name]


def line(axes: Axes, name: str) -> tuple[list[float], list[float]]:
    """The data of the one line of a name."""
    (only,) = lines(axes, name)
    return only


def marked(axes: Axes, name: str) -> tuple[float, str]:
    """Where a vertical mark stands, and what is told above it."""
    told = next(text.get_text() for text in axes.texts if text.get_gid() == f"{name} told")
    return line(axes, name)[0][0], told


def into(result: Any, view: str | None = None) -> Axes:
    """Draw one view of a result into axes of a plain figure."""
    axes = Figure().add_subplot()
    assert result.plot(axes, view=view) is axes
    return axes


# -- profiles ----------------------------------------------------------------------------------------------------


def test_the_lines_of_a_profile_are_its_norms_at_its_lags() -> None:
    measured = found.profile()
    axes = measured.plot()
    for name, norms in {"full state": measured.norms, **measured.state_norms}.items():
        assert line(axes, name) == (measured.lags.tolist(), norms.tolist())
    (band,) = [one for one in axes.collections if one.get_gid() == "band"]
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices.tolist()}
    assert corners >= {(float(k), value) for edge in measured.band for k, value in enumerate(edge.tolist())}


def test_a_profile_has_a_log_axis_with_its_symbols_and_the_line_of_one_per_cent() -> None:
    axes = found.profile().plot()
    assert (axes.get_yscale(), axes.get_xscale()) == ("log", "linear")
    assert axes.get_xlabel() == "lag $k$ (steps)"
    assert axes.get_ylabel() == "gradient norm $g(k)$"
    assert line(axes, "one per cent")[1] == [0.01, 0.01]


def test_the_reach_is_marked_where_the_profile_is_at_its_reach() -> None:
    measured = found.profile()
    axes = measured.plot()
    assert marked(axes, "reach") == (measured.reach, f"reach {measured.reach}")
    assert line(axes, "at the reach") == ([measured.reach], [measured.norms[measured.reach]])
    assert measured.norms[measured.reach] >= 0.01 > measured.norms[measured.reach + 1]


def test_a_censored_reach_is_an_arrowhead_and_told_as_at_least() -> None:
    axes = found.profile(-0.001).plot()
    assert marked(axes, "reach") == (99, "reach ≥ 99")
    (dot,) = [one for one in axes.lines if one.get_gid() == "at the reach"]
    assert dot.get_marker() == ">"


@pytest.mark.parametrize("need", [2, 80])
def test_the_need_is_marked_where_it_is_given_and_the_axis_goes_as_far(need: int) -> None:
    axes = found.profile(-0.5).plot(need=need)
    assert marked(axes, "need") == (need, f"needed {need}")
    assert axes.get_xlim()[1] > need


def test_a_need_beyond_the_lags_is_told_at_the_edge() -> None:
    axes = found.profile(-0.5).plot(need=5000)
    assert not lines(axes, "need")
    assert "needed 5,000 →" in [text.get_text() for text in axes.texts]


def test_the_fitted_line_has_the_rate_of_the_profile() -> None:
    measured = found.profile(-0.25)
    (fit,) = [one for one in measured.plot().lines if str(one.get_label()).startswith("fit")]
    (start, end), (high, low) = fit.get_data()
    assert (math.log(low) - math.log(high)) / (end - start) == pytest.approx(measured.rate)
    assert fit.get_label() == "fit: −0.25 nats/step"


AWKWARD = st.one_of(
    st.floats(0, 2), st.sampled_from([0.0, 1e-320, 1e-40, 1e40, 1e308, math.inf, math.nan]), st.floats(0, 1e300)
)


@settings(max_examples=15, phases=[Phase.generate])
@given(st.lists(AWKWARD, min_size=1, max_size=30), st.one_of(st.none(), st.integers(0, 10**6)))
def test_any_norms_are_drawn_without_a_warning(norms: list[float], need: int | None) -> None:
    measured = found.of_norms(norms)
    axes = measured.plot(need=need)
    np.testing.assert_array_equal(line(axes, "full state")[1], norms)


@pytest.mark.parametrize("norms", [[0.0], [1e308, math.inf, 1.0], [math.nan, 1e-320]])
def test_any_norms_are_written_without_a_warning(norms: list[float]) -> None:
    assert encoded(found.of_norms(norms).plot(need=5000).figure, "svg")


def test_the_lines_of_a_depth_profile_are_its_norms_by_depth() -> None:
    measured = found.depth()
    axes = measured.plot()
    assert line(axes, "at the layer's output") == (list(range(8)), measured.norms.tolist())
    assert line(axes, "of its own parameters") == (list(range(8)), measured.weight_norms[::-1].tolist())
    assert marked(axes, "reach") == (measured.reach, f"reach {measured.reach}")
    assert axes.get_yscale() == "log"


# -- dependency --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["symbols", "numbers", "mixed"])
def test_the_panels_of_a_dependency_have_gain_and_pairs(kind: str) -> None:
    measured = found.dependency(kind)
    gain, pairs = measured.plot().axes
    assert line(gain, "gain") == (measured.curve.lags.tolist(), measured.curve.gain.tolist())
    assert marked(gain, "need") == (6, "needed ≥ 6")
    assert line(gain, "enough")[1][0] == pytest.approx(0.99 * measured.curve.gain.max())
    significant, rest = line(pairs, "significant"), line(pairs, "not significant")
    assert significant[0] == measured.lags[measured.significant].tolist()
    assert significant[1] + rest[1] == measured.values.tolist()
    assert line(pairs, "chance")[1] == (measured.null_high - measured.null_mean).tolist()
    assert marked(pairs, "visible") == (measured.visible, f"visible {measured.visible}")
    assert measured.unit in pairs.get_ylabel()
    assert "nats" in gain.get_ylabel()


def test_a_lag_of_zero_has_its_place_on_the_axis() -> None:
    gain = found.dependency(first=0).plot().axes[0]
    assert gain.get_xlim()[0] < 0


# -- what holds a gradient back ----------------------------------------------------------------------------------


def test_the_dots_of_a_saturation_are_its_shares_and_time_constants() -> None:
    measured = found.saturation()
    activations, memories = measured.plot().axes
    assert line(activations, "saturated") == ([0.25, 0.125], [0, 1])
    assert line(activations, "mean slope / steepest") == ([0.75, 0.5], [0, 1])
    assert [label.get_text() for label in activations.get_yticklabels()] == ["f", "tanh(c[t])"]
    assert line(memories, "mean")[0] + line(memories, "longest unit")[0] == [2.5, 7.5]
    assert "steps" in memories.get_xlabel()


def test_a_part_without_memories_has_no_panel_for_them() -> None:
    measured = found.Saturation("l0", found.saturation().activations, ())
    assert isinstance(measured.plot(), Axes)


def test_the_dots_of_a_jacobian_are_its_eigenvalues_beside_the_unit_circle() -> None:
    measured = found.jacobian()
    axes = measured.plot()
    real, imaginary = line(axes, "eigenvalues")
    assert np.sort_complex(np.array(real) + 1j * np.array(imaginary)) == pytest.approx(
        np.sort_complex(measured.eigenvalues.flatten())
    )
    assert axes.get_aspect() == 1
    assert [patch.get_radius() for patch in axes.patches if patch.get_gid() == "unit circle"] == [1]


def test_lyapunov_exponents_are_drawn_in_their_order_and_lost_ones_are_told() -> None:
    measured = found.lyapunov()
    axes = measured.plot()
    assert line(axes, "exponents") == ([1, 2, 3, 4], measured.exponents.tolist())
    assert "1 at −∞" in [text.get_text() for text in axes.texts]
    assert lines(axes, "standard error")[0] == ([1, 1], [0.01, 0.03])
    assert "nats/step" in axes.get_ylabel()


# -- a diagnosis -------------------------------------------------------------------------------------------------


def test_the_profiles_of_a_diagnosis_are_those_of_its_parts_and_dotted_beyond_a_window() -> None:
    measured = found.diagnosis()
    axes = into(measured)
    one, other = measured.parts
    assert line(axes, "rnn.l0") == (one.profile.lags.tolist(), one.profile.norms.tolist())
    assert line(axes, "rnn.l1") == (list(range(41)), other.profile.norms[:41].tolist())
    assert line(axes, "rnn.l1 beyond the window")[1] == other.profile.norms[40:].tolist()
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["rnn.l0, reach 46", "rnn.l1, reach 40"]
    assert [x for x, _ in lines(axes, "at the reach")] == [[46], [40]]
    assert marked(axes, "need") == (80, "needed 80")


def test_the_remedies_of_a_diagnosis_go_from_the_reach_before_to_that_after() -> None:
    axes = found.diagnosis().plot().axes[1]
    assert [x for x, _ in lines(axes, "reach gained")] == [[46, 99], [46, 60]]
    after = [one.get_marker() for one in axes.lines if one.get_gid() == "after"]
    assert after == [">", "o"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["chrono, rnn.l0", "chrono, rnn.l1"]


def test_a_part_shows_its_profile_its_eigenvalues_and_what_it_keeps() -> None:
    norms, eigenvalues, activations, memories = found.part().plot().axes
    assert marked(norms, "reach") == (46, "reach 46")
    assert line(eigenvalues, "eigenvalues") == ([0.8, 0.8, 0.2], [0.1, -0.1, 0.0])
    assert line(activations, "saturated")[0] == [0.25, 0.125]
    assert line(memories, "mean")[0] == [2.5]


# -- a run -------------------------------------------------------------------------------------------------------


def test_a_run_shows_loss_and_reach_beside_window_and_need(tmp_path: Path) -> None:
    record = found.run(tmp_path)
    loss, reach, *_ = record.plot().axes
    for name, kind in (("training", "step"), ("validation", "valid")):
        assert line(loss, name) == (
            [one["step"] for one in record.read(kind)],
            [one["loss"] for one in record.read(kind)],
        )
    assert loss.get_ylabel() == "loss (nats)"
    assert line(reach, "l0") == ([100, 200, 300], [20, 60, 90])
    assert line(reach, "l1, at least") == ([100, 200, 300], [199, 199, 199])
    assert not lines(reach, "l0, at least")
    assert line(reach, "window")[1][0] == 50
    assert line(reach, "needed")[1][0] == 48
    assert "needed ≥ 48" in [text.get_text() for text in reach.texts]
    assert reach.get_ylim()[1] > 199


def test_a_run_that_has_only_begun_is_drawn(tmp_path: Path) -> None:
    record = RunRecord.create(tmp_path / "new", {"settings": {}})
    assert isinstance(record.plot(), Axes)
    assert "new" in record._repr_html_()
    assert record.to_frame().height == 0


def test_what_is_wrong_in_a_record_is_left_out(tmp_path: Path) -> None:
    record = RunRecord.create(tmp_path / "odd", {"settings": {"length": "long"}})
    record.append("valid", 3, 0.0, loss="low", reach={"l0": 4, "l1": {"steps": "far", "censored": 1}})
    record.append("step", 5, 0.0, loss=[1])
    record.append("need", 5, 0.0, lag={})
    record.append("flow", 5, 0.0, profiles={"l0": {"lags": [0, 1], "norms": {"all": [1.0], "h": "none"}}})
    assert record._repr_html_()
    assert record.to_frame("reach")["reach"].to_list() == [None, None]
    assert record.to_frame("profiles")["norm"].to_list() == [1.0]
    assert "\n" not in repr(record)


# -- linear recurrences, terms, recordings -----------------------------------------------------------------------


def test_the_powers_of_a_matrix_are_drawn_in_decades_with_their_peak() -> None:
    measured = found.linear()
    axes = into(measured)
    steps, drawn = line(axes, r"$\|W^k\|_2$")
    assert 10 ** np.array(drawn) == pytest.approx(measured.powers)
    assert marked(axes, "peak")[0] == measured.peak == steps[int(np.argmax(drawn))]
    slope = np.diff(line(axes, r"$\rho(W)^k$")[1]) * math.log(10)
    assert slope == pytest.approx(np.full(len(slope), measured.rate))


def test_a_course_is_drawn_beside_its_components() -> None:
    measured = found.course()
    axes = into(measured)
    assert 10 ** np.array(line(axes, "norm")[1]) == pytest.approx(measured.norms)
    for at in (0, 1):
        drawn = np.array(line(axes, f"component {at + 1}")[1]) * math.log(10)
        assert drawn == pytest.approx(measured.log_components[:, at])


def test_a_defective_matrix_has_no_components_to_draw() -> None:
    measured = found.flow.linear([[0.9, 1.0], [0.0, 0.9]]).send_back([1.0, 1.0])
    assert [one.get_gid() for one in into(measured).lines if str(one.get_gid()).startswith("component")] == []


def test_the_lags_of_a_decomposition_are_the_means_of_its_terms() -> None:
    measured = found.decomposition()
    axes = into(measured)
    for name in measured.norms:
        assert line(axes, name)[1] == pytest.approx(measured.by_lag(name))
    (image,) = into(measured, "terms").images
    whole = np.sqrt(sum(norms**2 for norms in measured.norms.values()))
    there = whole > 0
    assert 10.0 ** np.ma.getdata(image.get_array())[there] == pytest.approx((whole / whole.max())[there])


def test_a_recording_is_drawn_step_by_step() -> None:
    measured = found.recording()
    axes = into(measured)
    for at, state in enumerate(("h", "c")):
        assert line(axes, f"l0, {state}")[1] == pytest.approx(measured["l0"].norms[:, at].tolist())


def test_the_terms_of_a_split_stand_at_their_values() -> None:
    axes = into(found.split())
    assert [line(axes, name)[0] for name in ("matrices", "activations", "together")] == [[-0.1], [-0.2], [-0.3]]


# -- what a run answered -----------------------------------------------------------------------------------------


def test_a_forecast_is_drawn_with_what_came_and_its_intervals(tmp_path: Path) -> None:
    axes = into(found.run(tmp_path), "forecast")
    assert line(axes, "known") == ([-2.0, -1.0, 0.0], [1.0, 2.0, 1.5])
    assert line(axes, "median") == ([1.0, 2.0], [2.0, 3.0])
    assert line(axes, "came")[1][0] == 2.5
    (band,) = [one for one in axes.collections if one.get_gid() == "80 %"]
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices.tolist()}
    assert corners >= {(1.0, 1.0), (2.0, 2.0), (1.0, 3.0), (2.0, 4.0)}


def test_a_confusion_is_drawn_in_shares_of_its_rows_with_the_counts(tmp_path: Path) -> None:
    axes = into(found.run(tmp_path), "confusion")
    (image,) = axes.images
    assert np.asarray(image.get_array()) == pytest.approx(np.array([[0.8, 0.2], [0.1, 0.9]]))
    assert [one.get_text() for one in axes.texts if one.get_gid() == "count"] == ["8", "2", "1", "9"]
    frame = found.run(tmp_path / "again").to_frame("confusion")
    assert frame.rows()[1] == ("valid", "cat", "dog", 2)
