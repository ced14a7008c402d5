package remote

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"inceptor/model/remote/remotetest"
	"inceptor/savedmodel/tfpb"
)

// A badCodec reads nothing, and writes bytes that are no message.
type badCodec struct{}

var _ encoding.CodecV2 = badCodec{}

func (badCodec) Marshal(any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer("\xff\xff\xff\xff")}, nil
}
func (badCodec) Unmarshal(mem.BufferSlice, any) error { return nil }
func (badCodec) Name() string                         { return "proto" }

// One client serves while the server starts late, stops and restarts.
func TestServerComesAndGoes(t *testing.T) {
	fake := remotetest.NewFake("inception")
	server := remotetest.Serve(t, fake)
	server.Kill()
	config := hasty(testConfig(server.Addr()))
	c, _ := newClient(t, config)
	for range 2 {
		start := time.Now()
		_, err := c.Predict(t.Context(), batchOf(1))
		wantKind(t, err, KindUnavailable, "connection refused")
		if took := time.Since(start); took > config.Budget+slack {
			t.Errorf("took %v of a budget of %v", took, config.Budget)
		}
		server.Start()
		if !soon(func() bool {
			_, err := c.Predict(t.Context(), batchOf(1))
			return err == nil
		}) {
			t.Fatal("it does not come back")
		}
		server.Kill()
	}
}

// A batch that meets a restart of the server is answered within its budget.
func TestRetryOverRestart(t *testing.T) {
	fake := remotetest.NewFake("inception")
	server := remotetest.Serve(t, fake)
	config := testConfig(server.Addr())
	config.Budget = 10 * time.Second
	c, o := newClient(t, config)
	if _, err := c.Predict(t.Context(), batchOf(1)); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	time.AfterFunc(300*time.Millisecond, server.Start)
	a, err := c.Predict(t.Context(), batchOf(1, 2))
	if err != nil {
		t.Fatal(err)
	}
	checkScores(t, a, 1, 2)
	if calls, _ := o.all(); !slices.Contains(calls, "predict Unavailable") {
		t.Errorf("observed %q, want a failure", calls)
	}
}

// A connection that ends anywhere in a message causes a retry, and never half an answer.
func TestCutInTheMiddle(t *testing.T) {
	fake := remotetest.NewFake("inception")
	fake.Classes = 1000
	server := remotetest.Serve(t, fake)
	config := testConfig(server.Addr())
	config.Budget = 10 * time.Second
	c, o := newClient(t, config)
	b := batchOf(1, 2, 3)
	for _, n := range []int{0, 1, 9, 50, 100, 1000, 5000, 11_000} {
		server.CutAfter(n)
		time.AfterFunc(100*time.Millisecond, func() { server.CutAfter(-1) })
		a, err := c.Predict(t.Context(), b)
		if err != nil {
			t.Fatalf("after %d bytes: %v", n, err)
		}
		if len(a.Scores) != 3 || len(a.Scores[2]) != 1000 || a.Scores[2][0] != 3 {
			t.Errorf("after %d bytes: %d rows", n, len(a.Scores))
		}
	}
	if calls, _ := o.all(); !slices.Contains(calls, "predict Unavailable") {
		t.Errorf("observed %q, want failures", calls)
	}
}

func TestFrozen(t *testing.T) {
	fake := remotetest.NewFake("inception")
	server := remotetest.Serve(t, fake)
	config := testConfig(server.Addr())
	config.Timeout, config.Budget = 300*time.Millisecond, time.Second
	config.Breaker = Breaker{Failures: 3, Open: 300 * time.Millisecond}
	c, o := newClient(t, config)
	if _, err := c.Predict(t.Context(), batchOf(1)); err != nil {
		t.Fatal(err)
	}
	server.Freeze()
	var err error
	for range 3 {
		start := time.Now()
		if _, err = c.Predict(t.Context(), batchOf(1)); err == nil {
			t.Fatal("a frozen server has answered")
		}
		if took := time.Since(start); took > config.Budget+slack {
			t.Errorf("took %v of a budget of %v", took, config.Budget)
		}
		if KindOf(err) == KindOpen {
			break
		}
	}
	wantKind(t, err, KindOpen)
	server.Thaw()
	if !soon(func() bool {
		_, err := c.Predict(t.Context(), batchOf(1))
		return err == nil
	}) {
		t.Fatal("it does not come back")
	}
	if _, states := o.all(); !slices.Equal(states[:2], []string{"closed", "open"}) || states[len(states)-1] != "closed" {
		t.Errorf("observed %q", states)
	}
}

