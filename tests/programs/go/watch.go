package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	// More than the reads of a node that is paused wait: they have to be answered truly when it wakes.
	readWaitMax   = 20 * time.Second
	readersByNode = 2
	readEvery     = 150 * time.Millisecond
	signalWaitMax = time.Second
	// A workflow without a worker: it was started, and its first task waits.
	eventsAtFirst = 2
)

// watch reads a few workflows through each node all the time, and signals them when it is told to. They have no worker, so
// their histories grow by their signals only: a read that shows fewer than were acknowledged before it began is stale, and one
// that shows more than were ever sent has one twice.
//
// Each line on stdin, `SECONDS ADDRESS …`, has it signal every workflow through these nodes; it answers `served` on stdout once all
// signals are acknowledged, or why they are not by then. When stdin ends, it looks at all workflows through every node and ends.
func watch(flags *flag.FlagSet) program {
	var w watching
	flags.IntVar(&w.workflows, "workflows", 48, "how many workflows to watch: so many that there are some in each partition")
	flags.StringVar(&w.addresses, "nodes", "", "where the nodes listen, with commas between")
	return program{play: w.play}
}

type watching struct {
	workflows int
	addresses string

	*stage
	nodes   map[string]*watchedNode
	watched []*watchedWorkflow

	mutex      sync.Mutex
	violations []error
}

type watchedNode struct {
	address          string
	service          workflowservice.WorkflowServiceClient
	answered, failed atomic.Int64
}

type watchedWorkflow struct {
	id string
	// How many signals were sent, those that are sent again not counted, and how many of them are acknowledged.
	sent, acknowledged atomic.Int64
	// The length that its history had at least, when the last read ended.
	seen atomic.Int64
}

func (w *watching) play(ctx context.Context, stage *stage) error {
	w.stage, w.nodes = stage, map[string]*watchedNode{}
	for _, address := range strings.Split(w.addresses, ",") {
		connection, err := grpc.NewClient(address,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithConnectParams(grpc.ConnectParams{
				// A node that was started again is found at once.
				Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, MaxDelay: 300 * time.Millisecond},
				MinConnectTimeout: time.Second,
			}))
		if err != nil {
			return err
		}
		defer connection.Close()
		w.nodes[address] = &watchedNode{address: address, service: workflowservice.NewWorkflowServiceClient(connection)}
	}
	if err := w.start(ctx); err != nil {
		return err
	}

	reading, stop := context.WithCancel(ctx)
	defer stop()
	var readers sync.WaitGroup
	for _, node := range w.nodes {
		for range readersByNode {
			readers.Go(func() {
				for pause(reading, readEvery) == nil {
					w.read(reading, node, w.watched[rand.IntN(len(w.watched))])
				}
			})
		}
	}
	for orders := bufio.NewScanner(os.Stdin); orders.Scan(); {
		if err := w.obey(ctx, orders.Text()); err != nil {
			fmt.Printf("not served: %v\n", err)
		} else {
			fmt.Println("served")
		}
	}
	stop()
	readers.Wait()
	return w.judge(ctx)
}

func (w *watching) start(ctx context.Context) error {
	caller := caller{service: w.client.WorkflowService(), namespace: w.namespace, taskQueue: w.taskQueue, outage: time.Minute}
	for n := range w.workflows {
		workflow := &watchedWorkflow{id: fmt.Sprintf("%s-%d", w.idPrefix, n)}
		err := caller.patiently(ctx, "start", func(ctx context.Context) error {
			_, err := caller.service.StartWorkflowExecution(ctx, &workflowservice.StartWorkflowExecutionRequest{
				Namespace:    w.namespace,
				WorkflowId:   workflow.id,
				WorkflowType: &commonpb.WorkflowType{Name: "Watched"},
				TaskQueue:    &taskqueuepb.TaskQueue{Name: w.taskQueue, Kind: enumspb.TASK_QUEUE_KIND_NORMAL},
				RequestId:    "start " + workflow.id,
			})
			return err
		})
		if err != nil {
			return fmt.Errorf("starting %s: %w", workflow.id, err)
		}
		workflow.seen.Store(eventsAtFirst)
		w.watched = append(w.watched, workflow)
	}
	return nil
}

