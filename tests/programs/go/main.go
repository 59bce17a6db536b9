// Programs to run against any Temporal-compatible server: each starts its own worker and client, plays one scenario from
// beginning to end and checks every result.
//
//	programs greeting --address 127.0.0.1:7233
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
)

// A program is one scenario. Its constructor has declared the flags that it adds to the common ones.
type program struct {
	play func(context.Context, *stage) error
	// Sees each call of the client and the worker, where a program needs that.
	intercept grpc.UnaryClientInterceptor
	// How long the server may be away, from the start on; nil: not at all.
	outage *time.Duration
}

var constructors = map[string]func(*flag.FlagSet) program{
	"greeting":  greeting,
	"kyc":       kyc,
	"reminders": reminders,
	"soak":      soak,
	"watch":     watch,
}

func main() {
	if len(os.Args) < 2 || constructors[os.Args[1]] == nil {
		fmt.Fprintf(os.Stderr, "usage: programs <%s> [flags]\n", strings.Join(names(), "|"))
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s failed: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

func run(name string, args []string) error {
	flags := flag.NewFlagSet(name, flag.ExitOnError)
	var options options
	flags.StringVar(&options.address, "address", "127.0.0.1:7233", "where the server listens")
	flags.StringVar(&options.namespace, "namespace", "default", "the namespace to work in")
	flags.StringVar(&options.idPrefix, "id-prefix", name, "what workflow ids begin with; the task queue follows from it")
	flags.DurationVar(&options.timeout, "timeout", 0, "give up after this long (0: a minute, or what the program thinks fit)")
	flags.BoolVar(&options.verbose, "verbose", false, "show what the SDK logs")
	program := constructors[name](flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	stage, err := setUp(options, program)
	if err != nil {
		return err
	}
	defer stage.close()
	if err := program.play(stage.ctx, stage); err != nil {
		return stage.explain(err)
	}
	return stage.report(os.Stdout, "go/"+name)
}

func names() []string {
	var names []string
	for name := range constructors {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
