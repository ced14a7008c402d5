package remote

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"inceptor/model/remote/remotetest"
	"inceptor/savedmodel/tfpb"
)

// A bubble has a fake and its server in a bubble of package synctest.
type bubble struct {
	fake   *remotetest.Fake
	server *remotetest.Server
}

// inBubble runs a test in a bubble, where timeouts, budgets and pauses are exact however busy the
// machine is, and take no time.
func inBubble(t *testing.T, test func(*testing.T, *bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		fake := remotetest.NewFake("inception")
		test(t, &bubble{fake, remotetest.ServeInMemory(t, fake)})
	})
}

// client returns a client of the bubble's server.
func (b *bubble) client(t *testing.T, c Config) (*Client, *observed) {
	t.Helper()
	o := &observed{}
	client, err := newWith(c, slog.New(slog.DiscardHandler), o, grpc.WithContextDialer(b.server.Dial))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client, o
}

// hang makes every Predict wait until its client gives up.
func (b *bubble) hang() {
	b.fake.SetHook(func(ctx context.Context, _ *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
}

// wantWithin checks that no more than the time of a batch has passed.
func wantWithin(t *testing.T, budget time.Duration, start time.Time) {
	t.Helper()
	if took := time.Since(start); took > budget {
		t.Errorf("took %v of a budget of %v", took, budget)
	}
}

// The kind of each of gRPC's codes, and whether it is retried.
func TestPredictCodes(t *testing.T) {
	const again = true
	for _, test := range []struct {
		code    codes.Code
		message string
		kind    Kind
		again   bool
	}{
		{codes.Canceled, "", KindUnavailable, !again},
		{codes.Unknown, "", KindUnavailable, !again},
		{codes.InvalidArgument, "", KindInput, !again},
		{codes.DeadlineExceeded, "", KindUnavailable, again},
		{codes.NotFound, "", KindRefused, !again},
		{codes.AlreadyExists, "", KindRefused, !again},
		{codes.PermissionDenied, "", KindRefused, !again},
		{codes.ResourceExhausted, "queue is full", KindUnavailable, again},
		{codes.ResourceExhausted, "SERVER: Received message larger than max (9 vs. 4)", KindTooLarge, !again},
		{codes.FailedPrecondition, "", KindRefused, !again},
		{codes.Aborted, "", KindUnavailable, again},
		{codes.OutOfRange, "", KindRefused, !again},
		{codes.Unimplemented, "", KindRefused, !again},
		{codes.Internal, "", KindUnavailable, !again},
		{codes.Unavailable, "", KindUnavailable, again},
		{codes.DataLoss, "", KindUnavailable, !again},
		{codes.Unauthenticated, "", KindRefused, !again},
		{codes.Code(99), "", KindUnavailable, !again},
	} {
		t.Run(test.code.String()+test.message, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bubble) {
				config := testConfig(b.server.Addr())
				c, o := b.client(t, config)
				b.fake.Fail(test.code, "told "+test.message)
				start := time.Now()
				_, err := c.Predict(t.Context(), batchOf(1, 2))
				wantKind(t, err, test.kind, "predict at "+b.server.Addr(), test.code.String(), strings.TrimSpace("told "+test.message))
				calls, _ := o.all()
				if (len(calls) > 1) != test.again {
					t.Errorf("observed %q, want more than one: %v", calls, test.again)
				}
				wantWithin(t, config.Budget, start)

				// The fault is over.
				b.fake.SetHook(nil)
				a, err := c.Predict(t.Context(), batchOf(1, 2))
				if err != nil {
					t.Fatal(err)
				}
				checkScores(t, a, 1, 2)
			})
		})
	}
}

func TestPredictSlow(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.hang()
		config := testConfig(b.server.Addr())
		config.Timeout, config.Budget = 100*time.Millisecond, 450*time.Millisecond
		c, o := b.client(t, config)
		start := time.Now()
		_, err := c.Predict(t.Context(), batchOf(1))
		wantKind(t, err, KindUnavailable, "DeadlineExceeded: after ")
		wantWithin(t, config.Budget, start)
		if calls, _ := o.all(); len(calls) < 2 {
			t.Errorf("observed %q, want a retry", calls)
		}

		// A context that the caller ends gives its own error.
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		if _, err := c.Predict(ctx, batchOf(1)); !errors.Is(err, context.Canceled) || KindOf(err) != "" {
			t.Errorf("cancelled: got %v", err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := c.Predict(ctx, batchOf(1)); !errors.Is(err, context.DeadlineExceeded) || KindOf(err) != "" {
			t.Errorf("deadline of the caller: got %v", err)
		}
	})
}

