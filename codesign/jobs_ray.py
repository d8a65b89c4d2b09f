"""Jobs on a Ray cluster, through Ray's Jobs API: submit, look, follow, stop, and fetch the run.

Everything goes through the dashboard's port, so that nothing but it has to be reachable and no disk is shared.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import secrets
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient

from codesign import __version__
from codesign.errors import CodesignError, InputError
from codesign.jobs import Submitted, count_nodes, failure, find_submitted, new_submission_id, run_command
from codesign.jobs_receive import Receiver, place_run
from codesign.jobs_send import LINE

PATIENCE_SECONDS = 60.0
"""How long the cluster may stay out of reach before following a job is given up."""

_OVERRIDES = "RAY_API_SERVER_ADDRESS"
_LOST = (ConnectionError, TimeoutError, requests.exceptions.RequestException, aiohttp.ClientError)


class Cluster:
    """A Ray cluster's Jobs API.

    Args:
        address: the dashboard's address; it holds against every environment variable.
        headers: what `authorize` returned.

    Raises:
        InputError: the cluster does not accept jobs.
    """

    def __init__(self, address: str, headers: Mapping[str, str]) -> None:
        self.address = address
        self._headers = dict(headers)
        for name in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
            logging.getLogger(name).setLevel(logging.ERROR)
        with _ray_address(address), _told_plainly(address):
            self._client = JobSubmissionClient(address, headers=dict(headers))

    def jobs(self) -> list[Submitted]:
        """All jobs that codesign submitted to this cluster."""
        with _told_plainly(self.address):
            return [_submitted(found) for found in self._client.list_jobs() if "codesign" in (found.metadata or {})]

    def job(self, submission_id: str) -> Submitted:
        """One of them. Raises InputError, with the nearest id, if there is none."""
        with _told_plainly(self.address):
            return find_submitted(submission_id, self.jobs())

    def submit(
        self,
        name: str,
        job_folder: Path,
        package: Path,
        job_path: str,
        command: Callable[[str, str], str] = run_command,
    ) -> str:
        """Send a job with its files; the cluster starts it when it can.

        Args:
            name: the job's.
            job_folder: where its file lies, noted for `fetch`.
            package: what travels, a zip file from `write_upload`.
            job_path: where the job file lies in it.
            command: makes the shell command from the submission id and `job_path`.

        Returns:
            The submission id.

        Raises:
            CodesignError: the cluster refuses the job.
        """
        submission_id = new_submission_id(name, datetime.now(), secrets.token_hex(2))
        facts = {"codesign": __version__, "codesign_job": name, "host": platform.node()}
        with _told_plainly(self.address):
            return self._client.submit_job(
                entrypoint=command(submission_id, job_path),
                submission_id=submission_id,
                runtime_env={"working_dir": str(package)},
                metadata={**facts, "job_folder": str(job_folder.absolute())},
            )

    def count_nodes(self) -> int | None:
        """Nodes that are alive, or None if the dashboard does not say."""
        return count_nodes(self.address, self._headers)

    def log(self, submission_id: str) -> str:
        """Everything that a job has written so far."""
        with _told_plainly(self.address):
            return self._client.get_job_logs(submission_id)

    def follow(self, submission_id: str, emit: Callable[[str], None]) -> Submitted:
        """Hand on what a job writes, from its beginning, until it ends. Outlasts a lost connection.

        Raises:
            CodesignError: the cluster stayed out of reach.
        """
        n_seen = 0
        lost_at: float | None = None
        while True:
            n_skip = n_seen  # a new connection starts at the log's beginning
            try:
                for text in self._tail(submission_id):
                    lost_at = None
                    new = text[n_skip:]
                    n_skip = max(0, n_skip - len(text))
                    n_seen += len(new)
                    if new:
                        emit(new)
                job = _submitted(self._client.get_job_info(submission_id))
                if job.is_finished:
                    return job
                lost_at = None
            except AuthenticationError as error:
                raise InputError(f"the cluster at {self.address} no longer accepts the token") from error
            except (*_LOST, RuntimeError) as error:
                lost_at = lost_at or time.monotonic()
                if time.monotonic() - lost_at > PATIENCE_SECONDS:
                    raise CodesignError(
                        f"the cluster at {self.address} has been out of reach for {PATIENCE_SECONDS:.0f} s; job "
                        f"{submission_id} may go on there"
                    ) from error
            time.sleep(1)

    def stop(self, submission_id: str, patience_seconds: float = 15.0) -> Submitted:
        """Stop a job and wait until it has ended. One that has ended already is left alone.

        Raises:
            InputError: there is no such job.
            CodesignError: it has not ended in time.
        """
        job = self.job(submission_id)
        if job.is_finished:
            return job
        with _told_plainly(self.address):
            self._client.stop_job(submission_id)
            ended = self._await_end(submission_id, patience_seconds)
        if ended is None:
            raise CodesignError(
                f"job {submission_id} was told to stop, but has not ended after {patience_seconds:.0f} s"
            )
        return ended

    def fetch(self, submission_id: str, folder: Path, job_folder: Path | None = None) -> Path:
        """Bring a job's run to this machine, as far as it has come.

        Args:
            submission_id: the job.
            folder: where its run is put; see `check_target`.
            job_folder: where its job file lies on this machine, if that is not where it was submitted from.

        Returns:
            The folder.

        Raises:
            InputError: there is no such job, it has no run yet, or the folder cannot take it.
            CodesignError: the run did not arrive whole.
        """
        job = self.job(submission_id)
        if job_folder is None and job.host == platform.node() and Path(job.job_folder).is_dir():
            job_folder = Path(job.job_folder)
        with tempfile.TemporaryDirectory() as scratch:
            archive = Path(scratch) / "run.tar.gz"
            with archive.open("wb") as file:
                self._receive(job, file)
            place_run(archive, folder, submission_id, self.address, job_folder)
        return folder

    def _receive(self, job: Submitted, archive: BinaryIO) -> None:
        helper = f"{job.id}-fetch-{secrets.token_hex(3)}"
        receiver = Receiver(job.id, archive)
        with _told_plainly(self.address):
            self._client.submit_job(
                entrypoint=f"python -m codesign.jobs_send {shlex.quote(job.id)}",
                submission_id=helper,
                metadata={"codesign_fetch": job.id},
            )
            for text in self._tail(helper):
                if receiver.feed(text):
                    break
            ended = self._await_end(helper, 10.0)
            if not (receiver.is_complete or receiver.is_missing):
                if ended is None or ended.status == "SUCCEEDED":
                    raise CodesignError("the run did not arrive whole; fetch it again")
                lines = self.log(helper).splitlines()
                raise failure(ended, "\n".join(line for line in lines if not line.startswith(LINE)))
            with suppress(RuntimeError, *_LOST):  # its log stays on the head node's disk until Ray removes its session
                self._client.delete_job(helper)
        if receiver.is_missing:
            why = "it waits for its turn" if job.status == "PENDING" else f"it is {job.status}: {job.reason}"
            raise InputError(f"ID: job {job.id} has no run on the cluster ({why})")

    def _tail(self, submission_id: str) -> Iterator[str]:
        """A job's log in pieces, from its beginning until it ends."""
        pieces = self._client.tail_job_logs(submission_id)
        with asyncio.Runner() as runner:
            try:
                while (text := runner.run(_next(pieces))) is not None:
                    yield text
            finally:
                runner.run(_close(pieces))

    def _await_end(self, submission_id: str, patience_seconds: float) -> Submitted | None:
        deadline = time.monotonic() + patience_seconds
        while True:
            job = _submitted(self._client.get_job_info(submission_id))
            if job.is_finished or time.monotonic() > deadline:
                return job if job.is_finished else None
            time.sleep(0.2)


