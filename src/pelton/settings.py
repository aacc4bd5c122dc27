"""The one table of settings: it feeds the file, the environment, the flags and the document.

A value is looked for in this order: flag, environment (`PELTON_` and the name in capitals),
`--config` file (TOML, one flat table of names), default. A room that needs settings defines a
small record; `Settings.record` fills it with the settings of the same names.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pelton.errors import SettingsError
from pelton.runtimes.contract import RuntimeOptions
from pelton.servers.access import AccessOptions
from pelton.servers.certificates import TlsOptions
from pelton.servers.connections import ConnectionLimits
from pelton.servers.memory_budget import MemoryLimits
from pelton.servers.shutdown import ShutdownTimes
from pelton.setting_values import (
    DEVICE,
    DURATION,
    ENVIRONMENT_PREFIX,
    MILLISECONDS,
    NAMES,
    RATE,
    SIZE,
    SIZE_OR_NONE,
    TIMEOUT,
    URL,
    YES_NO,
    Setting,
    choice,
    integer,
    number,
    or_auto,
    text,
)
from pelton.specs import Batching, Serving
from pelton.wire.limits import Limits

OF_CLIENTS = {"PELTON_API_KEY"}
"""Variables that mean something to clients and nothing to a server."""

T = TypeVar("T")


_conn, _wire, _run, _end = ConnectionLimits(), Limits(), RuntimeOptions(), ShutdownTimes()
_serving, _batching, _memory = Serving(), Batching(), MemoryLimits()
_access, _tls = AccessOptions(), TlsOptions()

OPTIMIZATIONS = choice("none", "basic", "extended", "all")

# fmt: off
SETTINGS: tuple[Setting, ...] = (
    Setting("model_path", None, text("path"), "Serving",
            "Model file, or folder of models, to serve; the same as the argument PATH."),
    Setting("host", "127.0.0.1", text("address"), "Serving",
            "Address to listen on; 0.0.0.0 is every interface of the machine."),
    Setting("port", 50000, integer(0, 65535), "Serving",
            "TCP port; 0 takes a free one, which the log names."),
    Setting("uds", None, text("path"), "Serving",
            "Unix socket to serve on besides the TCP port; it is made, and removed at the end."),
    Setting("allow_shared_memory", False, YES_NO, "Serving",
            "Let clients on TCP register shared memory; on the Unix socket the same user may."),
    Setting("default_model", None, text("name"), "Serving",
            "Model that answers /infer where the request names none."),
    Setting("log_format", "text", choice("text", "json"), "Serving",
            "How log lines are written to standard error."),
    Setting("log_level", "info", choice("debug", "info", "warning", "error"), "Serving",
            "How much is logged: debug, info, warning or error."),
    Setting("require_keys", _access.require_keys, YES_NO, "Access",
            "Refuse to start without a usable key."),
    Setting("insecure", _access.insecure, YES_NO, "Access",
            "Serve anybody who can reach the address, without keys."),
    Setting("allowed_hosts", _access.allowed_hosts, NAMES, "Access",
            "Further names by which the server may be called, with commas between them."),
    Setting("trusted_proxies", _access.trusted_proxies, NAMES, "Access",
            "Addresses or networks whose X-Forwarded-For is believed, with commas between them."),
    Setting("anonymous_requests_per_s", _access.anonymous_requests_per_s, RATE, "Access",
            "Requests per second and route of each address that has no key."),
    Setting("anonymous_burst", _access.anonymous_burst, integer(1, 1_000_000), "Access",
            "How many of those may come at once; without it those of one second."),
    Setting("rate_limit_redis", _access.rate_limit_redis, URL, "Access",
            "Redis that counts the requests of each key over all nodes. Better said in the file or "
            "the environment, since others can read flags."),
    Setting("session_s", _access.session_s, TIMEOUT, "Access",
            "How long a session of the dashboard lasts."),
    Setting("tls_certificate", _tls.tls_certificate, text("path"), "Access",
            "PEM file with the certificate for https, and those that vouch for it; read again when "
            "it changes."),
    Setting("tls_key", _tls.tls_key, text("path"), "Access",
            "PEM file with its private key, if that is not in the same file; likewise."),
    Setting("tls_client_ca", _tls.tls_client_ca, text("path"), "Access",
            "PEM file with those who vouch for clients; each client then has to show a "
            "certificate. It is read at the start."),
    Setting("allow_unsafe_pickle", _access.allow_unsafe_pickle, YES_NO, "Signed objects",
            "Take pickles of any object from clients that sign them; needs trusted_keys_file, and "
            "keys, so a state_dir or database_url. See docs/trusted-objects.md.", file_only=True),
    Setting("trusted_keys_file", _access.trusted_keys_file, text("path"), "Signed objects",
            "TOML file with the keys that sign them; mode 0600, in a folder of its own."),
    Setting("trusted_time_limit_s", 30.0, TIMEOUT, "Signed objects",
            "The longest that one may take."),
    Setting("trusted_cpu_s", 30, integer(1), "Signed objects",
            "Seconds of computing that the process of one may take."),
    Setting("trusted_memory_bytes", 8 * 1024**3, SIZE_OR_NONE, "Signed objects",
            "Address space of each such process; 0 for as much as it likes, as GPUs need it."),
    Setting("trusted_most_at_once", 2, integer(1, 256), "Signed objects",
            "How many of them one model works on at once; more are refused."),
    Setting("device", _run.device, DEVICE, "Running models",
            "Where models run; auto takes a GPU if there is one."),
    Setting("isolation", _serving.isolation, choice("auto", "process", "inline"), "Running models",
            "Where models live: in worker processes, or inline in threads of the server; auto "
            "leaves it to the runtime: process for python and torch, inline for onnx."),
    Setting("instances", _serving.instances, or_auto(integer(0, 256)), "Running models",
            "Runs of a model that may be under way at once; auto chooses by the cores."),
    Setting("threads", _serving.threads, or_auto(integer(0, 1024)), "Running models",
            "Threads within one run of a model; auto chooses by the cores."),
    Setting("optimize_for", _serving.optimize_for, choice("throughput", "latency"),
            "Running models",
            "What auto chooses for: many runs of one thread each, or one run with all cores."),
    Setting("deterministic", _serving.deterministic, YES_NO, "Running models",
            "Same requests, same bits: one run at a time, in order of arrival, alone, with fixed "
            "threads and seeds, and a digest in each answer; holds for every model."),
    Setting("inter_op_threads", _run.inter_op_threads, integer(0, 1024), "Running models",
            "Threads across operators of a model; 0 lets the framework choose."),
    Setting("allow_spinning", _run.allow_spinning, YES_NO, "Running models",
            "Let idle threads of models and BLAS burn cycles to wake faster; "
            "slower on shared cores."),
    Setting("graph_optimization", _run.graph_optimization, OPTIMIZATIONS, "Running models",
            "How far ONNX graphs are rewritten when loaded: none, basic, extended or all."),
    Setting("worker_max_bytes", _serving.worker_max_bytes, SIZE_OR_NONE, "Running models",
            "Memory of its own that a worker process may take; one that takes more is replaced by "
            "another, which is loaded beside it, so that nobody waits. 0 for as much as it likes."),
    Setting("max_batch_rows", _batching.max_batch_rows, or_auto(integer(0, 65536)), "Queues",
            "Rows that one run may take from several requests, for models whose inputs and outputs "
            "all begin with an open size; 1 turns batches off, auto allows 32 where the model's "
            "file names a batch axis."),
    Setting("max_delay_ms", _batching.max_delay_ms, MILLISECONDS, "Queues",
            "How long a run may wait for its batch to fill although it could start."),
    Setting("target_p99_ms", _batching.target_p99_ms, MILLISECONDS, "Queues",
            "Tunes the bound of a batch while serving, so that 99 of 100 requests are answered "
            "within this time; 0 does not."),
    Setting("max_queue_rows", _serving.max_queue_rows, integer(1), "Queues",
            "Rows that may wait for one model; more are refused at once."),
    Setting("max_queue_bytes", _serving.max_queue_bytes, SIZE, "Queues",
            "Bytes of inputs that may wait for one model; more are refused at once."),
    Setting("request_timeout_s", _serving.request_timeout_s, TIMEOUT, "Queues",
            "The longest that any request may take; its own deadline may be earlier."),
    Setting("hang_grace_s", _serving.hang_grace_s, TIMEOUT, "Queues",
            "How long after its deadline a run may go on before its worker is started anew."),
    Setting("cache", _serving.cache, YES_NO, "Result cache",
            "Keep answers and give them again to the same question; holds for every model that "
            "does not say otherwise."),
    Setting("cache_ttl_s", _serving.cache_ttl_s, TIMEOUT, "Result cache",
            "How long an answer is kept."),
    Setting("cache_max_bytes", _serving.cache_max_bytes, SIZE, "Result cache",
            "Memory for the answers of one version of a model; a single one takes an eighth of it "
            "at the most."),
    Setting("cache_objects", _serving.cache_objects, YES_NO, "Result cache",
            "Keep answers of object models too, whose code may answer the same question in "
            "another way."),
    Setting("cache_redis_url", None, URL, "Result cache",
            "Redis in which answers are kept besides, for several servers to share."),
    Setting("cache_redis_namespace", "pelton", text("name"), "Result cache",
            "What the names of all its keys begin with."),
    Setting("cache_redis_timeout_ms", 20.0, MILLISECONDS, "Result cache",
            "For how long a request waits for Redis."),
    Setting("cache_redis_max_entry_bytes", 1024 * 1024, SIZE, "Result cache",
            "Larger answers are not kept in Redis."),
    Setting("allow_publish", False, YES_NO, "Changing models",
            "Take new versions of models in, which are code; needs a state_dir or database_url."),
    Setting("explicit_models", False, YES_NO, "Changing models",
            "Let the protocol's repository calls load and unload models."),
    Setting("watch_interval_s", 0.0, DURATION, "Changing models",
            "How often it is looked whether the folder of models has changed, to follow it; "
            "0 does not. Copy in less than that, or into a hidden folder that is then renamed."),
    Setting("max_upload_bytes", 4 * 1024**3, SIZE, "Changing models",
            "Size of an upload."),
    Setting("max_models_bytes", None, SIZE, "Changing models",
            "What the files of all models in memory may take; the least recently used that are not "
            "pinned make room, and are loaded again when they are asked for."),
    Setting("start_timeout_s", 300.0, TIMEOUT, "Changing models",
            "How long a model may take to be loaded and run first while the server starts, when "
            "disks are cold and many load at once; one that hangs is then given up."),
    Setting("load_timeout_s", 120.0, TIMEOUT, "Changing models",
            "How long a new version may take to be loaded."),
    Setting("warm_timeout_s", 60.0, TIMEOUT, "Changing models",
            "How long its first runs may take."),
    Setting("golden_timeout_s", 60.0, TIMEOUT, "Changing models",
            "How long all golden requests may take."),
    Setting("drain_timeout_s", 60.0, TIMEOUT, "Changing models",
            "How long an old version may go on with the requests that it has taken."),
    Setting("keep_warm_s", 600.0, DURATION, "Changing models",
            "How long the version before is kept in memory, so that a rollback is immediate."),
    Setting("probation_s", 300.0, TIMEOUT, "Changing models",
            "How long a new version may be taken back by itself; at least as long the one before "
            "is kept."),
    Setting("probation_requests", 10_000, integer(1), "Changing models",
            "After as many requests it is no longer on probation."),
    Setting("max_error_share", 0.02, number(0, 1), "Changing models",
            "Share of its requests that may fail on probation, beyond the share before it."),
    Setting("max_nonfinite", 0, integer(0), "Changing models",
            "How many of its answers may hold NaN or infinity on probation."),
    Setting("latency_factor", 2.0, number(0, 1000), "Changing models",
            "How many times as long as the version before it a new one may take, for recorded "
            "requests and on probation; 0 does not ask."),
    Setting("max_growth_bytes", 1024**3, SIZE_OR_NONE, "Changing models",
            "Memory that its worker processes may take on probation, beyond what they and those of "
            "the version before took when it came into service; 0 does not ask."),
    Setting("probation_false_alarm", 0.001, number(1e-12, 0.5), "Changing models",
            "Largest probability that a version that keeps to all this is taken back."),
    Setting("probation_stand_in", True, YES_NO, "Changing models",
            "Whether the version before answers the requests that one on probation fails."),
    Setting("record_requests", 32, integer(0, 10_000), "Changing models",
            "Requests of each model that are kept for its next version to answer; 0 for none."),
    Setting("record_bytes", 64 * 1024 * 1024, SIZE, "Changing models",
            "Memory that they may take, for each model."),
    Setting("record_one_in", 100, integer(1), "Changing models",
            "One of how many requests is kept, once there are enough."),
    Setting("golden_agreement", 0.0, number(0, 1), "Changing models",
            "Share of rows of recorded requests in which a new version has to agree with the "
            "running one; 0 does not ask."),
    Setting("max_body_bytes", _wire.max_body_bytes, SIZE, "Limits",
            "Size of a request's body: as it arrives, decompressed, and expanded to arrays."),
    Setting("max_head_bytes", _conn.max_head_bytes, SIZE, "Limits",
            "Size of a request's head."),
    Setting("max_headers", _conn.max_headers, integer(1, 10_000), "Limits",
            "Headers of a request."),
    Setting("max_chunks", _conn.max_chunks, integer(1), "Limits",
            "Chunks of a chunked body."),
    Setting("max_json_bytes", _wire.max_json_bytes, SIZE, "Limits",
            "Size of JSON in a request: of the whole body, or of its JSON part."),
    Setting("max_json_depth", _wire.max_json_depth, integer(1, 500), "Limits",
            "Nesting of JSON, MessagePack and pickled values."),
    Setting("max_tensors", _wire.max_tensors, integer(1), "Limits",
            "Inputs, and likewise outputs, of one request."),
    Setting("max_pickle_ops", _wire.max_pickle_ops, integer(1), "Limits",
            "Opcodes of one pickle, and likewise values of one MessagePack body."),
    Setting("max_buffered_bytes", _memory.max_buffered_bytes, SIZE, "Limits",
            "Memory for bodies and answers on their way; at the bound, sockets are not read."),
    Setting("max_connections", _conn.max_connections, integer(1), "Limits",
            "Connections open at once; the longest idle one makes room for a new one."),
    Setting("head_timeout_s", _conn.head_timeout_s, TIMEOUT, "Limits",
            "From the first byte of a request's head to its last."),
    Setting("body_timeout_s", _conn.body_timeout_s, TIMEOUT, "Limits",
            "From the end of the head to the end of the body."),
    Setting("send_timeout_s", _conn.send_timeout_s, TIMEOUT, "Limits",
            "For a client to take an answer."),
    Setting("idle_timeout_s", _conn.idle_timeout_s, TIMEOUT, "Limits",
            "Between two requests on one connection."),
    Setting("state_dir", None, text("path"), "State",
            "Folder for what outlives the server: keys, routes, labels, versions, the audit trail; "
            "without it or a database_url nothing of this can be changed."),
    Setting("database_url", None, URL, "State",
            "PostgreSQL database for the same, which several servers may share: "
            "postgresql://USER:PASSWORD@HOST/DATABASE; it goes before state_dir. Better in the "
            "file or the environment: others can read flags."),
    Setting("database_wait_s", 5.0, TIMEOUT, "State",
            "How long a change waits for a database that is busy or away."),
    Setting("exposures_keep_s", 90 * 86400.0, TIMEOUT, "State",
            "How long it is kept which version each unit of a split was given."),
    Setting("shutdown_delay_s", _end.shutdown_delay_s, DURATION, "Ending",
            "Between turning not ready and refusing requests, for a load balancer to notice."),
    Setting("shutdown_grace_s", _end.shutdown_grace_s, DURATION, "Ending",
            "For running requests to finish after Ctrl-C or SIGTERM."),
)
# fmt: on
RENAMED = {"intra_op_threads": "threads"}
"""Names of before -> those of today, for the hint."""

BY_NAME = {setting.name: setting for setting in SETTINGS}


class Settings:
    """The values in force, each with where it came from.

    Attributes:
        file: the settings file; None for none.
    """

    def __init__(
        self, values: Mapping[str, Any], origins: Mapping[str, str], file: Path | None = None
    ) -> None:
        self.file = file
        self._values = dict(values)
        self._origins = dict(origins)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def origin(self, name: str) -> str:
        """Return where a value was said: a flag, a variable, the file, or `default`."""
        return self._origins.get(name, "default")

    def record(self, kind: type[T]) -> T:
        """Build a room's record from the settings that have its fields' names.

        Fields that no setting is called after keep their defaults.
        """
        assert dataclasses.is_dataclass(kind)
        names = [field.name for field in dataclasses.fields(kind) if field.name in BY_NAME]
        return kind(**{name: self._values[name] for name in names})

    def serving(self) -> Serving:
        """Return how models are served that say nothing of their own."""
        return dataclasses.replace(self.record(Serving), batching=self.record(Batching))


def load_settings(
    flags: Mapping[str, str | None],
    environment: Mapping[str, str] = os.environ,
    file: Path | None = None,
) -> Settings:
    """Gather the settings from flags, environment and file.

    Args:
        flags: setting name -> text, or None where the flag was not given.
        environment: the environment's variables.
        file: a TOML file, or None.

    Raises:
        SettingsError: an unknown name (the nearest known one is told) or a bad value.
    """
    values = {setting.name: setting.default for setting in SETTINGS}
    origins: dict[str, str] = {}
    sources: list[tuple[str, dict[str, str]]] = [
        (f"file {file.name}" if file else "", _from_file(file) if file else {}),
        ("environment", _from_environment(environment)),
        ("flag", {name: said for name, said in flags.items() if said is not None}),
    ]
    for origin, given in sources:
        for name, written in given.items():
            values[name] = _parsed(BY_NAME[name], written, origin)
            origins[name] = origin
    return Settings(values, origins, file)


def _parsed(setting: Setting, written: str, origin: str) -> Any:
    named = {"flag": setting.flag, "environment": setting.variable}.get(origin)
    if setting.file_only and named:
        raise SettingsError(
            f"{named} is not taken: {setting.name} can only be set in the settings file (--config)"
        )
    try:
        return setting.form.parse(written)
    except ValueError as error:
        where = named or f"{setting.name} in {origin}"
        raise SettingsError(f"{where} is {written!r:.80}; it has to be {error}") from None


def _from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    given = {}
    for variable, written in environment.items():
        if variable.startswith(ENVIRONMENT_PREFIX) and variable not in OF_CLIENTS:
            name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
            _check_name(name, variable, lambda known: BY_NAME[known].variable)
            given[name] = written
    return given


def _from_file(file: Path) -> dict[str, str]:
    try:
        table = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {file}: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(f"the settings file {file} is not valid TOML: {error}") from None
    given = {}
    for name, value in table.items():
        _check_name(name, f"{name!r} in {file}", str)
        if not isinstance(value, str | int | float | bool):
            raise SettingsError(f"{name!r} in {file} has to be a plain value")
        given[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return given


def _check_name(name: str, told: str, spell: Callable[[str], str]) -> None:
    if name in BY_NAME:
        return
    near = [RENAMED[name]] if name in RENAMED else _nearest(name)
    hint = f"; did you mean {spell(near[0])}?" if near else ""
    raise SettingsError(f"unknown setting {told}{hint} (`pelton settings` lists all)")


def _nearest(name: str) -> list[str]:
    return difflib.get_close_matches(name, BY_NAME, n=1, cutoff=0.5)
