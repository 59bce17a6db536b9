package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// Know your customer: ask a new customer for a document, have it checked by machine and then by a human, and start
// again if the human is not content.

type Customer struct {
	Name string
	// Counts the documents that were asked for, from 1.
	Round int
	// When to remind the customer, each after the one before; the last interval is used again and again.
	RemindAfter []time.Duration
}

type Verdict struct {
	Accepted bool
	Reason   string
}

func KYC(ctx workflow.Context, customer Customer) (string, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 10 * time.Second})
	stage := "waiting for a document"
	if err := workflow.SetQueryHandler(ctx, "stage", func() (string, error) { return stage, nil }); err != nil {
		return "", err
	}

	var document string
	child := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID: requestID(workflow.GetInfo(ctx).WorkflowExecution.ID, customer.Round),
	})
	if err := workflow.ExecuteChildWorkflow(child, RequestKYC, customer).Get(ctx, &document); err != nil {
		return "", err
	}

	stage = "preprocessing " + document
	var office *kycOffice
	var finding string
	if err := workflow.ExecuteActivity(ctx, office.Preprocess, document).Get(ctx, &finding); err != nil {
		return "", err
	}

	stage = "waiting for a verdict on " + finding
	var verdict Verdict
	workflow.GetSignalChannel(ctx, "verdict").Receive(ctx, &verdict)

	stage = "notifying"
	if err := workflow.ExecuteActivity(ctx, office.Notify, customer.Name, verdict.Reason).Get(ctx, nil); err != nil {
		return "", err
	}
	if verdict.Accepted {
		return fmt.Sprintf("%s accepted with %s in round %d", customer.Name, document, customer.Round), nil
	}
	customer.Round++
	return "", workflow.NewContinueAsNewError(ctx, KYC, customer)
}

// RequestKYC waits for a document, and reminds the customer for as long as none comes.
func RequestKYC(ctx workflow.Context, customer Customer) (string, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 10 * time.Second})
	var office *kycOffice
	var document string
	for reminders := 0; ; reminders++ {
		timerContext, cancelTimer := workflow.WithCancel(ctx)
		interval := customer.RemindAfter[min(reminders, len(customer.RemindAfter)-1)]
		workflow.NewSelector(ctx).
			AddReceive(workflow.GetSignalChannel(ctx, "document"), func(c workflow.ReceiveChannel, _ bool) {
				c.Receive(ctx, &document)
				cancelTimer()
			}).
			AddFuture(workflow.NewTimer(timerContext, interval), func(workflow.Future) {}).
			Select(ctx)
		if document != "" {
			return document, nil
		}
		reminder := fmt.Sprintf("reminder %d: we still need a document", reminders+1)
		if err := workflow.ExecuteActivity(ctx, office.Notify, customer.Name, reminder).Get(ctx, nil); err != nil {
			return "", err
		}
	}
}

func requestID(parentID string, round int) string {
	return fmt.Sprintf("%s/request-%d", parentID, round)
}

// The office has the activities. It tells the scenario what it does, so that the scenario knows when to go on.
type kycOffice struct{ did chan string }

func (o *kycOffice) Preprocess(_ context.Context, document string) (string, error) {
	o.tell("preprocessed " + document)
	return document + " (legible)", nil
}

func (o *kycOffice) Notify(_ context.Context, customer, text string) error {
	o.tell("told " + customer + ", " + text)
	return nil
}

func (o *kycOffice) tell(deed string) {
	narrate("office: %s", deed)
	o.did <- deed
}

// sees waits for the office's next deed and checks that it is the expected one.
func (o *kycOffice) sees(ctx context.Context, want string) error {
	select {
	case deed := <-o.did:
		return expect("the office's next deed", want, deed)
	case <-ctx.Done():
		return fmt.Errorf("waiting for %q: %w", want, context.Cause(ctx))
	}
}

