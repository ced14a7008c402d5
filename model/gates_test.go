package model

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"inceptor/model/infer"
	"inceptor/model/internal/graphdef"
	"inceptor/model/internal/modeltest"
	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
)

// warmUpOf returns a version's own warm-up file with a request of one image, all of one grey.
func warmUpOf(t *testing.T, grey float32) []byte {
	t.Helper()
	var content []byte
	for range 2 * 2 * 3 {
		content = binary.NativeEndian.AppendUint32(content, math.Float32bits(grey))
	}
	return tfRecords(t, predictLog("serving_default", map[string]*tfpb.TensorProto{"images": {
		Dtype: tfpb.DataType_DT_FLOAT, TensorShape: graphdef.ShapeProto(1, 2, 2, 3), TensorContent: content,
	}}))
}

// Bad versions fail, each at its gate.
func TestRefusedAt(t *testing.T) {
	staged := func(b *harness, m modeltest.Tiny, name string, content []byte) {
		dir := filepath.Join(b.TempDir(), "v")
		m.Write(b, dir)
		modeltest.Write(b, filepath.Join(dir, name), content)
		b.must(os.Rename(dir, b.dir(2)))
	}
	for name, test := range map[string]struct {
		gate string
		put  func(*harness)
	}{
		"a digest of SHA256SUMS": {infer.GateComplete, func(b *harness) {
			staged(b, modeltest.TinyOf(2), infer.SumsFile, []byte(strings.Repeat("00", 32)+"  saved_model.pb\n"))
		}},
		"its own warm-up request": {infer.GateWarmUp, func(b *harness) {
			staged(b, modeltest.Tiny{Bias: 2, Picky: true}, savedmodel.WarmupFile, warmUpOf(b.TB.(*testing.T), 255))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			b := runTiny(t, modeltest.TinyVersions(t, 1))
			b.awaitVersion(1)
			test.put(b)
			b.await("refusal", func() bool { return len(b.refusals(2)) > 0 })
			if got := b.refusals(2); !slices.Equal(got, []string{test.gate}) || b.serves() != 1 {
				t.Errorf("refused at %q, want %q; version %d serves", got, test.gate, b.serves())
			}
			b.must(os.RemoveAll(b.dir(2)))
			staged(b, modeltest.Tiny{Bias: 2, Picky: true}, savedmodel.WarmupFile, warmUpOf(t, 0))
			b.awaitVersion(2)
		})
	}
}

// A version that failed through a fault of the machine is tried again with growing pauses, until
// its files change.
func TestRetriesGrow(t *testing.T) {
	k := &versionEntry{Folder: infer.Folder{Version: 2, Dir: ""}}
	var pauses []time.Duration
	for range 10 {
		now := time.Now()
		k.fail(infer.AtGate(infer.GateMemory, errors.New("no")), now)
		pauses = append(pauses, k.retry.Sub(now))
	}
	for i := range pauses[1:5] { // random by a fifth
		if pauses[i+1] < pauses[i]*5/4 {
			t.Errorf("pause %d does not grow: %v", i+1, pauses)
		}
	}
	if pauses[0] > 2*firstRetry || pauses[9] < maxRetry/2 || pauses[9] > 2*maxRetry {
		t.Errorf("pauses are %v", pauses)
	}
}

// testReconciler returns a reconciler with a configuration that is not checked.
func testReconciler(t testing.TB, c Config) *reconciler {
	c.Dir = t.TempDir()
	log := slog.New(slog.DiscardHandler)
	return newReconciler(c, log, Unobserved{}, newStateFile(c), newPublished(), newLoads(c, log, Unobserved{}, nil), nil)
}

// waitFor inspects a version, and returns how long to wait before it is loaded.
func waitFor(r *reconciler, e *versionEntry) time.Duration {
	now := time.Now()
	r.versions[e.Version] = e
	r.inspect(e, r.observe(), now)
	return e.wait(now, r.quiet, r.config.Poll)
}

// Files that have rested before the manager begins need not rest again. Later ones must.
func TestRestsAtTheStart(t *testing.T) {
	const quiet = 200 * time.Millisecond
	dir := t.TempDir()
	modeltest.TinyOf(1).Write(t, dir)
	time.Sleep(quiet + 100*time.Millisecond)
	for _, scanned := range []bool{false, true} {
		r := testReconciler(t, Config{Poll: time.Minute})
		r.quiet, r.scanned = quiet, scanned
		if wait := waitFor(r, &versionEntry{Folder: infer.Folder{Version: 1, Dir: dir}}); (wait > 0) != scanned {
			t.Errorf("looked before: %v; it is tried in %v", scanned, wait)
		}
	}
}

