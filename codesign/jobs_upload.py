"""What travels with a submitted job: its file, data given by a relative path, presets, and modules beside the job file.

The working directory on the cluster keeps the folders' places relative to each other, so that `../data` in a job means
the same there. Modules lie at its top, where Ray's workers find them too.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import stat
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from codesign.assemble import DATA_PATHS, assemble, reads_data
from codesign.data.dataset import DataShape
from codesign.errors import InputError
from codesign.feasible import require_feasible
from codesign.job import Job, dump_job

UPLOAD_LIMIT_BYTES = 100 * 1024**2
"""What Ray's dashboard takes in one request (`DASHBOARD_CLIENT_MAX_SIZE`)."""
_RUNS = "warm_start."
"""Keys of the job whose folders are runs."""

_OWN_CLASS = re.compile(r"^(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):[A-Za-z_][\w.]*$")
_OURS = ("codesign", "search_spaces", "simulators")
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Upload:
    """The working directory of a job.

    Attributes:
        job_path: where the job file lies in it.
        job_text: the job, with overrides and defaults filled in.
        files: the other files, by their place in it.
        roots: where those came from, by the key of the job that asked for them.
    """

    job_path: str
    job_text: str
    files: Mapping[str, Path]
    roots: Mapping[str, Path]


_UNSEEN = DataShape(3, 224, 224, 1000)
"""Stands in for data that lies on the cluster alone: as large as any in use, so that no space is refused."""


def check_job(job: Job, job_folder: Path) -> list[str]:
    """Check a job as `codesign run` would, without writing anything.

    Returns:
        Notes for the user: what could not be checked here, and what the cluster must have.

    Raises:
        InputError: anything in the job is wrong.
    """
    notes = []
    absolute = [(key, Path(value)) for key, value in _data_paths(job) if Path(value).is_absolute()]
    for key, path in absolute:
        seen = (
            "the cluster reads it from its own disk" if path.exists() else "it is not on this machine, so not checked"
        )
        notes.append(f"{key}: {path} is an absolute path and does not travel with the job; {seen}")
    for module in sorted(_named_modules(job)):
        if not _beside(module, job_folder):
            notes.append(f"module {module!r} is not beside the job file; it must be installed on the cluster")
    folder = job_folder / "runs" / job.name
    if all(path.exists() for _, path in absolute):
        require_feasible(assemble(job, folder, job_folder), job.search.seed)
    else:
        assemble(job, folder, job_folder, _UNSEEN)
    return notes


def plan_upload(job: Job, job_folder: Path) -> Upload:
    """Everything that has to travel.

    Args:
        job: the job, checked.
        job_folder: where its file lies.

    Raises:
        InputError: a relative path of the job leads nowhere.
    """
    folder = job_folder.resolve()
    relative = {key: os.path.normpath(value) for key, value in _relative_paths(job, folder)}
    top = folder
    for _ in range(max((PurePosixPath(path).parts.count("..") for path in relative.values()), default=0)):
        top = top.parent
    files: dict[str, Path] = {}
    roots: dict[str, Path] = {}
    for key, path in relative.items():
        source = Path(os.path.normpath(folder / path))
        if not source.exists():
            raise InputError(f"{key}: {path!r} does not exist beside the job file")
        roots[key] = source
        files.update((file.relative_to(top).as_posix(), file) for file in _files(source, key.startswith(_RUNS)))
    for source in _own_modules(job, folder):
        roots[f"module {source.stem}"] = source
        for file in _files(source):
            place = file.relative_to(folder).as_posix()
            if files.setdefault(place, file) != file:
                raise InputError(f"module {source.stem}: {file} and {files[place]} would lie in one place; rename one")
    job_path = (folder.relative_to(top) / "job.yaml").as_posix()
    files.pop(job_path, None)
    return Upload(job_path, dump_job(job), files, roots)


