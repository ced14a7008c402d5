package remote

import (
	"context"
	"encoding/binary"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"inceptor/internal/settings"
	"inceptor/model/remote/remotetest"
	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
)

// An observed is an Observer that records its calls.
type observed struct {
	mu     sync.Mutex
	codes  []string
	states []string
}

func (o *observed) CallDone(op, code string, _ time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.codes = append(o.codes, op+" "+code)
}

func (o *observed) BreakerChanged(state string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.states = append(o.states, state)
}

func (o *observed) all() (calls, states []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.codes), slices.Clone(o.states)
}

// testConfig returns a configuration with enough time for a busy machine, and a breaker that
// does not open by chance.
func testConfig(addr string) Config {
	c := settings.Default[Config]()
	c.Address, c.Model = addr, "inception"
	c.Timeout, c.Budget = 30*time.Second, 30*time.Second
	c.Breaker = Breaker{Failures: 1000, Open: 200 * time.Millisecond}
	return c
}

// hasty shortens the budget, for calls that fail until it is spent.
func hasty(c Config) Config {
	c.Timeout, c.Budget = 600*time.Millisecond, 600*time.Millisecond
	return c
}

// failsWith calls until the error has the text. On a busy machine a call of a hasty client may have
// too little time to find out more than that.
func failsWith(t *testing.T, c *Client, text string) {
	t.Helper()
	var err error
	if !soon(func() bool {
		_, err = c.Predict(t.Context(), batchOf(1))
		return KindOf(err) == KindUnavailable && strings.Contains(err.Error(), text)
	}) {
		t.Fatalf("got %v, want a call to fail with %q", err, text)
	}
}

func newClient(t testing.TB, c Config) (*Client, *observed) {
	t.Helper()
	o := &observed{}
	client, err := New(c, slog.New(slog.DiscardHandler), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client, o
}

var onePixel = savedmodel.Shape{1, 1, 3}

// batchOf returns a batch of images of 1×1, one for each value.
func batchOf(values ...float32) Batch {
	var images [][]byte
	for _, v := range values {
		images = append(images, slices.Concat(float32Bytes(v), make([]byte, 8)))
	}
	t, err := Numbers(savedmodel.Float32, onePixel, images...)
	if err != nil {
		panic(err)
	}
	blank := func() (map[string]*tfpb.TensorProto, error) {
		t, err := Numbers(savedmodel.Float32, onePixel, make([]byte, 12))
		return map[string]*tfpb.TensorProto{remotetest.PixelsInput: t}, err
	}
	return Batch{Signature: remotetest.PixelsSignature, Inputs: map[string]*tfpb.TensorProto{remotetest.PixelsInput: t}, Output: remotetest.Output, Blank: blank, Version: NoVersion}
}

func float32Bytes(v float32) []byte {
	return binary.LittleEndian.AppendUint32(nil, math.Float32bits(v))
}

func bytesOf(images ...string) Batch {
	var list [][]byte
	for _, s := range images {
		list = append(list, []byte(s))
	}
	blank := func() (map[string]*tfpb.TensorProto, error) {
		return map[string]*tfpb.TensorProto{remotetest.BytesInput: Strings(nil, []byte("blank"))}, nil
	}
	return Batch{Signature: remotetest.BytesSignature, Inputs: map[string]*tfpb.TensorProto{remotetest.BytesInput: Strings(nil, list...)}, Output: remotetest.Output, Blank: blank, Version: NoVersion}
}

func checkScores(t *testing.T, a Answer, want ...float32) {
	t.Helper()
	if len(a.Scores) != len(want) {
		t.Fatalf("%d rows, want %d", len(a.Scores), len(want))
	}
	for i, row := range a.Scores {
		if len(row) != 5 || row[0] != want[i] {
			t.Errorf("image %d scores %v, want %v first", i, row, want[i])
		}
	}
}

func wantKind(t *testing.T, err error, want Kind, text ...string) {
	t.Helper()
	if KindOf(err) != want {
		t.Fatalf("got %q error %v, want %q", KindOf(err), err, want)
	}
	for _, s := range text {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("got %q, want it to tell %q", err, s)
		}
	}
}

