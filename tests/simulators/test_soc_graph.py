"""Task graphs and IP blocks as data: what ships, what is read, what is refused."""

from __future__ import annotations

from graphlib import TopologicalSorter
from pathlib import Path

import numpy as np
import pytest

from simulators.soc_blocks import BLOCKS_FILE, load_blocks
from simulators.soc_graph import OUTSIDE, TaskGraph, graph_names, load_graph, read_farsi_csv

# Workload -> tasks without the dummies, edges that move data; a task, its A53 cycles, IP0 cycles, area and iterations,
# as FARSI's databases have them.
FARSI = {
    "audio_decoder": (15, 22, "FIR_left", 679_206, 19_261, 19_496, 16_400),
    "hpvm_cava": (7, 8, "gamut_map", 81_304_050_420, 3_387_311_728, 107_726, 151),
    "edge_detection": (6, 8, "computeMaxGradientLeaf", 14_749_184, 3_301_888, 7_148, 256),
}


def names_of(graph: TaskGraph, ends: np.ndarray) -> list[str]:
    return [graph.tasks[end] if end != OUTSIDE else "-" for end in ends.tolist()]


@pytest.mark.parametrize("name", FARSI)
def test_the_ar_graphs_are_farsis(name: str) -> None:
    graph = load_graph(name)
    tasks, edges, task, core_cycles, cycles, area, iterations = FARSI[name]
    index = graph.tasks.index(task)
    assert (len(graph), len(graph.edge_bytes)) == (tasks, edges)
    assert graph.has_accelerator.all()
    assert graph.ops[index] == 2 * core_cycles
    assert graph.accelerator_cycles[index] == cycles
    assert graph.accelerator_area_um2[index] == area
    assert graph.loop_iterations[index] == iterations


@pytest.mark.parametrize("name", graph_names())
def test_graphs_that_ship_are_acyclic_fed_and_read(name: str) -> None:
    graph = load_graph(name)
    order = TopologicalSorter({t: set[str]() for t in graph.tasks})
    writers, readers = names_of(graph, graph.edge_from), names_of(graph, graph.edge_to)
    for writer, reader in zip(writers, readers, strict=True):
        order.add("sink" if reader == "-" else reader, "source" if writer == "-" else writer)
    assert set(order.static_order()) == {*graph.tasks, "source", "sink"}
    assert set(graph.tasks) <= set(writers)
    assert set(graph.tasks) <= set(readers)


def test_the_audio_decoder_forks_after_the_filter_and_joins_in_the_zoom() -> None:
    graph = load_graph("audio_decoder")
    pairs = set(zip(names_of(graph, graph.edge_from), names_of(graph, graph.edge_to), strict=True))
    assert {("psychoFilter", f"rotateOrder{i}") for i in (1, 2, 3)} | {("psychoFilter", "zoomProcess")} <= pairs
    assert {(f"rotateOrder{i}", "zoomProcess") for i in (1, 2, 3)} <= pairs
    assert {("overlap_left", "-"), ("overlap_right", "-"), ("-", "psychoFilter")} <= pairs


def test_the_slices_of_a_task_fill_one_burst_with_its_smallest_read() -> None:
    graph = load_graph("edge_detection")
    reader, writer = graph.bursts()
    ends = zip(names_of(graph, graph.edge_from), names_of(graph, graph.edge_to), strict=True)
    by_ends = dict(zip(ends, zip(reader, writer, strict=True), strict=True))
    # 13,107,396 bytes read in bursts of 1,024: 12,800 slices, of 512 bytes written to each child.
    assert by_ends["-", "gaussianSmoothing"][0] == 1024
    assert by_ends["gaussianSmoothing", "computeGradient"] == (1024, 512)
    # It writes 4 bytes, its reader reads them: neither can be cut.
    assert by_ends["computeMaxGradientLeaf", "rejectZeroCrossings"] == (4, 4)
    assert by_ends["computeGradient", "computeMaxGradientLeaf"] == (6_553_600, 1024)


def test_farsis_own_files_can_be_read(tmp_path: Path) -> None:
    tables = {
        "Task Data Movement": "Task Name,souurce,a_fxp_cloned,b_fxp_cloned,dummy_last,siink\nsouurce,,100,,,\n"
        "a_fxp_cloned,,7,200,,\nb_fxp_cloned,,,,300,\ndummy_last,,,,,1\nsiink,,,,,\n",
        "Task PE Performance": "Task Name,A53,IP0\nsouurce,0,\na_fxp_cloned,10,20\nb_fxp_cloned,30,\ndummy_last,0,\n",
        "Task PE Energy": "Task Name,A53,IP0\na_fxp_cloned,,0.5\nb_fxp_cloned,,\n",
        "Task PE Area": "Task Name,A53,IP0\na_fxp_cloned,,40\nb_fxp_cloned,,\n",
        "Task Itr Count": "Task Name,number of iterations\na_fxp_cloned,8\nb_fxp_cloned,1\n",
    }
    for table, text in tables.items():
        (tmp_path / f"w_database - {table}.csv").write_text(text)
    graph = read_farsi_csv(tmp_path, "w")
    assert (graph.tasks, graph.ops.tolist(), graph.loop_iterations.tolist()) == (("a", "b"), [20, 60], [8, 1])
    assert graph.has_accelerator.tolist() == [True, False]
    assert (graph.accelerator_cycles[0], graph.accelerator_energy_fj[0], graph.accelerator_area_um2[0]) == (20, 0.5, 40)
    ends = list(zip(names_of(graph, graph.edge_from), names_of(graph, graph.edge_to), graph.edge_bytes, strict=True))
    assert ends == [("-", "a", 100), ("a", "b", 200), ("b", "-", 300)]
    with pytest.raises(ValueError, match="graph: cannot read .*other_database - Task Data Movement.csv"):
        read_farsi_csv(tmp_path, "other")


