"""What submitting to a cluster needs before Ray is loaded: the address, the token, ids, and how a job is shown.

Ray's dashboard answers 401 to a request without a token and 403 to one with a wrong token; `/api/version` is the
cheapest request that is guarded. The token is looked for where Ray looks (docs.ray.io, "Ray token authentication"):
RAY_AUTH_TOKEN, then the file RAY_AUTH_TOKEN_PATH, then ~/.ray/auth_token. Its text never enters a message.
"""

from __future__ import annotations

import json
import shlex
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.parse import SplitResult, urlsplit

from codesign.errors import CodesignError, InputError

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
RUNS_ON_CLUSTER = "${CODESIGN_RUNS:-$HOME/.codesign/runs}"
"""The folder of all runs on the head node, as its shell reads it."""

_ADDRESS_FORM = f"the http:// or https:// address of the cluster's dashboard, for example {DEFAULT_ADDRESS}"
_HOW_TO_AUTHORIZE = (
    "put the cluster's token into ~/.ray/auth_token, or name a file that holds it in RAY_AUTH_TOKEN_PATH "
    "(`ray get-auth-token` on the head node prints it)"
)
_UNFINISHED = ("PENDING", "RUNNING")


@dataclass(frozen=True, slots=True)
class Token:
    """The secret that a cluster asks for, and where it was found."""

    text: str = field(repr=False)
    source: str


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job on a cluster; times in seconds since 1970."""

    id: str
    name: str
    status: str
    message: str
    started_at: float | None
    ended_at: float | None
    job_folder: str = field(default="", repr=False)
    host: str = field(default="", repr=False)

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status not in _UNFINISHED

    @property
    def reason(self) -> str:
        """Why it ended as it did, on one line."""
        first = (self.message.strip().splitlines() or [""])[0]
        return first.partition(", last available logs")[0].rstrip(":")

    def runtime_seconds(self, now: float) -> float | None:
        """Seconds from its start to its end, or to `now`."""
        return None if self.started_at is None else max(0.0, (self.ended_at or now) - self.started_at)

    def to_json(self, now: float) -> dict[str, object]:
        """What `codesign status --json` prints of it."""
        facts = asdict(self)
        return {key: facts[key] for key in ("id", "name", "status", "message", "started_at", "ended_at")} | {
            "runtime_seconds": self.runtime_seconds(now)
        }


def choose_address(option: str | None, environ: Mapping[str, str]) -> str:
    """The dashboard to talk to, without a slash at its end.

    Args:
        option: what `--address` gave. Without it RAY_API_SERVER_ADDRESS holds, then RAY_ADDRESS if it is an http
            address (it may name a port of Ray's own instead), then Ray's default on this machine.
        environ: the environment.

    Raises:
        InputError: the address is malformed.
    """
    if option is not None:
        return _checked_address("--address", option)
    if environ.get("RAY_API_SERVER_ADDRESS"):
        return _checked_address("RAY_API_SERVER_ADDRESS", environ["RAY_API_SERVER_ADDRESS"])
    if environ.get("RAY_ADDRESS", "").startswith(("http://", "https://")):
        return _checked_address("RAY_ADDRESS", environ["RAY_ADDRESS"])
    return DEFAULT_ADDRESS


def require_listener(address: str, timeout_seconds: float = 1.0) -> None:
    """Look whether anything listens at an address. Raises InputError after at most twice `timeout_seconds`."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        return  # only the proxy can reach it
    found: list[OSError | None] = []

    def connect() -> None:
        try:
            socket.create_connection((host, _port(parts)), timeout=timeout_seconds).close()
            found.append(None)
        except OSError as error:
            found.append(error)

    attempt = threading.Thread(target=connect, daemon=True)  # looking a name up cannot be given a time limit
    attempt.start()
    attempt.join(1.5 * timeout_seconds)
    error = found[0] if found else TimeoutError()
    if error is None:
        return
    if isinstance(error, socket.gaierror):
        reason = f"the name {host!r} is not known"
    elif isinstance(error, TimeoutError):
        reason = f"no answer within {timeout_seconds:g} s"
    else:
        reason = (error.strerror or str(error)).lower()
    raise InputError(
        f"no Ray cluster answers at {address} ({reason}); start one (`ray up ray_cluster.yaml`, then `ray dashboard "
        "ray_cluster.yaml` forwards its port), or give --address"
    )


def find_token(environ: Mapping[str, str], home: Path) -> Token | None:
    """The token, from where Ray looks for it, or None.

    Raises:
        InputError: RAY_AUTH_TOKEN_PATH names no readable file, or what is there cannot be a token.
    """
    if text := environ.get("RAY_AUTH_TOKEN", "").strip():
        return _checked_token(text, "RAY_AUTH_TOKEN")
    if named := environ.get("RAY_AUTH_TOKEN_PATH"):
        return _checked_token(_read_token(Path(named), "RAY_AUTH_TOKEN_PATH"), f"RAY_AUTH_TOKEN_PATH ({named})")
    default = home / ".ray" / "auth_token"
    return _checked_token(_read_token(default, "token file"), str(default)) if default.is_file() else None


def authorize(address: str, environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """The headers with which the cluster accepts requests; empty if it asks for no token.

    A token is sent at once where RAY_AUTH_MODE says so, otherwise only to a cluster that asks for one.

    Raises:
        InputError: a token is needed and there is none, it is refused, or no Ray dashboard answers.
    """
    mode = environ.get("RAY_AUTH_MODE", "").strip().lower()
    token = find_token(environ, home) if mode not in ("", "disabled") else None
    if mode not in ("", "disabled") and token is None:
        raise InputError(f"RAY_AUTH_MODE is {mode!r}, but no token was found; {_HOW_TO_AUTHORIZE}")
    status = _version_status(address, token)
    if status == 401 and token is None and mode != "disabled":
        token = find_token(environ, home)
        status = 401 if token is None else _version_status(address, token)
    if status in (401, 403) and token is None:
        switch = "RAY_AUTH_MODE is 'disabled' here: unset it or set it to token, and " if mode == "disabled" else ""
        raise InputError(f"the cluster at {address} asks for a token; {switch}{_HOW_TO_AUTHORIZE}")
    if status in (401, 403):
        source = token.source if token else ""
        raise InputError(
            f"the cluster at {address} refuses the token in {source}; it is another cluster's or out of "
            "date: `ray get-auth-token` on the head node prints the right one"
        )
    if status != 200:
        raise InputError(f"what answers at {address} is not Ray's dashboard (HTTP status {status}); check --address")
    return {"Authorization": f"Bearer {token.text}"} if token else {}


def read_json(address: str, path: str, headers: Mapping[str, str], timeout_seconds: float = 10.0) -> Any:
    """The JSON that a dashboard answers to a GET request.

    Raises:
        urllib.error.HTTPError: any status but 200, redirections included: a token must not follow one.
        InputError: no answer, or not JSON.
    """
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        with opener.open(
            urllib.request.Request(address + path, headers=dict(headers)), timeout=timeout_seconds
        ) as answer:
            return json.load(answer)
    except urllib.error.HTTPError:
        raise
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(f"no Ray dashboard answers at {address}: {reason}") from None
    except ValueError:
        raise InputError(f"what answers at {address} is not Ray's dashboard (no JSON at {path})") from None


def count_nodes(address: str, headers: Mapping[str, str]) -> int | None:
    """Nodes of the cluster that are alive, or None if the dashboard does not say."""
    try:
        listed = read_json(address, "/api/v0/nodes", headers)["data"]["result"]["result"]
        return [node["state"] for node in listed].count("ALIVE")
    except (InputError, urllib.error.HTTPError, KeyError, TypeError):
        return None


def new_submission_id(name: str, now: datetime, suffix: str) -> str:
    """A readable id: the job's name, the minute, and a few random digits: `digits-20261123-1142-7f3a`."""
    return f"{name[:60].rstrip('._-')}-{now:%Y%m%d-%H%M}-{suffix}"


def run_command(submission_id: str, job_path: str) -> str:
    """The shell command that carries a job out on the head node; `job_path` is relative to its working directory."""
    out = f'"{RUNS_ON_CLUSTER}/{submission_id}"'
    return f"python -m codesign run {shlex.quote(job_path)} --out {out} --address auto"


def find_submitted(submission_id: str, known: Iterable[Submitted]) -> Submitted:
    """The job with this id. Raises InputError that names the nearest."""
    jobs = {job.id: job for job in known}
    if submission_id in jobs:
        return jobs[submission_id]
    if not jobs:
        raise InputError(f"ID: there is no job {submission_id!r} on this cluster; codesign has submitted none to it")
    raise InputError.about("ID", submission_id, sorted(jobs))


def jobs_table(jobs: Iterable[Submitted], now: float) -> str:
    """Jobs as text, newest first."""
    rows = [("ID", "STATUS", "STARTED", "RUNTIME", "MESSAGE")]
    for job in sorted(jobs, key=lambda job: job.started_at or now, reverse=True):
        rows.append((job.id, job.status, moment(job.started_at), duration(job.runtime_seconds(now)), _cut(job.reason)))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def moment(seconds: float | None) -> str:
    """A time since 1970 as local date and time."""
    return "-" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def duration(seconds: float | None) -> str:
    """Seconds as hours, minutes and seconds: `1:02:03`."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def last_lines(text: str, n: int = 10) -> str:
    """The last lines of a log, indented."""
    return "\n".join(f"  {_cut(line, 300)}" for line in text.strip().splitlines()[-n:])


def failure(job: Submitted, log: str) -> CodesignError:
    """The error for a job that did not succeed."""
    what = "was stopped" if job.status == "STOPPED" else "failed"
    lines = last_lines(log)
    return CodesignError(f"job {job.id} {what}: {job.reason}" + (f"; its last lines:\n{lines}" if lines else ""))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


def _version_status(address: str, token: Token | None) -> int:
    headers = {"Authorization": f"Bearer {token.text}"} if token else {}
    try:
        answer = read_json(address, "/api/version", headers)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    if not isinstance(answer, dict) or "ray_version" not in answer:
        raise InputError(f"what answers at {address} is not Ray's dashboard (no ray_version at /api/version)")
    return 200


def _checked_address(key: str, value: str) -> str:
    address = value.strip().rstrip("/")
    try:
        parts = urlsplit(address)
        is_plain = parts.scheme in ("http", "https") and bool(parts.hostname) and 0 < _port(parts) < 65536
    except ValueError:
        is_plain = False
    else:
        if parts.username is not None or parts.password is not None:  # the value is not repeated: it holds a password
            raise InputError(f"{key}: an address with a user name or password is not allowed; use {_ADDRESS_FORM}")
    if not is_plain or parts.query or parts.fragment or any(letter.isspace() for letter in address):
        raise InputError.about(key, value, _ADDRESS_FORM)
    return address


def _port(parts: SplitResult) -> int:
    return parts.port if parts.port is not None else 443 if parts.scheme == "https" else 80


def _read_token(path: Path, key: str) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise InputError(f"{key}: {str(path)!r} cannot be read: {reason}") from None
    if not text:
        raise InputError(f"{key}: {str(path)!r} is empty; {_HOW_TO_AUTHORIZE}")
    return text


def _checked_token(text: str, source: str) -> Token:
    if not text.isascii() or not text.isprintable() or " " in text:
        raise InputError(f"{source}: what stands there is not a token: it holds blanks, line ends or other signs")
    return Token(text, source)


def _cut(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
