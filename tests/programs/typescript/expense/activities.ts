/** What an expense does to the outside world: a request to the manager, and money or an apology to the employee. */
import type { Scenario } from '../scenario.ts';
import type { Expense } from './workflows.ts';

export function createActivities(run: Scenario) {
  return {
    async askManager(expense: Expense): Promise<void> {
      run.say(`  to the manager: may ${expense.employee} have ${expense.euros} euros for ${expense.purpose}?`);
    },

    async pay(expense: Expense): Promise<string> {
      run.say(`  ${expense.employee} is paid ${expense.euros} euros`);
      return `transfer of ${expense.euros}`;
    },

    async apologise(expense: Expense): Promise<void> {
      run.say(`  to ${expense.employee}: nobody answered, so there is no money for ${expense.purpose}`);
    },
  };
}

export type Activities = ReturnType<typeof createActivities>;
