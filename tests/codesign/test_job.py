"""Job files: strict reading, one message per mistake, overrides, round trip."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from codesign.errors import InputError
from codesign.job import Job, dump_job, json_schema, load_job, parse_job

MINIMAL = {"name": "a", "space": "nasnet", "objectives": {"maximize": "accuracy"}}
EXAMPLES = [
    path
    for path in sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
    if not path.stem.startswith("lottery")  # read by codesign.lottery_job
]


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    return path


def test_a_dumped_job_reads_back_equal() -> None:
    job = parse_job(
        {**MINIMAL, "budgets": ["params <= 60k"], "search": {"strategy": {"type": "nsga2", "population": 8}}}
    )
    assert parse_job(yaml.safe_load(dump_job(job))) == job


def test_shorthands_mean_the_long_form() -> None:
    long = {"name": "a", "space": {"type": "nasnet"}, "objectives": {"maximize": ["accuracy"]}}
    assert parse_job(MINIMAL) == parse_job(long)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_fit_the_schema_that_editors_use(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    assert isinstance(load_job(path), Job)
    jsonschema.Draft202012Validator.check_schema(json_schema())
    resolved = yaml.safe_load(dump_job(load_job(path)))
    jsonschema.validate(resolved, json_schema())
    assert set(content) <= set(json_schema()["properties"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"serch": {}}, "unknown key in job: 'serch' is not one of .*did you mean 'search'"),
        ({"search": {"trails": 3}}, "unknown key in search: 'trails' .*did you mean 'trials'"),
        ({"search": {"trials": "many"}}, "search.trials: 'many': input should be a valid integer"),
        ({"search": {"trials": 0}}, "search.trials: 0: input should be greater than or equal to 1"),
        ({"driver": {"type": "tun"}}, "driver.type: 'tun' is not one of serial, ray, tune; did you mean 'tune'"),
        (
            {"targets": {"edge": {"type": "systolic", "presett": "x"}}},
            "unknown key in targets.edge: 'presett' .*'preset'",
        ),
        ({"targets": {"a b": {"type": "systolic"}}}, "targets: target name 'a b' may hold letters"),
        ({"name": "../x"}, "name: '../x'"),
        ({"space": None}, "space: None"),
    ],
)
def test_a_wrong_job_is_one_message(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_job({**MINIMAL, **change})
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(InputError, match="^objectives: this key is missing$"):
        parse_job({"name": "a", "space": "nasnet"})


def test_a_repeated_key_is_refused_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "name: a\nspace: nasnet\nname: b\n")
    with pytest.raises(InputError, match="line 3: the key 'name' stands twice"):
        load_job(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("name: [", "is not valid YAML"), ("- a\n- b\n", "a job is a mapping"), ("", "a job is a mapping"),
     ("a: !!python/object/apply:os.getcwd []", "is not valid YAML")],
)  # fmt: skip
def test_text_that_is_no_job(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_job(write(tmp_path, text))


def test_a_missing_or_binary_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        load_job(tmp_path / "none.yaml")
    (tmp_path / "job.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        load_job(tmp_path / "job.yaml")


def test_overrides_reach_every_level(tmp_path: Path) -> None:
    path = write(tmp_path, yaml.safe_dump(MINIMAL))
    job = load_job(path, ["search.trials=7", "space.blocks=3", "targets.edge.type=systolic", "budgets=[params <= 3k]"])
    assert job.search.trials == 7
    assert job.space.options() == {"type": "nasnet", "blocks": 3}
    assert job.targets["edge"].type == "systolic"
    assert job.budgets == ["params <= 3k"]
    with pytest.raises(InputError, match=r"write it as key\.key=value"):
        load_job(path, ["search.trials"])
    with pytest.raises(InputError, match="'name' is 'a', which has no keys below it"):
        load_job(path, ["name.x=1"])


def test_numbers_in_yaml_text_form_become_numbers() -> None:
    """PyYAML reads `1e-3` as text; the model's type makes it a number."""
    assert yaml.safe_load("a: 1e-3") == {"a": "1e-3"}
    assert parse_job({**MINIMAL, "driver": {"cpus_per_worker": "5e-1"}}).driver.cpus_per_worker == 0.5