def write_upload(upload: Upload, target: Path, limit_bytes: int = UPLOAD_LIMIT_BYTES) -> None:
    """Write the working directory as a zip file; equal content gives equal bytes, so that Ray takes it in once.

    Raises:
        InputError: it would be larger than a cluster accepts, or a file cannot be read.
    """
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        archive.writestr(_entry(upload.job_path), upload.job_text)
        for place, source in sorted(upload.files.items()):
            try:
                with source.open("rb") as content, archive.open(_entry(place), "w", force_zip64=True) as out:
                    shutil.copyfileobj(content, out, 1 << 20)
            except OSError as error:
                raise InputError(f"{str(source)!r} cannot be sent: {error.strerror or error}") from error
            if archive.fp is not None and archive.fp.tell() > limit_bytes:
                raise _too_large(upload, limit_bytes)
    if target.stat().st_size > limit_bytes:
        raise _too_large(upload, limit_bytes)


def _too_large(upload: Upload, limit_bytes: int) -> InputError:
    sizes = {key: sum(file.stat().st_size for file in _files(root)) for key, root in upload.roots.items()}
    largest = sorted(sizes, key=lambda key: sizes[key], reverse=True)[:3]
    listed = ", ".join(f"{key} ({upload.roots[key]}): {sizes[key] / 1024**2:.1f} MiB" for key in largest)
    return InputError(
        f"the files of this job come to more than the {limit_bytes / 1024**2:g} MiB that a cluster takes with a job "
        f"({listed}); put the data where every node of the cluster can read it and give its absolute path"
    )


def _entry(place: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(place, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    return entry


def _data_paths(job: Job) -> Iterator[tuple[str, str]]:
    options = job.data.options()
    for key in DATA_PATHS if reads_data(job) else ():
        if isinstance(options.get(key), str):
            yield f"data.{key}", options[key]
    if job.evaluate.type == "table" and isinstance(job.evaluate.options().get("path"), str):
        yield "evaluate.path", job.evaluate.options()["path"]


def _relative_paths(job: Job, job_folder: Path) -> Iterator[tuple[str, str]]:
    for key, value in _data_paths(job):
        if not Path(value).is_absolute():
            yield key, value
    for name, target in job.targets.items():
        preset = target.preset or ""
        if preset and not Path(preset).is_absolute() and (job_folder / preset).is_file():  # otherwise one of ours
            yield f"targets.{name}.preset", preset
        if target.calibration and not Path(target.calibration).is_absolute():
            yield f"targets.{name}.calibration", target.calibration
    for number, earlier in enumerate(job.warm_start):
        path = earlier.run or earlier.table or ""
        if path and "://" not in path and not Path(path).is_absolute():
            yield f"warm_start.{number}", path


def _files(root: Path, is_run: bool = False) -> Iterator[Path]:
    """The files of a tree, links followed, each folder once; a file alone stands for itself.

    Of an earlier run the folder's own files are enough: its weights lie below.
    """
    if root.is_file():
        yield root
        return
    entered = set()
    for folder, below, names in os.walk(root, followlinks=True):
        place = os.path.realpath(folder)
        if place in entered:
            below.clear()
            continue
        entered.add(place)
        below[:] = [] if is_run else sorted(name for name in below if name != "__pycache__")
        yield from (Path(folder, name) for name in sorted(names) if Path(folder, name).is_file())


def _named_modules(job: Job) -> set[str]:
    """Top-level modules of everything that the job names as `module:Name`, ours left out."""
    named = set()
    rest: list[object] = [job.model_dump()]
    while rest:
        value = rest.pop()
        if isinstance(value, Mapping):
            rest.extend(value.values())
        elif isinstance(value, list | tuple):
            rest.extend(value)
        elif isinstance(value, str) and (match := _OWN_CLASS.match(value)):
            named.add(match["module"].partition(".")[0])
    return named.difference(_OURS)


def _own_modules(job: Job, job_folder: Path) -> list[Path]:
    """Files and packages beside the job file that the job names, and those that they import."""
    found: dict[str, Path] = {}
    rest = sorted(_named_modules(job))
    while rest:
        name = rest.pop()
        if name in found or (source := _beside(name, job_folder)) is None:
            continue
        found[name] = source
        for file in _files(source):
            if file.suffix == ".py":
                rest.extend(_imports(file))
    return [found[name] for name in sorted(found)]


def _beside(module: str, job_folder: Path) -> Path | None:
    """The file or package of a module beside the job file; Python prefers the package."""
    package = job_folder / module
    if package.is_dir() and next(package.glob("**/*.py"), None):
        return package
    file = job_folder / f"{module}.py"
    return file if file.is_file() else None


def _imports(file: Path) -> set[str]:
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):  # whoever imports it is told
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names
