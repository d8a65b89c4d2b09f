"""Jobs on a real Ray head with a token, on loopback and ports of its own; and what needs Ray's client alone."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from codesign.cli import main
from codesign.errors import CodesignError, InputError
from codesign.jobs import run_command
from codesign.jobs_upload import UPLOAD_LIMIT_BYTES, plan_upload, write_upload
from codesign.run import open_run
from simulators.accelerator import PRESET_FOLDER

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning"),  # Ray's own call of aiohttp
]

ROOT = Path(__file__).parents[2]
PORTS = (
    "port", "dashboard-port", "ray-client-server-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port",
    "metrics-export-port", "node-manager-port", "object-manager-port", "runtime-env-agent-port",
)  # fmt: skip
PATIENCE_SECONDS = 90.0


class Head:
    """A Ray head of this test's own: its home, its token, its ports, its process group."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="cs-", dir="/tmp"))  # short: Ray's sockets have 107 letters for a path
        self.home = self.root / "home"
        self.home.mkdir()
        self.token = secrets.token_hex(16)
        self.token_file = self.root / "token"
        self.token_file.write_text(self.token)
        with ExitStack() as stack:
            probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in PORTS]
            ports = {name: probe.getsockname()[1] for name, probe in zip(PORTS, probes, strict=True)}
        self.address = f"http://127.0.0.1:{ports['dashboard-port']}"
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "CODESIGN_"))}
        environ |= {
            "HOME": str(self.home), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token_file), "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        command = [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2",
            "--include-dashboard=true", "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1",
            f"--temp-dir={self.root / 'ray'}", "--object-store-memory=100000000", "--min-worker-port=0",
            "--max-worker-port=0", *(f"--{name}={port}" for name, port in ports.items()),
        ]  # fmt: skip
        with (self.root / "head.log").open("w") as log:
            self.process = subprocess.Popen(
                command, env=environ, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def await_dashboard(self) -> None:
        """Wait until it answers, and an agent can take jobs."""
        request = urllib.request.Request(f"{self.address}/api/v0/nodes", headers=self.headers)
        for _ in range(int(PATIENCE_SECONDS / 0.2)):
            assert self.process.poll() is None, (self.root / "head.log").read_text()
            try:
                with urllib.request.urlopen(request, timeout=5) as answer:
                    if json.load(answer)["data"]["result"]["result"]:
                        return
            except (OSError, ValueError):
                pass
            time.sleep(0.2)
        raise TimeoutError((self.root / "head.log").read_text())

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def end(self) -> None:
        """End exactly what was started. SIGTERM would make Ray wait for its workers for half a minute.

        Ray's workers have process groups of their own and may outlive their node: they are known by this head's folder.
        """
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for _ in range(50):
            alive = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if self._started(path)]
            for process in alive:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            shutil.rmtree(self.root, ignore_errors=True)
            if not (alive or self.root.exists()):
                return
            time.sleep(0.1)

    def _started(self, command_line: Path) -> bool:
        try:
            return f"{self.root}/".encode() in command_line.read_bytes()
        except OSError:  # it has ended
            return False


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    started = Head()
    try:
        started.await_dashboard()
        yield started
    finally:
        started.end()


@pytest.fixture
def cluster(head: Head) -> Any:
    from codesign.jobs_ray import Cluster

    return Cluster(head.address, head.headers)


