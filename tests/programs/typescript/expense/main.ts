/** Plays two expenses: one is approved by a signal long before its seven days are over, one is left to time out. */
import { fileURLToPath } from 'node:url';
import { play, type Scenario } from '../scenario.ts';
import { createActivities } from './activities.ts';
import { approveSignal, expense } from './workflows.ts';

async function scenario(run: Scenario): Promise<void> {
  const workflows = fileURLToPath(new URL('./workflows.ts', import.meta.url));
  await run.withWorker(workflows, createActivities(run), async () => {
    run.say('the first expense has seven days');
    const approved = await run.start(expense, 'approved', { employee: 'Ada', euros: 80, purpose: 'a train' });
    await run.idle(approved, 'timerStartedEventAttributes');
    await approved.signal(approveSignal, 'Grace');
    run.expect('the first result', await approved.result(), 'approved by Grace: transfer of 80');

    run.say('the second has one second');
    const input = { employee: 'Bob', euros: 900, purpose: 'a chair', timeout: '1 second' } as const;
    const rejected = await run.start(expense, 'rejected', input);
    run.expect('the second result', await rejected.result(), 'rejected');
  });
}

await play('expense', scenario);
