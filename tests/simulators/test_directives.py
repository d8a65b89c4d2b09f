"""Directives as text and as data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.directives import (
    DIMENSIONS,
    EXTENTS,
    Directive,
    Size,
    encode_directives,
    find_dataflow,
    format_directives,
    parse_directives,
    shipped_dataflows,
)

sizes = st.one_of(st.integers(1, 999).map(Size), st.sampled_from(EXTENTS).map(lambda name: Size(0, name)))


@st.composite
def clusters(draw: st.DrawFn) -> list[Directive]:
    names = draw(st.permutations(["K", "C", "R", "S", draw(st.sampled_from(["Y", "Y'"])), "X"]))
    names = names[: draw(st.integers(1, 6))]
    spatial = draw(st.sets(st.sampled_from(names), min_size=1, max_size=2))
    return [
        Directive("SpatialMap" if name in spatial else "TemporalMap", draw(sizes), draw(sizes), name) for name in names
    ]


@st.composite
def dataflows(draw: st.DrawFn) -> tuple[Directive, ...]:
    directives = draw(clusters())
    for _ in range(draw(st.integers(0, 2))):
        directives += [Directive("Cluster", draw(sizes), Size(0)), *draw(clusters())]
    return tuple(directives)


@given(dataflows())
def test_text_and_data_round_trip(directives: tuple[Directive, ...]) -> None:
    assert parse_directives(format_directives(directives)) == directives


@given(dataflows())
def test_every_directive_is_a_row_of_numbers(directives: tuple[Directive, ...]) -> None:
    rows = encode_directives(directives)
    assert rows.shape == (len(directives), 6)
    for directive, (kind, dim, size, offset, size_of, offset_of) in zip(directives, rows, strict=True):
        assert ("TemporalMap", "SpatialMap", "Cluster")[kind] == directive.kind
        assert (DIMENSIONS[dim] if dim >= 0 else "") == directive.dimension
        assert Size(size, EXTENTS[size_of] if size_of >= 0 else "") == directive.size
        assert Size(offset, EXTENTS[offset_of] if offset_of >= 0 else "") == directive.offset


def test_spaces_comments_and_line_breaks_do_not_matter() -> None:
    text = "TemporalMap (Sz( R ), 1)  Y ; // rows\nSpatialMap( 2,2 ) K;\nCluster( 8 ,P) ;SpatialMap(1,1) C"
    assert format_directives(parse_directives(text)) == (
        "TemporalMap(Sz(R),1) Y; SpatialMap(2,2) K; Cluster(8, P); SpatialMap(1,1) C;"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SpatialMap(1,1) K; TemporalMap(0,1) C;", "'0' in 'TemporalMap(0,1) C' is not allowed"),
        ("SpatialMap(1,1.5) K;", "'1.5' in"),
        ("SpatialMap(1) K;", "cannot read 'SpatialMap(1) K'"),
        ("SpacialMap(1,1) K;", "did you mean 'SpatialMap'"),
        ("SpatialMap(1,1) y;", "did you mean 'Y'"),
        ("SpatialMap(1,1) N;", "'N' is not a dimension: one of K, C, R, S, Y, X, Y', X'"),
        ("SpatialMap(Sz(X'),1) K;", '"X\'" is not a dimension with an extent'),
        ("TemporalMap(1,1) K;", "a cluster has 0 SpatialMap"),
        ("SpatialMap(1,1) K; SpatialMap(1,1) C; SpatialMap(1,1) Y;", "a cluster has 3 SpatialMap"),
        ("SpatialMap(1,1) K; Cluster(4, P);", "an empty one"),
        ("SpatialMap(1,1) Y; TemporalMap(1,1) Y';", "maps Y twice"),
        ("", "a cluster has 0 SpatialMap"),
    ],
)
def test_wrong_directives_are_refused_with_one_message(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="^job.dataflow: ") as error:
        parse_directives(text, key="job.dataflow")
    assert message in str(error.value)


def test_shipped_dataflows_are_valid_and_say_where_they_come_from() -> None:
    shipped = shipped_dataflows()
    assert {"kcp_ws", "rs", "xp_ws", "yxp_os", "ykp_os", "dpt"} <= set(shipped)
    for name, flow in shipped.items():
        assert find_dataflow(name) == flow
        for text in (flow.directives, flow.depthwise):
            assert format_directives(parse_directives(text)).replace(" ", "") == text.replace(" ", "")
        assert "K" not in {directive.dimension for directive in parse_directives(flow.depthwise)}
        assert flow.description
        assert flow.source


def test_a_dataflow_is_a_name_or_directives() -> None:
    own = find_dataflow("SpatialMap(1,1) K; TemporalMap(1,1) C")
    assert own.directives == own.depthwise == "SpatialMap(1,1) K; TemporalMap(1,1) C;"
    with pytest.raises(ValueError, match=r"dataflow: 'kpc_ws' is not .* did you mean 'kcp_ws'"):
        find_dataflow("kpc_ws")
