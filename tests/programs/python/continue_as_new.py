"""Meters read one by one, two per run: continue-as-new keeps each run's history short and carries the state on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import WorkflowExecutionStatus
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from scenario import Scenario, play


@dataclass
class Round:
    meters: int
    per_run: int
    next_meter: int = 1
    kilowatt_hours: int = 0
    runs: int = 1


@activity.defn
async def read_meter(number: int) -> int:
    return number * 10


@workflow.defn(name="MeterRound")
class MeterRoundWorkflow:
    @workflow.run
    async def run(self, state: Round) -> Round:
        for _ in range(state.per_run):
            if state.next_meter > state.meters:
                return state
            reading = await workflow.execute_activity(
                read_meter, state.next_meter, start_to_close_timeout=timedelta(seconds=10)
            )
            state.kilowatt_hours += reading
            state.next_meter += 1
        workflow.continue_as_new(replace(state, runs=state.runs + 1))


async def scenario(run: Scenario) -> None:
    async with Worker(run.client, task_queue=run.task_queue, workflows=[MeterRoundWorkflow], activities=[read_meter]):
        handle = await run.start(MeterRoundWorkflow.run, Round(meters=5, per_run=2), label="run-1")
        state = await handle.result()
        run.expect("the final state", state, Round(5, 2, next_meter=6, kilowatt_hours=150, runs=3))
        run.say(f"{state.meters} meters in {state.runs} runs: {state.kilowatt_hours} kWh")

        run_id = handle.first_execution_run_id or ""
        for number in range(1, state.runs):
            run_id = await follow(run, handle.id, run_id)
            run.say(f"  run {number} was continued as run {number + 1}")
            run.compare(f"run-{number + 1}", handle.id, run_id)
        last = await run.client.get_workflow_handle(handle.id, run_id=run_id).describe()
        run.expect("the state of the last run", last.status, WorkflowExecutionStatus.COMPLETED)


async def follow(run: Scenario, workflow_id: str, run_id: str) -> str:
    """The run that continues a given one."""
    handle = run.client.get_workflow_handle(workflow_id, run_id=run_id)
    run.expect("the run's state", (await handle.describe()).status, WorkflowExecutionStatus.CONTINUED_AS_NEW)
    last_event = (await handle.fetch_history()).events[-1]
    return last_event.workflow_execution_continued_as_new_event_attributes.new_execution_run_id


if __name__ == "__main__":
    play("continue_as_new", scenario)
