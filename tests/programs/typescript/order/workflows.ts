/** An order: the payment is retried by the server until the gateway is back; the day of sleep is a durable timer. */
import { defineQuery, proxyActivities, setHandler, sleep } from '@temporalio/workflow';
import type { Duration } from '@temporalio/common';
import type { Activities } from './activities.ts';

export interface Order {
  number: number;
  item: string;
  cents: number;
  email: string;
  /** How long to wait after shipping before asking whether all is well; usually '1 day'. */
  followUpAfter: Duration;
}

export type Status = 'charging' | 'preparing' | 'shipped' | 'completed';

export const statusQuery = defineQuery<Status>('status');

const { chargeCard, reserveStock, ship, sendEmail } = proxyActivities<Activities>({
  startToCloseTimeout: '10 seconds',
  retry: { initialInterval: '500 milliseconds', backoffCoefficient: 2, maximumAttempts: 10 },
});

export async function order(input: Order): Promise<string> {
  let status: Status = 'charging';
  setHandler(statusQuery, () => status);

  const receipt = await chargeCard(input);
  status = 'preparing';
  const shelf = await reserveStock(input);
  const parcel = await ship(input, shelf);
  status = 'shipped';
  await sleep(input.followUpAfter);
  await sendEmail(input.email, `How do you like your ${input.item}?`);
  status = 'completed';
  return `${receipt}, ${parcel}`;
}
