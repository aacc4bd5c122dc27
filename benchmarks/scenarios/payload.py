"""How long a picture takes to the model and back, against bare loopback TCP and what people use.

Every server and every client is a process of its own and lives through the whole run. A round
measures each size with each peer, in random order, several requests one after another.
"""

from __future__ import annotations

import random
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import numpy as np

import environments
from environments import HERE
from picture import Line, Picture
from processes import Client, Server, free_port
from report import Result, Table, Target

SIZES = {
    "VGA": (1, 480, 640, 3),
    "HD": (1, 720, 1280, 3),
    "Full HD": (1, 1080, 1920, 3),
    "3x Full HD": (3, 1080, 1920, 3),
}
REQUESTS = {"VGA": 60, "HD": 40, "Full HD": 30, "3x Full HD": 12}
BIG = ("HD", "Full HD", "3x Full HD")
WARM_UP = 30

Samples = dict[str, dict[str, list[list[int]]]]
"""Size -> row -> round -> nanoseconds of each request."""


@dataclass(frozen=True)
class Row:
    """One way to send a picture.

    Attributes:
        name: as the table shows it.
        server: which of the servers answers.
        client: the program of `load/`.
        peer: whose environment the client runs in; empty for Pelton's own.
        told: what the client is told besides the port.
    """

    name: str
    server: str
    client: str
    peer: str = ""
    told: str = ""


BARE = Row("bare loopback TCP", "bare_tcp", "bare_tcp.py")
SOCKET = Row("Pelton, OIP from a bare socket", "pelton", "oip_socket.py", told="pixels")
WORKER = Row("Pelton, the same to a worker process", "pelton", "oip_socket.py", told="worker")
SHARED = Row("Pelton, Unix socket, shared memory", "pelton", "pelton_shared.py", told="pelton.sock")
CLIENT = Row("Pelton, OIP through pelton.Client", "pelton", "pelton_oip.py")
PICKLE = Row("Pelton, /infer pickle through its client", "pelton", "pelton_pickle_onnx.py")
POLICY = Row("Pelton, /infer pickle, model in Python", "pelton", "pelton_pickle.py")
FLASK = Row("Flask + pickle", "flask", "flask_pickle.py", "flask")
WEBSOCKET = Row("WebSocket + msgpack", "websocket", "websocket_msgpack.py", "websocket")
ROWS = (BARE, SOCKET, WORKER, SHARED, CLIENT, PICKLE, POLICY, FLASK, WEBSOCKET)
SHARED_MS = 0.4


def run(*, quick: bool) -> Result:
    """Measure every size with every row."""
    environments.require_pelton()
    rounds = 3 if quick else 15
    samples: Samples = {size: {row.name: [] for row in ROWS} for size in SIZES}
    order = random.Random(0)
    with ExitStack() as stack:
        ports = _start_servers(stack)
        clients = {row: _start_client(stack, row, ports[row.server]) for row in ROWS}
        for number in range(rounds):
            print(f"payload: round {number + 1} of {rounds}", flush=True)
            for size, shape in SIZES.items():
                for row in order.sample(ROWS, len(ROWS)):
                    times_ns = clients[row].measure(shape, WARM_UP, REQUESTS[size])
                    samples[size][row.name].append(times_ns)
    return Result(
        scenario="payload",
        method=_method(rounds),
        tables=[_medians(samples), _spread(samples)],
        targets=_targets(samples),
        versions=_versions(),
        samples=samples,
        pictures=[_picture(samples)],
    )


def _start_servers(stack: ExitStack) -> dict[str, int]:
    models = environments.make_models() / "payload"
    here, peers = Path(sys.executable), HERE / "peers"
    commands: dict[str, list[str | Path]] = {
        "bare_tcp": [here, peers / "bare_tcp.py"],
        "pelton": [environments.PELTON, "serve", models, "--uds", SHARED.told, "--port"],
        "flask": [environments.python_of("flask"), peers / "flask_pickle.py"],
        "websocket": [environments.python_of("websocket"), peers / "websocket_msgpack.py"],
    }
    ports = {}
    for name, command in commands.items():
        port = ports[name] = free_port()
        log = environments.home() / "logs" / f"payload-{name}.log"
        stack.enter_context(Server([*command, str(port)], log)).wait_for_port(port)
    return ports


def _start_client(stack: ExitStack, row: Row, port: int) -> Client:
    python = environments.python_of(row.peer) if row.peer else Path(sys.executable)
    log = environments.home() / "logs" / f"payload-client-{row.client}-{row.told}.log"
    command: list[str | Path] = [python, HERE / "load" / row.client, str(port), row.told]
    return stack.enter_context(Client(command, log, piped=True))


