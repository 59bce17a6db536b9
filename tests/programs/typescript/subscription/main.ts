/**
 * Plays subscriptions: plans change by updates, an operator pauses a charge that fails, an ended one begins again,
 * a schedule makes invoices, and a batch cancels three at once.
 */
import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { status } from '@grpc/grpc-js';
import {
  ScheduleAlreadyRunning,
  ScheduleNotFoundError,
  WithStartWorkflowOperation,
  WorkflowUpdateFailedError,
  isGrpcServiceError,
  type ScheduleHandle,
  type WorkflowHandle,
} from '@temporalio/client';
import { ApplicationFailure, WorkflowNotFoundError, type WorkflowIdConflictPolicy } from '@temporalio/common';
import { msToTs, optionalTsToMs } from '@temporalio/common/lib/time';
import proto from '@temporalio/proto';
import { Unexpected, play, type Scenario } from '../scenario.ts';
import { createActivities, type Bank } from './activities.ts';
import { BACK_OFF_MS, cancelSignal, changePlanUpdate, invoice, planQuery, subscription } from './workflows.ts';

const { BatchOperationState, BatchOperationType, PendingActivityState } = proto.temporal.api.enums.v1;

const OPERATOR = 'operator';
const NEW_YEAR = Date.UTC(2026, 0, 1);
const HOUR_MS = 3600 * 1000;
const INVOICES = 3;
const MEMBERS = 3;

type Subscription = WorkflowHandle<typeof subscription>;

async function scenario(run: Scenario): Promise<void> {
  const bank: Bank = { open: true, attempts: 0 };
  const workflows = fileURLToPath(new URL('./workflows.ts', import.meta.url));
  await run.withWorker(workflows, createActivities(run, bank), async () => {
    await updates(run);
    await startedByUpdate(run);
    await pausedActivity(run, bank);
    await reset(run);
    await schedule(run);
    await batch(run);
  });
}

async function updates(run: Scenario): Promise<void> {
  const handle = await run.start(subscription, 'updated', 'bronze');
  await run.idle(handle, 'activityTaskCompletedEventAttributes');
  run.expect('the plan', await handle.query(planQuery), 'bronze');

  const rejection = await failure(handle.executeUpdate(changePlanUpdate, { args: [''] }), WorkflowUpdateFailedError);
  run.expect('why it is rejected', (rejection.cause as ApplicationFailure).type, 'NoPlan');
  run.say('an update that is not valid is rejected');

  const silver = { args: ['silver'] as [string], updateId: 'first' };
  run.expect('the receipt', await handle.executeUpdate(changePlanUpdate, silver), 'receipt for silver');
  const same = { args: ['tin'] as [string], updateId: 'first' };
  run.expect('the same again', await handle.executeUpdate(changePlanUpdate, same), 'receipt for silver');
  run.expect('the plan after one update', await handle.query(planQuery), 'silver');
  run.say('an update of the same id is the same update');

  const accepted = await handle.startUpdate(changePlanUpdate, { args: ['gold'], waitForStage: 'ACCEPTED' });
  run.expect('the receipt of an accepted update', await accepted.result(), 'receipt for gold');
  const running = withStart(run, 'updated', 'USE_EXISTING');
  const platinum = await run.client.workflow.executeUpdateWithStart(changePlanUpdate, {
    args: ['platinum'],
    updateId: 'with-start',
    startWorkflowOperation: running,
  });
  run.expect('the receipt of an update with start', platinum, 'receipt for platinum');
  run.expect("the run's workflow", (await running.workflowHandle()).workflowId, handle.workflowId);
  run.say('an update with start reaches the workflow that runs');

  await handle.signal(cancelSignal);
  run.expect('the result', await handle.result(), 'platinum cancelled');
  run.expect('the plan at the end', await handle.query(planQuery), 'platinum');
}

async function startedByUpdate(run: Scenario): Promise<void> {
  const operation = withStart(run, 'started', 'TERMINATE_EXISTING');
  const receipt = await run.client.workflow.executeUpdateWithStart(changePlanUpdate, {
    args: ['silver'],
    startWorkflowOperation: operation,
  });
  run.expect('the receipt of the update that starts', receipt, 'receipt for silver');
  const handle = await operation.workflowHandle();
  run.compare('started', handle.workflowId, (await handle.describe()).runId);
  await handle.signal(cancelSignal);
  run.expect('the result of what was started', await handle.result(), 'silver cancelled');
  run.say('an update starts its workflow');
}

