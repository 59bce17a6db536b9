/**
 * The frame around every program: flags, connection, worker, narration, checks, and the closing line of JSON.
 *
 * What a program prints on stderr is for people; the last line on stdout names the executions whose histories can be
 * compared with a recording. A program never sleeps to be lucky: wherever two things could happen in either order, it
 * waits with `idle` until the server shows that the first one is done.
 */
import { isDeepStrictEqual, parseArgs, type ParseArgsConfig } from 'node:util';
import {
  Client,
  Connection,
  type WorkflowHandle,
  type WorkflowHandleWithFirstExecutionRunId,
  type WorkflowStartOptions,
} from '@temporalio/client';
import type { Workflow } from '@temporalio/common';
import { DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';

const LANGUAGE = 'typescript';
const POLL_INTERVAL_MS = 20;
const DEFAULT_TIMEOUT_MS = 60_000;

/** What the server did is not what the program expects. */
export class Unexpected extends Error {}

export interface Options {
  address: string;
  namespace: string;
  'id-prefix': string;
  [flag: string]: string | boolean | undefined;
}

export class Scenario {
  readonly taskQueue: string;
  waitingFor = '';
  private readonly executions: { label: string; workflow_id: string; run_id: string }[] = [];
  private readonly began = performance.now();

  constructor(
    readonly name: string,
    readonly client: Client,
    private readonly native: NativeConnection,
    readonly options: Options
  ) {
    this.taskQueue = options['id-prefix'];
  }

  /** Tells the user what is happening. */
  say(text: string): void {
    const seconds = ((performance.now() - this.began) / 1000).toFixed(2).padStart(6);
    console.error(`${seconds} s  ${text}`);
  }

  /** Runs `story` while a worker serves the program's task queue. */
  async withWorker(workflowsPath: string, activities: object, story: () => Promise<void>): Promise<void> {
    const { namespace } = this.options;
    const { taskQueue, native: connection } = this;
    const worker = await Worker.create({ connection, namespace, taskQueue, workflowsPath, activities });
    await worker.runUntil(story);
  }

  workflowId(suffix: string): string {
    return `${this.options['id-prefix']}-${suffix}`;
  }

  /** Adds an execution to those whose histories are compared. */
  compare(label: string, workflowId: string, runId: string): void {
    this.executions.push({ label, workflow_id: workflowId, run_id: runId });
  }

  /** Starts a workflow on the program's task queue, replacing what an interrupted run may have left behind. */
  async start<W extends Workflow>(
    workflow: W,
    label: string,
    ...args: Parameters<W>
  ): Promise<WorkflowHandleWithFirstExecutionRunId<W>> {
    const options = {
      args,
      workflowId: this.workflowId(label),
      taskQueue: this.taskQueue,
      workflowIdConflictPolicy: 'TERMINATE_EXISTING',
    } as unknown as WorkflowStartOptions<W>;
    const handle = await this.client.workflow.start(workflow, options);
    this.compare(label, handle.workflowId, handle.firstExecutionRunId);
    return handle;
  }

  expect(what: string, actual: unknown, expected: unknown): void {
    if (!isDeepStrictEqual(actual, expected)) {
      const [is, shouldBe] = [actual, expected].map((value) => JSON.stringify(value));
      throw new Unexpected(`Expected ${what} to be ${shouldBe}, but it is ${is}`);
    }
  }

  /** Polls until the condition holds. Only the program's overall time-out ends the wait. */
  async until(what: string, condition: () => Promise<boolean>): Promise<void> {
    this.waitingFor = what;
    while (!(await condition())) {
      await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL_MS));
    }
    this.waitingFor = '';
  }

  /**
   * Waits until the history holds an event with attributes `after` and no workflow task is pending.
   *
   * The order of the two reads matters: an event is written together with the workflow task that it causes, so a
   * description taken after the event was seen shows no pending task only if that task is completed.
   */
  async idle(handle: WorkflowHandle<Workflow>, after: `${string}EventAttributes`): Promise<void> {
    await this.until(`${handle.workflowId} to be idle after ${after}`, async () => {
      const { events } = await handle.fetchHistory();
      if (!events?.some((event) => event[after as keyof typeof event] != null)) {
        return false;
      }
      const { raw } = await handle.describe();
      return raw.pendingWorkflowTask == null;
    });
  }

  closingLine(): string {
    return JSON.stringify({ program: `${LANGUAGE}/${this.name}`, executions: this.executions });
  }
}

/** Runs a program from its command line and exits: 0 if everything was as expected. */
export async function play(
  name: string,
  scenario: (run: Scenario) => Promise<void>,
  flags: NonNullable<ParseArgsConfig['options']> = {},
  timeoutMs: (options: Options) => number = () => DEFAULT_TIMEOUT_MS
): Promise<never> {
  const { values } = parseArgs({
    options: {
      address: { type: 'string', default: '127.0.0.1:7233' },
      namespace: { type: 'string', default: 'default' },
      'id-prefix': { type: 'string', default: `${LANGUAGE}-${name}` },
      ...flags,
    },
  });
  // Failing activities are part of the story here: the narration tells of them, not the SDK's log.
  Runtime.install({ logger: new DefaultLogger('ERROR') });
  const given = values as unknown as Options;
  process.exit(await connectAndPlay(name, scenario, given, timeoutMs(given)));
}

async function connectAndPlay(
  name: string,
  scenario: (run: Scenario) => Promise<void>,
  options: Options,
  timeoutMs: number
): Promise<number> {
  const { address, namespace } = options;
  let connection: Connection;
  let native: NativeConnection;
  try {
    connection = await Connection.connect({ address });
    native = await NativeConnection.connect({ address });
  } catch (error) {
    console.error(`Expected a server at ${address}, but could not connect: ${error}`);
    return 2;
  }
  const run = new Scenario(name, new Client({ connection, namespace }), native, options);
  try {
    await Promise.race([scenario(run), timeout(run, timeoutMs)]);
  } catch (error) {
    console.error(error instanceof Unexpected ? `${name}: ${error.message}` : error);
    return 1;
  }
  run.say('done, all as expected');
  console.log(run.closingLine());
  return 0;
}

async function timeout(run: Scenario, timeoutMs: number): Promise<never> {
  await new Promise((resolve) => setTimeout(resolve, timeoutMs));
  const waitingFor = run.waitingFor && `, waiting for ${run.waitingFor}`;
  throw new Unexpected(`Expected to be done in ${timeoutMs / 1000} s, but is not${waitingFor}`);
}
