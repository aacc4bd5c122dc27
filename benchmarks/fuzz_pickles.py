"""Mutates pickles and watches what the decoder does with them.

    python benchmarks/fuzz_pickles.py --mutations 300000 --seed 1
    python benchmarks/fuzz_pickles.py --minutes 30

A mutation may be read or refused, and nothing else. What was read is written again and read again
and must be the same, which touches every element of every array. The decoder runs in a child
process with bounded memory, so a crash, a hang and an allocation out of all proportion are each
seen and counted. Mutations depend on the seed alone: a round that failed can be run again with
`--child SEED --mutations N`. Exits with 1 if anything was found.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import pickle
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import numpy as np

from pelton.errors import InvalidRequest
from pelton.wire.limits import Limits
from pelton.wire.pickle_frame import join
from pelton.wire.pickle_opcodes import Op
from pelton.wire.pickled import decode, encode

LIMITS = Limits(max_body_bytes=2**20, max_pickle_ops=20_000)
ROUND = 10_000
ROUND_TIMEOUT_S = 300
CHILD_MEMORY_BYTES = 4 * 2**30
SLOW_S = 1.0

FRAGMENTS = (
    *(bytes([op]) for op in Op),
    *(b"c" + name + b"\n" for name in (b"os\nsystem", b"builtins\neval", b"numpy\nfloat32")),
    b"cnumpy\nndarray\n",
    b"cnumpy\ndtype\n",
    b"cnumpy._core.multiarray\n_reconstruct\n",
    b"cnumpy._core.multiarray\nscalar\n",
    b"cnumpy._core.numeric\n_frombuffer\n",
    b"c_codecs\nencode\n",
    b"cbuiltins\nset\n",
    b"cbuiltins\nbytearray\n",
    b"cnumpy\ndtype\n\x8c\x02f4\x89\x88\x87R(K\x03\x8c\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
    b"cnumpy\ndtype\n\x8c\x02O8\x89\x88\x87R(K\x03\x8c\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb",
    b"cnumpy\ndtype\n\x8c\x02U2\x89\x88\x87R(K\x03\x8c\x01<NNNK\x08K\x04K\x08tb",
    b"C\x08\x00\x00\x80?\x00\x00\x00@",
    b"C\x00",
    b"K\x02\x85",
    b"K\x00\x85",
    b"\x8c\x01C",
    b"\x8c\x01K",
    b"\x8c\x06latin1",
    b"r\xff\xff\xff\x7f",
    b"B\xff\xff\xff\xff",
    b"\x8e\xff\xff\xff\xff\xff\x00\x00\x00",
    b"\x95\x04\x00\x00\x00\x00\x00\x00\x00",
)
"""Pieces of pickles, harmless and hostile, that mutations put in."""

EXTREMES = (
    b"\x00" * 8,
    b"\xff" * 8,
    b"\xff\xff\xff\x7f",
    b"\x00\x00\x00\x80",
    b"\x00\x01",
    b"\x7f",
)


@dataclass
class Found:
    """What a run of mutations came to."""

    accepted: int = 0
    refused: int = 0
    crashes: int = 0
    hangs: int = 0
    slow: int = 0
    escapes: list[str] = field(default_factory=list)
    peak_rss_mib: float = 0.0

    @property
    def total(self) -> int:
        """Mutations that were judged."""
        return self.accepted + self.refused + len(self.escapes)

    @property
    def clean(self) -> bool:
        """Whether every mutation was read or refused, in good time."""
        return not (self.crashes or self.hangs or self.slow or self.escapes)

    def add(self, other: Found) -> None:
        """Count another run in."""
        self.accepted += other.accepted
        self.refused += other.refused
        self.crashes += other.crashes
        self.hangs += other.hangs
        self.slow += other.slow
        self.escapes += other.escapes
        self.peak_rss_mib = max(self.peak_rss_mib, other.peak_rss_mib)


def values() -> Iterator[object]:
    """Yield the values whose pickles are mutated."""
    grid = np.arange(24, dtype="f4").reshape(2, 3, 4)
    yield {"instruction": "pick up the cube", "state": grid[0, 0], "image": grid.astype("u1")}
    yield [None, True, False, 1, -1, 300, 70_000, 2**40, -(2**70), 1.5, 1 + 2j, "text", b"bytes"]
    yield [bytearray(b"abc"), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), {1, 2}, frozenset({"a"}), {}]
    yield {"a": {"b": [{"c": (1, [2, {3: 4}])}]}, 1: 2, None: 3, b"k": 4, 1.5: 5}
    yield [grid.T, grid[:, ::2], grid.transpose(0, 2, 1), np.asfortranarray(grid[0])]
    yield [np.array(["a", "bcd"]), np.array([b"a", b"bc"]), np.array([True, False])]
    yield [np.array(["2020-01-01"], "M8[D]"), np.array([3], "m8[25us]"), grid.astype(">f4")]
    yield [np.float32(1), np.bool_(True), np.str_("ab"), np.bytes_(b"ab"), np.datetime64(1, "s")]
    shared = [grid, "shared", b"x" * 300]
    yield [shared, shared, {"again": shared}]


def seeds() -> list[bytes]:
    """Return the pickles to mutate: every protocol, buffers inside and outside."""
    bodies: list[bytes] = []
    for value in values():
        bodies += [pickle.dumps(value, protocol) for protocol in (2, 3, 4, 5)]
        lent: list[pickle.PickleBuffer] = []
        stream = pickle.dumps(value, 5, buffer_callback=lent.append)
        bodies.append(b"".join(join([stream], [buffer.raw() for buffer in lent])))
    return bodies


def mutate(rng: random.Random, bodies: list[bytes]) -> bytes:
    """Return a damaged pickle, or one put together from pieces."""
    if rng.random() < 0.1:
        pieces = rng.choices(FRAGMENTS, k=rng.randrange(1, 30))
        return bytes((0x80, rng.randrange(2, 6))) + b"".join(pieces) + b"."
    body = bytearray(rng.choice(bodies))
    for _ in range(rng.randrange(1, 5)):
        edit(rng, body, bodies)
    return bytes(body)


def edit(rng: random.Random, body: bytearray, bodies: list[bytes]) -> None:
    """Damage a pickle in one place."""
    at = rng.randrange(len(body) + 1)
    match rng.randrange(9):
        case 0:
            body[at : at + 1] = rng.randbytes(1)
        case 1:
            if at < len(body):
                body[at] ^= 1 << rng.randrange(8)
        case 2:
            body[at : at + 1] = bytes([rng.choice(list(Op))])
        case 3:
            body[at:at] = rng.choice(FRAGMENTS)
        case 4:
            piece = rng.choice(EXTREMES)
            body[at : at + len(piece)] = piece
        case 5:
            del body[at : at + rng.randrange(1, 40)]
        case 6:
            body[at:at] = body[at : at + rng.randrange(1, 40)]
        case 7:
            other = rng.choice(bodies)
            start = rng.randrange(len(other))
            body[at : at + rng.choice((0, 40))] = other[start : start + rng.randrange(1, 80)]
        case _:
            if rng.random() < 0.2:
                del body[at:]


def judge(body: bytes, found: Found) -> None:
    """Decode one mutation and count what became of it."""
    started_s = time.perf_counter()
    try:
        value, style = decode(body, LIMITS)
    except InvalidRequest as refusal:
        if not refusal.message.startswith("pickle: "):
            raise
        found.refused += 1
    else:
        written = b"".join(encode(value, style))
        again, same_style = decode(written, LIMITS)
        # A set may come out in another order each time, so the order of bytes is not compared.
        assert sorted(b"".join(encode(again, same_style))) == sorted(written), "reads otherwise"
        found.accepted += 1
    found.slow += time.perf_counter() - started_s > SLOW_S


def run_child(seed: int, mutations: int) -> None:
    """Judge mutations in this process and print the count as JSON."""
    faulthandler.enable()
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (CHILD_MEMORY_BYTES, CHILD_MEMORY_BYTES))
    rng = random.Random(seed)
    bodies = seeds()
    found = Found()
    for body in bodies:
        decode(body, LIMITS)
    for _ in range(mutations):
        body = mutate(rng, bodies)
        try:
            judge(body, found)
        except Exception as error:  # noqa: BLE001 - whatever escapes is what is looked for
            found.escapes.append(f"{type(error).__name__}: {error} from {body.hex()}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found.peak_rss_mib = peak / (2**20 if sys.platform == "darwin" else 2**10)
    print(json.dumps(asdict(found)))


def run_round(seed: int, mutations: int) -> Found:
    """Judge mutations in a child process, which may crash or hang."""
    command = [sys.executable, __file__, "--child", str(seed), "--mutations", str(mutations)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=ROUND_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        print(f"hang in round {seed}", file=sys.stderr)
        return Found(hangs=1)
    if done.returncode != 0:
        print(f"crash in round {seed}, exit {done.returncode}:\n{done.stderr}", file=sys.stderr)
        return Found(crashes=1)
    return Found(**json.loads(done.stdout))


def main() -> int:
    """Run rounds until there are enough mutations, or the time is over."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutations", type=int, default=300_000, help="how many to judge")
    parser.add_argument("--minutes", type=float, help="stop after this time instead")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same mutations")
    parser.add_argument("--child", type=int, metavar="SEED", help="judge one round right here")
    arguments = parser.parse_args()
    if arguments.child is not None:
        run_child(arguments.child, arguments.mutations)
        return 0
    started_s = time.perf_counter()
    found = Found()
    round_seed = arguments.seed * 1_000_000
    judged = 0
    while True:
        if arguments.minutes is None:
            count = min(ROUND, arguments.mutations - judged)
        else:
            count = ROUND if time.perf_counter() - started_s < 60 * arguments.minutes else 0
        if count <= 0:
            break
        found.add(run_round(round_seed, count))
        round_seed += 1
        judged += count
    elapsed_s = time.perf_counter() - started_s
    print(
        f"{found.total} mutations in {elapsed_s:.0f} s: {found.accepted} read, "
        f"{found.refused} refused, {found.crashes} crashes, {found.hangs} hangs, "
        f"{found.slow} slower than {SLOW_S:g} s, {len(found.escapes)} escapes; "
        f"peak RSS {found.peak_rss_mib:.0f} MiB"
    )
    for escape in found.escapes[:10]:
        print(escape[:2000], file=sys.stderr)
    return 0 if found.clean else 1


if __name__ == "__main__":
    sys.exit(main())
