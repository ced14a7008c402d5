package remote

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"inceptor/model/remote/remotetest"
	"inceptor/savedmodel/tfpb"
)

// Failures in a row open the breaker. No call is made while it is open. Then one batch tries
// the server first.
func TestBreaker(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		config := testConfig(b.server.Addr())
		config.Breaker = Breaker{Failures: 3, Open: 200 * time.Millisecond}
		c, o := b.client(t, config)

		fail := func() {
			t.Helper()
			b.fake.Fail(codes.Internal, "broken")
			for range 3 {
				_, err := c.Predict(t.Context(), batchOf(1, 2))
				wantKind(t, err, KindUnavailable, "broken")
			}
			calls := b.fake.Calls.Load()
			_, err := c.Predict(t.Context(), batchOf(1))
			wantKind(t, err, KindOpen, "too many calls have failed")
			if e := new(Error); !errors.As(err, &e) || e.After <= 0 || e.After > config.Breaker.Open {
				t.Errorf("next try after %v, want at most %v", e.After, config.Breaker.Open)
			}
			if _, err := c.Metadata(t.Context(), NoVersion, ""); KindOf(err) != KindOpen {
				t.Errorf("metadata: got %v", err)
			}
			if b.fake.Calls.Load() != calls {
				t.Error("the server was called")
			}
		}
		fail()
		time.Sleep(config.Breaker.Open + 20*time.Millisecond)

		// A success of Metadata does not close it; a batch that fails opens it again.
		if _, err := c.Metadata(t.Context(), NoVersion, ""); err != nil {
			t.Fatal(err)
		}
		_, err := c.Predict(t.Context(), batchOf(1))
		wantKind(t, err, KindUnavailable, "broken")
		_, err = c.Predict(t.Context(), batchOf(1))
		wantKind(t, err, KindOpen)
		time.Sleep(config.Breaker.Open + 20*time.Millisecond)

		// One batch goes first, and the others are refused meanwhile.
		hold, held := make(chan struct{}), make(chan struct{})
		var once sync.Once
		b.fake.SetHook(func(context.Context, *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
			once.Do(func() { close(held) })
			<-hold
			return nil, nil
		})
		first := make(chan error)
		go func() {
			_, err := c.Predict(t.Context(), batchOf(1))
			first <- err
		}()
		<-held
		_, err = c.Predict(t.Context(), batchOf(2))
		wantKind(t, err, KindOpen, "one batch tries it first")
		close(hold)
		if err := <-first; err != nil {
			t.Fatal(err)
		}
		if _, err := c.Predict(t.Context(), batchOf(2)); err != nil {
			t.Error(err)
		}
		if _, states := o.all(); !slices.Equal(states, []string{"closed", "open", "half-open", "open", "half-open", "closed"}) {
			t.Errorf("observed %q", states)
		}

		// A refusal of the input shows that the server works: it does not open the breaker, and
		// it closes an open one.
		fail()
		b.fake.SetHook(nil)
		time.Sleep(config.Breaker.Open + 20*time.Millisecond)
		for range 5 {
			_, err := c.Predict(t.Context(), batchOf(remotetest.Poison, 1))
			wantKind(t, err, KindInput)
		}
		if _, err := c.Predict(t.Context(), batchOf(1)); err != nil {
			t.Error(err)
		}
	})
}

// The breaker counts a timeout, unless the call had hardly any time.
func TestBreakerCountsTimeouts(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.hang()
		config := testConfig(b.server.Addr())
		config.Timeout, config.Budget = 200*time.Millisecond, 200*time.Millisecond
		config.Breaker = Breaker{Failures: 2, Open: time.Minute}
		c, o := b.client(t, config)
		for range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			_, err := c.Predict(ctx, batchOf(1))
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("deadline of the caller: got %v", err)
			}
		}
		if _, states := o.all(); len(states) != 1 {
			t.Errorf("observed %q", states)
		}
		for range 2 {
			_, err := c.Predict(t.Context(), batchOf(1))
			wantKind(t, err, KindUnavailable)
		}
		_, err := c.Predict(t.Context(), batchOf(1))
		wantKind(t, err, KindOpen)
	})
}

// A breaker that opens during retries does not hide their cause.
func TestBreakerOpensDuringRetries(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		config := testConfig(b.server.Addr())
		config.Breaker = Breaker{Failures: 2, Open: time.Minute}
		c, o := b.client(t, config)
		b.fake.Fail(codes.Unavailable, "going down")
		start := time.Now()
		_, err := c.Predict(t.Context(), batchOf(1))
		wantKind(t, err, KindUnavailable, "going down")
		wantWithin(t, time.Second, start)
		if calls, _ := o.all(); len(calls) != 2 {
			t.Errorf("observed %q, want two calls", calls)
		}
	})
}

// A half-open breaker connects at once, although the channel waits before it reconnects.
func TestHalfOpenConnects(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.server.Kill()
		config := testConfig(b.server.Addr())
		config.Timeout, config.Budget = 2*time.Second, 4*time.Second
		config.Breaker = Breaker{Failures: 3, Open: time.Second}
		c, _ := b.client(t, config)
		_, err := c.Predict(t.Context(), batchOf(1))
		wantKind(t, err, KindUnavailable)
		if c.breaker.State().String() != "open" {
			t.Fatalf("breaker is %v", c.breaker.State())
		}
		b.server.Start()
		time.Sleep(config.Breaker.Open)
		start := time.Now()
		if _, err := c.Predict(t.Context(), batchOf(1)); err != nil {
			t.Fatal(err)
		}
		wantWithin(t, 0, start)
	})
}
