package remote

import (
	"context"
	"io"
	"math"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"

	"inceptor/model/remote/remotetest"
	"inceptor/savedmodel/tfpb"
)

// Responses without valid scores for the batch are errors.
func TestPredictBadAnswers(t *testing.T) {
	const n, classes = 2, 5
	whole := func() *tfpb.TensorProto { return remotetest.Scores(n, classes, make([]float32, n*classes)...) }
	for _, test := range []struct {
		name    string
		outputs map[string]*tfpb.TensorProto
		change  func(*tfpb.TensorProto)
		want    string
	}{
		{"no outputs", map[string]*tfpb.TensorProto{}, nil, `no output "scores"`},
		{"another output", map[string]*tfpb.TensorProto{"logits": whole()}, nil, `no output "scores"`},
		{"empty tensor", map[string]*tfpb.TensorProto{"scores": {}}, nil, "is invalid, want numbers"},
		{"integers", nil, func(p *tfpb.TensorProto) { p.Dtype = tfpb.DataType_DT_INT64 }, "has 0 values, want 10"},
		{"truth values", nil, func(p *tfpb.TensorProto) { p.Dtype = tfpb.DataType_DT_BOOL }, "is bool, want numbers"},
		{"unknown type", nil, func(p *tfpb.TensorProto) { p.Dtype = 4711 }, "dtype(4711)"},
		{"no shape", nil, func(p *tfpb.TensorProto) { p.TensorShape = nil }, "shape []"},
		{"unknown rank", nil, func(p *tfpb.TensorProto) { p.TensorShape.UnknownRank = true }, "shape"},
		{"rank 1", nil, func(p *tfpb.TensorProto) { p.TensorShape.Dim = p.TensorShape.Dim[:1] }, "1 classes"},
		{"one row too few", nil, func(p *tfpb.TensorProto) { p.TensorShape.Dim[0].Size = 1 }, "shape [1, 5], want [2, …]"},
		{"one row too many", nil, func(p *tfpb.TensorProto) { p.TensorShape.Dim[0].Size = 3 }, "shape [3, 5]"},
		{"no classes", nil, func(p *tfpb.TensorProto) { p.TensorShape.Dim[1].Size = 0 }, "shape [2, 0]"},
		{"negative", nil, func(p *tfpb.TensorProto) { p.TensorShape.Dim[1].Size = -5 }, "shape [2, ?]"},
		{"huge", nil, func(p *tfpb.TensorProto) { p.TensorShape.Dim[1].Size = math.MaxInt64 }, "classes"},
		{"large", nil, func(p *tfpb.TensorProto) { p.TensorShape.Dim[1].Size = math.MaxInt32 }, "has 10 values, want"},
		{"other classes", nil, func(p *tfpb.TensorProto) { p.TensorShape.Dim[1].Size = 4 }, "has 4 classes, want 5"},
		{"many dimensions", nil, func(p *tfpb.TensorProto) {
			p.TensorShape.Dim = slices.Insert(p.TensorShape.Dim, 1, slices.Repeat([]*tfpb.TensorShapeProto_Dim{{Size: 1}}, 7)...)
		}, "has 9 dimensions and 10 values, want"},
		{"value missing", nil, func(p *tfpb.TensorProto) { p.FloatVal = p.FloatVal[:9] }, "has 9 values, want 10"},
		{"value over", nil, func(p *tfpb.TensorProto) { p.FloatVal = append(p.FloatVal, 0) }, "has 11 values, want 10"},
		{"bytes missing", nil, func(p *tfpb.TensorProto) { p.TensorContent = make([]byte, 39) }, "has 39 bytes, want 40"},
		{"bytes over", nil, func(p *tfpb.TensorProto) { p.TensorContent = make([]byte, 44) }, "has 44 bytes, want 40"},
	} {
		t.Run(test.name, func(t *testing.T) {
			fake := remotetest.NewFake("inception")
			server := remotetest.Serve(t, fake)
			fake.SetHook(func(context.Context, *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
				outputs := test.outputs
				if outputs == nil {
					tensor := whole()
					test.change(tensor)
					outputs = map[string]*tfpb.TensorProto{"scores": tensor}
				}
				return &tfpb.PredictResponse{Outputs: outputs}, nil
			})
			c, o := newClient(t, testConfig(server.Addr()))
			b := batchOf(1, 2)
			if !strings.Contains(test.want, "values, want") {
				b.Classes = classes
			}
			_, err := c.Predict(t.Context(), b)
			wantKind(t, err, KindAnswer, test.want)
			if calls, _ := o.all(); !slices.Equal(calls, []string{"predict BadAnswer"}) {
				t.Errorf("observed %q", calls)
			}
		})
	}
}

// A response that is too large is not read.
func TestPredictHugeAnswer(t *testing.T) {
	fake := remotetest.NewFake("inception")
	server := remotetest.Serve(t, fake)
	fake.SetHook(func(context.Context, *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
		return &tfpb.PredictResponse{Outputs: map[string]*tfpb.TensorProto{"scores": {TensorContent: make([]byte, baseAnswerBytes+rowAnswerBytes)}}}, nil
	})
	c, _ := newClient(t, testConfig(server.Addr()))
	_, err := c.Predict(t.Context(), batchOf(1))
	wantKind(t, err, KindTooLarge, "larger than max")
}

// The address belongs to something other than a model server.
func TestPredictGarbage(t *testing.T) {
	for name, answer := range map[string]string{
		"silence":  "",
		"text":     "hello\r\n",
		"HTTP/1.1": "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
		"zeros":    strings.Repeat("\x00", 100),
		"a frame":  "\x00\xff\xff\x04\x00\x00\x00\x00\x00" + strings.Repeat("\xff", 1000),
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var served sync.WaitGroup
			served.Go(func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					served.Go(func() {
						_, _ = io.WriteString(conn, answer)
						_, _ = io.CopyN(io.Discard, conn, 24) // the client's preface
						conn.Close()
					})
				}
			})
			c, _ := newClient(t, hasty(testConfig(l.Addr().String())))
			_, err = c.Predict(t.Context(), batchOf(1))
			wantKind(t, err, KindUnavailable)
			t.Log(err)
			_ = c.Close()
			l.Close()
			served.Wait()
		})
	}
}

// A malformed message in a valid frame is an error.
func TestPredictMalformed(t *testing.T) {
	fake := remotetest.NewFake("inception")
	server := remotetest.Serve(t, fake, grpc.ForceServerCodecV2(badCodec{}))
	fake.SetHook(func(context.Context, *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
		return &tfpb.PredictResponse{}, nil
	})
	c, _ := newClient(t, testConfig(server.Addr()))
	_, err := c.Predict(t.Context(), batchOf(1))
	wantKind(t, err, KindUnavailable, "unmarshal")
}