function withStart(run: Scenario, label: string, workflowIdConflictPolicy: WorkflowIdConflictPolicy) {
  return new WithStartWorkflowOperation(subscription, {
    workflowId: run.workflowId(label),
    taskQueue: run.taskQueue,
    args: ['bronze'],
    workflowIdConflictPolicy,
  });
}

async function pausedActivity(run: Scenario, bank: Bank): Promise<void> {
  const { workflowService } = run.client;
  bank.open = false;
  const handle = await run.start(subscription, 'paused', 'bronze');
  await run.until('a second attempt', async () => ((await pending(handle))?.attempt ?? 0) > 1);

  const { activityId: id } = (await pending(handle))!;
  const target = { namespace: run.options.namespace, execution: { workflowId: handle.workflowId }, identity: OPERATOR };
  const reason = 'closed for today';
  await workflowService.pauseActivity({ ...target, type: 'charge', reason, requestId: randomUUID() });
  // An attempt that is under way when its activity is paused comes to its end.
  await run.until('the charge to be paused', async () => {
    return (await pending(handle))?.state === PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED;
  });
  const paused = (await pending(handle))!;
  run.expect('whether the charge is paused', paused.paused, true);
  run.expect('who paused it', paused.pauseInfo?.manual?.identity, OPERATOR);
  run.expect('why it is paused', paused.pauseInfo?.manual?.reason, reason);

  // The attempts begin anew, so that the history is the same however many there were.
  await workflowService.resetActivity({ ...target, id, keepPaused: true });
  run.expect('the attempt after the reset', (await pending(handle))?.attempt, 1);
  const updated = await workflowService.updateActivityOptions({
    ...target,
    id,
    activityOptions: { startToCloseTimeout: msToTs('20 seconds') },
    updateMask: { paths: ['start_to_close_timeout'] },
  });
  run.expect('the new time-out', optionalTsToMs(updated.activityOptions?.startToCloseTimeout), 20_000);
  const backOff = updated.activityOptions?.retryPolicy?.initialInterval;
  run.expect('the back-off as it was', optionalTsToMs(backOff), BACK_OFF_MS);

  bank.open = true;
  const { attempts } = bank;
  // That nothing happens can't be waited for.
  await new Promise((resolve) => setTimeout(resolve, 3 * BACK_OFF_MS));
  run.expect('the number of attempts after some back-offs', bank.attempts, attempts);
  const still = (await pending(handle))!;
  run.expect('whether the charge is still paused', still.paused, true);
  run.expect('its time-out', optionalTsToMs(still.activityOptions?.startToCloseTimeout), 20_000);
  run.say('a paused charge is not tried, though the bank is open');

  await workflowService.unpauseActivity({ ...target, type: 'charge' });
  await run.idle(handle, 'activityTaskCompletedEventAttributes');
  run.expect('the number of attempts', bank.attempts, attempts + 1);
  await handle.signal(cancelSignal);
  run.expect('the result', await handle.result(), 'bronze cancelled');
}

async function pending(handle: Subscription) {
  return (await handle.describe()).raw.pendingActivities?.[0];
}

async function reset(run: Scenario): Promise<void> {
  const handle = await run.start(subscription, 'ended', 'bronze');
  await run.idle(handle, 'activityTaskCompletedEventAttributes');
  await handle.executeUpdate(changePlanUpdate, { args: ['gold'], updateId: 'change' });
  await handle.signal(cancelSignal);
  run.expect('the result', await handle.result(), 'gold cancelled');

  const { workflowId } = handle;
  const { events } = await handle.fetchHistory();
  const firstTask = events?.find((event) => event.workflowTaskCompletedEventAttributes != null);
  const { runId } = await run.client.workflowService.resetWorkflowExecution({
    namespace: run.options.namespace,
    workflowExecution: { workflowId, runId: handle.firstExecutionRunId },
    reason: 'cancelled by mistake',
    requestId: randomUUID(),
    workflowTaskFinishEventId: firstTask?.eventId,
  });
  run.compare('ended-again', workflowId, runId!);
  const again = run.client.workflow.getHandle<typeof subscription>(workflowId, runId!);
  run.expect('the result of the run that began again', await again.result(), 'gold cancelled');
  const outcome = again.getUpdateHandle<string>('change', { workflowRunId: runId! });
  run.expect("the update's outcome in it", await outcome.result(), 'receipt for gold');
  run.say('a run that had ended began again, and had its signal and its update');
}

