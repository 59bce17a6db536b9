package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

type Subscriber struct {
	Address string
	// How long a day lasts: 24 hours in earnest, less in a test.
	Day time.Duration
}

var reminderDays = []int{1, 7, 30}

// Reminders sends a mail a day, a week and a month after it was started. In between it only sleeps: nothing has to
// stay up for a month, neither the worker nor the server.
func Reminders(ctx workflow.Context, subscriber Subscriber) (int, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 10 * time.Second,
		RetryPolicy:         &temporal.RetryPolicy{InitialInterval: 200 * time.Millisecond, BackoffCoefficient: 2},
	})
	var post *postOffice
	sent, passed := 0, 0
	for _, day := range reminderDays {
		if err := workflow.Sleep(ctx, time.Duration(day-passed)*subscriber.Day); err != nil {
			return sent, err
		}
		passed = day
		text := fmt.Sprintf("day %d: your data is still with us", day)
		if err := workflow.ExecuteActivity(ctx, post.SendMail, subscriber.Address, text).Get(ctx, nil); err != nil {
			return sent, err
		}
		sent++
	}
	return sent, nil
}

// The post office stands for a mail server that isn't up when the first mail is to be sent.
type postOffice struct {
	mutex     sync.Mutex
	attempts  int
	delivered []string
}

func (p *postOffice) SendMail(_ context.Context, to, text string) error {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.attempts++
	if p.attempts == 1 {
		narrate("activity: the mail server does not answer")
		return errors.New("the mail server does not answer")
	}
	narrate("activity: mail to %s, %s", to, text)
	p.delivered = append(p.delivered, text)
	return nil
}

func reminders(flags *flag.FlagSet) program {
	day := flags.Duration("day", 100*time.Millisecond, "how long a day lasts")
	return program{play: func(ctx context.Context, s *stage) error {
		ctx, cancel := s.limit(ctx, time.Minute+31**day)
		defer cancel()
		post := &postOffice{}
		stop, err := s.startWorker(func(r worker.Registry) {
			r.RegisterWorkflow(Reminders)
			r.RegisterActivity(post)
		})
		if err != nil {
			return err
		}
		defer stop()

		begun := time.Now()
		run, err := s.start(ctx, "reminders", Reminders, Subscriber{"ada@example.com", *day})
		if err != nil {
			return err
		}
		narrate("client: started %s; days of %v", run.GetID(), *day)
		var sent int
		if err := run.Get(ctx, &sent); err != nil {
			return err
		}
		narrate("client: %d mails in %v", sent, time.Since(begun).Round(time.Millisecond))
		if time.Since(begun) < 30**day {
			return fmt.Errorf("expected 30 days of %v to pass, but it took %v", *day, time.Since(begun))
		}
		want := []string{"day 1: your data is still with us", "day 7: your data is still with us", "day 30: your data is still with us"}
		if !slices.Equal(want, post.delivered) {
			return fmt.Errorf("expected the mails %q, but got %q", want, post.delivered)
		}
		return errors.Join(expect("the result", 3, sent), expect("the number of attempts", 4, post.attempts))
	}}
}
