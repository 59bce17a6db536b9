/** Plays an order: a payment that fails twice, stock, shipping, a sleep that --sleep shortens, and an e-mail. */
import { fileURLToPath } from 'node:url';
import { msToNumber } from '@temporalio/common/lib/time';
import { play, type Scenario } from '../scenario.ts';
import { createActivities } from './activities.ts';
import { order, statusQuery } from './workflows.ts';

async function scenario(run: Scenario): Promise<void> {
  const workflows = fileURLToPath(new URL('./workflows.ts', import.meta.url));
  await run.withWorker(workflows, createActivities(run), async () => {
    const followUpAfter = run.options.sleep as '1 second';
    const input = { number: 1001, item: 'kettle', cents: 4990, email: 'ada@example.com', followUpAfter };
    run.say(`order ${input.number}: one ${input.item} for ${(input.cents / 100).toFixed(2)}`);
    const handle = await run.start(order, 'order', input);

    await run.idle(handle, 'timerStartedEventAttributes');
    run.expect('the status after shipping', await handle.query(statusQuery), 'shipped');
    run.say(`  asleep for ${followUpAfter}; no process has to stay up for it`);

    run.expect('the result', await handle.result(), 'receipt-1001, parcel-1001');
    run.expect('the status at the end', await handle.query(statusQuery), 'completed');
    run.expect("the execution's state", (await handle.describe()).status.name, 'COMPLETED');
  });
}

await play(
  'order',
  scenario,
  { sleep: { type: 'string', default: '1 second' } },
  (options) => 60_000 + msToNumber(options.sleep as '1 second')
);