// An overdue load keeps its own record of the gate, so that the next load does not change it.
func TestGateIsOfOneLoad(t *testing.T) {
	const at = "not here"
	k := &versionEntry{Folder: infer.Folder{Version: 1, Dir: filepath.Join(t.TempDir(), "none")}}
	loads := newLoads(Config{Gate: Gate{Timeout: time.Minute}}, slog.New(slog.DiscardHandler), Unobserved{}, nil)
	l := loads.prepare(k)
	l.Enter(at)
	if p := loads.gates(t.Context(), loads.prepare(k)); p.err == nil || *l.Gate.Load() != at {
		t.Errorf("another load is at gate %q; %v", *l.Gate.Load(), p.err)
	}
}

// A version with an overdue run or load is not loaded again until its files change.
func TestLateUntilFilesChange(t *testing.T) {
	dir := t.TempDir()
	modeltest.TinyOf(1).Write(t, dir)
	r := testReconciler(t, Config{Poll: time.Hour})
	k := &versionEntry{Folder: infer.Folder{Version: 1, Dir: dir}, overdue: make(chan struct{}), overdueRun: "a run has not ended"}
	k.files, _, _, _ = fingerprintOf(dir)
	k.seen = true
	if wait := waitFor(r, k); wait != time.Hour || !r.hangs(k) {
		t.Errorf("the same files are tried in %v", wait)
	}
	modeltest.Write(t, filepath.Join(dir, "assets/labels.txt"), []byte("other\n"))
	if wait := waitFor(r, k); wait > 0 || r.hangs(k) {
		t.Errorf("new files are tried in %v; they hang: %v", wait, r.hangs(k))
	}
}

// A version with the number of the one that serves is not loaded.
func TestSameNumber(t *testing.T) {
	b := runTiny(t, modeltest.TinyVersions(t, 1))
	b.awaitVersion(1)
	b.must(os.RemoveAll(b.dir(1)))
	b.put(1, modeltest.Tiny{Bias: 5})
	b.put(2, modeltest.Tiny{Bias: 2, Broken: "weights"})
	b.await("refusal", func() bool { return len(b.refusals(2)) > 0 }) // so both have rested
	if v := b.serves(); v != 1 || !slices.Equal(b.servedSoFar(), []int64{1}) {
		t.Errorf("version %d serves; served %v", v, b.servedSoFar())
	}
}

// A canary for which there is no memory fails, and is loaded when there is.
func TestNoRoomForCanary(t *testing.T) {
	room := make(chan bool, 1) // closed: there is
	b := runTinyOn(t, modeltest.TinyVersions(t, 1), func(m *Manager) {
		m.reconciler.memory = func() (uint64, bool) {
			select {
			case <-room:
				return 1 << 40, true
			default:
				return 100, true
			}
		}
		m.reconciler.cost = 1000
	}, func(c *Config) { c.Rollout, c.Canary = rolloutCanary, 50 })
	b.awaitVersion(1)
	b.put(2, modeltest.TinyOf(2))
	b.await("refusal", func() bool { return len(b.refusals(2)) > 0 })
	if s := b.Versions()[0]; s.Gate != infer.GateMemory || s.Retry.IsZero() {
		t.Errorf("got %+v", s)
	}
	close(room)
	b.awaitStates("2 serving canary", "1 serving stable")
}

// The memory of a version is estimated by the most that a byte of the others' files has cost, and a
// tenth more.
func TestRoomInProportion(t *testing.T) {
	s := &state{memoryKnown: true}
	next := &versionEntry{bytes: 500}
	if err := s.lacksRoom(next); err != nil {
		t.Errorf("nothing known: %v", err)
	}
	for _, took := range []uint64{4000, 1000} {
		s.learn(&versionEntry{bytes: 1000, loaded: infer.NewUnloaded(infer.Info{}, took)})
	}
	for _, test := range []struct {
		left uint64
		room bool
	}{{2300, true}, {2100, false}, {100, false}} { // it takes 2000
		s.memoryLeft = test.left
		if err := s.lacksRoom(next); (err == nil) != test.room {
			t.Errorf("%d bytes left: %v", test.left, err)
		}
	}
}

// A model may take pixels as uint8.
func TestUint8Pixels(t *testing.T) {
	base := t.TempDir()
	modeltest.Tiny{Bias: 2, Dtype: tfpb.DataType_DT_UINT8}.Write(t, filepath.Join(base, "2"))
	runTiny(t, base).awaitVersion(2)
}
