package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/grpc/codes"
)

// A caller makes the client's calls with request ids of its own, which a later attempt (even one of a later process)
// uses again. That is what makes it safe to repeat a call whose outcome is unknown.
type caller struct {
	service              workflowservice.WorkflowServiceClient
	namespace, taskQueue string
	// How long the server may be away.
	outage time.Duration

	outages atomic.Int64
	longest atomic.Int64
}

// start returns the run's id, also if an earlier attempt has started it.
func (c *caller) start(ctx context.Context, workflowID string, plan soakPlan) (runID string, err error) {
	input, err := converter.GetDefaultDataConverter().ToPayloads(plan)
	if err != nil {
		return "", err
	}
	err = c.patiently(ctx, "start", func(ctx context.Context) error {
		response, err := c.service.StartWorkflowExecution(ctx, &workflowservice.StartWorkflowExecutionRequest{
			Namespace:    c.namespace,
			WorkflowId:   workflowID,
			WorkflowType: &commonpb.WorkflowType{Name: "Soak"},
			TaskQueue:    &taskqueuepb.TaskQueue{Name: c.taskQueue, Kind: enumspb.TASK_QUEUE_KIND_NORMAL},
			Input:        input,
			Identity:     "programs",
			RequestId:    "start " + workflowID,
		})
		runID = response.GetRunId()
		return err
	})
	return runID, err
}

func (c *caller) signal(ctx context.Context, workflowID, runID string, number int) error {
	input, err := converter.GetDefaultDataConverter().ToPayloads(number)
	if err != nil {
		return err
	}
	err = c.patiently(ctx, "signal", func(ctx context.Context) error {
		_, err := c.service.SignalWorkflowExecution(ctx, &workflowservice.SignalWorkflowExecutionRequest{
			Namespace:         c.namespace,
			WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: workflowID, RunId: runID},
			SignalName:        "number",
			Input:             input,
			Identity:          "programs",
			RequestId:         fmt.Sprintf("signal %d %s", number, workflowID),
		})
		return err
	})
	if code(err) == codes.NotFound {
		// The workflow waits for all of its signals, so it can only have closed if an earlier attempt arrived. If it is
		// not there at all, the audit finds out.
		return nil
	}
	return err
}

// wait returns once the run is closed.
func (c *caller) wait(ctx context.Context, workflowID, runID string) error {
	for {
		var events []*historypb.HistoryEvent
		err := c.patiently(ctx, "wait", func(ctx context.Context) error {
			response, err := c.service.GetWorkflowExecutionHistory(ctx, &workflowservice.GetWorkflowExecutionHistoryRequest{
				Namespace:              c.namespace,
				Execution:              &commonpb.WorkflowExecution{WorkflowId: workflowID, RunId: runID},
				WaitNewEvent:           true,
				HistoryEventFilterType: enumspb.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT,
			})
			events = response.GetHistory().GetEvents()
			return err
		})
		if err != nil || len(events) > 0 {
			return err
		}
	}
}

// history reads the whole history, page by page.
func (c *caller) history(ctx context.Context, workflowID, runID string) (events []*historypb.HistoryEvent, err error) {
	for token := []byte(nil); ; {
		err := c.patiently(ctx, "history", func(ctx context.Context) error {
			response, err := c.service.GetWorkflowExecutionHistory(ctx, &workflowservice.GetWorkflowExecutionHistoryRequest{
				Namespace:       c.namespace,
				Execution:       &commonpb.WorkflowExecution{WorkflowId: workflowID, RunId: runID},
				MaximumPageSize: 20,
				NextPageToken:   token,
			})
			if err == nil {
				events = append(events, response.GetHistory().GetEvents()...)
				token = response.GetNextPageToken()
			}
			return err
		})
		if err != nil || len(token) == 0 {
			return events, err
		}
	}
}

// patiently repeats a call until it succeeds, fails for good, or has failed for as long as the server may be away.
func (c *caller) patiently(ctx context.Context, name string, call func(context.Context) error) error {
	var failing time.Time
	for {
		// Longer than the server keeps a long poll.
		attempt, cancel := context.WithTimeout(ctx, 30*time.Second)
		begun := time.Now()
		err := call(attempt)
		cancel()
		if !passing(err) {
			if !failing.IsZero() {
				c.failed(time.Since(failing))
			}
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if failing.IsZero() {
			failing = begun
		}
		if time.Since(failing) > c.outage {
			return fmt.Errorf("%s has failed for %v: %w", name, time.Since(failing).Round(time.Second), err)
		}
		if err := pause(ctx, 250*time.Millisecond); err != nil {
			return err
		}
	}
}

func (c *caller) failed(duration time.Duration) {
	c.outages.Add(1)
	for longest := c.longest.Load(); int64(duration) > longest && !c.longest.CompareAndSwap(longest, int64(duration)); {
		longest = c.longest.Load()
	}
}

// passing tells errors that pass while a server restarts from those that stay. An internal error is a defect.
func passing(err error) bool {
	switch code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Aborted, codes.Canceled:
		return true
	}
	return false
}

func code(err error) codes.Code {
	if err == nil {
		return codes.OK
	}
	return serviceerror.ToStatus(err).Code()
}
