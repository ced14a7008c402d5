package fallback

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"

	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/model/internal/modeltest"
	"inceptor/model/remote"
	"inceptor/model/remote/remotetest"
	"inceptor/savedmodel/tfpb"
	"inceptor/testenv"
)

// An asked is a fake that counts the calls of GetModelMetadata.
type asked struct {
	*remotetest.Fake
	n atomic.Int64
}

func (a *asked) GetModelMetadata(ctx context.Context, r *tfpb.GetModelMetadataRequest) (*tfpb.GetModelMetadataResponse, error) {
	a.n.Add(1)
	return a.Fake.GetModelMetadata(ctx, r)
}

func runAsked(t *testing.T, content infer.Content) (*asked, *Server) {
	t.Helper()
	fake := &asked{Fake: remotetest.NewFake("tiny")}
	c := localConfig("")
	c.Backend, c.Content = model.OnlyRemote, content
	r := remoteConfig(remotetest.Serve(t, fake))
	r.Breaker.Failures = 1000
	s, err := NewServer(c, r, slog.New(slog.DiscardHandler), remote.Unobserved{})
	if err != nil {
		t.Fatal(err)
	}
	runBackend(t, s)
	if err := s.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	return fake, s
}

// The server is asked once what it takes, and again when it begins to refuse.
func TestServerIsAskedOnce(t *testing.T) {
	fake, s := runAsked(t, infer.Images)
	for range 10 {
		if _, err := s.Classify(t.Context(), nil, modeltest.BlackImage); err != nil {
			t.Fatal(err)
		}
	}
	if n := fake.n.Load(); n != 1 {
		t.Errorf("asked %d times, want once", n)
	}
	fake.Fail(remotetest.PermissionDenied, "no")
	if _, err := s.Classify(t.Context(), nil, modeltest.BlackImage); err == nil || !mayPass(err) {
		t.Errorf("got %v", err)
	}
	fake.SetHook(nil)
	if _, err := s.Classify(t.Context(), nil, modeltest.BlackImage); err != nil {
		t.Error(err)
	}
	if n := fake.n.Load(); n < 2 {
		t.Errorf("asked %d times, want again", n)
	}
}

// A row that the server refuses is to blame only while the signature is unchanged, since no
// blank row is known.
func TestServerRefusesRow(t *testing.T) {
	fake, s := runAsked(t, infer.Rows)
	row := []byte("[[[1,2,3]]]")
	if _, err := s.Classify(t.Context(), nil, row); err != nil {
		t.Fatal(err)
	}
	fake.SetHook(func(context.Context, *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
		return nil, remotetest.Invalid("no")
	})
	if _, err := s.Classify(t.Context(), nil, row); err == nil || mayPass(err) {
		t.Errorf("with the signature that it had: got %v", err)
	}
	fake.Classes = 7
	if _, err := s.Classify(t.Context(), nil, row); err == nil || !mayPass(err) {
		t.Errorf("with another signature: got %v", err)
	}
}

// An image that is too large for the server, even alone, is a dead letter if only the server
// answers. It waits if a local version may answer.
func TestTooLargeForServer(t *testing.T) {
	fake := remotetest.NewFake("tiny")
	fake.Classes = 1
	r := remoteConfig(remotetest.Serve(t, fake, remotetest.AtMost(1000)))
	large := slices.Concat(modeltest.PNG(t, 1, 1), make([]byte, 2000)) // what follows IEND plays no part
	c := localConfig(t.TempDir())
	c.Backend = model.OnlyRemote
	s, err := NewServer(c, r, slog.New(slog.DiscardHandler), remote.Unobserved{})
	if err != nil {
		t.Fatal(err)
	}
	runBackend(t, s)
	var guilty *infer.InputError
	if _, err := s.Classify(t.Context(), nil, large); !errors.As(err, &guilty) || guilty.Reason != infer.ReasonServerTooLarge {
		t.Errorf("the server alone: got %v", err)
	}
	if _, err := s.Classify(t.Context(), nil, modeltest.BlackImage); err != nil {
		t.Errorf("a small one: got %v", err)
	}
	c.Backend = model.LocalThenRemote
	f, err := New(c, r, testenv.TensorFlow(t), slog.New(slog.DiscardHandler), model.Unobserved{}, &watched{})
	if err != nil {
		t.Fatal(err)
	}
	runBackend(t, f)
	if _, err := f.Classify(t.Context(), nil, large); err == nil || !mayPass(err) {
		t.Errorf("as a fallback: got %v", err)
	}
}
