package fallback

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sony/gobreaker/v2"

	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/model/internal/modeltest"
	"inceptor/model/remote"
	"inceptor/model/remote/remotetest"
)

// overdueSoon makes runs overdue after a second.
func overdueSoon(c *model.Config, _ *remote.Config) {
	c.RunLimit = func(time.Duration) time.Duration { return time.Second }
}

// While the local version hangs, the model server answers.
func TestFallbackWhileVersionHangs(t *testing.T) {
	f := modeltest.NewFileServer(t)
	base := t.TempDir()
	modeltest.Tiny{Bias: 2, Needs: f.Path}.Write(t, filepath.Join(base, "2"))
	b := runFallback(t, base, overdueSoon)
	b.awaitBackend(infer.BackendLocal)
	f.Vanish()
	for i := range 10 {
		p, err := b.classify(modeltest.BlackImage)
		if err != nil || p.Backend != infer.BackendRemote || !strings.Contains(p.Reason, "version 2 hangs: ") {
			t.Fatalf("image %d: got %+v, %v", i, p, err)
		}
	}
	if _, err := b.Serving(); err != nil {
		t.Errorf("the server answers, and is said not to: %v", err)
	}
	b.await("the observer's word", func() bool { fell, _ := b.seen.state(); return fell })
	f.Mend()
	b.awaitBackend(infer.BackendLocal)
}

// Whose run it was that does not end can be told, also if the server fails too.
func TestFallbackFailsWhileVersionHangs(t *testing.T) {
	f := modeltest.NewFileServer(t)
	base := t.TempDir()
	modeltest.Tiny{Bias: 2, Needs: f.Path}.Write(t, filepath.Join(base, "2"))
	b := runFallback(t, base, overdueSoon)
	b.awaitBackend(infer.BackendLocal)
	b.fake.Fail(remotetest.Internal, "oh")
	f.Vanish()
	if _, err := b.classify(modeltest.BlackImage); !errors.As(err, new(*infer.OverdueError)) || !strings.Contains(err.Error(), "no local version can answer") {
		t.Errorf("got %v", err)
	}
	f.Mend()
}

// The server answers while a version is loaded in place of another one.
func TestFallbackWhileReplacing(t *testing.T) {
	const replaced = "version 2 is being loaded in place of the last one"
	f := modeltest.NewFileServer(t)
	f.Vanish() // the load waits for it
	b := runFallback(t, modeltest.TinyVersions(t, 1), func(c *model.Config, _ *remote.Config) { c.Copies = "one" })
	b.awaitBackend(infer.BackendLocal)
	b.put(2, modeltest.Tiny{Bias: 2, Needs: f.Path})
	b.await("pause", func() bool {
		_, err := b.Manager.Serving()
		return err != nil && strings.Contains(err.Error(), replaced)
	})
	p, err := b.classify(modeltest.BlackImage)
	if err != nil || p.Backend != infer.BackendRemote || !strings.Contains(p.Reason, replaced) {
		t.Errorf("got %+v, %v", p, err)
	}
	f.Mend()
	if p := b.awaitBackend(infer.BackendLocal); p.Version != 2 {
		t.Errorf("got %+v", p)
	}
}

// After three failures in a row the local version is not asked for five seconds. Then one image
// tries it.
func TestFallbackRests(t *testing.T) {
	needed := filepath.Join(t.TempDir(), "file")
	modeltest.Write(t, needed+"0", nil)
	base := t.TempDir()
	modeltest.Tiny{Bias: 2, Needs: needed}.Write(t, filepath.Join(base, "2"))
	b := runFallback(t, base)
	b.awaitBackend(infer.BackendLocal)
	b.must(os.Remove(needed + "0"))
	var asked time.Time // when the last failure began
	for i := range 3 {
		if s := b.breaker.State(); s != gobreaker.StateClosed {
			t.Errorf("after %d failures: %v", i, s)
		}
		asked = time.Now()
		if p, err := b.classify(modeltest.BlackImage); err != nil || p.Backend != infer.BackendRemote {
			t.Fatalf("got %+v, %v", p, err)
		}
	}
	if s := b.breaker.State(); s != gobreaker.StateOpen {
		t.Errorf("after 3 failures: %v", s)
	}
	modeltest.Write(t, needed+"0", nil)
	b.awaitBackend(infer.BackendLocal)
	if took := time.Since(asked); took < 5*time.Second {
		t.Errorf("it is tried again after %v", took)
	}
}
