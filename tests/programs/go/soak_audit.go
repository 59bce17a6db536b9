package main

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/converter"
)

// A tally counts what the audit of a history has found.
type tally struct {
	mutex                                     sync.Mutex
	runs, events, activities, timers, signals int
	childRunID                                string
}

func (t *tally) add(other *tally) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.runs += other.runs
	t.events += other.events
	t.activities += other.activities
	t.timers += other.timers
	t.signals += other.signals
}

// audit checks a closed run's history against its plan: nothing is missing and nothing is there twice.
func audit(events []*historypb.HistoryEvent, plan soakPlan) (*tally, error) {
	var activities, timers, children pairs
	var signals []int
	childRunID := ""
	for i, event := range events {
		if event.EventId != int64(i+1) {
			return nil, fmt.Errorf("expected event %d, but found %d: %v", i+1, event.EventId, event.EventType)
		}
		if closes(event.EventType) != (i == len(events)-1) {
			return nil, fmt.Errorf("event %d of %d is %v", event.EventId, len(events), event.EventType)
		}
		var err error
		switch event.EventType {
		case enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
			activities.open(event.EventId)
		case enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
			err = activities.close(event.GetActivityTaskCompletedEventAttributes().ScheduledEventId)
		case enumspb.EVENT_TYPE_TIMER_STARTED:
			timers.open(event.EventId)
		case enumspb.EVENT_TYPE_TIMER_FIRED:
			err = timers.close(event.GetTimerFiredEventAttributes().StartedEventId)
		case enumspb.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
			children.open(event.EventId)
		case enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED:
			child := event.GetChildWorkflowExecutionCompletedEventAttributes()
			childRunID = child.WorkflowExecution.RunId
			err = children.close(child.InitiatedEventId)
		case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
			var number int
			err = converter.GetDefaultDataConverter().FromPayloads(event.GetWorkflowExecutionSignaledEventAttributes().Input, &number)
			signals = append(signals, number)
		}
		if err != nil {
			return nil, fmt.Errorf("event %d, %v: %w", event.EventId, event.EventType, err)
		}
	}

	want := plan.expected()
	wantChildren := 0
	if plan.Child != nil {
		wantChildren = 1
	}
	slices.Sort(signals)
	return &tally{
			runs: 1, events: len(events), activities: activities.closed, timers: timers.closed, signals: len(signals), childRunID: childRunID,
		}, errors.Join(
			activities.check("activities", len(plan.Steps)+len(plan.Parallel)),
			timers.check("timers", len(plan.Pauses)),
			children.check("children", wantChildren),
			expect("the signals in the history", fmt.Sprint(want.Signals), fmt.Sprint(signals)),
			auditResult(events, want),
		)
}

func auditResult(events []*historypb.HistoryEvent, want soakResult) error {
	if len(events) == 0 {
		return errors.New("the history is empty")
	}
	last := events[len(events)-1]
	if last.EventType != enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED {
		return fmt.Errorf("expected the workflow to complete, but the last event is %v: %v", last.EventType, last)
	}
	var got soakResult
	if err := converter.GetDefaultDataConverter().FromPayloads(last.GetWorkflowExecutionCompletedEventAttributes().Result, &got); err != nil {
		return err
	}
	return expect("the result", fmt.Sprint(want), fmt.Sprint(got))
}

func closes(t enumspb.EventType) bool {
	switch t {
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
		return true
	}
	return false
}

// pairs matches what was asked for with its one completion, by the id of the event that asked.
type pairs struct {
	pending        map[int64]bool
	opened, closed int
}

func (p *pairs) open(id int64) {
	if p.pending == nil {
		p.pending = map[int64]bool{}
	}
	p.pending[id] = true
	p.opened++
}

func (p *pairs) close(id int64) error {
	if !p.pending[id] {
		return fmt.Errorf("what event %d asked for was completed twice, or never asked for", id)
	}
	delete(p.pending, id)
	p.closed++
	return nil
}

func (p *pairs) check(what string, want int) error {
	return errors.Join(
		expect("the number of "+what, want, p.opened),
		expect("the number of "+what+" completed", want, p.closed),
	)
}
