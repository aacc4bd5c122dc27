"""One model's way: who runs next, with whom, and what becomes of those who do not."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from engine.lanes import Served, rows_of_runs, x
from engine.virtual_time import block, in_virtual_time, settle
from pelton.engine.lane import TICK_S, most_batch_rows
from pelton.errors import Code, DeadlineExceeded, ModelFailed, Unavailable
from pelton.messages import InferRequest
from pelton.specs import AUTO_BATCH_ROWS, Batching, ModelMetadata, Serving, TensorSpec

ALONE = Batching(max_batch_rows=1)


# -- batches -------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_free_instance_has_its_run_before_the_callers_turn_is_over() -> None:
    served = Served()
    coroutine = served.engine.infer(InferRequest("m", {"x": x(1.0)}))
    coroutine.send(None)
    assert rows_of_runs(served.instance) == [[1.0]]
    coroutine.close()
    assert served.instance.current.stop.asked, "a caller that was closed has left too"
    assert served.statistics.cancelled == 1


@in_virtual_time
async def test_what_gathers_while_the_instance_is_busy_runs_together_up_to_the_bound() -> None:
    served = Served()
    asked = [served.ask(float(index)) for index in range(20)]
    for _ in range(4):
        await settle()
        served.instance.finish()
    answers = await asyncio.gather(*asked)
    assert rows_of_runs(served.instance) == [
        [0.0],
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
        [9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0],
        [17.0, 18.0, 19.0],
    ]
    assert [answer.outputs["x"].tolist() for answer in answers] == [
        [[index, -index]] for index in range(20)
    ]
    assert [one.batch_rows for one in served.observed] == [1] + [8] * 16 + [3] * 3
    assert (served.statistics.runs, served.statistics.rows) == (4, 20)
    assert served.statistics.mean_batch_rows == 5.0


@in_virtual_time
async def test_every_free_instance_takes_a_run() -> None:
    served = Served(instances=3)
    asked = [served.ask(float(index)) for index in range(4)]
    await settle()
    assert [rows_of_runs(instance) for instance in served.instances] == [[[2.0]], [[1.0]], [[0.0]]]
    assert (served.statistics.running, served.statistics.queued_requests) == (3, 1)
    for instance in served.instances:
        instance.finish()
    await settle()
    served.instances[0].finish()
    assert len(await asyncio.gather(*asked)) == 4


@in_virtual_time
async def test_a_model_that_does_not_answer_in_rows_shares_no_more_runs(caplog) -> None:
    served = Served()
    asked = [served.ask(float(index)) for index in range(9)]
    whole = {"x": x(7.0)}  # one row, however many come in
    for _ in range(4):
        await settle()
        served.instance.finish(whole)  # the first alone, the batch in vain, two of it again
    later = [served.ask(10.0), served.ask(11.0)]
    for _ in range(8):
        await settle()
        served.instance.finish(whole)
    for answer in await asyncio.gather(*asked, *later):
        assert answer.outputs["x"].tolist() == [[7.0, -7.0]]
    assert [len(rows) for rows in rows_of_runs(served.instance)] == [1, 8] + [1] * 10
    (warning,) = [one for one in caplog.records if one.levelname == "WARNING"]
    assert "max_batch_rows = 1" in warning.getMessage()


@in_virtual_time
async def test_what_gathers_is_shared_out_over_the_instances() -> None:
    served = Served(instances=2)
    asked = [served.ask(float(index)) for index in range(6)]
    await settle()
    served.instances[1].finish()
    await settle()
    assert [rows_of_runs(each) for each in served.instances] == [[[1.0]], [[0.0], [2.0, 3.0]]]
    for _ in range(3):
        for instance in served.instances:
            if instance.current is not None:
                instance.finish()
        await settle()
    await asyncio.gather(*asked)


@in_virtual_time
async def test_shapes_that_differ_beyond_the_rows_run_apart() -> None:
    served = Served(specs=(TensorSpec("x", "FP32", (-1, -1)),))
    asked = [served.send({"x": np.ones((1, size), np.float32)}) for size in (1, 2, 3, 2, 3)]
    for _ in range(3):
        await settle()
        served.instance.finish()
    await asyncio.gather(*asked)
    assert [run.inputs["x"].shape for run in served.instance.runs] == [(1, 1), (2, 2), (2, 3)]


@in_virtual_time
async def test_ragged_requests_share_a_run_where_that_is_asked_for() -> None:
    served = Served(
        specs=(TensorSpec("x", "FP32", (-1, -1)),), batching=Batching(max_batch_rows=8, pad=True)
    )
    inputs = [np.full((1, size), size, np.float32) for size in (1, 2, 3)]
    asked = [served.send({"x": each}) for each in inputs]
    for _ in range(2):
        await settle()
        served.instance.finish()
    answers = await asyncio.gather(*asked)
    assert served.instance.runs[1].inputs["x"].tolist() == [[2, 2, 0], [3, 3, 3]]
    for answer, given in zip(answers, inputs, strict=True):
        np.testing.assert_array_equal(answer.outputs["x"], given, strict=True)


@pytest.mark.parametrize(
    ("said", "batch_axis", "takes_objects", "rows"),
    [
        (0, False, False, 1),
        (0, True, False, AUTO_BATCH_ROWS),
        (0, True, True, 1),
        (1, True, False, 1),
        (5, False, False, 5),
        (5, False, True, 5),
    ],
)
def test_the_bound_is_what_was_said_or_else_what_the_file_tells(
    said, batch_axis, takes_objects, rows
) -> None:
    metadata = ModelMetadata("m", "1", "fake", (), (), takes_objects, batch_axis=batch_axis)
    serving = Serving(batching=Batching(max_batch_rows=said))
    assert most_batch_rows(metadata, serving) == rows


@in_virtual_time
async def test_an_object_model_shares_runs_for_arrays_with_rows_only() -> None:
    served = Served(specs=(), takes_objects=True)
    given = [{"x": x(1.0)}, {"x": x(2.0)}, {"x": x(3.0)}, {"x": np.float32(4)}, {"x": x(5.0)}]
    asked = [served.send(inputs) for inputs in given]
    for _ in range(3):
        await settle()
        served.instance.finish()
    await asyncio.gather(*asked)
    shapes = [np.shape(run.inputs["x"]) for run in served.instance.runs]
    assert shapes == [(1, 2), (3, 2), ()]


@in_virtual_time
async def test_inputs_of_any_kind_run_alone() -> None:
    served = Served(specs=(), takes_objects=True, batching=ALONE)
    asked = [served.send({"text": "hello"}), served.send({"text": "world", "n": [1, None]})]
    for outputs in ({"y": "HELLO"}, {"y": None}):
        await settle()
        served.instance.finish(outputs)
    assert [(await one).outputs for one in asked] == [{"y": "HELLO"}, {"y": None}]


# -- waiting on purpose --------------------------------------------------------------------------


@in_virtual_time
async def test_a_request_waits_beside_a_free_instance_only_as_long_as_it_may() -> None:
    served = Served(batching=Batching(max_batch_rows=8, max_delay_ms=20))
    first = served.ask(1.0)
    await asyncio.sleep(0.015)
    second = served.ask(2.0)
    await asyncio.sleep(0.004)
    assert served.instance.runs == []
    await asyncio.sleep(0.004)
    assert rows_of_runs(served.instance) == [[1.0, 2.0]]
    served.instance.finish()
    timings = [(await first).timing, (await second).timing]
    assert [timing.batch_wait_s for timing in timings] == pytest.approx([0.020, 0.005])
    assert [timing.queue_s for timing in timings] == [0.0, 0.0]
    assert [timing.compute_s for timing in timings] == pytest.approx([0.003, 0.003])


@in_virtual_time
async def test_a_full_batch_does_not_wait() -> None:
    served = Served(batching=Batching(max_batch_rows=3, max_delay_ms=1000))
    asked = [served.ask(1.0), served.ask(2.0, 3.0)]
    await settle()
    assert rows_of_runs(served.instance) == [[1.0, 2.0, 3.0]]
    served.instance.finish()
    await asyncio.gather(*asked)


@in_virtual_time
async def test_waiting_for_a_busy_instance_is_no_batch_wait() -> None:
    served = Served(batching=Batching(max_batch_rows=2, max_delay_ms=10))
    pair = [served.ask(1.0), served.ask(2.0)]
    await settle()
    late = served.ask(3.0)
    await asyncio.sleep(0.5)
    served.instance.finish()
    await asyncio.sleep(0.25)
    served.instance.finish()
    timing = (await late).timing
    assert timing.queue_s == pytest.approx(0.5)
    assert timing.batch_wait_s == pytest.approx(0.010)
    assert timing.compute_s == pytest.approx(0.240)
    await asyncio.gather(*pair)


@in_virtual_time
async def test_one_that_waited_beside_an_instance_which_others_took_starts_anew() -> None:
    served = Served(batching=Batching(max_batch_rows=2, max_delay_ms=10))
    asked = [served.send({"x": x(1.0)}, priority=5)]
    await asyncio.sleep(0.006)
    asked += [served.ask(2.0, 3.0, priority=1)]  # overtakes and takes the only instance
    await asyncio.sleep(0.1)
    served.instance.finish()
    await asyncio.sleep(0.009)
    assert rows_of_runs(served.instance) == [[2.0, 3.0]]
    await asyncio.sleep(0.002)
    assert rows_of_runs(served.instance) == [[2.0, 3.0], [1.0]]
    served.instance.finish()
    timing = (await asked[0]).timing
    assert timing.batch_wait_s == pytest.approx(0.010)
    assert timing.queue_s == pytest.approx(0.106)
    await asked[1]


@in_virtual_time
async def test_the_time_of_an_answer_has_no_gaps() -> None:
    served = Served()
    first, second = served.ask(1.0), served.ask(2.0)
    await asyncio.sleep(0.25)
    served.instance.finish()
    await asyncio.sleep(0.5)
    served.instance.finish()
    one, two = (await first).timing, (await second).timing
    assert (one.queue_s, one.batch_wait_s, one.compute_s) == pytest.approx((0.0, 0.0, 0.25))
    assert (two.queue_s, two.batch_wait_s, two.compute_s) == pytest.approx((0.25, 0.0, 0.5))
    assert [each.timing for each in served.observed] == [one, two]


@in_virtual_time
async def test_the_bound_is_tuned_while_serving_where_there_is_a_target() -> None:
    served = Served(batching=Batching(max_batch_rows=64, target_p99_ms=10))
    asked = [served.ask(float(index)) for index in range(3000)]
    sizes = []
    while not all(one.done() for one in asked):
        await settle()
        if served.instance.current is not None:
            rows = len(served.instance.current.inputs["x"])
            sizes.append(rows)
            await asyncio.sleep(0.001 + 0.0001 * rows)
            served.instance.finish()
    assert sizes[0] == 1, "nothing is known yet"
    for index, rows in enumerate(sizes[1:], 1):
        assert rows <= 2 * max(sizes[:index]), "it is never drawn far beyond what was measured"
    assert sizes[-2] == 64, "with so many waiting, large runs are what gets them served"


# -- order and room ------------------------------------------------------------------------------


@in_virtual_time
async def test_a_higher_priority_is_served_first() -> None:
    served = Served(batching=ALONE)
    priorities = [0, 3, 1, 9, 2, 0]
    asked = [served.ask(float(each), priority=each) for each in [7, *priorities]]
    for _ in asked:
        await settle()
        served.instance.finish()
    await asyncio.gather(*asked)
    assert [run[0] for run in rows_of_runs(served.instance)] == [7, 1, 2, 3, 0, 0, 9]


@in_virtual_time
async def test_deterministic_means_alone_and_in_the_order_of_arrival() -> None:
    served = Served(deterministic=True)
    asked = [served.ask(float(index), priority=9 - index) for index in range(9)]
    for _ in asked:
        await settle()
        served.instance.finish()
    answers = await asyncio.gather(*asked)
    assert rows_of_runs(served.instance) == [[float(index)] for index in range(9)]
    assert len({answer.digest for answer in answers}) == 9
    assert answers[0].digest.startswith("sha256:")


@in_virtual_time
async def test_who_finds_no_room_hears_so_at_once_with_a_time_from_the_measured_rate() -> None:
    served = Served(batching=ALONE, max_queue_rows=10)
    for _ in range(20):  # 5 rows a second
        one = served.ask(0.0)
        await asyncio.sleep(0.2)
        served.instance.finish()
        await one
    asked = [served.ask(float(index)) for index in range(11)]
    await settle()
    before_s = served.clock()
    with pytest.raises(Unavailable, match=r"^10 rows .* wait for model 'm'") as caught:
        await served.ask(99.0)
    assert served.clock() == before_s
    assert caught.value.retry_after_s == pytest.approx(1.0)  # half of 10 rows at 5 rows/s
    assert served.observed[-1].error is Code.UNAVAILABLE
    assert served.statistics.refused_full == 1
    for _ in asked:
        await settle()
        served.instance.finish()
    assert len(await asyncio.gather(*asked)) == 11


@in_virtual_time
async def test_the_line_is_bounded_by_bytes_too() -> None:
    served = Served(max_queue_bytes=40)
    asked = [served.ask(0.0), served.ask(1.0, 2.0), served.ask(3.0, 4.0)]
    await settle()
    assert (served.statistics.queued_rows, served.statistics.queued_bytes) == (4, 32)
    with pytest.raises(Unavailable):
        await served.ask(5.0, 6.0)
    for _ in range(2):
        served.instance.finish()
        await settle()
    await asyncio.gather(*asked)
    assert (served.statistics.queued_rows, served.statistics.queued_bytes) == (0, 0)


@in_virtual_time
async def test_a_big_picture_is_one_row_where_runs_are_not_shared() -> None:
    specs = (TensorSpec("image", "UINT8", (-1, -1, 3)),)
    served = Served(specs=specs, batching=ALONE, max_queue_rows=2)
    asked = [served.send({"image": np.zeros((1080, 2, 3), np.uint8)}) for _ in range(3)]
    await settle()
    assert served.statistics.queued_rows == 2
    for _ in asked:
        served.instance.finish()
        await settle()
    await asyncio.gather(*asked)


# -- deadlines -----------------------------------------------------------------------------------


@in_virtual_time
async def test_what_is_over_already_is_refused_and_never_started() -> None:
    served = Served()
    with pytest.raises(DeadlineExceeded):
        await served.ask(1.0, timeout_s=0.0)
    with pytest.raises(DeadlineExceeded):
        await served.ask(1.0, timeout_s=-3.0)
    assert served.instance.runs == []
    assert [one.error for one in served.observed] == [Code.DEADLINE_EXCEEDED] * 2


@in_virtual_time
async def test_a_request_that_waits_hears_at_its_deadline_and_is_never_started() -> None:
    served = Served()
    first = served.ask(1.0)
    late, patient = served.ask(2.0, timeout_s=0.5), served.ask(3.0)
    begun_s = served.clock()
    with pytest.raises(DeadlineExceeded):
        await late
    assert served.clock() - begun_s == pytest.approx(0.5, abs=2 * TICK_S)
    served.instance.finish()
    await settle()
    served.instance.finish()
    await asyncio.gather(first, patient)
    assert rows_of_runs(served.instance) == [[1.0], [3.0]]
    assert (served.statistics.expired, served.statistics.cancelled) == (1, 0)


@in_virtual_time
async def test_work_that_expired_while_the_loop_was_held_up_is_not_started() -> None:
    served = Served(batching=ALONE)
    first, late, patient = served.ask(1.0), served.ask(2.0, timeout_s=1.0), served.ask(3.0)
    await settle()
    block(2.0)
    served.instance.finish()
    await first
    with pytest.raises(DeadlineExceeded):
        await late
    served.instance.finish()
    await patient
    assert rows_of_runs(served.instance) == [[1.0], [3.0]]


@in_virtual_time
async def test_no_request_takes_longer_than_the_servers_cap() -> None:
    served = Served(request_timeout_s=3.0)
    begun_s = served.clock()
    running, waiting = served.ask(1.0), served.ask(2.0, timeout_s=100.0)
    for one in (running, waiting):
        with pytest.raises(DeadlineExceeded):
            await one
    assert served.clock() - begun_s == pytest.approx(3.0, abs=2 * TICK_S)
    assert served.instance.runs[0].deadline_s == pytest.approx(begun_s + 3.0)


@in_virtual_time
async def test_while_every_instance_hangs_each_still_hears_at_its_own_deadline() -> None:
    served = Served(instances=2, hang_grace_s=1000.0)
    times = [0.3, 0.1, 0.4, 0.2, 0.5, 0.05]
    begun_s = served.clock()
    heard: dict[int, float] = {}

    async def wait(index: int) -> None:
        with pytest.raises(DeadlineExceeded):
            await served.ask(float(index), timeout_s=times[index])
        heard[index] = served.clock() - begun_s

    await asyncio.gather(*[wait(index) for index in range(len(times))])
    assert [heard[index] for index in range(len(times))] == pytest.approx(times, abs=2 * TICK_S)
    assert served.statistics.queued_requests == 0
    assert served.statistics.running == 2
    assert all(instance.current.stop.asked for instance in served.instances)


@in_virtual_time
async def test_the_deadline_of_a_run_is_that_of_its_most_patient_member() -> None:
    served = Served()
    first = served.ask(0.0)
    now_s = served.clock()
    asked = [
        served.ask(1.0, timeout_s=5),
        served.ask(2.0, timeout_s=9),
        served.ask(3.0, timeout_s=7),
    ]
    await settle()
    served.instance.finish()
    await settle()
    assert served.instance.current.deadline_s == now_s + 9
    served.instance.finish()
    await asyncio.gather(first, *asked)


# -- hanging -------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_run_that_hangs_is_given_up_and_the_model_comes_back() -> None:
    served = Served(hang_grace_s=2.0)
    hung = served.ask(1.0, timeout_s=1.0)
    waiting = served.ask(2.0, timeout_s=50.0)
    with pytest.raises(DeadlineExceeded):
        await hung
    await asyncio.sleep(1.9)
    assert served.instance.given_up == 0
    await asyncio.sleep(0.2)
    assert served.instance.given_up == 1
    assert not served.model.ready
    assert (served.statistics.alive, served.statistics.running) == (0, 0)
    await asyncio.sleep(5.0)
    assert not waiting.done()
    served.instance.revive()
    await settle()
    assert served.model.ready
    served.instance.finish()
    assert (await waiting).outputs["x"].tolist() == [[2.0, -2.0]]
    assert served.statistics.restarts == 1


@in_virtual_time
async def test_short_timeouts_do_not_kill_a_worker_that_is_only_slow() -> None:
    served = Served(hang_grace_s=0.5)
    patient = served.ask(1.0)
    await asyncio.sleep(4.0)
    served.instance.finish()
    await patient
    for _ in range(3):
        with pytest.raises(DeadlineExceeded):
            await served.ask(2.0, timeout_s=0.1)
        await asyncio.sleep(11.0)
        served.instance.finish()
        await settle()
    assert served.instance.given_up == 0


@in_virtual_time
async def test_a_thread_that_cannot_be_killed_is_given_up_only_once() -> None:
    served = Served(hang_grace_s=1.0)
    served.instance._can_be_killed = False
    with pytest.raises(DeadlineExceeded):
        await served.ask(1.0, timeout_s=1.0)
    await asyncio.sleep(100.0)
    with pytest.raises(DeadlineExceeded):
        await served.ask(1.0, timeout_s=1.0)
    assert served.instance.given_up == 1
    later = served.ask(2.0)
    await settle()
    served.instance.finish()
    await settle()
    served.instance.finish()
    assert (await later).outputs["x"].tolist() == [[2.0, -2.0]]


@in_virtual_time
async def test_a_hang_is_noticed_even_when_everybody_has_hung_up() -> None:
    served = Served(hang_grace_s=1.0)
    gone = served.ask(1.0, timeout_s=1.0)
    await settle()
    gone.cancel()
    await asyncio.sleep(2.1)
    assert served.instance.given_up == 1


# -- no instance ---------------------------------------------------------------------------------


@in_virtual_time
async def test_while_no_instance_is_alive_requests_wait_for_one_or_for_their_deadline() -> None:
    served = Served()
    served.instance.die()
    assert not served.model.ready
    impatient, patient = served.ask(1.0, timeout_s=1.0), served.ask(2.0)
    with pytest.raises(DeadlineExceeded):
        await impatient
    served.instance.revive()
    await settle()
    served.instance.finish()
    assert (await patient).outputs["x"].tolist() == [[2.0, -2.0]]
    assert rows_of_runs(served.instance) == [[2.0]]


@in_virtual_time
async def test_a_dead_instance_is_passed_over() -> None:
    served = Served(instances=2)
    served.instances[1].die()
    assert served.model.ready
    asked = [served.ask(1.0), served.ask(2.0)]
    await settle()
    assert rows_of_runs(served.instances[0]) == [[1.0]]
    served.instances[1].revive()
    assert rows_of_runs(served.instances[1]) == [[2.0]]
    for instance in served.instances:
        instance.finish()
    await asyncio.gather(*asked)


# -- callers that leave --------------------------------------------------------------------------


@in_virtual_time
async def test_a_run_is_asked_to_stop_when_its_last_member_has_left() -> None:
    served = Served()
    first = served.ask(0.0)
    asked = [served.ask(1.0), served.ask(2.0, timeout_s=1.0), served.ask(3.0)]
    await settle()
    served.instance.finish()
    await first
    run = served.instance.current
    asked[0].cancel()
    await settle()
    with pytest.raises(DeadlineExceeded):
        await asked[1]
    assert not run.stop.asked
    asked[2].cancel()
    await settle()
    assert run.stop.asked
    served.instance.fail(ModelFailed("stopped"))
    await settle()
    assert served.instance.current is None, "nobody is left to run it for"
    assert (served.statistics.cancelled, served.statistics.expired) == (2, 1)


@pytest.mark.parametrize("late_s", [0.0, 100.0])
@in_virtual_time
async def test_one_whose_caller_left_in_this_very_turn_is_not_started(late_s: float) -> None:
    served = Served()
    served.instance.die()
    asked = served.ask(1.0)
    await settle()
    asked.cancel()
    block(late_s)
    served.instance.revive()
    await settle()
    assert served.instance.runs == []
    told = served.statistics
    assert (told.queued_requests, told.cancelled, told.expired) == (0, 1, 0)


@in_virtual_time
async def test_a_long_line_before_an_instance_that_never_waits_is_no_deep_recursion() -> None:
    served = Served(batching=ALONE)
    served.instance.die()
    asked = [served.ask(float(index)) for index in range(2000)]
    await settle()

    async def at_once(run):
        return dict(run.inputs)

    served.instance.run = at_once
    served.instance.revive()
    answers = await asyncio.gather(*asked)
    assert [answer.outputs["x"][0, 0] for answer in answers] == list(range(2000))


@in_virtual_time
async def test_one_that_leaves_makes_way_for_those_behind_it() -> None:
    specs = (TensorSpec("x", "FP32", (-1, -1)),)
    served = Served(specs=specs, batching=Batching(max_batch_rows=4, max_delay_ms=1000))
    first = served.send({"x": np.ones((1, 3), np.float32)})
    behind = served.send({"x": np.ones((4, 2), np.float32)})
    await settle()
    assert served.instance.runs == [], "the first in line waits for others of its shape"
    first.cancel()
    await settle()
    assert [run.inputs["x"].shape for run in served.instance.runs] == [(4, 2)]
    served.instance.finish()
    await behind


@in_virtual_time
async def test_only_the_member_that_runs_alone_can_stop_its_run() -> None:
    served = Served()
    first = served.ask(0.0)
    asked = [served.ask(1.0), served.ask(2.0)]
    await settle()
    served.instance.finish()
    await settle()
    served.instance.fail(ModelFailed("one of you"))
    await settle()
    run = served.instance.current
    asked[0].cancel()
    await settle()
    assert run.stop.asked
    served.instance.fail(ModelFailed("stopped"))
    await settle()
    assert not served.instance.current.stop.asked
    served.instance.finish()
    await asyncio.gather(first, asked[1])


@in_virtual_time
async def test_draining_waits_for_the_line_too() -> None:
    served = Served(batching=ALONE)
    asked = [served.ask(float(index)) for index in range(3)]
    await settle()
    draining = asyncio.ensure_future(served.engine.drain(100.0))
    await settle()
    with pytest.raises(Unavailable, match="shutting down"):
        await served.ask(9.0)
    for _ in asked:
        assert not draining.done()
        served.instance.finish()
        await settle()
    assert await draining == 0
    assert len(await asyncio.gather(*asked)) == 3


@in_virtual_time
async def test_draining_counts_what_waits_when_the_grace_is_over() -> None:
    served = Served(batching=ALONE)
    asked = [served.ask(float(index)) for index in range(3)]
    await settle()
    assert await served.engine.drain(1.0) == 3
    for _ in asked:
        served.instance.finish()
        await settle()
    await asyncio.gather(*asked)