@pytest.fixture
def user(head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder and home, the token in the default place; RAY_ADDRESS leads elsewhere."""
    for name in [name for name in os.environ if name.startswith(("RAY_", "CODESIGN_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "home" / ".ray").mkdir(parents=True)
    (tmp_path / "home" / ".ray" / "auth_token").write_text(f"{head.token}\n")
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def verb(head: Head, user: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a verb against the head: status, output, errors. No output may hold the token."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main([*arguments, "--address", head.address])
        captured = capsys.readouterr()
        assert head.token not in captured.out + captured.err
        return int(caught.value.code or 0), captured.out, captured.err

    return run


JOB: dict[str, Any] = {
    "name": "tiny",
    "data": {"type": "npz", "path": "../data/tiny.npz"},
    "space": {"type": "nasnet", "blocks": 2, "cells": 1, "channels": 4},
    "targets": {"own": {"type": "systolic", "preset": "own.toml"}},
    "objectives": {"minimize": ["params", "latency_ms@own"]},
    "search": {"strategy": "random", "trials": 30, "batch": 10},
    "evaluate": "cost",
    "driver": {"type": "ray", "workers": 1},
}


@pytest.fixture
def job_file(user: Path) -> Path:
    """A job whose data lies beside its folder and whose preset lies beside its file."""
    (user / "data").mkdir()
    (user / "jobs").mkdir()
    images = np.random.default_rng(0).integers(0, 255, (60, 8, 8), dtype=np.uint8)
    np.savez(user / "data" / "tiny.npz", images=images, labels=np.arange(60) % 3)
    shutil.copy(PRESET_FOLDER / "edge-16x16.toml", user / "jobs" / "own.toml")
    path = user / "jobs" / "mine.yaml"
    path.write_text(yaml.safe_dump(JOB))
    return path


def submit(cluster: Any, job_file: Path, command: Callable[[str, str], str]) -> str:
    """Submit with another command than `codesign run` alone."""
    from codesign.job import load_job

    folder = job_file.parent
    upload = plan_upload(load_job(job_file), folder)
    write_upload(upload, folder / "job.zip")
    submitted: str = cluster.submit("tiny", folder, folder / "job.zip", upload.job_path, command)
    return submitted


def await_log(cluster: Any, submission_id: str, expected: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while expected not in cluster.log(submission_id):
        assert time.monotonic() < deadline, cluster.log(submission_id)
        assert not cluster.job(submission_id).is_finished, cluster.log(submission_id)
        time.sleep(0.3)


# On the head


def test_a_job_is_submitted_followed_and_its_run_fetched(
    verb: Callable[..., tuple[int, str, str]], job_file: Path, user: Path
) -> None:
    status, out, err = verb("submit", str(job_file), "search.trials=20", "--follow")
    assert status == 0, out + err
    submission_id = out.splitlines()[0]
    assert re.fullmatch(r"tiny-\d{8}-\d{4}-[0-9a-f]{4}", submission_id)
    assert "20 trials" in out
    folder = user / "runs" / submission_id
    assert f"its run is in {Path('runs') / submission_id}" in err
    run = open_run(folder)
    assert run.job.search.trials == 20
    assert run.job_folder == job_file.parent
    assert len(run.store.codes(run.study_id, list(range(20)))) == 20
    run.store.close()
    with pytest.raises(SystemExit) as caught:  # asked again here, with data and preset found here
        main(["front", str(folder), "--json"])
    assert not caught.value.code


def test_a_running_job_is_seen_fetched_and_stopped(
    verb: Callable[..., tuple[int, str, str]], cluster: Any, job_file: Path, user: Path
) -> None:
    submission_id = submit(cluster, job_file, lambda *given: f"{run_command(*given)} && echo waiting && sleep 600")
    await_log(cluster, submission_id, "\nwaiting\n")
    status, out, _ = verb("status")
    assert status == 0
    assert re.search(rf"^{submission_id} +RUNNING +\d{{4}}-", out, re.MULTILINE)
    facts = json.loads(verb("status", submission_id, "--json")[1])
    assert facts["status"] == "RUNNING"
    assert facts["runtime_seconds"] > 0
    assert verb("logs", submission_id)[1].endswith("\nwaiting\n")

    status, out, err = verb("fetch", submission_id, "--out", "snapshot")
    assert status == 0, err
    assert "the job is RUNNING" in out
    assert json.loads((user / "snapshot" / "origin.json").read_text())["job_folder"] == str(job_file.parent)

    assert verb("stop", submission_id)[1] == f"{submission_id}: STOPPED\n"
    assert verb("stop", submission_id)[1] == f"{submission_id} had ended before: STOPPED\n"
    assert not [job for job in cluster.jobs() if "-fetch-" in job.id]


def test_a_failed_job_is_told_with_its_last_lines(
    verb: Callable[..., tuple[int, str, str]], cluster: Any, job_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import codesign.jobs_ray as jobs_ray

    stand_in = lambda submission_id, job_path: "echo boom; exit 3"  # noqa: E731
    monkeypatch.setattr(jobs_ray.Cluster.submit, "__defaults__", (stand_in,))
    status, out, err = verb("submit", str(job_file), "--follow")
    assert status == 1
    assert "boom" in out
    assert re.search(r"failed: job tiny-\S+ failed: Job entrypoint command failed with exit code 3", err)
    assert "\n  boom\n" in err  # Ray's own line about the command may come after it
    assert "its run is in" not in err
    submission_id = out.splitlines()[0]
    status, out, err = verb("logs", submission_id, "--follow")
    assert "boom\n" in out
    assert (status, err) == (0, f"{submission_id}: FAILED\n")


def test_an_unknown_job_names_the_nearest(
    verb: Callable[..., tuple[int, str, str]], cluster: Any, job_file: Path
) -> None:
    submission_id = submit(cluster, job_file, lambda *_: "true")
    for name in ("status", "logs", "stop", "fetch"):
        status, out, err = verb(name, f"{submission_id}0")
        assert (status, out) == (2, "")
        assert f"did you mean {submission_id!r}?" in err


def test_no_token_and_a_wrong_one_are_refused_in_one_line(
    verb: Callable[..., tuple[int, str, str]], job_file: Path, user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (user.parent / "home" / ".ray" / "auth_token").unlink()
    status, out, err = verb("submit", str(job_file))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "asks for a token" in err
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0ther")
    status, out, err = verb("submit", str(job_file))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "refuses the token in RAY_AUTH_TOKEN" in err
    assert "0ther" not in err


def test_the_head_refuses_requests_without_a_token(head: Head) -> None:
    for headers, status in (({}, 401), ({"Authorization": "Bearer 0ther"}, 403)):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(urllib.request.Request(f"{head.address}/api/jobs/", headers=headers), timeout=10)
        caught.value.close()
        assert caught.value.code == status


def test_one_node_is_counted(cluster: Any) -> None:
    assert cluster.count_nodes() == 1


# Without a head


class Broken:
    """A client whose log breaks off in the middle, and which is out of reach for a while."""

    def __init__(self, pieces: list[str], ends_after: int, status: str = "SUCCEEDED") -> None:
        self.pieces = pieces
        self.n_tails = 0
        self.ends_after = ends_after
        self.status = status

    async def tail_job_logs(self, submission_id: str) -> Any:
        self.n_tails += 1
        for piece in self.pieces[: self.n_tails]:
            yield piece
        if self.n_tails <= self.ends_after:
            raise RuntimeError("WebSocket connection closed unexpectedly with close code 1006")

    def get_job_info(self, submission_id: str) -> Any:
        from ray.job_submission import JobDetails

        facts = {"codesign": "0", "codesign_job": "tiny", "job_folder": "/gone", "host": "elsewhere"}
        return JobDetails(
            type="SUBMISSION", submission_id=submission_id, status=self.status, entrypoint="true", metadata=facts
        )

    def list_jobs(self) -> list[Any]:
        return [self.get_job_info("x")]

    def submit_job(self, **_: Any) -> None:
        pass

    def get_job_logs(self, submission_id: str) -> str:
        return "".join(self.pieces)


def broken_cluster(monkeypatch: pytest.MonkeyPatch, client: Broken) -> Any:
    import codesign.jobs_ray as jobs_ray

    monkeypatch.setattr(jobs_ray, "JobSubmissionClient", lambda *_, **__: client)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    return jobs_ray.Cluster("http://127.0.0.1:9", {})


def test_following_goes_on_where_it_broke_off(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Broken(["a\nb", "c\n", "d\n", "e\n"], ends_after=3)
    seen: list[str] = []
    ended = broken_cluster(monkeypatch, client).follow("x", seen.append)
    assert "".join(seen) == "a\nbc\nd\ne\n"
    assert ended.status == "SUCCEEDED"


def test_following_gives_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 10))
    cluster = broken_cluster(monkeypatch, Broken([], ends_after=10**9))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    with pytest.raises(CodesignError, match="out of reach for 60 s; job x may go on there"):
        cluster.follow("x", lambda text: None)


@pytest.mark.parametrize(
    ("status", "expected"),
    [("SUCCEEDED", "did not arrive whole; fetch it again"), ("FAILED", r"its last lines:\n  =codesign.*\n  No module")],
)
def test_a_run_that_is_cut_off_leaves_nothing(
    status: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = ["=codesign run begin x\n", "+AAAA\n", "No module named codesign\n"]
    client = Broken(pieces, ends_after=0, status=status)
    client.n_tails = len(pieces)
    with pytest.raises(CodesignError, match=expected) as caught:
        broken_cluster(monkeypatch, client).fetch("x", tmp_path / "out")
    assert "AAAA" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_address_given_holds_against_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import codesign.jobs_ray as jobs_ray

    seen: list[str | None] = []
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://elsewhere:1")
    monkeypatch.setattr(
        jobs_ray, "JobSubmissionClient", lambda *_, **__: seen.append(os.environ.get("RAY_API_SERVER_ADDRESS"))
    )
    jobs_ray.Cluster("http://here:2", {})
    assert seen == ["http://here:2"]
    assert os.environ["RAY_API_SERVER_ADDRESS"] == "http://elsewhere:1"


@pytest.mark.parametrize(
    ("raised", "kind", "expected"),
    [
        (ConnectionError("gone"), CodesignError, "cannot be reached: gone"),
        (
            RuntimeError("Request failed with status code 500: Traceback\n  File x\nValueError: y."),
            CodesignError,
            "500: Traceback ... ValueError: y",
        ),
    ],
)
def test_what_rays_client_raises_becomes_one_line(raised: Exception, kind: type[CodesignError], expected: str) -> None:
    from codesign.jobs_ray import _told_plainly

    with pytest.raises(kind, match=re.escape(expected)), _told_plainly("http://h:1"):
        raise raised


def test_a_token_that_expires_is_told() -> None:
    from ray.exceptions import AuthenticationError

    from codesign.jobs_ray import _told_plainly

    with pytest.raises(InputError, match="no longer accepts the token"), _told_plainly("http://h:1"):
        raise AuthenticationError("Authentication failed")


def test_the_upload_limit_is_rays() -> None:
    from ray._private.ray_constants import DASHBOARD_CLIENT_MAX_SIZE

    assert UPLOAD_LIMIT_BYTES == DASHBOARD_CLIENT_MAX_SIZE


def test_the_cluster_file_passes_rays_own_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    monkeypatch.chdir(ROOT)
    prepared = prepare_config(yaml.safe_load((ROOT / "ray_cluster.yaml").read_text()))
    validate_config(prepared)
    assert prepared["available_node_types"]["worker"]["max_workers"] == 8
    assert prepared["available_node_types"]["head"]["max_workers"] == 0
    assert prepared["head_setup_commands"][:2] == prepared["setup_commands"]
