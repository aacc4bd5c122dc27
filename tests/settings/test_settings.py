"""One table feeds file, environment and flags; what is said nearest to the user wins."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from pelton.errors import Code, SettingsError
from pelton.runtimes.contract import RuntimeOptions
from pelton.servers.access import AccessOptions
from pelton.servers.certificates import TlsOptions
from pelton.servers.connections import ConnectionLimits
from pelton.servers.memory_budget import MemoryLimits
from pelton.servers.shutdown import ShutdownTimes
from pelton.setting_values import Setting
from pelton.settings import BY_NAME, SETTINGS, load_settings
from pelton.settings_docs import render, shown
from pelton.specs import Batching, Serving
from pelton.wire.limits import Limits

OTHER: dict[str, tuple[str, Any]] = {
    "model_path": ("models/here", "models/here"),
    "host": ("0.0.0.0", "0.0.0.0"),
    "port": ("8080", 8080),
    "uds": ("/run/pelton.sock", "/run/pelton.sock"),
    "allow_shared_memory": ("on", True),
    "default_model": ("robot", "robot"),
    "log_format": ("json", "json"),
    "log_level": ("debug", "debug"),
    "require_keys": ("yes", True),
    "insecure": ("yes", True),
    "allowed_hosts": ("robot.local, pelton", ("robot.local", "pelton")),
    "trusted_proxies": ("10.0.0.0/8", ("10.0.0.0/8",)),
    "anonymous_requests_per_s": ("0.5", 0.5),
    "anonymous_burst": ("10", 10),
    "rate_limit_redis": ("redis://localhost:6379/0", "redis://localhost:6379/0"),
    "session_s": ("1h", 3600.0),
    "tls_certificate": ("/etc/pelton/cert.pem", "/etc/pelton/cert.pem"),
    "tls_key": ("/etc/pelton/key.pem", "/etc/pelton/key.pem"),
    "tls_client_ca": ("/etc/pelton/ca.pem", "/etc/pelton/ca.pem"),
    "allow_unsafe_pickle": ("true", True),
    "trusted_keys_file": ("/etc/pelton/signing/keys.toml", "/etc/pelton/signing/keys.toml"),
    "trusted_time_limit_s": ("5s", 5.0),
    "trusted_cpu_s": ("7", 7),
    "trusted_memory_bytes": ("0", 0),
    "trusted_most_at_once": ("4", 4),
    "device": ("cuda:1", "cuda:1"),
    "isolation": ("inline", "inline"),
    "instances": ("2", 2),
    "threads": ("3", 3),
    "optimize_for": ("latency", "latency"),
    "deterministic": ("1", True),
    "inter_op_threads": ("2", 2),
    "allow_spinning": ("yes", True),
    "graph_optimization": ("basic", "basic"),
    "worker_max_bytes": ("2GiB", 2 * 1024**3),
    "max_batch_rows": ("16", 16),
    "max_delay_ms": ("2.5", 2.5),
    "target_p99_ms": ("1s", 1000.0),
    "max_queue_rows": ("100", 100),
    "max_queue_bytes": ("3MiB", 3 * 1024 * 1024),
    "request_timeout_s": ("10s", 10.0),
    "hang_grace_s": ("2", 2.0),
    "cache": ("yes", True),
    "cache_ttl_s": ("10m", 600.0),
    "cache_max_bytes": ("5MiB", 5 * 1024 * 1024),
    "cache_objects": ("true", True),
    "cache_redis_url": ("redis://:word@cache/0", "redis://:word@cache/0"),
    "cache_redis_namespace": ("fleet", "fleet"),
    "cache_redis_timeout_ms": ("50ms", 50.0),
    "cache_redis_max_entry_bytes": ("64KiB", 65536),
    "allow_publish": ("yes", True),
    "explicit_models": ("yes", True),
    "watch_interval_s": ("5s", 5.0),
    "max_upload_bytes": ("2MiB", 2 * 1024**2),
    "max_models_bytes": ("8GiB", 8 * 1024**3),
    "start_timeout_s": ("10m", 600.0),
    "load_timeout_s": ("1m", 60.0),
    "warm_timeout_s": ("2m", 120.0),
    "golden_timeout_s": ("3m", 180.0),
    "drain_timeout_s": ("4m", 240.0),
    "keep_warm_s": ("0", 0.0),
    "probation_s": ("1m", 60.0),
    "probation_requests": ("500", 500),
    "max_error_share": ("0.1", 0.1),
    "max_nonfinite": ("3", 3),
    "latency_factor": ("1.5", 1.5),
    "max_growth_bytes": ("64MiB", 64 * 1024**2),
    "probation_false_alarm": ("0.01", 0.01),
    "probation_stand_in": ("no", False),
    "record_requests": ("0", 0),
    "record_bytes": ("1MiB", 1024**2),
    "record_one_in": ("10", 10),
    "golden_agreement": ("0.99", 0.99),
    "max_body_bytes": ("1MiB", 1024 * 1024),
    "max_head_bytes": ("8KiB", 8192),
    "max_headers": ("20", 20),
    "max_chunks": ("7", 7),
    "max_json_bytes": ("2MiB", 2 * 1024 * 1024),
    "max_json_depth": ("10", 10),
    "max_tensors": ("5", 5),
    "max_pickle_ops": ("999", 999),
    "max_buffered_bytes": ("2GiB", 2 * 1024**3),
    "max_connections": ("64", 64),
    "head_timeout_s": ("1.5s", 1.5),
    "body_timeout_s": ("2m", 120.0),
    "send_timeout_s": ("250ms", 0.25),
    "idle_timeout_s": ("1h30m", 5400.0),
    "state_dir": ("/var/lib/pelton", "/var/lib/pelton"),
    "database_url": ("postgresql://pelton@/pelton", "postgresql://pelton@/pelton"),
    "database_wait_s": ("1s", 1.0),
    "exposures_keep_s": ("720h", 2592000.0),
    "shutdown_delay_s": ("5", 5.0),
    "shutdown_grace_s": ("0", 0.0),
}
"""For each setting a text that is not its default, and what it means."""

RECORDS = (
    AccessOptions,
    Batching,
    ConnectionLimits,
    Limits,
    MemoryLimits,
    RuntimeOptions,
    Serving,
    ShutdownTimes,
    TlsOptions,
)

FLAGGED = [setting for setting in SETTINGS if not setting.file_only]

NO_SETTING = {"batching", "preferred_batch_rows", "pad"}
"""Fields of records that only a `model.toml` sets."""


def written_file(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "pelton.toml"
    file.write_text(text, encoding="utf-8")
    return file


def refusal(
    flags: dict[str, str | None] | None = None,
    environment: dict[str, str] | None = None,
    file: Path | None = None,
) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(flags or {}, environment or {}, file)
    assert caught.value.code is Code.BAD_SETTING
    return caught.value.message


def test_the_table_of_this_test_has_every_setting_and_no_default() -> None:
    assert list(OTHER) == [setting.name for setting in SETTINGS]
    assert len(BY_NAME) == len(SETTINGS)
    for setting in SETTINGS:
        assert OTHER[setting.name][1] != setting.default


@pytest.mark.parametrize("setting", FLAGGED, ids=lambda setting: setting.name)
def test_each_setting_can_be_said_in_every_place(setting: Setting, tmp_path: Path) -> None:
    text, value = OTHER[setting.name]
    file = written_file(tmp_path, f'{setting.name} = "{text}"\n')
    said = {
        "file pelton.toml": load_settings({}, {}, file),
        "environment": load_settings({}, {setting.variable: text}),
        "flag": load_settings({setting.name: text}, {}),
    }
    for origin, settings in said.items():
        assert settings[setting.name] == value
        assert type(settings[setting.name]) is type(value)
        assert settings.origin(setting.name) == origin
        others = [other for other in SETTINGS if other is not setting]
        assert [settings[other.name] for other in others] == [other.default for other in others]
        assert {settings.origin(other.name) for other in others} == {"default"}


def test_what_opens_the_server_is_taken_from_the_file_only(tmp_path: Path) -> None:
    assert [each.name for each in SETTINGS if each.file_only] == ["allow_unsafe_pickle"]
    where = "can only be set in the settings file (--config)"
    for text in ("true", "false"):
        said = refusal(environment={"PELTON_ALLOW_UNSAFE_PICKLE": text})
        assert said == f"PELTON_ALLOW_UNSAFE_PICKLE is not taken: allow_unsafe_pickle {where}"
        said = refusal({"allow_unsafe_pickle": text})
        assert said == f"--allow-unsafe-pickle is not taken: allow_unsafe_pickle {where}"
    file = written_file(tmp_path, "allow_unsafe_pickle = true\n")
    settings = load_settings({}, {}, file)
    assert (settings["allow_unsafe_pickle"], settings.file) == (True, file)
    assert settings.origin("allow_unsafe_pickle") == "file pelton.toml"


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_names_follow_one_rule(setting: Setting) -> None:
    assert setting.flag == "--" + setting.name.replace("_", "-")
    assert setting.variable == "PELTON_" + setting.name.upper()
    assert re.fullmatch(r"[A-Z0-9].*\.", setting.help)


def test_the_nearest_word_wins(tmp_path: Path) -> None:
    file = written_file(tmp_path, "port = 1\nmax_headers = 1\nmax_chunks = 1\n")
    environment = {"PELTON_PORT": "2", "PELTON_MAX_HEADERS": "2"}
    settings = load_settings({"port": "3", "host": None}, environment, file)
    assert (settings["port"], settings.origin("port")) == (3, "flag")
    assert (settings["max_headers"], settings.origin("max_headers")) == (2, "environment")
    assert (settings["max_chunks"], settings.origin("max_chunks")) == (1, "file pelton.toml")
    assert (settings["host"], settings.origin("host")) == ("127.0.0.1", "default")


def test_a_bad_value_is_told_even_where_a_nearer_word_would_win(tmp_path: Path) -> None:
    message = refusal({"port": "3"}, {"PELTON_PORT": "none"})
    assert message == "PELTON_PORT is 'none'; it has to be a whole number from 0 to 65535"


def test_the_file_may_use_the_types_of_toml(tmp_path: Path) -> None:
    text = """
        # where the robot looks
        port = 8_080
        allow_spinning = true
        idle_timeout_s = 1.5
        max_body_bytes = 0x100000
        host = 'localhost'
    """
    settings = load_settings({}, {}, written_file(tmp_path, text))
    assert settings["port"] == 8080
    assert settings["allow_spinning"] is True
    assert settings["idle_timeout_s"] == 1.5
    assert settings["max_body_bytes"] == 1024 * 1024
    assert settings["host"] == "localhost"


def test_variables_of_others_are_none_of_ours() -> None:
    environment = {"PORT": "1", "XPELTON_PORT": "1", "PELTON": "1", "pelton_port": "1"}
    assert load_settings({}, environment)["port"] == 50000


# -- unknown names -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("prot", "port"),
        ("max_body", "max_body_bytes"),
        ("max-body-bytes", "max_body_bytes"),
        ("idle_timeout", "idle_timeout_s"),
        ("grace_s", "hang_grace_s"),
        ("Port", "port"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name, nearest, tmp_path: Path) -> None:
    file = written_file(tmp_path, f'"{name}" = 1\n')
    assert refusal(file=file) == (
        f"unknown setting {name!r} in {file}; did you mean {nearest}? (`pelton settings` lists all)"
    )


def test_an_unknown_variable_is_refused_with_the_nearest() -> None:
    assert refusal(environment={"PELTON_MAX_BODY": "1"}) == (
        "unknown setting PELTON_MAX_BODY; did you mean PELTON_MAX_BODY_BYTES? "
        "(`pelton settings` lists all)"
    )


def test_a_name_of_before_is_refused_with_that_of_today(tmp_path: Path) -> None:
    message = refusal(environment={"PELTON_INTRA_OP_THREADS": "1"})
    assert "; did you mean PELTON_THREADS?" in message
    assert "; did you mean threads?" in refusal(file=written_file(tmp_path, "intra_op_threads = 1"))


def test_nothing_is_guessed_where_nothing_is_near(tmp_path: Path) -> None:
    message = refusal(environment={"PELTON_QQQQ": "1"})
    assert message == "unknown setting PELTON_QQQQ (`pelton settings` lists all)"
    assert "did you mean" not in refusal(file=written_file(tmp_path, "zzzzz = 1"))


# -- bad values ----------------------------------------------------------------------------------


def test_a_bad_value_is_told_with_the_place_where_it_was_said(tmp_path: Path) -> None:
    wanted = "it has to be a whole number from 0 to 65535"
    file = written_file(tmp_path, "port = 70000")
    assert refusal(file=file) == f"port in file pelton.toml is '70000'; {wanted}"
    assert refusal(environment={"PELTON_PORT": "x"}) == f"PELTON_PORT is 'x'; {wanted}"
    assert refusal({"port": "-1"}) == f"--port is '-1'; {wanted}"


@pytest.mark.parametrize(
    "setting", [each for each in FLAGGED if each.form.told != "path"], ids=lambda each: each.name
)
def test_every_form_refuses_what_is_empty(setting: Setting) -> None:
    message = refusal({setting.name: " "})
    assert message.startswith(f"{setting.flag} is ' '; it has to be ")


def test_a_long_value_is_cut_in_the_message() -> None:
    assert len(refusal({"port": "x" * 10_000})) < 200


@pytest.mark.parametrize(
    "text", ["port = [1]", "[port]\na = 1", "port = 2024-01-01", "[[port]]\n", "port.a = 1"]
)
def test_a_value_that_is_no_plain_one_is_refused(text: str, tmp_path: Path) -> None:
    file = written_file(tmp_path, text)
    assert refusal(file=file) == f"'port' in {file} has to be a plain value"


@pytest.mark.parametrize("value", ["1.0", "true", "-1", "1000.0", "nan"])
def test_the_types_of_toml_do_not_weaken_a_form(value: str, tmp_path: Path) -> None:
    assert refusal(file=written_file(tmp_path, f"port = {value}")).startswith(
        f"port in file pelton.toml is '{value}'; it has to be a whole number"
    )


@pytest.mark.parametrize("text", ["port", "port = ", "port = 1\nport = 2", '"', "= 1", "port: 1"])
def test_a_file_that_is_no_toml(text: str, tmp_path: Path) -> None:
    file = written_file(tmp_path, text)
    assert refusal(file=file).startswith(f"the settings file {file} is not valid TOML: ")


def test_a_number_without_end_in_the_file(tmp_path: Path) -> None:
    file = written_file(tmp_path, f"port = {'9' * 5000}")
    assert refusal(file=file).startswith(f"the settings file {file} is not valid TOML: ")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "pelton.toml"
    file.write_bytes(b"\xff\xfe\x00")
    assert refusal(file=file).startswith(f"the settings file {file} is not valid TOML: ")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    assert refusal(file=missing) == (
        f"cannot read the settings file {missing}: No such file or directory"
    )
    assert refusal(file=tmp_path).startswith(f"cannot read the settings file {tmp_path}: ")


# -- the rooms' records --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
def test_a_rooms_record_is_filled_with_the_settings_of_its_names(kind, tmp_path: Path) -> None:
    assert load_settings({}, {}).record(kind) == kind()
    lines = [f'{name} = "{text}"\n' for name, (text, _) in OTHER.items()]
    record = load_settings({}, {}, written_file(tmp_path, "".join(lines))).record(kind)
    names = [field.name for field in dataclasses.fields(kind) if field.name not in NO_SETTING]
    assert {name: getattr(record, name) for name in names} == {
        name: OTHER[name][1] for name in names
    }


def test_every_field_of_a_rooms_record_is_a_setting() -> None:
    of_rooms = {field.name for kind in RECORDS for field in dataclasses.fields(kind)}
    own = {"model_path", "port", "uds", "allow_shared_memory", "default_model"}
    own |= {"log_format", "log_level"}
    own |= {f"cache_redis_{name}" for name in ("url", "namespace", "timeout_ms", "max_entry_bytes")}
    own |= {"state_dir", "database_url", "database_wait_s", "exposures_keep_s"}
    own |= {each.name for each in SETTINGS if each.group == "Changing models"}  # see `plan_of`
    own |= {f"trusted_{name}" for name in ("time_limit_s", "cpu_s", "memory_bytes", "most_at_once")}
    assert (of_rooms - NO_SETTING) | own == set(BY_NAME)
    assert not of_rooms & own


def test_how_models_are_served_is_put_together() -> None:
    assert load_settings({}, {}).serving() == Serving()
    flags = {"threads": "2", "max_queue_rows": "7", "max_batch_rows": "8", "max_delay_ms": "3"}
    assert load_settings(flags, {}).serving() == Serving(
        threads=2, max_queue_rows=7, batching=Batching(max_batch_rows=8, max_delay_ms=3.0)
    )


# -- the document --------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_is_in_the_document(setting: Setting) -> None:
    rows = [line for line in render().splitlines() if line.startswith(f"| `{setting.name}` |")]
    (row,) = rows
    cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]
    assert cells == [
        f"`{setting.name}`",
        "none" if setting.file_only else f"`{setting.flag}`",
        "none" if setting.file_only else f"`{setting.variable}`",
        setting.form.told.replace("|", "\\|"),
        shown(setting, setting.default),
        setting.help,
    ]


def test_the_document_groups_settings_as_the_table_does() -> None:
    headings = re.findall(r"(?m)^## (.+)$", render())
    assert headings == list(dict.fromkeys(setting.group for setting in SETTINGS))


def test_the_example_in_the_document_is_a_settings_file(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.+?)```", render(), re.DOTALL)
    settings = load_settings({}, {}, written_file(tmp_path, example))
    assert settings["port"] == 8080
    assert settings["max_body_bytes"] == 128 * 1024 * 1024
    assert settings["idle_timeout_s"] == 90.0


@pytest.mark.parametrize(
    "setting",
    [each for each in SETTINGS if each.default is not None],
    ids=lambda setting: setting.name,
)
def test_a_default_is_shown_as_it_could_be_written(setting: Setting) -> None:
    assert setting.form.parse(shown(setting, setting.default)) == setting.default


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("max_body_bytes", 64 * 1024**2, "64MiB"),
        ("max_body_bytes", 3 * 1024**3, "3GiB"),
        ("max_body_bytes", 1500, "1500"),
        ("max_body_bytes", 0, "0"),
        ("max_headers", 1024, "1024"),
        ("idle_timeout_s", 0.25, "0.25s"),
        ("exposures_keep_s", 7776000.0, "7776000s"),
        ("max_delay_ms", 2.5, "2.5ms"),
        ("instances", 0, "auto"),
        ("instances", 4, "4"),
        ("allow_spinning", False, "false"),
        ("model_path", None, "none"),
        ("database_url", "postgresql://me:word@db/x", "postgresql://me:***@db/x"),
        ("cache_redis_url", "redis://:word@cache:6379/0", "redis://:***@cache:6379/0"),
        ("rate_limit_redis", "rediss://cache:6379/0", "rediss://cache:6379/0"),
    ],
)
def test_values_are_shown_as_people_write_them(name: str, value: Any, told: str) -> None:
    assert shown(BY_NAME[name], value) == told
