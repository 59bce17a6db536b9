package main

import (
	"math/rand/v2"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// A soakPlan says all that one workflow is going to do, so that the client knows what to expect of it.
type soakPlan struct {
	// How long each of the sequential activities works.
	Steps []time.Duration
	// Timers, spread among the steps.
	Pauses []time.Duration
	// When the client sends each signal, counted from the start.
	SignalAt []time.Duration
	// How long each of the activities at the end works; they run side by side.
	Parallel []time.Duration
	// What the child does, if there is one. It runs the same workflow.
	Child *soakPlan
}

type soakResult struct {
	// Sum of what the activities returned.
	Sum     int
	Signals []int
}

func newSoakPlan(random *rand.Rand, activities int, spread time.Duration) soakPlan {
	between := func(low, high time.Duration) time.Duration {
		return low + time.Duration(random.Int64N(int64(max(high-low, 1))))
	}
	several := func(n int, low, high time.Duration) []time.Duration {
		durations := make([]time.Duration, n)
		for i := range durations {
			durations[i] = between(low, high)
		}
		return durations
	}
	work := func(n int) []time.Duration { return several(n, 5*time.Millisecond, 150*time.Millisecond) }
	length := between(spread/2, spread*3/2)
	first := between(0, length)
	plan := soakPlan{
		Steps:    work(activities),
		Pauses:   []time.Duration{first, length - first},
		SignalAt: several(2, 0, length),
		Parallel: work(2),
	}
	slices.Sort(plan.SignalAt)
	if random.IntN(3) == 0 {
		plan.Child = &soakPlan{Steps: work(2), Pauses: several(1, 0, spread/10)}
	}
	return plan
}

// expected is what a workflow that follows the plan returns: each activity returns its position in the plan.
func (p soakPlan) expected() soakResult {
	result := soakResult{Signals: []int{}}
	for n := range len(p.Steps) + len(p.Parallel) {
		result.Sum += n
	}
	for n := range p.SignalAt {
		result.Signals = append(result.Signals, n+1)
	}
	return result
}

func childID(parentID string) string { return parentID + "/child" }

// Soak follows its plan.
func Soak(ctx workflow.Context, plan soakPlan) (soakResult, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		// A worker whose answer got lost is given up soon.
		StartToCloseTimeout: 10 * time.Second,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: 200 * time.Millisecond, MaximumInterval: 2 * time.Second},
	})
	var ledger *ledger
	result := soakResult{Signals: []int{}}
	collect := func(future workflow.Future) error {
		var value int
		err := future.Get(ctx, &value)
		result.Sum += value
		return err
	}

	every := max(1, len(plan.Steps)/max(1, len(plan.Pauses)))
	pauses := plan.Pauses
	for n, duration := range plan.Steps {
		if err := collect(workflow.ExecuteActivity(ctx, ledger.Work, n, duration)); err != nil {
			return result, err
		}
		if (n+1)%every == 0 && len(pauses) > 0 {
			if err := workflow.Sleep(ctx, pauses[0]); err != nil {
				return result, err
			}
			pauses = pauses[1:]
		}
	}

	for range plan.SignalAt {
		var number int
		workflow.GetSignalChannel(ctx, "number").Receive(ctx, &number)
		result.Signals = append(result.Signals, number)
	}
	// A signal that was sent again may overtake the next one.
	slices.Sort(result.Signals)

	var futures []workflow.Future
	for n, duration := range plan.Parallel {
		futures = append(futures, workflow.ExecuteActivity(ctx, ledger.Work, len(plan.Steps)+n, duration))
	}
	for _, future := range futures {
		if err := collect(future); err != nil {
			return result, err
		}
	}

	if plan.Child == nil {
		return result, nil
	}
	child := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID: childID(workflow.GetInfo(ctx).WorkflowExecution.ID),
	})
	return result, workflow.ExecuteChildWorkflow(child, Soak, *plan.Child).Get(ctx, nil)
}
