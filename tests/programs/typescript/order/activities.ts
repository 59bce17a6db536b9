/** The outside world of an order: a payment gateway that is down at first, a warehouse and a mail server. */
import { activityInfo } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';
import type { Scenario } from '../scenario.ts';
import type { Order } from './workflows.ts';

export const FAILING_ATTEMPTS = 2;

export function createActivities(run: Scenario) {
  let lastAttemptAt = 0;

  return {
    async chargeCard(order: Order): Promise<string> {
      const { attempt } = activityInfo();
      const now = performance.now();
      const waited = attempt > 1 ? ` after ${((now - lastAttemptAt) / 1000).toFixed(2)} s of back-off` : '';
      lastAttemptAt = now;
      if (attempt <= FAILING_ATTEMPTS) {
        run.say(`  payment, attempt ${attempt}${waited}: the gateway is down`);
        throw ApplicationFailure.retryable('the payment gateway is down', 'GatewayDown');
      }
      run.say(`  payment, attempt ${attempt}${waited}: ${(order.cents / 100).toFixed(2)} charged`);
      return `receipt-${order.number}`;
    },

    async reserveStock(order: Order): Promise<string> {
      run.say(`  warehouse: one ${order.item} reserved`);
      return 'shelf 7';
    },

    async ship(order: Order, shelf: string): Promise<string> {
      run.say(`  warehouse: ${order.item} picked from ${shelf} and shipped`);
      return `parcel-${order.number}`;
    },

    async sendEmail(address: string, text: string): Promise<void> {
      run.say(`  mail to ${address}: ${text}`);
    },
  };
}

export type Activities = ReturnType<typeof createActivities>;
