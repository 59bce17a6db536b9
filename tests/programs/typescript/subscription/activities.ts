/** The outside world of a subscription: a bank, which can be closed. */
import { ApplicationFailure } from '@temporalio/common';
import type { Scenario } from '../scenario.ts';

export interface Bank {
  open: boolean;
  attempts: number;
}

export function createActivities(run: Scenario, bank: Bank) {
  return {
    async charge(plan: string): Promise<string> {
      bank.attempts += 1;
      if (!bank.open) {
        throw ApplicationFailure.retryable('the bank is closed', 'Closed');
      }
      run.say(`  bank: charged for ${plan}`);
      return `receipt for ${plan}`;
    },
  };
}

export type Activities = ReturnType<typeof createActivities>;