// read looks at a workflow through a node. What it shows is held against what was known before the call, and what was sent
// before its end.
func (w *watching) read(ctx context.Context, node *watchedNode, workflow *watchedWorkflow) (length int64, err error) {
	least := max(workflow.seen.Load(), eventsAtFirst+workflow.acknowledged.Load())
	attempt, cancel := context.WithTimeout(ctx, readWaitMax)
	defer cancel()
	begun := time.Now()
	response, err := node.service.DescribeWorkflowExecution(attempt, &workflowservice.DescribeWorkflowExecutionRequest{
		Namespace: w.namespace,
		Execution: &commonpb.WorkflowExecution{WorkflowId: workflow.id},
	})
	if passing(err) {
		node.failed.Add(1)
		return 0, err
	}
	if err != nil {
		return 0, w.violated("%s says of %s, which runs: %w", node.address, workflow.id, err)
	}
	node.answered.Add(1)
	length = response.GetWorkflowExecutionInfo().GetHistoryLength()
	if length < least {
		return 0, w.violated("%s shows %s with %d events, %v after it had %d", node.address, workflow.id, length, time.Since(begun), least)
	}
	if most := eventsAtFirst + workflow.sent.Load(); length > most {
		return 0, w.violated("%s shows %s with %d events, and it can't have more than %d", node.address, workflow.id, length, most)
	}
	for seen := workflow.seen.Load(); length > seen && !workflow.seen.CompareAndSwap(seen, length); {
		seen = workflow.seen.Load()
	}
	return length, nil
}

func (w *watching) violated(format string, arguments ...any) error {
	err := fmt.Errorf(format, arguments...)
	narrate("watch: %s %v", time.Now().Format(time.TimeOnly), err)
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.violations = append(w.violations, err)
	return err
}

// obey signals all workflows through the nodes of an order.
func (w *watching) obey(ctx context.Context, order string) error {
	fields := strings.Fields(order)
	if len(fields) < 2 {
		return fmt.Errorf("the order %q names no node", order)
	}
	wait, err := time.ParseDuration(fields[0] + "s")
	if err != nil {
		return err
	}
	var nodes []*watchedNode
	for _, address := range fields[1:] {
		node := w.nodes[address]
		if node == nil {
			return fmt.Errorf("%s is no node", address)
		}
		nodes = append(nodes, node)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	failures := make([]error, len(w.watched))
	var signals sync.WaitGroup
	for n, workflow := range w.watched {
		signals.Go(func() { failures[n] = w.signal(ctx, nodes, workflow) })
	}
	signals.Wait()
	missed, last := 0, error(nil)
	for _, failure := range failures {
		if failure != nil {
			missed, last = missed+1, failure
		}
	}
	if missed > 0 {
		return fmt.Errorf("%d of %d workflows took no signal, such as %w", missed, len(w.watched), last)
	}
	return nil
}

// signal sends a workflow its next signal, or once more the one that nobody has acknowledged.
func (w *watching) signal(ctx context.Context, nodes []*watchedNode, workflow *watchedWorkflow) error {
	number := workflow.acknowledged.Load() + 1
	workflow.sent.Store(number)
	for {
		node := nodes[rand.IntN(len(nodes))]
		attempt, cancel := context.WithTimeout(ctx, signalWaitMax)
		_, err := node.service.SignalWorkflowExecution(attempt, &workflowservice.SignalWorkflowExecutionRequest{
			Namespace:         w.namespace,
			WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: workflow.id},
			SignalName:        "number",
			RequestId:         fmt.Sprintf("signal %d %s", number, workflow.id),
		})
		cancel()
		if err == nil {
			workflow.acknowledged.Store(number)
			return nil
		}
		if !passing(err) {
			return w.violated("%s does not take signal %d for %s: %w", node.address, number, workflow.id, err)
		}
		if pause(ctx, 50*time.Millisecond) != nil {
			return fmt.Errorf("%s, through %s: %v (%w)", workflow.id, node.address, err, errors.New(code(err).String()))
		}
	}
}

// judge looks at every workflow through every node.
func (w *watching) judge(ctx context.Context) error {
	for _, node := range w.nodes {
		if node.answered.Load() == 0 {
			w.violated("%s has answered no read", node.address)
		}
		narrate("watch: %s answered %d reads, %d failed", node.address, node.answered.Load(), node.failed.Load())
		for _, workflow := range w.watched {
			length, err := w.read(ctx, node, workflow)
			for begun := time.Now(); code(err) != codes.OK && passing(err) && time.Since(begun) < readWaitMax; {
				length, err = w.read(ctx, node, workflow)
			}
			if want := eventsAtFirst + workflow.sent.Load(); err != nil || length != want {
				w.violated("%s shows %s with %d events in the end, and not %d (%v)", node.address, workflow.id, length, want, err)
			}
		}
	}
	return errors.Join(w.violations...)
}