def median_ms(samples: Samples, size: str, row: Row) -> float:
    """Return the median over all requests of all rounds, milliseconds."""
    return median(time for times in samples[size][row.name] for time in times) / 1e6


def ratio(samples: Samples, size: str, row: Row, to: Row = BARE) -> float:
    """Return the ratio of two rows' medians."""
    return median_ms(samples, size, row) / median_ms(samples, size, to)


def _round_ratio(samples: Samples, size: str, row: Row) -> float:
    """Return the median over the rounds of the ratio to bare TCP within each round."""
    pairs = zip(samples[size][row.name], samples[size][BARE.name], strict=True)
    return median(median(times) / median(floor) for times, floor in pairs)


def _p90_ms(samples: Samples, size: str, row: Row) -> float:
    return quantiles((t for times in samples[size][row.name] for t in times), n=10)[-1] / 1e6


def _medians(samples: Samples) -> Table:
    rows = [
        [row.name]
        + [f"{median_ms(samples, s, row):.2f} ({ratio(samples, s, row):.2f}x)" for s in SIZES]
        for row in ROWS
    ]
    columns = [f"{size}, {_megabytes(shape)}" for size, shape in SIZES.items()]
    return Table("Median, ms (ratio to bare TCP)", ["", *columns], rows)


def _spread(samples: Samples) -> Table:
    rows = [
        [row.name]
        + [f"{_p90_ms(samples, s, row):.2f} ({_round_ratio(samples, s, row):.2f}x)" for s in SIZES]
        for row in ROWS
    ]
    return Table("90th percentile, ms (median of the rounds' ratios)", ["", *SIZES], rows)


def _megabytes(shape: tuple[int, ...]) -> str:
    pictures, height, width, channels = shape
    return f"{pictures * height * width * channels / 1e6:.1f} MB"


def _targets(samples: Samples) -> list[Target]:
    return [
        *_limits(samples, SOCKET, BARE, 1.3, BIG),
        *_limits(samples, WORKER, BARE, 1.6, BIG),
        *(
            Target(
                f"{SHARED.name}, {s}, ms", median_ms(samples, s, SHARED), SHARED_MS, at_most=True
            )
            for s in SIZES
        ),
        *_limits(samples, SOCKET, FLASK, 1 / 3, tuple(SIZES)),
        *_limits(samples, CLIENT, BARE, 1.5, BIG),
        *_limits(samples, PICKLE, BARE, 1.6, BIG),
        *_limits(samples, POLICY, BARE, 1.6, BIG),
    ]


def _limits(
    samples: Samples, row: Row, to: Row, limit: float, sizes: tuple[str, ...]
) -> list[Target]:
    return [
        Target(f"{row.name} / {to.name}, {s}", ratio(samples, s, row, to), limit, at_most=True)
        for s in sizes
    ]


def _picture(samples: Samples) -> Picture:
    sizes_mb = {size: float(np.prod(shape)) / 1e6 for size, shape in SIZES.items()}
    return Picture(
        "payload-by-size",
        "A picture to the model and back",
        "median of one request at a time over one kept connection",
        "size of the picture",
        "ms",
        lines=[
            Line(
                row.name,
                list(sizes_mb.values()),
                [median_ms(samples, size, row) for size in SIZES],
                reference=row == BARE,
            )
            for row in (BARE, SOCKET, WORKER, SHARED, FLASK, WEBSOCKET)
        ],
        x_log=True,
        y_log=True,
        x_ticks={f"{size}\n{mb:.1f} MB": mb for size, mb in sizes_mb.items()},
    )


def _method(rounds: int) -> list[str]:
    counts = ", ".join(f"{count} at {size}" for size, count in REQUESTS.items())
    return [
        f"{rounds} rounds; in each, every size with every row in random order: {WARM_UP} requests "
        f"to warm up, then {counts}, one after another over one kept connection",
        "timed from having the array to having the model's 384 bytes as an array; medians over all "
        "requests",
        "the model reads 32 pixels: ONNX in the server for OIP and the first pickle row; Python, "
        "with an instruction and a state beside the picture, for the others; Pelton runs models in "
        "Python in a worker process; the first answer of each row at each size is compared with "
        "what the model should give",
        "over the Unix socket the picture lies in memory of `client.empty`, written once before "
        "the clock starts, as a camera or a decoder would write into it",
    ]


def _versions() -> dict[str, str]:
    return {
        **environments.versions(Path(sys.executable), ("pelton", "numpy", "uvloop", "onnxruntime")),
        **environments.versions(environments.python_of("flask"), ("flask", "werkzeug", "requests")),
        **environments.versions(
            environments.python_of("websocket"), ("websockets", "msgpack", "msgpack-numpy")
        ),
    }
