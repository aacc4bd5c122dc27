"""What answers signed objects, by the settings in force."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pelton.clock import Clock
from pelton.engine.signed import SignedRuns
from pelton.errors import SettingsError
from pelton.runtimes.contract import RuntimeOptions, Stop
from pelton.runtimes.process.confinement import Bounds
from pelton.runtimes.process.single_use import SingleUse, SingleUseTerms
from pelton.settings import Settings
from pelton.specs import ModelSpec

StartSigned = Callable[[ModelSpec, RuntimeOptions, float, Stop], SignedRuns]
"""Starts what answers signed objects for one version: the version, how it is run, the longest that
a request may take in seconds, and what is asked when nobody waits for it any more."""


def signed_starter(settings: Settings, clock: Clock) -> StartSigned:
    """Make what starts the workers of signed objects; only where these are allowed.

    Raises:
        SettingsError: no keys can be kept, so nobody could send any.
    """
    if not (settings["state_dir"] or settings["database_url"]):
        raise SettingsError(
            "allow_unsafe_pickle is on, and nothing says where API keys are kept, without which "
            "nobody may send signed objects; set state_dir to a folder as well"
        )
    terms = _terms_of(settings)

    def start(spec: ModelSpec, options: RuntimeOptions, timeout_s: float, stop: Stop) -> SignedRuns:
        workers = SingleUse(spec, options, terms)
        stop.on_ask(workers.give_up)
        try:
            workers.start()
        except BaseException:
            workers.close()
            raise
        finally:
            stop.on_ask(None)
        return SignedRuns(workers, terms.most_at_once, timeout_s, clock)

    return start


def _terms_of(settings: Settings) -> SingleUseTerms:
    bounds = Bounds(cpu_s=settings["trusted_cpu_s"], memory_bytes=settings["trusted_memory_bytes"])
    return SingleUseTerms(
        bounds,
        _hidden(settings),
        time_limit_s=settings["trusted_time_limit_s"],
        load_timeout_s=settings["load_timeout_s"],
        most_at_once=settings["trusted_most_at_once"],
    )


def _hidden(settings: Settings) -> tuple[str, ...]:
    """Return what the workers shall not see: keys, the state, and the server's own socket.

    Of files that are replaced while the server runs the whole folder, since a new one would be
    visible to workers that are ready already.
    """
    tls_key = settings["tls_key"] or settings["tls_certificate"]
    folders = [settings["state_dir"]]
    for file in (settings["trusted_keys_file"], tls_key):
        if file is not None:
            folders += [str(Path(file).parent), str(Path(file).resolve().parent)]
    file = settings.file
    files = [settings["uds"], None if file is None else str(file)]
    return tuple(dict.fromkeys(each for each in (*folders, *files) if each is not None))
