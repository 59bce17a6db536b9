package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// Greeting greets someone. The text is composed by an activity, which could live in another process or language.
func Greeting(ctx workflow.Context, name string) (string, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 10 * time.Second})
	var greeting string
	err := workflow.ExecuteActivity(ctx, ComposeGreeting, name).Get(ctx, &greeting)
	return greeting, err
}

func ComposeGreeting(_ context.Context, name string) (string, error) {
	narrate("activity: composing a greeting for %s", name)
	return fmt.Sprintf("Hello, %s!", name), nil
}

func greeting(flags *flag.FlagSet) program {
	name := flags.String("name", "Ada", "whom to greet")
	return program{play: func(ctx context.Context, s *stage) error {
		ctx, cancel := s.limit(ctx, time.Minute)
		defer cancel()
		stop, err := s.startWorker(func(r worker.Registry) {
			r.RegisterWorkflow(Greeting)
			r.RegisterActivity(ComposeGreeting)
		})
		if err != nil {
			return err
		}
		defer stop()

		run, err := s.start(ctx, "greeting", Greeting, *name)
		if err != nil {
			return err
		}
		narrate("client: started %s, run %s", run.GetID(), run.GetRunID())
		var greeting string
		if err := run.Get(ctx, &greeting); err != nil {
			return err
		}
		narrate("client: the workflow says %q", greeting)
		return expect("the greeting", "Hello, "+*name+"!", greeting)
	}}
}