async def _next(pieces: Any) -> str | None:
    text: str | None = await anext(pieces, None)
    return text


async def _close(pieces: Any) -> None:
    await pieces.aclose()


@contextmanager
def _ray_address(address: str) -> Iterator[None]:
    """Ray's client lets the environment overrule its argument; so the environment says the same for a moment."""
    before = os.environ.get(_OVERRIDES)
    os.environ[_OVERRIDES] = address
    try:
        yield
    finally:
        if before is None:
            del os.environ[_OVERRIDES]
        else:
            os.environ[_OVERRIDES] = before


@contextmanager
def _told_plainly(address: str) -> Iterator[None]:
    """Ray's client raises what its HTTP library raises, and RuntimeError for any refusal."""
    try:
        yield
    except CodesignError:
        raise
    except AuthenticationError as error:
        raise InputError(f"the cluster at {address} no longer accepts the token") from error
    except _LOST as error:
        raise CodesignError(f"the cluster at {address} cannot be reached: {error}") from error
    except RuntimeError as error:
        lines = [line for line in str(error).strip().splitlines() if line.strip()] or [type(error).__name__]
        reason = lines[0] if len(lines) == 1 else f"{lines[0]} ... {lines[-1]}"
        raise CodesignError(f"the cluster at {address} refuses: {reason}") from error


def _submitted(found: JobDetails) -> Submitted:
    metadata = found.metadata or {}
    return Submitted(
        id=found.submission_id or found.job_id or "",
        name=metadata.get("codesign_job", ""),
        status=str(getattr(found.status, "value", found.status)),
        message=found.message or "",
        started_at=found.start_time / 1000 if found.start_time else None,
        ended_at=found.end_time / 1000 if found.end_time else None,
        job_folder=metadata.get("job_folder", ""),
        host=metadata.get("host", ""),
    )
