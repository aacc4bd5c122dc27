"""`pelton serve`: load models and answer requests until a signal comes."""

from __future__ import annotations

import gc
import logging
import resource
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from pelton.cli.exit_codes import WRONG_USE
from pelton.cli.log_format import set_up_logging
from pelton.cli.setting_flags import with_setting_flags
from pelton.errors import LoadFailed, PeltonError
from pelton.settings import Settings, load_settings

if TYPE_CHECKING:
    from pelton.engine.models import Models

logger = logging.getLogger("pelton.serve")


@with_setting_flags
def command(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="PATH",
            show_default=False,
            help="An .onnx file; a .pt2 or TorchScript file; a folder with model.py; or a folder "
            "of models, <name>/<version>/...",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", show_default=False, help="Settings in TOML."),
    ] = None,
    *,
    flags: dict[str, str | None],
) -> None:
    """Serve models over HTTP.

    Examples:
      pelton serve classifier.onnx
      pelton serve models/ --port 8080 --device auto
      pelton serve models/ --config pelton.toml --log-format json

    Every option below --config can also stand in that file or in the environment; see
    `pelton settings`.
    """
    try:
        _serve(load_settings(flags, file=config), path)
    except PeltonError as error:
        print(f"pelton serve: {error.message}", file=sys.stderr)
        _leave(WRONG_USE)
    except KeyboardInterrupt:
        _leave(130)
    else:
        _leave(0)


def _serve(settings: Settings, path: Path | None) -> None:
    chosen = _chosen_path(settings, path)
    set_up_logging(settings["log_format"], settings["log_level"])
    _raise_file_limit(settings["max_connections"])

    from pelton.app import bind, unbind

    listeners = bind(settings)
    try:
        _run(chosen, settings, listeners)
    finally:
        unbind(listeners)
    logger.info("ended")


def _run(path: Path, settings: Settings, listeners: Sequence[socket.socket]) -> None:
    from pelton.app import build
    from pelton.cli.first_request import curl_line

    host = settings["host"]
    shown = f"[{host}]" if ":" in host else host
    scheme = "http" if settings["tls_certificate"] is None else "https"
    url = f"{scheme}://{shown}:{listeners[0].getsockname()[1]}"
    beside = "" if settings["uds"] is None else f" and at unix:{settings['uds']}"

    def on_ready(models: Models, with_key: bool) -> None:
        names = ", ".join(models.names()) or "no model yet"
        logger.info("serving %s at %s%s (API: %s/docs)", names, url, beside, url)
        if models.names():
            logger.info("try it: %s", curl_line(url, models.metadata(), with_key))

    app = build(path, settings, listeners, on_ready)
    # What is there now stays: without it, each full collection would look at all of it again.
    gc.collect()
    gc.freeze()
    app.run(listeners)


def _chosen_path(settings: Settings, path: Path | None) -> Path:
    named = settings["model_path"]
    if path is not None and named is not None and settings.origin("model_path") == "flag":
        raise LoadFailed("give PATH or --model-path, not both; they mean the same")
    if path is None and named is None:
        raise LoadFailed(
            "say what to serve: `pelton serve PATH`, where PATH is a model file or a folder of "
            "models"
        )
    return path if path is not None else Path(named)


def _raise_file_limit(connections: int) -> None:
    """Let the process have a file descriptor for each connection, as far as the system lets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + 256
    if soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))


def _leave(code: int) -> NoReturn:
    """End the process, also when a model hangs in one of its threads.

    The interpreter would wait for every thread, or have one that computes in a library crash; what
    was running has had its time to finish.
    """
    import os

    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