GOOD = 'description = "d"\nburst_bytes = 64\ntasks = [{ name = "a", ops = 1 }, { name = "b", ops = 2 }]\nedges = []\n'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("burst_bytes", "burst_byte", "'burst_byte' is not one of .* did you mean 'burst_bytes'"),
        ("edges = []", "", r"g\.edges: this key is missing"),
        ("burst_bytes = 64", "burst_bytes = 1.5", r"g\.burst_bytes: 1.5 is not allowed; use an integer"),
        ("burst_bytes = 64", "burst_bytes = 0", "burst_bytes must be above 0"),
        ("ops = 1 ", "ops = 0 ", r"g\.tasks\[0\]\.ops: 0 is not allowed; use a number above 0"),
        ("ops = 1 ", "ops = 1, loop_iterations = 0.5 ", "loop_iterations of at least 1"),
        ("ops = 1 ", "ops = 1, accelerator_cycles = 5 ", "accelerator_energy_fj: this key is missing"),
        ('"b"', '"a"', "names a task twice"),
        ('"b"', '"core"', "'core' is not a name"),
        ("tasks = [", "tasks = [1, ", "use a list of tables"),
        (
            "edges = []",
            'edges = [{ from = "a", to = "c", bytes = 1 }]',
            r"g\.edges\[0\]\.to: 'c' is not one of a, b, sink",
        ),
        ("edges = []", 'edges = [{ from = "sink", to = "a", bytes = 1 }]', r"'sink' is not one of a, b, source"),
        ("edges = []", 'edges = [{ from = "source", to = "sink", bytes = 1 }]', "leads from the source to the sink"),
        ("edges = []", 'edges = [{ from = "a", to = "b", bytes = -1 }]', r"bytes: -1 is not allowed"),
        (
            "edges = []",
            'edges = [{ from = "a", to = "b", bytes = 1 }, { from = "b", to = "a", bytes = 1 }]',
            "the tasks .* -> .* form a cycle",
        ),
        ("burst_bytes = 64", "burst_bytes = ", "is not valid TOML"),
    ],
)
def test_wrong_graphs_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "g.toml"
    path.write_text(GOOD)
    assert load_graph(path).tasks == ("a", "b")
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        load_graph(path)


def test_the_blocks_are_farsis() -> None:
    blocks = load_blocks()
    assert blocks.core_pj_per_op == pytest.approx(1e12 / 47_019_607_843)
    assert (blocks.core_ops_per_cycle, blocks.core_area_mm2, blocks.power_window_ms) == (2, 0.65, 10)
    for table in (blocks.sram, blocks.dram):
        assert (np.diff(table.area_mm2) > 0).all()
    # CACTI 7 for 256,000 bytes: SRAM 0.0437478 nJ a read, 0.854586 mm2; DRAM 2.46938 nJ a write of 16 bytes.
    assert blocks.sram.read_pj_per_byte[0] == pytest.approx(0.0437478e3 / 16 * 0.064, rel=1e-5)
    assert blocks.sram.area_mm2[0] == pytest.approx(0.854586 * 0.07, rel=1e-5)
    assert blocks.dram.write_pj_per_byte[0] == pytest.approx(2.46938e3 / 16 * 0.064, rel=1e-5)
    assert blocks.largest_bytes > load_graph("edge_detection").edge_bytes.sum()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("core_area_mm2", "core_area", "'core_area' is not one of .* did you mean 'core_area_mm2'"),
        ("core_area_mm2 = 0.65", "", "blocks.core_area_mm2: this key is missing"),
        ("core_area_mm2 = 0.65", "core_area_mm2 = 0", "blocks.core_area_mm2: 0.0 is not allowed; use a number above 0"),
        ("bus_pj_per_byte = 0", "bus_pj_per_byte = -1", "use a number of at least 0"),
        ("bus_pj_per_byte = 0", 'bus_pj_per_byte = "1"', "use a number"),
        ("step_bytes = 256000", "step_bytes = 128000", "must have one step_bytes"),
        ("step_bytes = 256000", "step_bytes = 0", "use an integer of at least 1"),
    ],
)
def test_own_blocks_are_checked(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "blocks.toml"
    path.write_text(BLOCKS_FILE.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_blocks(path)