async function schedule(run: Scenario): Promise<void> {
  const workflowId = run.workflowId('invoice');
  const options = {
    scheduleId: run.workflowId('schedule'),
    // Years that are past, and far off, so that no time comes meanwhile.
    spec: {
      calendars: [{ year: [2026, 2096], month: 'JANUARY', dayOfMonth: 1, hour: { start: 0, end: INVOICES - 1 } }],
    },
    action: { type: 'startWorkflow', workflowType: invoice, args: ['gold'], workflowId, taskQueue: run.taskQueue },
    policies: { overlap: 'BUFFER_ALL', catchupWindow: '1 hour' },
    state: { note: 'yearly' },
    memo: { owner: 'Ada' },
  } satisfies Parameters<typeof run.client.schedule.create<typeof invoice>>[0];
  const handle = await run.client.schedule.create(options);
  const twice = await failure(run.client.schedule.create(options), ScheduleAlreadyRunning);
  run.expect('the schedule that is there', twice.scheduleId, handle.scheduleId);
  run.say('a schedule is created once');

  await pastInvoices(run, handle, workflowId);

  await handle.trigger();
  await run.until('the invoice on request', () => hasActions(handle, INVOICES + 1));
  const { workflow } = (await handle.describe()).info.recentActions.at(-1)!.action;
  // A trigger allows others to run beside it, so it is given nothing of the invoices before.
  run.expect('the invoice on request', await run.client.workflow.getHandle(workflow.workflowId).result(), 1);

  await handle.pause('not now');
  const paused = (await handle.describe()).state;
  run.expect('the state when paused', [paused.paused, paused.note], [true, 'not now']);
  await run.until('the paused schedule to be listed', () => listed(run, handle, 'not now'));
  await handle.unpause('again');
  const unpaused = (await handle.describe()).state;
  run.expect('the state when unpaused', [unpaused.paused, unpaused.note], [false, 'again']);

  await handle.update((previous) => ({
    ...previous,
    spec: { intervals: [{ every: '1 second' }] },
    state: { note: 'one more', remainingActions: 1 },
  }));
  await run.until('one more invoice', () => hasActions(handle, INVOICES + 2));
  const updated = await handle.describe();
  run.expect('the state after it', updated.state, { paused: false, note: 'one more', remainingActions: 0 });
  run.expect('the interval', updated.spec.intervals?.[0].every, 1000);
  run.say('an updated schedule makes an invoice when its time has come');
  await run.until('the last invoice to be done', () => isIdle(handle));

  await handle.delete();
  await failure(handle.describe(), ScheduleNotFoundError);
  run.say('a deleted schedule is none');
}

async function pastInvoices(run: Scenario, handle: ScheduleHandle, workflowId: string): Promise<void> {
  const described = await handle.describe();
  run.expect('the memo', described.memo, { owner: 'Ada' });
  run.expect('the note', described.state.note, 'yearly');
  const policies = { overlap: 'BUFFER_ALL', catchupWindow: HOUR_MS, pauseOnFailure: false };
  run.expect('the policies', described.policies, policies);
  run.expect('the next time', described.info.nextActionTimes[0], new Date(Date.UTC(2096, 0, 1)));

  const hours = Array.from({ length: INVOICES }, (_, hour) => new Date(NEW_YEAR + hour * HOUR_MS));
  await handle.backfill({ start: hours[0], end: hours[INVOICES - 1], overlap: 'BUFFER_ALL' });
  for (const [index, hour] of hours.entries()) {
    const made = run.client.workflow.getHandle(`${workflowId}-${hour.toISOString().replace('.000', '')}`);
    await run.until(`${made.workflowId} to be there`, () => isThere(made));
    run.compare(`invoice-${index + 1}`, made.workflowId, (await made.describe()).runId);
    run.expect('its number', await made.result(), index + 1);
  }
  await run.until('the schedule to know that all are done', async () => {
    return (await hasActions(handle, INVOICES)) && (await isIdle(handle));
  });
  const times = (await handle.describe()).info.recentActions.map((action) => action.scheduledAt);
  run.expect('the times of the invoices', times, hours);
  run.say('the invoices of past hours were made one after the other');
}

