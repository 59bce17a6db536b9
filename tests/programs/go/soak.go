package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"go.temporal.io/sdk/worker"
)

// soak runs many workflows while somebody kills and restarts the server. Everything that it sends may be sent again
// (the request ids say so), and at the end every history has to show that nothing was lost and nothing done twice.
func soak(flags *flag.FlagSet) program {
	var s soaking
	flags.IntVar(&s.workflows, "workflows", 200, "how many workflows to run")
	flags.IntVar(&s.activities, "activities", 5, "how many activities each runs one after the other")
	flags.DurationVar(&s.spread, "spread", 20*time.Second, "how long a workflow takes on average; each takes between half and one and a half of it")
	flags.DurationVar(&s.outage, "outage", time.Minute, "how long the server may be away at a time")
	flags.StringVar(&s.stateFile, "state-file", "", "where to keep which activities were acknowledged, so that the program may be killed and started again too")
	flags.BoolVar(&s.printReady, "print-ready", false, "say so on stderr once all workflows are started")
	s.ledger = newLedger()
	return program{play: s.play, intercept: s.ledger.intercept, outage: &s.outage}
}

type soaking struct {
	workflows, activities int
	spread, outage        time.Duration
	stateFile             string
	printReady            bool

	*stage
	ledger *ledger
	caller caller
	total  tally
}

func (s *soaking) play(ctx context.Context, stage *stage) error {
	s.stage = stage
	ctx, cancel := s.limit(ctx, 3*s.spread+2*s.outage+5*time.Minute)
	defer cancel()
	s.caller = caller{service: s.client.WorkflowService(), namespace: s.namespace, taskQueue: s.taskQueue, outage: s.outage}
	if s.stateFile != "" {
		if err := s.ledger.keepIn(s.stateFile); err != nil {
			return err
		}
		defer s.ledger.close()
	}
	stop, err := s.startWorker(func(r worker.Registry) {
		r.RegisterWorkflow(Soak)
		r.RegisterActivity(s.ledger)
	})
	if err != nil {
		return err
	}
	defer stop()

	begun := time.Now()
	err = s.playAll(ctx)
	s.stats(time.Since(begun))
	return errors.Join(append(s.ledger.violations(), err)...)
}

// playAll plays every workflow in a goroutine of its own and returns the first error.
func (s *soaking) playAll(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var started, ended sync.WaitGroup
	started.Add(s.workflows)
	// Not all at once: the starts are to be spread a little.
	tickets := make(chan struct{}, 16)
	for n := range s.workflows {
		ended.Go(func() {
			tickets <- struct{}{}
			plan := newSoakPlan(rand.New(rand.NewPCG(uint64(n), 0)), s.activities, s.spread)
			workflowID := fmt.Sprintf("%s-%04d", s.idPrefix, n)
			runID, err := s.caller.start(ctx, workflowID, plan)
			<-tickets
			started.Done()
			if err == nil {
				err = s.follow(ctx, workflowID, runID, plan)
			}
			if err != nil {
				cancel(fmt.Errorf("%s: %w", workflowID, err))
			}
		})
	}
	started.Wait()
	if s.printReady && ctx.Err() == nil {
		fmt.Fprintf(os.Stderr, "ready: %d workflows started\n", s.workflows)
	}
	ended.Wait()
	return context.Cause(ctx)
}

// follow sends one workflow its signals, waits for its end and audits its history, and its child's.
func (s *soaking) follow(ctx context.Context, workflowID, runID string, plan soakPlan) error {
	waited := time.Duration(0)
	for n, at := range plan.SignalAt {
		if err := pause(ctx, at-waited); err != nil {
			return err
		}
		waited = at
		if err := s.caller.signal(ctx, workflowID, runID, n+1); err != nil {
			return fmt.Errorf("signal %d: %w", n+1, err)
		}
	}
	if err := s.caller.wait(ctx, workflowID, runID); err != nil {
		return fmt.Errorf("waiting for the end: %w", err)
	}
	for plan := &plan; plan != nil; plan = plan.Child {
		events, err := s.caller.history(ctx, workflowID, runID)
		if err != nil {
			return fmt.Errorf("reading the history: %w", err)
		}
		audited, err := audit(events, *plan)
		if err != nil {
			return fmt.Errorf("run %s: %w", runID, err)
		}
		s.total.add(audited)
		workflowID, runID = childID(workflowID), audited.childRunID
	}
	return nil
}

func (s *soaking) stats(took time.Duration) {
	total, ledger := &s.total, s.ledger
	narrate("soak: %d runs closed and audited in %v: %d events, %d activities, %d timers, %d signals",
		total.runs, took.Round(time.Millisecond), total.events, total.activities, total.timers, total.signals)
	narrate("soak: %d activity executions begun (%d of them retries), %d completions acknowledged, %d refused, %d executed after that",
		ledger.begun.Load(), ledger.retried.Load(), ledger.acknowledgements.Load(), ledger.refused.Load(), len(ledger.violations()))
	narrate("soak: the client's calls failed for a while %d times, for %v at most",
		s.caller.outages.Load(), time.Duration(s.caller.longest.Load()).Round(time.Millisecond))
}
