import { condition, defineSignal, proxyActivities, setHandler, sleep } from '@temporalio/workflow';
import type { Activities } from './activities.ts';

const { remind } = proxyActivities<Activities>({ startToCloseTimeout: '2 days' });

export const paid = defineSignal('paid');

/** Sleeps for a year, and then does something that takes time. */
export async function reminder(name: string): Promise<string> {
  await sleep('365 days');
  return await remind(name);
}

/** Waits for its payment for a week. */
export async function order(): Promise<string> {
  let isPaid = false;
  setHandler(paid, () => void (isPaid = true));
  return (await condition(() => isPaid, '7 days')) ? 'paid' : 'cancelled';
}
