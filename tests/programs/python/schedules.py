"""A report that is made by a schedule: on request, for days that are past, and when its time has come.

The recorded histories are those of four reports of past hours, one after the other: each is given what the one before has come to,
and the second fails.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone

from temporalio import workflow
from temporalio.client import (
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleBackfill,
    ScheduleCalendarSpec,
    ScheduleHandle,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    WorkflowFailureError,
)
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from scenario import Scenario, play

MIDNIGHT = datetime(2026, 1, 1, tzinfo=timezone.utc)


@workflow.defn(name="Report")
class ReportWorkflow:
    @workflow.run
    async def run(self, shop: str) -> int:
        number = 1
        if workflow.has_last_completion_result():
            number += workflow.get_last_completion_result(int)
        failure = workflow.get_last_failure()
        if number == 2 and failure is None:
            raise ApplicationError(f"no paper in {shop}", non_retryable=True)
        return number


async def scenario(run: Scenario) -> None:
    schedule_id = run.workflow_id("schedule")
    report = run.workflow_id("report")
    schedule = Schedule(
        action=ScheduleActionStartWorkflow(ReportWorkflow.run, "Utrecht", id=report, task_queue=run.task_queue),
        spec=ScheduleSpec(
            calendars=[ScheduleCalendarSpec(hour=[ScheduleRange(0, 3)], comment="the first hours")],
            intervals=[ScheduleIntervalSpec(every=timedelta(days=10), offset=timedelta(hours=2))],
            time_zone_name="UTC",
        ),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.BUFFER_ALL),
        state=ScheduleState(note="not yet", paused=True),
    )
    handle = await run.client.create_schedule(schedule_id, schedule, memo={"owner": "Ada"})
    try:
        await run.client.create_schedule(schedule_id, schedule)
        raise AssertionError("a schedule was created twice")
    except ScheduleAlreadyRunningError:
        run.say("a schedule is created once")
    async with Worker(run.client, task_queue=run.task_queue, workflows=[ReportWorkflow]):
        await past_reports(run, handle, report)
        await on_request(run, handle, report)
        await when_its_time_has_come(run, handle)
    await handle.delete()
    await refused(run, handle, "describe")
    await refused(run, handle, "trigger")
    run.say("a deleted schedule is none")


async def past_reports(run: Scenario, handle: ScheduleHandle, report: str) -> None:
    end = MIDNIGHT + timedelta(hours=3)
    await handle.backfill(ScheduleBackfill(MIDNIGHT, end, overlap=ScheduleOverlapPolicy.BUFFER_ALL))
    results = []
    for hour in range(4):
        made = run.client.get_workflow_handle(f"{report}-2026-01-01T0{hour}:00:00Z", result_type=int)
        await run.until(f"report {hour} to be there", lambda: there(made))
        try:
            results.append(await made.result())
        except WorkflowFailureError as error:
            results.append(str(error.cause))
        run.compare(f"report-{hour}", made.id, (await made.describe()).run_id)
    run.expect("the reports", results, [1, "no paper in Utrecht", 2, 3])
    await run.until("the schedule to know that all have ended", lambda: is_idle(handle))
    described = await handle.describe()
    run.expect("the number of actions", described.info.num_actions, 4)
    run.expect("the memo", await described.memo_value("owner"), "Ada")
    run.expect("the note", described.schedule.state.note, "not yet")
    run.expect("the next times", described.info.next_action_times[0].minute, 0)
    recent = [action.scheduled_at for action in described.info.recent_actions]
    run.expect("the times of the actions", recent, [MIDNIGHT + timedelta(hours=hour) for hour in range(4)])
    run.say("the reports of past hours were made one after the other")


async def on_request(run: Scenario, handle: ScheduleHandle, report: str) -> None:
    await handle.trigger(overlap=ScheduleOverlapPolicy.ALLOW_ALL)
    await run.until("the report on request", lambda: has_actions(handle, 5))
    action = (await handle.describe()).info.recent_actions[-1].action
    run.expect("the workflow's id", action.workflow_id.startswith(f"{report}-20"), True)
    # One that may run beside others is given nothing of them.
    made = run.client.get_workflow_handle(action.workflow_id, result_type=int)
    run.expect("the report on request", await made.result(), 1)

    async def listed() -> bool:
        query = f'TemporalScheduledById = "{handle.id}"'
        return len([each async for each in run.client.list_workflows(query)]) == 5

    await run.until("all reports to be listed by their schedule", listed)
    query = f'TemporalSchedulePaused = true AND ScheduleId = "{handle.id}"'

    async def found() -> bool:
        schedules = [each async for each in await run.client.list_schedules(query)]
        return [each.id for each in schedules] == [handle.id] and len(schedules[0].info.next_action_times) == 5

    await run.until("the schedule to be listed", found)
    run.say("a schedule is found, and its workflows are by it")


async def when_its_time_has_come(run: Scenario, handle: ScheduleHandle) -> None:
    async def each_second(input: object) -> ScheduleUpdate:
        schedule = input.description.schedule  # type: ignore[attr-defined]
        schedule.spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(seconds=1))])
        schedule.policy.overlap = ScheduleOverlapPolicy.SKIP
        schedule.state = ScheduleState(limited_actions=True, remaining_actions=2)
        return ScheduleUpdate(schedule)

    await handle.update(each_second)
    await run.until("two more reports", lambda: has_actions(handle, 7))
    await run.until("the schedule to know that all have ended", lambda: is_idle(handle))
    described = await handle.describe()
    run.expect("the actions that are left", described.schedule.state.remaining_actions, 0)
    run.expect("the next times", described.info.next_action_times, [])
    await asyncio.sleep(1.5)
    run.expect("the number of actions", (await handle.describe()).info.num_actions, 7)
    await handle.pause(note="that will do")
    state = (await handle.describe()).schedule.state
    run.expect("the state", (state.paused, state.note), (True, "that will do"))
    await handle.unpause(note="again")
    state = (await handle.describe()).schedule.state
    run.expect("the state", (state.paused, state.note), (False, "again"))


async def there(made: object) -> bool:
    try:
        await made.describe()  # type: ignore[attr-defined]
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
        return False
    return True


async def is_idle(handle: ScheduleHandle) -> bool:
    return not (await handle.describe()).info.running_actions


async def has_actions(handle: ScheduleHandle, number: int) -> bool:
    return (await handle.describe()).info.num_actions == number


async def refused(run: Scenario, handle: ScheduleHandle, method: str) -> None:
    try:
        await getattr(handle, method)()
        raise AssertionError(f"{method} of a deleted schedule was not refused")
    except RPCError as error:
        run.expect(f"the code of {method}", error.status, RPCStatusCode.NOT_FOUND)


if __name__ == "__main__":
    play("schedules", scenario)
