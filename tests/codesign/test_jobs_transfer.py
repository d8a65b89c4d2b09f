"""A run's way back from the cluster: packed into a log, read from it, put into a folder."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.errors import CodesignError, InputError
from codesign.jobs_receive import Receiver, check_target, place_run
from codesign.jobs_send import LINE_BYTES, copy_store, pack, send

ID = "tiny-20261123-1142-7f3a"
ADDRESS = "http://127.0.0.1:8265"


def new_store(path: Path, n: int = 3) -> sqlite3.Connection:
    """A store in write-ahead mode with n rows, its connection left open as a run's is."""
    store = sqlite3.connect(path)
    store.execute("PRAGMA journal_mode=WAL")
    store.execute("CREATE TABLE trials (number INTEGER)")
    store.executemany("INSERT INTO trials VALUES (?)", [(i,) for i in range(n)])
    store.commit()
    return store


def n_rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as store:
        return int(store.execute("SELECT count(*) FROM trials").fetchone()[0])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder on the cluster."""
    folder = tmp_path / "cluster" / ID
    (folder / "weights" / "k1").mkdir(parents=True)
    (folder / "weights" / "k1" / "weights.safetensors").write_bytes(os.urandom(3 * LINE_BYTES + 17))
    (folder / "job.yaml").write_text("name: tiny\n")
    (folder / "origin.json").write_text(json.dumps({"job_folder": "/tmp/ray/working_dir", "study": "tiny"}))
    new_store(folder / "codesign.db").close()
    return folder


def sent(folder: Path) -> str:
    """The log of the job that sends a run."""
    log = io.StringIO()
    log.write("INFO job_manager.py:581 -- Runtime env is setting up.\n+not a line of ours\n")
    send(ID, folder, log)
    return log.getvalue()


def packed(folder: Path, to: Path) -> Path:
    with to.open("wb") as file:
        pack(folder, file)  # type: ignore[arg-type]
    return to


def received(log: str, to: Path) -> Path:
    with to.open("wb") as file:
        receiver = Receiver(ID, file)
        assert receiver.feed(log)
        assert receiver.is_complete
    return to


def test_a_run_arrives_as_it_was(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "mine"
    place_run(received(sent(run), tmp_path / "a"), out, ID, ADDRESS, tmp_path / "jobs")
    weights = Path("weights/k1/weights.safetensors")
    assert (out / weights).read_bytes() == (run / weights).read_bytes()
    assert (out / "job.yaml").read_text() == "name: tiny\n"
    assert n_rows(out / "codesign.db") == 3
    origin = json.loads((out / "origin.json").read_text())
    assert origin["job_folder"] == str(tmp_path / "jobs")
    assert origin["study"] == "tiny"
    assert origin["fetched"]["submission_id"] == ID
    assert [path.name for path in out.parent.iterdir()] == ["mine"]


def test_without_a_known_job_folder_the_run_itself_is_it(run: Path, tmp_path: Path) -> None:
    place_run(packed(run, tmp_path / "a"), tmp_path / "out", ID, ADDRESS, None)
    assert json.loads((tmp_path / "out" / "origin.json").read_text())["job_folder"] == str(tmp_path / "out")


def test_the_sender_runs_as_a_module_and_finds_the_run(run: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "codesign.jobs_send", ID]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "CODESIGN_RUNS": str(run.parent)}, check=True
    )
    place_run(received(done.stdout, tmp_path / "a"), tmp_path / "out", ID, ADDRESS, None)
    home = {**os.environ, "HOME": str(tmp_path)}
    home.pop("CODESIGN_RUNS", None)
    absent = subprocess.run(command, capture_output=True, text=True, env=home, check=True)
    receiver = Receiver(ID, io.BytesIO())
    assert receiver.feed(absent.stdout)
    assert receiver.is_missing


def test_a_run_under_way_is_copied_as_it_stands(run: Path, tmp_path: Path) -> None:
    (run / "codesign.db").unlink()
    with closing(new_store(run / "codesign.db", n=5)) as live:  # its rows are in the log alone
        assert (run / "codesign.db-wal").stat().st_size > 0
        live.execute("INSERT INTO trials VALUES (99)")  # and one that is not committed
        for name in ("tune/x/state", "checkpoints/k2/state", "weights/k2/.weights.partial", "weights/k3/tune/kept"):
            (run / name).parent.mkdir(parents=True, exist_ok=True)
            (run / name).write_bytes(b"x")
        (run / "weights" / "link").symlink_to("/etc/passwd")
        place_run(packed(run, tmp_path / "a"), tmp_path / "out", ID, ADDRESS, None)
        live.rollback()
    assert n_rows(tmp_path / "out" / "codesign.db") == 5
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {
        "codesign.db", "job.yaml", "origin.json", "weights/k1/weights.safetensors", "weights/k3/tune/kept",
    }  # fmt: skip


def test_a_copied_store_is_one_whole_file(tmp_path: Path) -> None:
    with closing(new_store(tmp_path / "live.db", n=1000)):
        copy_store(tmp_path / "live.db", tmp_path / "copy.db")
    assert sorted(path.name for path in tmp_path.glob("copy*")) == ["copy.db"]
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@settings(deadline=None)
@given(cuts=st.lists(st.integers(0, 400), max_size=12), extra=st.text(alphabet="ab+=\n", max_size=30))
def test_the_log_may_come_in_any_pieces_and_with_other_lines(cuts: list[int], extra: str) -> None:
    log = io.StringIO()
    log.write("noise\n")
    payload = _payload(b"0123456789" * 20, log)
    first, line, *rest = log.getvalue()[len("noise\n") :].splitlines(keepends=True)
    text = f"noise\n{first}Running entrypoint for job x\n{line}a warning\n{''.join(rest)}\n{extra}\n"
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    out = io.BytesIO()
    receiver = Receiver(ID, out)
    for begin, end in pairwise(edges):
        receiver.feed(text[begin:end])
    assert receiver.is_complete
    assert out.getvalue() == payload


@settings(deadline=None)
@given(data=st.data())
def test_damage_is_found(data: st.DataObject) -> None:
    log = io.StringIO()
    _payload(b"some bytes of a run, whatever they are", log)
    text = log.getvalue()
    begin = text.index("\n+") + 2
    place = data.draw(st.integers(begin, text.index("\n", begin) - 1))
    letter = data.draw(st.sampled_from("ABCxyz019+/=-\n").filter(lambda letter: letter != text[place]))
    out = io.BytesIO()
    receiver = Receiver(ID, out)
    with pytest.raises(CodesignError, match="arrived damaged"):
        receiver.feed(text[:place] + letter + text[place + 1 :])
    assert not receiver.is_complete


def _payload(data: bytes, log: io.StringIO) -> bytes:
    from codesign.jobs_send import BEGIN, END, _Lines

    log.write(f"{BEGIN}{ID}\n")
    lines = _Lines(log)
    lines.write(data)
    lines.finish()
    log.write(f"{END}{lines.n_bytes} {lines.digest.hexdigest()}\n")
    return data


def test_a_cut_log_is_not_complete(run: Path) -> None:
    log = sent(run)
    receiver = Receiver(ID, io.BytesIO())
    assert not receiver.feed(log[: len(log) // 2])
    assert not receiver.is_complete
    assert not receiver.is_missing


def test_another_job_s_run_is_not_taken(run: Path) -> None:
    receiver = Receiver("other", io.BytesIO())
    assert not receiver.feed(sent(run))


# Into a folder


def test_fetched_again_the_run_is_brought_up_to_date_and_own_files_stay(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    place_run(packed(run, tmp_path / "a"), out, ID, ADDRESS, None)
    (out / "export").mkdir()
    (out / "export" / "best.onnx").write_bytes(b"mine")
    assert n_rows(out / "codesign.db") == 3  # reading it changes nothing
    with closing(sqlite3.connect(run / "codesign.db")) as live:
        live.execute("INSERT INTO trials VALUES (3)")
        live.commit()
    (run / "weights" / "k2").write_bytes(b"new")
    place_run(packed(run, tmp_path / "b"), out, ID, ADDRESS, None)
    assert n_rows(out / "codesign.db") == 4
    assert (out / "weights" / "k2").read_bytes() == b"new"
    assert (out / "export" / "best.onnx").read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "cluster", "out"]


def test_a_run_that_was_continued_here_is_not_overwritten(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    place_run(packed(run, tmp_path / "a"), out, ID, ADDRESS, None)
    with closing(sqlite3.connect(out / "codesign.db")) as store:
        store.execute("INSERT INTO trials VALUES (77)")
        store.commit()
        with pytest.raises(InputError, match="was continued here"):  # still in the log
            check_target(out, ID)
    with pytest.raises(InputError, match="was continued here"):  # now in the file
        place_run(packed(run, tmp_path / "b"), out, ID, ADDRESS, None)
    assert n_rows(out / "codesign.db") == 4


def _a_file(out: Path) -> None:
    out.write_text("")


def _something_else(out: Path) -> None:
    out.mkdir()
    (out / "thesis.tex").write_text("")


def _another_run(out: Path) -> None:
    out.mkdir()
    (out / "origin.json").write_text(json.dumps({"fetched": {"submission_id": "other"}}))


def _a_local_run(out: Path) -> None:
    out.mkdir()
    (out / "origin.json").write_text(json.dumps({"job_folder": "x"}))


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (_a_file, "is a file"),
        (_something_else, "holds something else"),
        (_another_run, "holds something else"),
        (_a_local_run, "holds something else"),
    ],
)
def test_a_folder_in_use_is_refused_untouched(
    run: Path, tmp_path: Path, prepare: Callable[[Path], None], expected: str
) -> None:
    out = tmp_path / "out"
    prepare(out)
    before = sorted(out.rglob("*"))
    with pytest.raises(InputError, match=f"--out: .*{expected}"):
        place_run(packed(run, tmp_path / "a"), out, ID, ADDRESS, None)
    assert sorted(out.rglob("*")) == before


def test_an_empty_folder_is_taken(run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    place_run(packed(run, tmp_path / "a"), tmp_path / "out", ID, ADDRESS, None)
    assert (tmp_path / "out" / "job.yaml").is_file()


def _entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


@pytest.mark.parametrize(
    "entry",
    [
        _entry("../escaped"),
        _entry("weights/../../escaped"),
        _entry("link", tarfile.SYMTYPE, "/etc/passwd"),
        _entry("link", tarfile.SYMTYPE, "job.yaml"),
        _entry("link", tarfile.LNKTYPE, "job.yaml"),
        _entry("device", tarfile.CHRTYPE),
        _entry("pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda entry: f"{entry.name}-{entry.type!r}",
)
def test_an_archive_cannot_leave_its_folder(entry: tarfile.TarInfo, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a", "w:gz") as archive:
        for name, text in (("job.yaml", b"name: x\n"), ("origin.json", b"{}")):
            plain = tarfile.TarInfo(name)
            plain.size = len(text)
            archive.addfile(plain, io.BytesIO(text))
        archive.addfile(entry)
    with pytest.raises(CodesignError, match="cannot be unpacked"):
        place_run(tmp_path / "a", tmp_path / "below" / "out", ID, ADDRESS, None)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "below"]


@pytest.mark.parametrize("left_out", ["job.yaml", "origin.json"])
def test_what_is_no_run_is_refused(run: Path, tmp_path: Path, left_out: str) -> None:
    (run / left_out).unlink()
    with pytest.raises(CodesignError, match=f"no {left_out} in it"):
        place_run(packed(run, tmp_path / "a"), tmp_path / "out", ID, ADDRESS, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "cluster"]


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b\x08\x00cut"])
def test_a_broken_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(CodesignError):
        place_run(tmp_path / "a", tmp_path / "out", ID, ADDRESS, None)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
