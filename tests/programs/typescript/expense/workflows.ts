/** An expense waits for its approval, for seven days unless told otherwise, and is rejected if none comes. */
import { condition, defineSignal, proxyActivities, setHandler } from '@temporalio/workflow';
import type { Duration } from '@temporalio/common';
import type { Activities } from './activities.ts';

export interface Expense {
  employee: string;
  euros: number;
  purpose: string;
  timeout?: Duration;
}

export const approveSignal = defineSignal<[string]>('approve');

const { askManager, pay, apologise } = proxyActivities<Activities>({ startToCloseTimeout: '10 seconds' });

export async function expense(input: Expense): Promise<string> {
  let approver: string | undefined;
  setHandler(approveSignal, (name) => void (approver = name));

  await askManager(input);
  if (await condition(() => approver !== undefined, input.timeout ?? '7 days')) {
    const payment = await pay(input);
    return `approved by ${approver}: ${payment}`;
  }
  await apologise(input);
  return 'rejected';
}
