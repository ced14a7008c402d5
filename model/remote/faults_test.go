package remote

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"inceptor/model/remote/remotetest"
)

// A badCodec reads nothing, and writes bytes that are no message.
type badCodec struct{}

var _ encoding.CodecV2 = badCodec{}

func (badCodec) Marshal(any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer("\xff\xff\xff\xff")}, nil
}
func (badCodec) Unmarshal(mem.BufferSlice, any) error { return nil }
func (badCodec) Name() string                         { return "proto" }

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
	predict := func() {
		a, err := c.Predict(t.Context(), batchOf(1))
		if err != nil {
			t.Fatal(err)
		}
		answered[a.Server]++
	}
	if !soon(func() bool { predict(); return len(answered) == 2 }) { // the second connection may come later
		t.Fatalf("answered: %v", answered)
	}
	clear(answered)
	for range 20 {
		predict()
	}
	if answered[servers[0].Addr()] != 10 || answered[servers[1].Addr()] != 10 {
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

// soon repeats f until it returns true, for a minute at most.
func soon(f func() bool) bool {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if f() {
			return true
		}
	}
	return false
}
