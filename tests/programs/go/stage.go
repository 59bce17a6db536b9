package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"google.golang.org/grpc"
)

type options struct {
	address, namespace, idPrefix string
	timeout                      time.Duration
	verbose                      bool
}

// The stage is what a program plays on: a client, a task queue of its own, and the list of executions to report.
type stage struct {
	options
	client     client.Client
	outage     *time.Duration
	taskQueue  string
	ctx        context.Context
	cancel     context.CancelCauseFunc
	executions []execution
}

type execution struct {
	Label      string `json:"label"`
	WorkflowID string `json:"workflow_id"`
	RunID      string `json:"run_id"`
}

func setUp(options options, program program) (*stage, error) {
	level := slog.LevelError + 1
	if options.verbose {
		level = slog.LevelDebug
	}
	dial := client.Options{
		HostPort:  options.address,
		Namespace: options.namespace,
		Identity:  "programs",
		Logger:    log.NewStructuredLogger(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))),
	}
	if program.intercept != nil {
		dial.ConnectionOptions.DialOptions = []grpc.DialOption{grpc.WithChainUnaryInterceptor(program.intercept)}
	}
	var c client.Client
	err := awaited(program.outage, func() (err error) {
		c, err = client.Dial(dial)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("no server at %s: %w", options.address, err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	stage := &stage{options: options, client: c, outage: program.outage, taskQueue: options.idPrefix + "-tasks", ctx: ctx, cancel: cancel}
	return stage, nil
}

// awaited repeats what fails for as long as the server may be away (nil: not at all): it may be from the first moment on.
func awaited(outage *time.Duration, attempt func() error) error {
	for begun := time.Now(); ; time.Sleep(250 * time.Millisecond) {
		err := attempt()
		if outage == nil || !passing(err) || time.Since(begun) > *outage {
			return err
		}
	}
}

func (s *stage) close() {
	s.cancel(nil)
	s.client.Close()
}

// limit gives the program a time limit, unless the user has chosen another.
func (s *stage) limit(ctx context.Context, standard time.Duration) (context.Context, context.CancelFunc) {
	if s.timeout > 0 {
		standard = s.timeout
	}
	return context.WithTimeoutCause(ctx, standard, fmt.Errorf("not done after %v", standard))
}

// explain prefers the reason why everything was canceled to the cancellation itself.
func (s *stage) explain(err error) error {
	if cause := context.Cause(s.ctx); cause != nil {
		return cause
	}
	return err
}

// startWorker runs a worker in this process until the returned function is called.
func (s *stage) startWorker(register func(worker.Registry)) (stop func(), err error) {
	var w worker.Worker
	err = awaited(s.outage, func() error {
		w = worker.New(s.client, s.taskQueue, worker.Options{
			// A busy machine is no deadlock, and a failed workflow task would show in the history.
			DeadlockDetectionTimeout: 10 * time.Second,
			OnFatalError:             func(err error) { s.cancel(fmt.Errorf("the worker stopped: %w", err)) },
		})
		register(w)
		return w.Start()
	})
	return w.Stop, err
}

// start begins a workflow whose id is the prefix, and adds it to the report.
func (s *stage) start(ctx context.Context, label string, workflow any, input any) (client.WorkflowRun, error) {
	run, err := s.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: s.idPrefix, TaskQueue: s.taskQueue}, workflow, input)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", s.idPrefix, err)
	}
	s.add(label, run.GetID(), run.GetRunID())
	return run, nil
}

func (s *stage) add(label, workflowID, runID string) {
	s.executions = append(s.executions, execution{label, workflowID, runID})
}

// idle waits until the workflow's current run waits for something from outside, be it a signal or a timer: until no
// workflow task and no activity is pending and each child that was asked for runs. What is sent next can then meet it
// in one state only. It returns the run's id.
func (s *stage) idle(ctx context.Context, workflowID string) (string, error) {
	for {
		description, err := s.client.DescribeWorkflowExecution(ctx, workflowID, "")
		if err != nil {
			return "", fmt.Errorf("describing %s: %w", workflowID, err)
		}
		info := description.WorkflowExecutionInfo
		if info.Status != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
			return "", fmt.Errorf("expected %s to run, but its status is %v", workflowID, info.Status)
		}
		busy := description.PendingWorkflowTask != nil || len(description.PendingActivities) > 0
		for _, child := range description.PendingChildren {
			busy = busy || child.RunId == ""
		}
		if !busy {
			return info.Execution.RunId, nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return "", fmt.Errorf("%s stays busy: %w", workflowID, err)
		}
	}
}

// report writes the executions whose histories are worth comparing, as one line of JSON.
func (s *stage) report(to io.Writer, program string) error {
	if s.executions == nil {
		s.executions = []execution{}
	}
	return json.NewEncoder(to).Encode(struct {
		Program    string      `json:"program"`
		Executions []execution `json:"executions"`
	}{program, s.executions})
}

func narrate(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

// expect fails with both values if they differ.
func expect[T comparable](what string, want, got T) error {
	if want != got {
		return fmt.Errorf("expected %s to be %v, but got %v", what, want, got)
	}
	return nil
}

// pause sleeps, or returns why it was cut short.
func pause(ctx context.Context, duration time.Duration) error {
	select {
	case <-time.After(duration):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
