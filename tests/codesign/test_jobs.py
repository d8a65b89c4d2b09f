"""Submitting without Ray: addresses, tokens, ids, and how jobs are shown."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.cli import main
from codesign.errors import InputError
from codesign.jobs import (
    DEFAULT_ADDRESS,
    Submitted,
    authorize,
    choose_address,
    count_nodes,
    duration,
    failure,
    find_submitted,
    find_token,
    jobs_table,
    new_submission_id,
    require_listener,
    run_command,
)

SECRET = "5ec2e7a0"
JOB = {
    "name": "tiny",
    "space": {"type": "nasnet", "blocks": 2, "cells": 1, "channels": 4},
    "objectives": {"minimize": ["params"]},
    "search": {"trials": 2},
    "evaluate": "cost",
}


def message(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a verb says about a wrong input: one line, status 2."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    captured = capsys.readouterr()
    assert caught.value.code == 2
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(JOB))
    return path


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# Addresses


@pytest.mark.parametrize(
    ("option", "environ", "expected"),
    [
        (None, {}, DEFAULT_ADDRESS),
        ("http://h:1", {"RAY_API_SERVER_ADDRESS": "http://x:2", "RAY_ADDRESS": "http://y:3"}, "http://h:1"),
        (None, {"RAY_API_SERVER_ADDRESS": "http://x:2", "RAY_ADDRESS": "http://y:3"}, "http://x:2"),
        (None, {"RAY_ADDRESS": "https://y"}, "https://y"),
        (None, {"RAY_ADDRESS": "10.0.0.1:6379"}, DEFAULT_ADDRESS),  # Ray's own port: no dashboard
        (None, {"RAY_ADDRESS": "auto"}, DEFAULT_ADDRESS),
        ("https://host/behind/a/proxy/", {}, "https://host/behind/a/proxy"),
        ("http://[::1]:8265", {}, "http://[::1]:8265"),
    ],
)
def test_the_option_comes_before_the_environment(option: str | None, environ: dict[str, str], expected: str) -> None:
    assert choose_address(option, environ) == expected


@pytest.mark.parametrize(
    "value",
    ["", "auto", "127.0.0.1:8265", "ray://h:10001", "http://", "http://h:port", "http://h:0", "http://h:65536",
     "http://h:1 2", "http://h/?a=b", "http://h/#a", "http://[::1", "ftp://h"],
)  # fmt: skip
def test_a_malformed_address_is_refused_with_its_value(value: str) -> None:
    with pytest.raises(
        InputError, match=re.escape(f"--address: {value!r} is not allowed; use the http:// or https://")
    ):
        choose_address(value, {})


def test_a_malformed_address_in_the_environment_is_named() -> None:
    with pytest.raises(InputError, match="^RAY_API_SERVER_ADDRESS: 'h:1' is not allowed"):
        choose_address(None, {"RAY_API_SERVER_ADDRESS": "h:1"})


def test_a_password_in_an_address_is_not_repeated() -> None:
    with pytest.raises(InputError) as caught:
        choose_address(f"http://me:{SECRET}@h:1", {})
    assert SECRET not in str(caught.value)


def test_nothing_listening_is_one_message(free_port: int) -> None:
    with pytest.raises(
        InputError, match=rf"no Ray cluster answers at http://127.0.0.1:{free_port} \(connection refused"
    ):
        require_listener(f"http://127.0.0.1:{free_port}")


def test_something_listening_is_enough() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        require_listener(f"http://127.0.0.1:{server.getsockname()[1]}")


def test_an_unknown_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", unknown)
    with pytest.raises(InputError, match="the name 'nowhere' is not known"):
        require_listener("http://nowhere:1")


def test_a_silent_host_and_a_hanging_name_server_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def hang(*_: object, **__: object) -> None:
        released.wait(30)
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", hang)
    began = time.monotonic()
    with pytest.raises(InputError, match=r"no answer within 0\.1 s"):
        require_listener("http://silent:1", timeout_seconds=0.1)
    released.set()
    assert time.monotonic() - began < 5


def test_what_only_a_proxy_reaches_is_left_to_it(monkeypatch: pytest.MonkeyPatch, free_port: int) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    require_listener("http://cluster.example:8265")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(InputError, match="connection refused"):
        require_listener(f"http://127.0.0.1:{free_port}")


# Tokens


def test_the_token_is_looked_for_where_ray_looks(tmp_path: Path) -> None:
    named, default = tmp_path / "named", tmp_path / ".ray" / "auth_token"
    default.parent.mkdir()
    assert find_token({}, tmp_path) is None
    default.write_text("from-home\n")
    named.write_text("  from-path \n")
    found = [
        find_token({}, tmp_path),
        find_token({"RAY_AUTH_TOKEN_PATH": str(named)}, tmp_path),
        find_token({"RAY_AUTH_TOKEN_PATH": str(named), "RAY_AUTH_TOKEN": "from-environ"}, tmp_path),
    ]
    assert [token and token.text for token in found] == ["from-home", "from-path", "from-environ"]
    assert [token and token.source for token in found] == [
        str(default), f"RAY_AUTH_TOKEN_PATH ({named})", "RAY_AUTH_TOKEN",
    ]  # fmt: skip


def test_a_token_is_not_in_its_repr() -> None:
    assert SECRET not in repr(find_token({"RAY_AUTH_TOKEN": SECRET}, Path("nowhere")))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "No such file"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xff\xfe", "not text"),
        (b"a b", "not a token"),
        (b"a\nb", "not a token"),
        ("tökén".encode(), "not a token"),
    ],
)
def test_a_file_that_holds_no_token_is_told(tmp_path: Path, content: bytes | None, expected: str) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=expected) as caught:
        find_token({"RAY_AUTH_TOKEN_PATH": str(path)}, tmp_path)
    assert "RAY_AUTH_TOKEN_PATH" in str(caught.value)


@dataclass
class Dashboard:
    """Answers as Ray's dashboard does: 401 without a token, 403 with a wrong one."""

    address: str
    token: str | None
    seen: list[tuple[str, str | None]] = field(default_factory=list)