async function isThere(handle: WorkflowHandle): Promise<boolean> {
  try {
    await handle.describe();
    return true;
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return false;
    throw error;
  }
}

async function hasActions(handle: ScheduleHandle, number: number): Promise<boolean> {
  return (await handle.describe()).info.numActionsTaken === number;
}

async function isIdle(handle: ScheduleHandle): Promise<boolean> {
  return (await handle.describe()).info.runningActions.length === 0;
}

async function listed(run: Scenario, handle: ScheduleHandle, note: string): Promise<boolean> {
  const query = `TemporalSchedulePaused = true AND ScheduleId = "${handle.scheduleId}"`;
  const notes = [];
  for await (const summary of run.client.schedule.list({ query })) notes.push(summary.state.note);
  return notes.length === 1 && notes[0] === note;
}

async function batch(run: Scenario): Promise<void> {
  const { workflowService, workflow } = run.client;
  const { namespace } = run.options;
  const members: Subscription[] = [];
  for (let number = 1; number <= MEMBERS; number++) {
    const member = await run.start(subscription, `member-${number}`, 'bronze');
    await run.idle(member, 'activityTaskCompletedEventAttributes');
    members.push(member);
  }
  const visibilityQuery = `WorkflowId STARTS_WITH "${run.workflowId('member-')}" AND ExecutionStatus = "Running"`;
  await run.until('all members to be listed', async () => (await workflow.count(visibilityQuery)).count === MEMBERS);

  // The id of a batch may not be used again, even by another run of this program.
  const jobId = randomUUID();
  const signalOperation = { signal: cancelSignal.name, identity: OPERATOR };
  const request = { namespace, jobId, visibilityQuery, reason: 'the club is closed', signalOperation };
  // A namespace runs one batch at a time; the SDK tries again while another one runs.
  await workflowService.startBatchOperation(request);
  for (const member of members) {
    run.expect(`the result of ${member.workflowId}`, await member.result(), 'bronze cancelled');
  }

  const COMPLETED = BatchOperationState.BATCH_OPERATION_STATE_COMPLETED;
  const describe = () => workflowService.describeBatchOperation({ namespace, jobId });
  await run.until('the batch to be completed', async () => (await describe()).state === COMPLETED);
  const done = await describe();
  const counts = [done.totalOperationCount, done.completeOperationCount, done.failureOperationCount].map(Number);
  run.expect('all, done and failed', counts, [MEMBERS, MEMBERS, 0]);
  run.expect('the kind of batch', done.operationType, BatchOperationType.BATCH_OPERATION_TYPE_SIGNAL_WORKFLOW);
  run.expect('its reason', done.reason, 'the club is closed');
  run.say(`a batch signalled ${MEMBERS} workflows`);

  await run.until('the batch to be listed', async () => {
    const { operationInfo } = await workflowService.listBatchOperations({ namespace });
    return operationInfo?.find((info) => info.jobId === jobId)?.state === COMPLETED;
  });
  const second = await failure(workflowService.startBatchOperation(request), Error);
  run.expect('why a second is refused', isGrpcServiceError(second) && second.code, status.ALREADY_EXISTS);
  run.say('a batch of the same id is refused');
}

/** The error of a call that has to fail. */
async function failure<E extends Error>(call: Promise<unknown>, type: new (...args: any[]) => E): Promise<E> {
  try {
    await call;
  } catch (error) {
    if (error instanceof type) return error;
    throw error;
  }
  throw new Unexpected(`Expected a call to fail with ${type.name}, but it has succeeded`);
}

await play('subscription', scenario);