// Failures in a row open the breaker. No call is made while it is open. Then one batch tries
// the server first.
func TestBreaker(t *testing.T) {
	fake := remotetest.NewFake("inception")
	server := remotetest.Serve(t, fake)
	config := testConfig(server.Addr())
	config.Breaker = Breaker{Failures: 3, Open: 200 * time.Millisecond}
	c, o := newClient(t, config)

	fail := func() {
		t.Helper()
		fake.Fail(codes.Internal, "broken")
		for range 3 {
			_, err := c.Predict(t.Context(), batchOf(1, 2))
			wantKind(t, err, KindUnavailable, "broken")
		}
		calls := fake.Calls.Load()
		_, err := c.Predict(t.Context(), batchOf(1))
		wantKind(t, err, KindOpen, "too many calls have failed")
		if e := new(Error); !errors.As(err, &e) || e.After <= 0 || e.After > config.Breaker.Open {
			t.Errorf("next try after %v, want at most %v", e.After, config.Breaker.Open)
		}
		if _, err := c.Metadata(t.Context(), NoVersion, ""); KindOf(err) != KindOpen {
			t.Errorf("metadata: got %v", err)
		}
		if fake.Calls.Load() != calls {
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
	fake.SetHook(func(context.Context, *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
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
	fake.SetHook(nil)
	time.Sleep(config.Breaker.Open + 20*time.Millisecond)
	for range 5 {
		_, err := c.Predict(t.Context(), batchOf(remotetest.Poison, 1))
		wantKind(t, err, KindInput)
	}
	if _, err := c.Predict(t.Context(), batchOf(1)); err != nil {
		t.Error(err)
	}
}

// The breaker counts a timeout, unless the call had hardly any time.
func TestBreakerCountsTimeouts(t *testing.T) {
	fake := remotetest.NewFake("inception")
	server := remotetest.Serve(t, fake)
	fake.SetHook(func(ctx context.Context, _ *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	config := testConfig(server.Addr())
	config.Timeout, config.Budget = 200*time.Millisecond, 200*time.Millisecond
	config.Breaker = Breaker{Failures: 2, Open: time.Minute}
	c, o := newClient(t, config)
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
}

// A breaker that opens during retries does not hide their cause.
func TestBreakerOpensDuringRetries(t *testing.T) {
	fake := remotetest.NewFake("inception")
	server := remotetest.Serve(t, fake)
	config := testConfig(server.Addr())
	config.Breaker, config.Budget = Breaker{Failures: 2, Open: time.Minute}, 30*time.Second
	c, o := newClient(t, config)
	fake.Fail(codes.Unavailable, "going down")
	start := time.Now()
	_, err := c.Predict(t.Context(), batchOf(1))
	wantKind(t, err, KindUnavailable, "going down")
	if calls, _ := o.all(); len(calls) != 2 || time.Since(start) > 10*time.Second {
		t.Errorf("observed %q in %v, want two calls", calls, time.Since(start))
	}
}

// A half-open breaker connects at once, although the channel waits before it reconnects.
func TestHalfOpenConnects(t *testing.T) {
	fake := remotetest.NewFake("inception")
	server := remotetest.Serve(t, fake)
	server.Kill()
	config := testConfig(server.Addr())
	config.Timeout, config.Budget = 2*time.Second, 4*time.Second
	config.Breaker = Breaker{Failures: 3, Open: time.Second}
	c, _ := newClient(t, config)
	_, err := c.Predict(t.Context(), batchOf(1))
	wantKind(t, err, KindUnavailable)
	if c.breaker.State().String() != "open" {
		t.Fatalf("breaker is %v", c.breaker.State())
	}
	server.Start()
	time.Sleep(config.Breaker.Open)
	start := time.Now()
	if _, err := c.Predict(t.Context(), batchOf(1)); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("took %v", took)
	}
}

// Calls go to all addresses of a name in turn, and to the others when one fails.
func TestSeveralAddresses(t *testing.T) {
	fakes := []*remotetest.Fake{remotetest.NewFake("inception"), remotetest.NewFake("inception")}
	servers := []*remotetest.Server{remotetest.Serve(t, fakes[0]), remotetest.Serve(t, fakes[1])}
	names := manual.NewBuilderWithScheme("dns")
	names.InitialState(resolver.State{Addresses: []resolver.Address{{Addr: servers[0].Addr()}, {Addr: servers[1].Addr()}}})
	c, err := newWith(testConfig("dns:///models.example:8500"), slog.New(slog.DiscardHandler), Unobserved{}, grpc.WithResolvers(names))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	answered := map[string]int{}
	for range 20 {
		a, err := c.Predict(t.Context(), batchOf(1))
		if err != nil {
			t.Fatal(err)
		}
		answered[a.Server]++
		time.Sleep(5 * time.Millisecond) // the second connection may come later
	}
	if len(answered) != 2 || answered[servers[0].Addr()] < 5 || answered[servers[1].Addr()] < 5 {
		t.Errorf("answered: %v", answered)
	}
	servers[0].Kill()
	for range 20 {
		a, err := c.Predict(t.Context(), batchOf(1))
		if err != nil {
			t.Fatal(err)
		}
		if a.Server != servers[1].Addr() {
			t.Errorf("%s has answered", a.Server)
		}
	}
}

// A batch that is too large for the server has the kind that tells the caller to halve it.
func TestTooLargeForServer(t *testing.T) {
	fake := remotetest.NewFake("inception")
	server := remotetest.Serve(t, fake, grpc.MaxRecvMsgSize(1000))
	c, _ := newClient(t, testConfig(server.Addr()))
	_, err := c.Predict(t.Context(), bytesOf(strings.Repeat("a", 600), strings.Repeat("b", 600)))
	wantKind(t, err, KindTooLarge, "larger than max")
	a, err := c.Predict(t.Context(), bytesOf(strings.Repeat("a", 600)))
	if err != nil {
		t.Fatal(err)
	}
	checkScores(t, a, 'a')
	_, err = c.Predict(t.Context(), bytesOf(strings.Repeat("a", 1200)))
	wantKind(t, err, KindTooLarge)
}

// soon repeats f until it returns true, for some seconds.
func soon(f func() bool) bool {
	for range 100 {
		if f() {
			return true
		}
		time.Sleep(100 * time.Millisecond)
	}
	return false
}
