/**
 * Tests workflows as users do with the SDK's time-skipping environment, on a server that the SDK starts by its path.
 *
 * The last line is `N passed, N failed`.
 */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { TestWorkflowEnvironment } from '@temporalio/testing';
import { Worker } from '@temporalio/worker';
import { createActivities } from './activities.ts';
import { order, paid, reminder } from './workflows.ts';

const DAY_MS = 24 * 3600 * 1000;

const { binary } = parseArgs({ options: { binary: { type: 'string' } } }).values;
if (!binary) throw new Error('--binary PATH is missing: which server is to be tested?');

const environment = await TestWorkflowEnvironment.createTimeSkipping({
  server: { executable: { type: 'existing-path', path: binary } },
});
const { client } = environment;
const taskQueue = `time-${process.pid}-${Date.now()}`;

function expect<T>(what: string, actual: T, expected: T): void {
  if (actual !== expected) throw new Error(`Expected ${what} to be ${String(expected)}, but it is ${String(actual)}`);
}

async function aYearOfSleep(): Promise<void> {
  const before = await environment.currentTimeMs();
  const start = { workflowId: `${taskQueue}-year`, taskQueue, args: ['Ada'] as [string] };
  expect('the result', await client.workflow.execute(reminder, start), 'Ada was reminded');
  const days = Math.floor(((await environment.currentTimeMs()) - before) / DAY_MS);
  expect('the days that have passed', days, 366);
}

async function aTimeOut(): Promise<void> {
  const result = await client.workflow.execute(order, { workflowId: `${taskQueue}-late`, taskQueue });
  expect('the result', result, 'cancelled');
}

async function aSignalInTime(): Promise<void> {
  const handle = await client.workflow.start(order, { workflowId: `${taskQueue}-in-time`, taskQueue });
  await environment.sleep('6 days');
  await handle.signal(paid);
  expect('the result', await handle.result(), 'paid');
}

let [passed, failed] = [0, 0];
const worker = await Worker.create({
  connection: environment.nativeConnection,
  taskQueue,
  workflowsPath: fileURLToPath(new URL('./workflows.ts', import.meta.url)),
  activities: createActivities(environment),
});
await worker.runUntil(async () => {
  for (const step of [aYearOfSleep, aTimeOut, aSignalInTime]) {
    try {
      await step();
      passed += 1;
      console.log(`passed  ${step.name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED  ${step.name}\n        ${String(error)}`);
    }
  }
});
await environment.teardown();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
