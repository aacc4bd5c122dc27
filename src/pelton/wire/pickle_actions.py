"""What each opcode does, and the loop that reads them.

These are the opcodes that protocols 2 to 5 write for plain data and numpy arrays; every other one
is refused by name. They import nothing, call nothing that the pickle names, and never recurse.
Each takes a time bounded by its own bytes, and they are counted, so the work is bounded too.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from pelton.wire.pickle_globals import NEW_NUMPY, build, call, find_global
from pelton.wire.pickle_machine import U64, Machine
from pelton.wire.pickle_opcodes import Op, opcode_name
from pelton.wire.pickle_records import (
    Lent,
    RawBytearray,
    RawDict,
    RawSet,
    describe,
    refusal,
    too_large,
)

_STOP = int(Op.STOP)
_U16 = struct.Struct("<H")
_I32 = struct.Struct("<i")
_U32 = struct.Struct("<I")
_F64_BIG = struct.Struct(">d")

Handler = Callable[[Machine], None]


def run(machine: Machine, max_ops: int) -> object:
    """Read opcodes up to STOP and return the one record that is left.

    Args:
        machine: stands behind the first two bytes of a pickle.
        max_ops: how many opcodes there may be.

    Raises:
        InvalidRequest: an opcode, a name or a length is refused, or the stream is not a whole
            pickle and nothing else (`MALFORMED_REQUEST`); there are too many opcodes
            (`TOO_LARGE`).
    """
    body = machine.body
    code = _STOP
    try:
        for _ in range(max_ops):
            if machine.pos >= machine.limit:
                machine.leave_frame()
            code = body[machine.pos]
            machine.pos += 1
            if code == _STOP:
                return machine.finish()
            _HANDLERS[code](machine)
    except (IndexError, struct.error):
        raise refusal(f"opcode {opcode_name(code)} wants more than there is") from None
    raise too_large(f"more than {max_ops} opcodes")


def _refused(m: Machine) -> None:
    raise refusal(f"opcode {opcode_name(m.body[m.pos - 1])} is not allowed")


def _constant(value: object) -> Handler:
    def push(m: Machine) -> None:
        m.stack.append(value)

    return push


def _number(form: struct.Struct) -> Handler:
    size = form.size
    unpack_from = form.unpack_from

    def push(m: Machine) -> None:
        m.stack.append(unpack_from(m.body, m.pos)[0])
        m.pos += size

    return push


def _byte(m: Machine) -> None:
    m.stack.append(m.body[m.pos])
    m.pos += 1


def _long(m: Machine) -> None:
    length = m.body[m.pos]
    m.pos += 1
    m.stack.append(int.from_bytes(m.take(length), "little", signed=True))


def _short_text(m: Machine) -> None:
    length = m.body[m.pos]
    m.pos += 1
    m.stack.append(m.text(length))


def _long_text(form: struct.Struct) -> Handler:
    def push(m: Machine) -> None:
        m.stack.append(m.text(m.number(form)))

    return push


def _short_bytes(m: Machine) -> None:
    length = m.body[m.pos]
    m.pos += 1
    m.stack.append(m.take(length))


def _long_bytes(form: struct.Struct) -> Handler:
    def push(m: Machine) -> None:
        m.stack.append(m.take(m.number(form)))

    return push


def _bytearray(m: Machine) -> None:
    m.stack.append(RawBytearray(m.take(m.number(U64))))


def _next_buffer(m: Machine) -> None:
    if m.lent == m.buffer_count:
        raise refusal("opcode NEXT_BUFFER where every out-of-band buffer has been used")
    m.stack.append(RawBytearray(Lent(m.lent)))
    m.lent += 1


def _readonly_buffer(m: Machine) -> None:
    top = m.stack.pop()
    if type(top) is not RawBytearray:
        raise refusal(f"opcode READONLY_BUFFER on {describe(top)}")
    m.stack.append(top.data)


def _mark(m: Machine) -> None:
    if len(m.outer) >= m.max_marks:
        raise refusal(f"opcode MARK is nested more than {m.max_marks} deep")
    m.outer.append(m.stack)
    m.stack = []


def _tuple(m: Machine) -> None:
    items = tuple(m.pop_to_mark())
    m.stack.append(items)


def _short_tuple(length: int) -> Handler:
    def push(m: Machine) -> None:
        stack = m.stack
        if len(stack) < length:
            raise IndexError
        stack[-length:] = [tuple(stack[-length:])]

    return push


def _empty_list(m: Machine) -> None:
    m.stack.append([])


def _empty_dict(m: Machine) -> None:
    m.stack.append(RawDict([]))


def _empty_set(m: Machine) -> None:
    m.stack.append(RawSet([], frozen=False))


def _frozenset(m: Machine) -> None:
    members = m.pop_to_mark()
    m.stack.append(RawSet(members, frozen=True))


def _extend(m: Machine, items: list[object]) -> None:
    target = m.stack[-1]
    if type(target) is not list:
        raise refusal(f"items are appended to {describe(target)}")
    target.extend(items)


def _append(m: Machine) -> None:
    _extend(m, [m.stack.pop()])


def _appends(m: Machine) -> None:
    _extend(m, m.pop_to_mark())


def _set_items(m: Machine, pairs: list[object]) -> None:
    target = m.stack[-1]
    if type(target) is not RawDict:
        raise refusal(f"a key is set in {describe(target)}")
    if len(pairs) % 2:
        raise refusal("a key without a value")
    target.pairs.extend(pairs)


def _setitem(m: Machine) -> None:
    value = m.stack.pop()
    _set_items(m, [m.stack.pop(), value])


def _setitems(m: Machine) -> None:
    _set_items(m, m.pop_to_mark())


def _additems(m: Machine) -> None:
    members = m.pop_to_mark()
    target = m.stack[-1]
    if type(target) is not RawSet or target.frozen:
        raise refusal(f"members are added to {describe(target)}")
    target.members.extend(members)


def _memoize(m: Machine) -> None:
    memo = m.memo
    memo[len(memo)] = m.stack[-1]


def _put(m: Machine) -> None:
    m.memo[m.body[m.pos]] = m.stack[-1]
    m.pos += 1


def _long_put(m: Machine) -> None:
    m.memo[m.number(_U32)] = m.stack[-1]


def _get_from_memo(m: Machine, index: int) -> None:
    if index not in m.memo:
        raise refusal(f"nothing is in the memo at {index}")
    m.stack.append(m.memo[index])


def _get(m: Machine) -> None:
    _get_from_memo(m, m.body[m.pos])
    m.pos += 1


def _long_get(m: Machine) -> None:
    _get_from_memo(m, m.number(_U32))


def _push_global(m: Machine, module: str, name: str) -> None:
    m.stack.append(find_global(module, name))
    if module.startswith(NEW_NUMPY):
        m.new_numpy = True


def _global(m: Machine) -> None:
    module = m.line()
    _push_global(m, module, m.line())


def _stack_global(m: Machine) -> None:
    name = m.stack.pop()
    module = m.stack.pop()
    if type(module) is not str or type(name) is not str:
        raise refusal("opcode STACK_GLOBAL without two texts")
    _push_global(m, module, name)


def _reduce(m: Machine) -> None:
    args = m.stack.pop()
    m.stack[-1] = call(m.stack[-1], args)


def _build(m: Machine) -> None:
    state = m.stack.pop()
    build(m.stack[-1], state)


def _table() -> list[Handler]:
    table: list[Handler] = [_refused] * 256
    table[Op.NONE] = _constant(None)
    table[Op.NEWTRUE] = _constant(True)
    table[Op.NEWFALSE] = _constant(False)
    table[Op.BININT] = _number(_I32)
    table[Op.BININT1] = _byte
    table[Op.BININT2] = _number(_U16)
    table[Op.LONG1] = _long
    table[Op.BINFLOAT] = _number(_F64_BIG)
    table[Op.SHORT_BINUNICODE] = _short_text
    table[Op.BINUNICODE] = _long_text(_U32)
    table[Op.BINUNICODE8] = _long_text(U64)
    table[Op.SHORT_BINBYTES] = _short_bytes
    table[Op.BINBYTES] = _long_bytes(_U32)
    table[Op.BINBYTES8] = _long_bytes(U64)
    table[Op.BYTEARRAY8] = _bytearray
    table[Op.NEXT_BUFFER] = _next_buffer
    table[Op.READONLY_BUFFER] = _readonly_buffer
    table[Op.MARK] = _mark
    table[Op.EMPTY_TUPLE] = _constant(())
    table[Op.TUPLE1] = _short_tuple(1)
    table[Op.TUPLE2] = _short_tuple(2)
    table[Op.TUPLE3] = _short_tuple(3)
    table[Op.TUPLE] = _tuple
    table[Op.EMPTY_LIST] = _empty_list
    table[Op.APPEND] = _append
    table[Op.APPENDS] = _appends
    table[Op.EMPTY_DICT] = _empty_dict
    table[Op.SETITEM] = _setitem
    table[Op.SETITEMS] = _setitems
    table[Op.EMPTY_SET] = _empty_set
    table[Op.ADDITEMS] = _additems
    table[Op.FROZENSET] = _frozenset
    table[Op.MEMOIZE] = _memoize
    table[Op.BINPUT] = _put
    table[Op.LONG_BINPUT] = _long_put
    table[Op.BINGET] = _get
    table[Op.LONG_BINGET] = _long_get
    table[Op.GLOBAL] = _global
    table[Op.STACK_GLOBAL] = _stack_global
    table[Op.REDUCE] = _reduce
    table[Op.BUILD] = _build
    table[Op.FRAME] = Machine.enter_frame
    return table


_HANDLERS = _table()