func TestPredict(t *testing.T) {
	fake := remotetest.NewFake("inception")
	fake.Versions = []int64{3, 7}
	server := remotetest.Serve(t, fake)
	c, o := newClient(t, testConfig(server.Addr()))
	a, err := c.Predict(t.Context(), batchOf(1, 2, 3))
	if err != nil {
		t.Fatal(err)
	}
	checkScores(t, a, 1, 2, 3)
	if a.Version != 7 || a.Server != server.Addr() || a.Took <= 0 {
		t.Errorf("got %+v, want version 7 from %s", a, server.Addr())
	}
	a, err = c.Predict(t.Context(), bytesOf("a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	checkScores(t, a, 'a', 'b')
	if calls, states := o.all(); !slices.Equal(calls, []string{"predict OK", "predict OK"}) || !slices.Equal(states, []string{"closed"}) {
		t.Errorf("observed %q and %q", calls, states)
	}
}

func TestPredictTakesNoEmptyBatch(t *testing.T) {
	c, _ := newClient(t, testConfig("127.0.0.1:1"))
	for _, images := range []*tfpb.TensorProto{nil, {}, Strings(nil)} {
		if _, err := c.Predict(t.Context(), Batch{Inputs: map[string]*tfpb.TensorProto{"x": images}}); err == nil || !strings.Contains(err.Error(), "want 1 to") {
			t.Errorf("%v: got %v", images, err)
		}
	}
	for _, images := range [][][]byte{{make([]byte, 11)}, {make([]byte, 12), make([]byte, 13)}} {
		if _, err := Numbers(savedmodel.Float32, onePixel, images...); err == nil {
			t.Errorf("%v are pixels", images)
		}
	}
	if _, err := Numbers(savedmodel.String, onePixel); err == nil {
		t.Error("strings are numbers")
	}
	two := Batch{Inputs: map[string]*tfpb.TensorProto{"x": Strings(nil, []byte("a")), "y": Strings(nil, []byte("a"), []byte("b"))}}
	if _, err := c.Predict(t.Context(), two); err == nil || !strings.Contains(err.Error(), "as many of each input") {
		t.Errorf("one of an input and two of another: got %v", err)
	}
}

// Which version is requested, and from which version an answer is accepted.
func TestPredictVersion(t *testing.T) {
	fake := remotetest.NewFake("inception")
	fake.Versions, fake.Labels = []int64{0, 3, 7}, map[string]int64{"stable": 3}
	server := remotetest.Serve(t, fake)
	lie := func(response int64) func(context.Context, *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
		return func(_ context.Context, r *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
			answer, err := fake.Answer(r)
			if err == nil && response == NoVersion {
				answer.ModelSpec = nil
			} else if err == nil {
				answer.ModelSpec.GetVersionChoice().(*tfpb.ModelSpec_Version).Version.Value = response
			}
			return answer, err
		}
	}
	for _, test := range []struct {
		name         string
		policy       string
		label        string // of the configuration
		ask          Batch
		hook         func(context.Context, *tfpb.PredictRequest) (*tfpb.PredictResponse, error)
		want         int64
		kind         Kind
		tell, called string
	}{
		{name: "same", policy: "same", ask: Batch{Version: 3}, want: 3},
		{name: "same, none local", policy: "same", ask: Batch{Version: NoVersion}, want: 7},
		{name: "same, version 0", policy: "same", ask: Batch{Version: 0}, want: 0},
		{name: "same, version 0, another answers", policy: "same", ask: Batch{Version: 0}, hook: lie(7), kind: KindVersion, tell: "version 7 has answered, want 0", called: "predict WrongVersion"},
		{name: "same, another than version 3 answers, 0", policy: "same", ask: Batch{Version: 3}, hook: lie(0), kind: KindVersion, tell: "version 0 has answered, want 3", called: "predict WrongVersion"},
		{name: "any, version 0 answers", policy: "any", ask: Batch{Version: 3}, hook: lie(0), want: 0},
		{name: "same, not there", policy: "same", ask: Batch{Version: 4}, kind: KindVersion, tell: "Specific(inception, 4)", called: "predict NotFound"},
		{name: "same, another answers", policy: "same", ask: Batch{Version: 3}, hook: lie(4), kind: KindVersion, tell: "version 4 has answered, want 3", called: "predict WrongVersion"},
		{name: "same, no version told", policy: "same", ask: Batch{Version: 3}, hook: lie(NoVersion), kind: KindVersion, tell: "does not report its version", called: "predict WrongVersion"},
		{name: "same by label", policy: "same", label: "stable", ask: Batch{Version: 3}, want: 3},
		{name: "same by label, moved", policy: "same", label: "stable", ask: Batch{Version: 7}, kind: KindVersion, tell: "version 3 has answered, want 7", called: "predict WrongVersion"},
		{name: "any", policy: "any", ask: Batch{Version: 3}, want: 7},
		{name: "any by label", policy: "any", label: "stable", ask: Batch{Version: 7}, want: 3},
		{name: "any, label of the batch", policy: "any", label: "none", ask: Batch{Label: "stable"}, want: 3},
		{name: "any, no version told", policy: "any", ask: Batch{Version: 3}, hook: lie(NoVersion), want: NoVersion},
		{name: "no such label", policy: "any", label: "canary", kind: KindRefused, tell: "canary (and also for a blank record)", called: "predict InvalidArgument"},
	} {
		t.Run(test.name, func(t *testing.T) {
			fake.SetHook(test.hook)
			config := testConfig(server.Addr())
			config.Version, config.Label = test.policy, test.label
			c, o := newClient(t, config)
			b := batchOf(5)
			b.Version, b.Label = test.ask.Version, test.ask.Label
			a, err := c.Predict(t.Context(), b)
			if test.kind != "" {
				wantKind(t, err, test.kind, test.tell)
				if calls, _ := o.all(); calls[0] != test.called {
					t.Errorf("observed %q, want %q", calls, test.called)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if a.Version != test.want {
				t.Errorf("version %d has answered, want %d", a.Version, test.want)
			}
			checkScores(t, a, 5)
		})
	}
}

// An image is to blame only if a blank one is accepted in its place.
func TestPredictBlames(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		c, _ := b.client(t, testConfig(b.server.Addr()))
		for _, batch := range []Batch{batchOf(remotetest.Poison), batchOf(1, remotetest.Poison), bytesOf("\r"), bytesOf(""), bytesOf("a", "\r")} {
			_, err := c.Predict(t.Context(), batch)
			wantKind(t, err, KindInput)
		}
		for name, change := range map[string]func(*Batch){
			"signature": func(b *Batch) { b.Signature = "none" },
			"input": func(b *Batch) {
				blank := b.Blank
				b.Inputs = map[string]*tfpb.TensorProto{"none": anyOf(b.Inputs)}
				b.Blank = func() (map[string]*tfpb.TensorProto, error) { // it has the same names
					inputs, err := blank()
					return map[string]*tfpb.TensorProto{"none": anyOf(inputs)}, err
				}
			},
		} {
			for _, batch := range []Batch{batchOf(1), bytesOf("a")} {
				change(&batch)
				_, err := c.Predict(t.Context(), batch)
				if KindOf(err) != KindRefused {
					t.Errorf("%s: got %v", name, err)
				}
			}
		}
		// The server fails between the image and the blank one.
		b.fake.SetHook(func(context.Context, *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
			b.fake.Fail(codes.Unavailable, "gone")
			return nil, status.Error(codes.InvalidArgument, "told")
		})
		_, err := c.Predict(t.Context(), batchOf(1))
		wantKind(t, err, KindUnavailable, "gone")
	})
}

func TestMetadataAndStatus(t *testing.T) {
	fake := remotetest.NewFake("inception")
	fake.Versions, fake.Labels = []int64{0, 3, 7}, map[string]int64{"stable": 3}
	server := remotetest.Serve(t, fake)
	c, _ := newClient(t, testConfig(server.Addr()))
	for _, test := range []struct {
		version int64
		label   string
		want    int64
	}{{NoVersion, "", 7}, {0, "", 0}, {3, "", 3}, {3, "stable", 3}} {
		m, err := c.Metadata(t.Context(), test.version, test.label)
		if err != nil {
			t.Fatal(err)
		}
		in := m.Signatures[remotetest.PixelsSignature].Inputs[remotetest.PixelsInput]
		if m.Version != test.want || len(m.Signatures) != 2 || in.DType != savedmodel.Float32 || !slices.Equal(in.Shape, savedmodel.Shape{-1, 1, 1, 3}) {
			t.Errorf("%+v: got %+v", test, m)
		}
	}
	_, err := c.Metadata(t.Context(), 4, "")
	wantKind(t, err, KindVersion)
	_, err = c.Metadata(t.Context(), NoVersion, "canary")
	wantKind(t, err, KindRefused, "canary")

	versions, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := []VersionStatus{{7, "AVAILABLE", ""}, {3, "AVAILABLE", ""}, {0, "AVAILABLE", ""}}; !slices.Equal(versions, want) {
		t.Errorf("got %v, want %v", versions, want)
	}
	config := testConfig(server.Addr())
	config.Model = "other"
	c, _ = newClient(t, config)
	_, err = c.Status(t.Context())
	wantKind(t, err, KindRefused, "other")
}

func anyOf(inputs map[string]*tfpb.TensorProto) *tfpb.TensorProto {
	for _, t := range inputs {
		return t
	}
	return nil
}