func kyc(flags *flag.FlagSet) program {
	remind := flags.Duration("remind-after", 300*time.Millisecond, "when to send the first two reminders; later ones are an hour apart")
	return program{play: func(ctx context.Context, s *stage) error {
		ctx, cancel := s.limit(ctx, time.Minute+4**remind)
		defer cancel()
		office := &kycOffice{did: make(chan string, 100)}
		stop, err := s.startWorker(func(r worker.Registry) {
			r.RegisterWorkflow(KYC)
			r.RegisterWorkflow(RequestKYC)
			r.RegisterActivity(office)
		})
		if err != nil {
			return err
		}
		defer stop()

		run, err := s.start(ctx, "kyc-1", KYC, Customer{"Ada", 1, []time.Duration{*remind, *remind, time.Hour}})
		if err != nil {
			return err
		}
		firstRunID := run.GetRunID()
		narrate("client: Ada signed up, %s", run.GetID())
		first := kycRound{s, office, 1, "a blurred passport", Verdict{false, "please send a sharper picture"}}
		if _, err := first.play(ctx); err != nil {
			return fmt.Errorf("round 1: %w", err)
		}
		second := kycRound{s, office, 2, "a sharp passport", Verdict{true, "welcome"}}
		secondRunID, err := second.play(ctx)
		if err != nil {
			return fmt.Errorf("round 2: %w", err)
		}
		s.add("kyc-2", run.GetID(), secondRunID)
		if firstRunID == secondRunID {
			return errors.New("expected the rejection to start a new run, but the run is the same")
		}

		var result string
		if err := run.Get(ctx, &result); err != nil {
			return err
		}
		narrate("client: %s", result)
		err = s.client.GetWorkflow(ctx, run.GetID(), firstRunID).
			GetWithOptions(ctx, nil, client.WorkflowRunGetOptions{DisableFollowingRuns: true})
		var continued *workflow.ContinueAsNewError
		if !errors.As(err, &continued) {
			return fmt.Errorf("expected the first run to continue as new, but got %v", err)
		}
		return expect("the result", "Ada accepted with a sharp passport in round 2", result)
	}}
}

// A round is one document: two reminders, the document, the machine's check, the human verdict.
type kycRound struct {
	*stage
	office   *kycOffice
	round    int
	document string
	verdict  Verdict
}

// play returns the id of the parent's run.
func (r kycRound) play(ctx context.Context) (string, error) {
	child := requestID(r.idPrefix, r.round)
	for n := 1; n <= 2; n++ {
		if err := r.office.sees(ctx, fmt.Sprintf("told Ada, reminder %d: we still need a document", n)); err != nil {
			return "", err
		}
	}
	runID, err := r.idle(ctx, r.idPrefix)
	if err != nil {
		return "", err
	}
	childRunID, err := r.idle(ctx, child)
	if err != nil {
		return "", err
	}
	r.add(fmt.Sprintf("request-%d", r.round), child, childRunID)
	if err := r.expectStage(ctx, "waiting for a document"); err != nil {
		return "", err
	}
	narrate("client: Ada submits %s", r.document)
	if err := r.client.SignalWorkflow(ctx, child, childRunID, "document", r.document); err != nil {
		return "", err
	}

	if err := r.office.sees(ctx, "preprocessed "+r.document); err != nil {
		return "", err
	}
	if _, err := r.idle(ctx, r.idPrefix); err != nil {
		return "", err
	}
	if err := r.expectStage(ctx, "waiting for a verdict on "+r.document+" (legible)"); err != nil {
		return "", err
	}
	narrate("client: the agent's verdict is %q", r.verdict.Reason)
	if err := r.client.SignalWorkflow(ctx, r.idPrefix, runID, "verdict", r.verdict); err != nil {
		return "", err
	}
	return runID, r.office.sees(ctx, "told Ada, "+r.verdict.Reason)
}

func (r kycRound) expectStage(ctx context.Context, want string) error {
	answer, err := r.client.QueryWorkflow(ctx, r.idPrefix, "", "stage")
	if err != nil {
		return fmt.Errorf("asking for the stage: %w", err)
	}
	var got string
	if err := answer.Get(&got); err != nil {
		return err
	}
	return expect("the stage", want, got)
}
