package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The ledger holds the server to its word: once it has acknowledged an activity's completion, it must never have that
// activity executed again, whatever happens to it. Executions before that are allowed: retries are at least once.
type ledger struct {
	mutex sync.Mutex
	// Which activity a task token belongs to, as the activities themselves tell.
	tokens       map[string]soakActivity
	acknowledged map[soakActivity]bool
	repeated     []error
	file         *os.File

	begun, retried, acknowledgements, refused atomic.Int64
}

type soakActivity struct{ WorkflowID, RunID, ActivityID string }

func newLedger() *ledger {
	return &ledger{tokens: map[string]soakActivity{}, acknowledged: map[soakActivity]bool{}}
}

// Work is the activity: it works for a while and returns its number.
func (l *ledger) Work(ctx context.Context, number int, duration time.Duration) (int, error) {
	l.begin(activity.GetInfo(ctx))
	return number, pause(ctx, duration)
}

func (l *ledger) begin(info activity.Info) {
	l.begun.Add(1)
	if info.Attempt > 1 {
		l.retried.Add(1)
	}
	this := soakActivity{info.WorkflowExecution.ID, info.WorkflowExecution.RunID, info.ActivityID}
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.tokens[string(info.TaskToken)] = this
	if l.acknowledged[this] {
		err := fmt.Errorf("attempt %d of activity %s of %s (run %s) was executed after a completion had been acknowledged",
			info.Attempt, this.ActivityID, this.WorkflowID, this.RunID)
		narrate("soak: %v", err)
		l.repeated = append(l.repeated, err)
	}
}

// intercept sees each call that the worker makes, at the connection: below the SDK's own retries.
func (l *ledger) intercept(
	ctx context.Context, method string, request, reply any, connection *grpc.ClientConn, call grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	err := call(ctx, method, request, reply, connection, options...)
	if completion, ok := request.(*workflowservice.RespondActivityTaskCompletedRequest); ok {
		switch status.Code(err) {
		case codes.OK:
			return l.acknowledge(completion.TaskToken)
		case codes.NotFound:
			l.refused.Add(1)
		}
	}
	return err
}

func (l *ledger) acknowledge(token []byte) error {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	done, ok := l.tokens[string(token)]
	if !ok {
		return errors.New("a completion was acknowledged for a task that never began")
	}
	delete(l.tokens, string(token))
	l.acknowledged[done] = true
	l.acknowledgements.Add(1)
	if l.file == nil {
		return nil
	}
	return json.NewEncoder(l.file).Encode(done)
}

func (l *ledger) violations() []error {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return append([]error(nil), l.repeated...)
}

// keepIn reads what an earlier process has written to the file and appends to it from now on, one line for each
// acknowledgement. A line that was cut off by a kill is passed over.
func (l *ledger) keepIn(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	whole := int64(0)
	for decoder := json.NewDecoder(file); ; whole = decoder.InputOffset() {
		var done soakActivity
		if decoder.Decode(&done) != nil {
			break
		}
		l.acknowledged[done] = true
	}
	if err := file.Truncate(whole); err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	l.file = file
	return nil
}

func (l *ledger) close() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.file.Close()
	l.file = nil
}