// With a slow server, no more than fallback.concurrency batches are under way; the others wait
// for their turn.
func TestPredictConcurrency(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		release := make(chan struct{})
		b.fake.SetHook(func(context.Context, *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
			<-release
			return nil, nil
		})
		config := testConfig(b.server.Addr())
		config.Concurrency = 3
		c, _ := b.client(t, config)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, err := c.Predict(t.Context(), batchOf(1)); err != nil {
					t.Errorf("got %v", err)
				}
			})
		}
		synctest.Wait()
		if calls := b.fake.Calls.Load(); calls != 3 {
			t.Errorf("%d calls, want 3", calls)
		}
		close(release)
		wg.Wait()
		if most := b.fake.Most.Load(); most != 3 {
			t.Errorf("%d calls at once, want 3", most)
		}
	})
}

// A batch that waits for its turn waits no longer than its budget or its caller, and then costs
// the server no call.
func TestPredictWaitsInVain(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		config := testConfig(b.server.Addr())
		config.Concurrency = 3
		c, _ := b.client(t, config)
		for range config.Concurrency {
			c.slots <- struct{}{}
		}
		start := time.Now()
		_, err := c.Predict(t.Context(), batchOf(1))
		wantKind(t, err, KindUnavailable, "3 batches were under way for all of 30s")
		wantWithin(t, config.Budget, start)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := c.Predict(ctx, batchOf(1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("deadline of the caller: got %v", err)
		}
		if b.fake.Calls.Load() != 0 {
			t.Error("the server was called")
		}
		for range config.Concurrency {
			<-c.slots
		}
		if _, err := c.Predict(t.Context(), batchOf(1)); err != nil {
			t.Errorf("after all: %v", err)
		}
	})
}

// One client serves while the server starts late, stops and restarts.
func TestServerComesAndGoes(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.server.Kill()
		config := testConfig(b.server.Addr())
		c, _ := b.client(t, config)
		for range 2 {
			start := time.Now()
			_, err := c.Predict(t.Context(), batchOf(1))
			wantKind(t, err, KindUnavailable, "connection refused")
			wantWithin(t, config.Budget, start)
			b.server.Start()
			if !soon(func() bool {
				_, err := c.Predict(t.Context(), batchOf(1))
				return err == nil
			}) {
				t.Fatal("it does not come back")
			}
			b.server.Kill()
		}
	})
}

// A batch that meets a restart of the server is answered within its budget.
func TestRetryOverRestart(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		c, o := b.client(t, testConfig(b.server.Addr()))
		if _, err := c.Predict(t.Context(), batchOf(1)); err != nil {
			t.Fatal(err)
		}
		b.server.Kill()
		time.AfterFunc(300*time.Millisecond, b.server.Start)
		a, err := c.Predict(t.Context(), batchOf(1, 2))
		if err != nil {
			t.Fatal(err)
		}
		checkScores(t, a, 1, 2)
		if calls, _ := o.all(); !slices.Contains(calls, "predict Unavailable") {
			t.Errorf("observed %q, want a failure", calls)
		}
	})
}

// A connection that ends anywhere in a message causes a retry, and never half an answer.
func TestCutInTheMiddle(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.fake.Classes = 1000
		c, o := b.client(t, testConfig(b.server.Addr()))
		for _, n := range []int{0, 1, 9, 50, 100, 1000, 5000, 11_000} {
			b.server.CutAfter(n)
			time.AfterFunc(100*time.Millisecond, func() { b.server.CutAfter(-1) })
			a, err := c.Predict(t.Context(), batchOf(1, 2, 3))
			if err != nil {
				t.Fatalf("after %d bytes: %v", n, err)
			}
			if len(a.Scores) != 3 || len(a.Scores[2]) != 1000 || a.Scores[2][0] != 3 {
				t.Errorf("after %d bytes: %d rows", n, len(a.Scores))
			}
			time.Sleep(time.Second) // until it is mended, in any case
		}
		if calls, _ := o.all(); !slices.Contains(calls, "predict Unavailable") {
			t.Errorf("observed %q, want failures", calls)
		}
	})
}

func TestFrozen(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		config := testConfig(b.server.Addr())
		config.Timeout, config.Budget = 300*time.Millisecond, time.Second
		config.Breaker = Breaker{Failures: 3, Open: 300 * time.Millisecond}
		c, o := b.client(t, config)
		if _, err := c.Predict(t.Context(), batchOf(1)); err != nil {
			t.Fatal(err)
		}
		b.server.Freeze()
		var err error
		for range 3 {
			start := time.Now()
			if _, err = c.Predict(t.Context(), batchOf(1)); err == nil {
				t.Fatal("a frozen server has answered")
			}
			wantWithin(t, config.Budget, start)
			if KindOf(err) == KindOpen {
				break
			}
		}
		wantKind(t, err, KindOpen)
		b.server.Thaw()
		if !soon(func() bool {
			_, err := c.Predict(t.Context(), batchOf(1))
			return err == nil
		}) {
			t.Fatal("it does not come back")
		}
		if _, states := o.all(); !slices.Equal(states[:2], []string{"closed", "open"}) || states[len(states)-1] != "closed" {
			t.Errorf("observed %q", states)
		}
	})
}
