/** A subscription is charged for its plan, which updates change, until a signal ends it; a schedule makes its invoices. */
import {
  ApplicationFailure,
  allHandlersFinished,
  condition,
  defineQuery,
  defineSignal,
  defineUpdate,
  proxyActivities,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import type { Activities } from './activities.ts';

export const changePlanUpdate = defineUpdate<string, [string]>('changePlan');
export const planQuery = defineQuery<string>('plan');
export const cancelSignal = defineSignal('cancel');

export const BACK_OFF_MS = 500;

const { charge } = proxyActivities<Activities>({
  startToCloseTimeout: '10 seconds',
  retry: { initialInterval: BACK_OFF_MS, backoffCoefficient: 1 },
});

export async function subscription(plan: string): Promise<string> {
  let paid = false;
  let cancelled = false;
  const changePlan = async (next: string) => {
    // One charge at a time: two could be done in either order.
    await condition(() => paid);
    const receipt = await charge(next);
    plan = next;
    return receipt;
  };
  const validator = (next: string) => {
    if (next === '') throw ApplicationFailure.nonRetryable('a plan has a name', 'NoPlan');
  };
  setHandler(changePlanUpdate, changePlan, { validator });
  setHandler(planQuery, () => plan);
  setHandler(cancelSignal, () => void (cancelled = true));

  await charge(plan);
  paid = true;
  await condition(() => cancelled && allHandlersFinished());
  return `${plan} cancelled`;
}

/** Returns the invoice's number. */
export async function invoice(plan: string): Promise<number> {
  const last = (workflowInfo().lastResult as number | undefined) ?? 0;
  await charge(plan);
  return last + 1;
}
