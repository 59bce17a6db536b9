import type { TestWorkflowEnvironment } from '@temporalio/testing';

export type Activities = ReturnType<typeof createActivities>;

export function createActivities(environment: TestWorkflowEnvironment) {
  return {
    /** Takes a day, which is skipped, though an activity runs: it says so itself. */
    async remind(name: string): Promise<string> {
      await environment.sleep('1 day');
      return `${name} was reminded`;
    },
  };
}