@contextmanager
def dashboard(token: str | None, redirect: str | None = None, page: bytes | None = None) -> Iterator[Dashboard]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("Authorization")
            served.seen.append((self.path, given))
            status = 200 if token is None or given == f"Bearer {token}" else 401 if given is None else 403
            nodes = [{"state": "ALIVE"}, {"state": "DEAD"}, {"state": "ALIVE"}]
            answers = {
                "/api/version": {"version": "4", "ray_version": "2.60.0"},
                "/api/v0/nodes": {"data": {"result": {"result": nodes}}},
            }
            body = page if page is not None else json.dumps(answers.get(self.path, {})).encode()
            if redirect:
                status = 302
            self.send_response(status)
            if redirect:
                self.send_header("Location", redirect)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served = Dashboard(f"http://127.0.0.1:{server.server_address[1]}", token)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        server.shutdown()
        thread.join()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder with the right token in it."""
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text(SECRET)
    return tmp_path


def test_an_open_cluster_is_not_told_the_token(home: Path) -> None:
    with dashboard(None) as cluster:
        assert authorize(cluster.address, {}, home) == {}
    assert [given for _, given in cluster.seen] == [None]


def test_a_cluster_that_asks_for_the_token_gets_it(home: Path) -> None:
    with dashboard(SECRET) as cluster:
        assert authorize(cluster.address, {}, home) == {"Authorization": f"Bearer {SECRET}"}
    assert [given for _, given in cluster.seen] == [None, f"Bearer {SECRET}"]


def test_with_the_mode_set_the_token_goes_with_the_first_request(home: Path) -> None:
    with dashboard(SECRET) as cluster:
        assert authorize(cluster.address, {"RAY_AUTH_MODE": "TOKEN"}, home)
    assert [given for _, given in cluster.seen] == [f"Bearer {SECRET}"]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "asks for a token; put the cluster's token into ~/.ray/auth_token"),
        ({"RAY_AUTH_MODE": "disabled"}, "RAY_AUTH_MODE is 'disabled' here: unset it"),
        ({"RAY_AUTH_MODE": "token"}, "RAY_AUTH_MODE is 'token', but no token was found"),
        ({"RAY_AUTH_TOKEN": "0ther"}, "refuses the token in RAY_AUTH_TOKEN"),
        ({"RAY_AUTH_TOKEN": "0ther", "RAY_AUTH_MODE": "token"}, "refuses the token in RAY_AUTH_TOKEN"),
    ],
)
def test_no_token_and_a_wrong_one_are_one_message(tmp_path: Path, environ: dict[str, str], expected: str) -> None:
    with dashboard(SECRET) as cluster, pytest.raises(InputError, match=re.escape(expected)) as caught:
        authorize(cluster.address, environ, tmp_path)
    assert SECRET not in str(caught.value)
    assert "0ther" not in str(caught.value)
    assert "`ray get-auth-token` on the head node" in str(caught.value)


def test_a_token_does_not_follow_a_redirection(home: Path) -> None:
    with dashboard(None) as elsewhere, dashboard(None, redirect=f"{elsewhere.address}/api/version") as cluster:
        with pytest.raises(InputError, match=r"is not Ray's dashboard \(HTTP status 302\)"):
            authorize(cluster.address, {"RAY_AUTH_MODE": "token"}, home)
        assert elsewhere.seen == []


@pytest.mark.parametrize("page", [b"<html>hello</html>", b"[]", b"{}", b"\xff"])
def test_another_server_is_not_taken_for_a_cluster(tmp_path: Path, page: bytes) -> None:
    with dashboard(None, page=page) as cluster, pytest.raises(InputError, match="is not Ray's dashboard"):
        authorize(cluster.address, {}, tmp_path)


def test_a_server_that_hangs_up_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].close(), daemon=True).start()
        with pytest.raises(InputError, match="no Ray dashboard answers"):
            authorize(f"http://127.0.0.1:{server.getsockname()[1]}", {}, tmp_path)


def test_nodes_are_counted_if_the_dashboard_lists_them(free_port: int) -> None:
    with dashboard(None) as cluster:
        assert count_nodes(cluster.address, {}) == 2
    with dashboard(SECRET) as closed, dashboard(None, page=b"[1]") as other:
        assert count_nodes(closed.address, {}) is None
        assert count_nodes(other.address, {}) is None
    assert count_nodes(f"http://127.0.0.1:{free_port}", {}) is None


# Ids, commands, how jobs are shown


def test_an_id_reads_as_name_and_minute() -> None:
    assert new_submission_id("digits", datetime(2026, 11, 23, 11, 42), "7f3a") == "digits-20261123-1142-7f3a"


@settings(deadline=None)
@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", fullmatch=True))
def test_an_id_is_a_safe_name_of_bounded_length(name: str) -> None:
    made = new_submission_id(name, datetime(2026, 1, 2, 3, 4), "0000")
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*-20260102-0304-0000", made)
    assert len(made) <= 80


@pytest.mark.parametrize("environ", [{}, {"CODESIGN_RUNS": "/shared/my runs"}])
def test_the_command_puts_the_run_where_fetch_looks(environ: dict[str, str], tmp_path: Path) -> None:
    from codesign.jobs_send import run_folder

    command = run_command("tiny-1", "my jobs/job.yaml").replace("python -m", "printf '%s|'", 1)
    done = subprocess.run(command, shell=True, capture_output=True, text=True, env={"HOME": str(tmp_path), **environ})
    words = done.stdout.split("|")
    assert words[:4] == ["codesign", "run", "my jobs/job.yaml", "--out"]
    assert words[5:] == ["--address", "auto", ""]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path))
        assert Path(words[4]) == run_folder("tiny-1", environ)


def submitted(
    submission_id: str, status: str = "RUNNING", message: str = "", started: float | None = 100.0
) -> Submitted:
    ended = None if status in ("PENDING", "RUNNING") else 160.0
    return Submitted(submission_id, "tiny", status, message, started, ended)


def test_an_unknown_id_names_the_nearest() -> None:
    known = [submitted("tiny-20261123-1142-7f3a"), submitted("other-20261123-1142-0000")]
    assert find_submitted(known[0].id, known) is known[0]
    with pytest.raises(InputError, match=r"ID: 'tiny-20261123-1142-7f3b' .* did you mean 'tiny-20261123-1142-7f3a'\?"):
        find_submitted("tiny-20261123-1142-7f3b", known)
    with pytest.raises(InputError, match="codesign has submitted none"):
        find_submitted("x", [])


@pytest.mark.parametrize(
    ("status", "is_finished"),
    [("PENDING", False), ("RUNNING", False), ("STOPPED", True), ("SUCCEEDED", True), ("FAILED", True)],
)
def test_a_job_is_finished_in_a_final_state(status: str, is_finished: bool) -> None:
    assert submitted("a", status).is_finished is is_finished


def test_runtime_counts_to_the_end_or_to_now() -> None:
    assert submitted("a").runtime_seconds(now=130.0) == 30.0
    assert submitted("a", "FAILED").runtime_seconds(now=1e9) == 60.0
    assert submitted("a", "PENDING", started=None).runtime_seconds(now=1.0) is None


@pytest.mark.parametrize(("seconds", "text"), [(None, "-"), (0.4, "0:00:00"), (61, "0:01:01"), (36000, "10:00:00")])
def test_durations_read_as_hours_minutes_seconds(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_the_table_has_the_newest_job_first_and_short_messages() -> None:
    jobs = [submitted("old", "FAILED", "x" * 200 + "\nsecond line"), submitted("new", started=110.0)]
    lines = jobs_table(jobs, now=160.0).splitlines()
    assert [line.split()[0] for line in lines] == ["ID", "new", "old"]
    assert lines[2].endswith("x...")
    assert "0:00:50" in lines[1]
    assert all(line == line.rstrip() for line in lines)


def test_json_of_a_job_has_times_and_no_paths_of_this_machine() -> None:
    facts = Submitted("a", "tiny", "RUNNING", "", 1.0, None, job_folder="/home/me", host="here").to_json(now=3.0)
    assert facts["runtime_seconds"] == 2.0
    assert "/home/me" not in json.dumps(facts)


def test_a_failure_shows_why_and_the_last_lines() -> None:
    raw = "Job entrypoint command failed with exit code 3, last available logs (truncated to 20,000 chars):\nboom"
    text = str(failure(submitted("a", "FAILED", raw), "\n".join(f"line {i}" for i in range(30))))
    assert text.startswith("job a failed: Job entrypoint command failed with exit code 3; its last lines:\n  line 20\n")
    assert text.endswith("line 29")
    assert str(failure(submitted("a", "STOPPED", "stopped"), "")) == "job a was stopped: stopped"


# Verbs


@pytest.mark.parametrize("verb", [["status"], ["logs", "x"], ["stop", "x"], ["fetch", "x"], ["submit", "JOB"]])
def test_every_verb_tells_a_wrong_address_and_a_silent_one(
    verb: list[str], job_file: Path, free_port: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(job_file.parent)
    arguments = [str(job_file) if word == "JOB" else word for word in verb]
    assert "--address: 'here' is not allowed" in message([*arguments, "--address", "here"], capsys)
    assert "no Ray cluster answers" in message([*arguments, "--address", f"http://127.0.0.1:{free_port}"], capsys)
    assert list(job_file.parent.iterdir()) == [job_file]


def test_a_wrong_job_is_refused_before_the_network_is_touched(
    job_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("touched the network"))
    assert "did you mean 'trials'" in message(["submit", str(job_file), "search.trails=3"], capsys)
    assert "budgets: none of" in message(["submit", str(job_file), "budgets=[params <= 1]"], capsys)
    assert "cannot be read" in message(["submit", "nowhere.yaml"], capsys)
    assert "add --follow" in message(["submit", str(job_file), "--out", "x"], capsys)
    assert "is a file" in message(["submit", str(job_file), "--follow", "--out", str(job_file)], capsys)


def test_a_silent_address_is_found_before_ray_is_loaded(job_file: Path, free_port: int) -> None:
    program = (
        "import sys\nfrom codesign.cli import main\n"
        f"try:\n    main(['submit', {str(job_file)!r}, '--address', 'http://127.0.0.1:{free_port}'])\n"
        "except SystemExit as end:\n    status = end.code\n"
        "assert not {'ray', 'torch', 'aiohttp', 'requests'} & set(sys.modules)\nsys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
