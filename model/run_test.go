package model

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"inceptor/model/infer"
	"inceptor/model/internal/modeltest"
	"inceptor/savedmodel/tfpb"
)

// However a version arrives, it is loaded once, when it is whole.
func TestArrivals(t *testing.T) {
	// Files must rest this long where they come one by one: a busy machine may make a pause between
	// two of them.
	const long = 2 * time.Second
	slowly := func(b *harness, m modeltest.Tiny, dir string) { // as a throttled cp -r does
		content := m.Bytes(b)
		b.must(os.MkdirAll(filepath.Join(dir, "assets"), 0o700))
		b.must(os.MkdirAll(filepath.Join(dir, "assets.extra"), 0o700))
		f, err := os.Create(filepath.Join(dir, "saved_model.pb"))
		b.must(err)
		defer f.Close()
		for i, c := range slices.Collect(slices.Chunk(content, len(content)/20)) {
			_, err := f.Write(c)
			b.must(err)
			time.Sleep(20 * time.Millisecond)
			if i == 10 {
				time.Sleep(long + 200*time.Millisecond)
			}
		}
		modeltest.Write(b, filepath.Join(dir, "assets/labels.txt"), []byte(modeltest.LabelsFor(1+m.Class)))
		time.Sleep(20 * time.Millisecond)
		modeltest.Write(b, filepath.Join(dir, infer.SpecFile), []byte("input: {size: [2, 2]}\nlabels: labels.txt\n"))
	}
	for _, test := range []struct {
		name   string
		change func(*Config)
		arrive func(*harness)
	}{
		{name: "rename", arrive: func(b *harness) { b.put(2, modeltest.TinyOf(2)) }},
		{name: "slow copy", change: func(c *Config) { c.Quiet = long }, arrive: func(b *harness) { slowly(b, modeltest.TinyOf(2), b.dir(2)) }},
		{name: "rsync", change: func(c *Config) { c.Quiet = long }, arrive: func(b *harness) { // temporary names, renamed file by file, the times kept
			old := time.Now().Add(-time.Hour)
			staging := b.TempDir()
			modeltest.TinyOf(2).Write(b, staging)
			for _, name := range []string{"assets/labels.txt", infer.SpecFile, "saved_model.pb"} {
				content, err := os.ReadFile(filepath.Join(staging, name))
				b.must(err)
				path := filepath.Join(b.dir(2), name)
				temporary := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".Xa3f9Q")
				modeltest.Write(b, temporary, content)
				b.must(os.Chtimes(temporary, old, old))
				time.Sleep(30 * time.Millisecond)
				b.must(os.Rename(temporary, path))
			}
		}},
		{name: "leading zeros", arrive: func(b *harness) {
			staging := b.TempDir()
			modeltest.TinyOf(2).Write(b, filepath.Join(staging, "v"))
			b.must(os.Rename(filepath.Join(staging, "v"), filepath.Join(b.base, "0002")))
		}},
		{name: "two names for a number", change: func(c *Config) { c.Quiet = long }, arrive: func(b *harness) {
			modeltest.TinyOf(2).Write(b, filepath.Join(b.base, "002"))
			b.put(2, modeltest.TinyOf(2))
		}},
		{name: "classes not said", arrive: func(b *harness) { b.put(2, modeltest.Tiny{Bias: 2, Silent: true}) }},
		{name: "no file events", change: func(c *Config) { c.Poll = 100 * time.Millisecond }, arrive: func(b *harness) { b.put(2, modeltest.TinyOf(2)) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			base := t.TempDir()
			modeltest.TinyOf(1).Write(t, filepath.Join(base, "1"))
			var changes []func(*Config)
			if test.change != nil {
				changes = append(changes, test.change)
			}
			b := runTiny(t, base, changes...)
			b.awaitVersion(1)
			test.arrive(b)
			b.awaitVersion(2)
			b.awaitServed(1, 2)
			time.Sleep(100 * time.Millisecond) // in which it might be loaded again
			b.mu.Lock()
			defer b.mu.Unlock()
			if !slices.Equal(b.served, []int64{1, 2}) || b.desired != 2 {
				t.Errorf("served %v, desired %d", b.served, b.desired)
			}
		})
	}
}

// Kubernetes publishes a volume by pointing a link elsewhere.
func TestArrivalBySymlink(t *testing.T) {
	mount := t.TempDir()
	data := func(name string, versions ...int64) {
		for _, v := range versions {
			modeltest.TinyOf(v).Write(t, filepath.Join(mount, name, strconv.FormatInt(v, 10)))
		}
	}
	point := func(name string) {
		if err := os.Symlink(name, filepath.Join(mount, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(mount, "..data_tmp"), filepath.Join(mount, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	data("..2026_1", 1)
	point("..2026_1")
	b := runTiny(t, filepath.Join(mount, "..data"))
	b.awaitVersion(1)
	data("..2026_2", 1, 2)
	point("..2026_2")
	if err := os.RemoveAll(filepath.Join(mount, "..2026_1")); err != nil {
		t.Fatal(err)
	}
	b.awaitVersion(2)
}

// A bad version never serves, and the one that serves goes on. Once the bad one is repaired, it
// serves.
func TestBadCandidates(t *testing.T) {
	with := func(file string, content []byte) func(*harness) {
		return func(b *harness) {
			staging := filepath.Join(b.TempDir(), "v")
			modeltest.TinyOf(2).Write(b, staging)
			modeltest.Write(b, filepath.Join(staging, file), content)
			b.must(os.Rename(staging, b.dir(2)))
		}
	}
	whole := modeltest.TinyOf(2).Bytes(t)
	for _, test := range []struct {
		name string
		gate string
		put  func(*harness)
	}{
		{"truncated", infer.GateComplete, with("saved_model.pb", whole[:len(whole)-1])},
		{"empty", infer.GateComplete, func(b *harness) { modeltest.Write(b, filepath.Join(b.dir(2), "saved_model.pb"), nil) }},
		{"missing operation", infer.GateLoad, func(b *harness) { b.put(2, modeltest.Tiny{Bias: 2, Broken: "weights"}) }},
		{"wrong dtype", infer.GateSignature, func(b *harness) { b.put(2, modeltest.Tiny{Bias: 2, Dtype: tfpb.DataType_DT_BOOL}) }},
		{"wrong class count", infer.GateSignature, func(b *harness) { b.put(2, modeltest.Tiny{Bias: 2, Class: 1}) }},
		{"wrong class count, found out", infer.GateSignature, func(b *harness) { b.put(2, modeltest.Tiny{Bias: 2, Class: 1, Silent: true}) }},
		{"wrong labels", infer.GateSignature, with("assets/labels.txt", []byte("one\ntwo\n"))},
		{"wrong spec", infer.GateSignature, with(infer.SpecFile, []byte("inputs: 1\n"))},
		{"not a number", infer.GateWarmUp, func(b *harness) { b.put(2, modeltest.Tiny{Bias: float32(math.NaN())}) }},
		{"golden label", infer.GateGolden, func(b *harness) {
			b.put(2, modeltest.Tiny{Bias: 2, Golden: "- {image: black.bmp, label: other, floor: 0}\n"})
		}},
		{"golden score", infer.GateGolden, func(b *harness) {
			b.put(2, modeltest.Tiny{Bias: 2, Golden: "- {image: black.bmp, label: label 0, floor: 2.5}\n"})
		}},
		{"golden outside", infer.GateGolden, func(b *harness) {
			b.put(2, modeltest.Tiny{Bias: 2, Golden: "- {image: ../../../x, label: label 0, floor: 0}\n"})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			base := t.TempDir()
			modeltest.TinyOf(1).Write(t, filepath.Join(base, "1"))
			b := runTiny(t, base)
			b.awaitVersion(1)
			test.put(b)
			b.await("refusal", func() bool { return len(b.refusals(2)) > 0 })
			time.Sleep(150 * time.Millisecond) // several scans
			if got := b.refusals(2); !slices.Equal(got, []string{test.gate}) {
				t.Errorf("refused at %q, want %q once", got, test.gate)
			}
			if b.serves() != 1 {
				t.Error("version 1 does not serve any more")
			}
			b.must(os.RemoveAll(b.dir(2)))
			b.put(2, modeltest.Tiny{Bias: 2, Golden: "- {image: black.bmp, label: label 0, floor: 1.5}\n"})
			b.awaitVersion(2)
		})
	}
}

func TestGateTimeout(t *testing.T) {
	base := t.TempDir()
	modeltest.TinyOf(1).Write(t, filepath.Join(base, "1"))
	b := runTiny(t, base, func(c *Config) { c.Gate.Timeout = time.Nanosecond })
	b.await("refusal", func() bool { return len(b.refusals(1)) > 0 })
	if got := b.refusals(1)[0]; got != infer.GateTimeout {
		t.Errorf("refused at %s", got)
	}
	if s := b.Versions()[0]; s.Retry.IsZero() {
		t.Errorf("it is not tried again: %+v", s)
	}
	if b.serves() != none {
		t.Error("it serves")
	}
}

// The version that serves goes on when its files, and those of all others, are deleted.
func TestFilesDisappear(t *testing.T) {
	base := filepath.Join(t.TempDir(), "base")
	modeltest.TinyOf(1).Write(t, filepath.Join(base, "1"))
	b := runTiny(t, base)
	b.awaitVersion(1)
	b.must(os.RemoveAll(b.dir(1)))
	time.Sleep(100 * time.Millisecond)
	if b.serves() != 1 {
		t.Error("its directory was deleted, and it stopped serving")
	}
	b.must(os.RemoveAll(base))
	time.Sleep(100 * time.Millisecond)
	if b.serves() != 1 {
		t.Error("the base directory was deleted, and it stopped serving")
	}
	b.must(os.Mkdir(base, 0o700))
	b.put(10, modeltest.TinyOf(10))
	b.awaitVersion(10)
	b.put(9, modeltest.TinyOf(9))
	time.Sleep(200 * time.Millisecond)
	if b.serves() != 10 {
		t.Error("9 came after 10, and serves")
	}
}

// While the base directory cannot be read, a version's failure is not forgotten: it is not tried
// again.
func TestDirectoryUnreadable(t *testing.T) {
	base := filepath.Join(t.TempDir(), "base")
	modeltest.TinyOf(1).Write(t, filepath.Join(base, "1"))
	b := runTiny(t, base)
	b.awaitVersion(1)
	modeltest.Write(t, filepath.Join(b.dir(2), "saved_model.pb"), nil)
	b.await("refusal", func() bool { return len(b.refusals(2)) > 0 })
	b.must(os.Rename(base, base+".away"))
	time.Sleep(100 * time.Millisecond)
	b.must(os.Rename(base+".away", base))
	time.Sleep(300 * time.Millisecond)
	if n := len(b.refusals(2)); n != 1 {
		t.Errorf("version 2 was refused %d times", n)
	}
	b.put(3, modeltest.TinyOf(3))
	b.awaitVersion(3)
}

// Swaps under load: no answer is missing, wrong or of two versions, and all
// memory is given back.
func TestSwapUnderLoad(t *testing.T) {
	base := t.TempDir()
	modeltest.TinyOf(1).Write(t, filepath.Join(base, "1"))
	b := runTiny(t, base)
	b.awaitVersion(1)
	var answers atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			last := int64(0)
			for ctx.Err() == nil {
				v := b.serves()
				if v < last {
					t.Errorf("version %d answered after %d", v, last)
				}
				last = v
				answers.Add(1)
			}
		})
	}
	for v := int64(2); v <= 20; v++ {
		b.put(v, modeltest.TinyOf(v))
		b.await("swap", func() bool { return b.published.routes.Load().stable.Info().Version == v })
	}
	cancel()
	load.Wait()
	t.Logf("%d answers during 19 swaps", answers.Load())
}

// Whatever happens to the files, and whatever is chosen by hand: what serves
// was whole when it was taken, is never older than what served before unless
// somebody wanted that, and in the end is the best there is.
func TestRandomEvents(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		base, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		copies := rapid.SampledFrom([]string{copiesAuto, copiesOne}).Draw(rt, "copies")
		b := runTiny(t, base, func(c *Config) {
			c.Quiet, c.Poll, c.Copies = 15*time.Millisecond, 10*time.Millisecond, copies
		})
		good, rejected := map[int64]bool{}, map[int64]bool{}
		last, byHand := int64(none), false // no older one may serve, unless somebody has wanted that
		check := func() {
			v := b.serves() // which checks that the answer is of this version alone
			if v < last && !byHand {
				rt.Fatalf("version %d serves after %d", v, last)
			}
			last = v
		}
		for range rapid.IntRange(1, 12).Draw(rt, "events") {
			v := int64(rapid.IntRange(0, 9).Draw(rt, "version"))
			switch rapid.SampledFrom([]string{"put", "put", "half", "break", "remove", "wait", "others", "use", "rollback"}).Draw(rt, "event") {
			case "put":
				b.must(os.RemoveAll(b.dir(v)))
				b.put(v, modeltest.TinyOf(v))
				good[v] = true
			case "half":
				content := modeltest.TinyOf(v).Bytes(t)
				b.must(os.RemoveAll(b.dir(v)))
				modeltest.Write(t, filepath.Join(b.dir(v), "saved_model.pb"), content[:len(content)*2/3])
				good[v] = false
			case "break":
				if err := os.Truncate(filepath.Join(b.dir(v), "saved_model.pb"), 10); err == nil {
					good[v] = false
				} else if !errors.Is(err, fs.ErrNotExist) {
					rt.Fatal(err)
				}
			case "remove":
				b.must(os.RemoveAll(b.dir(v)))
				delete(good, v)
			case "wait":
				time.Sleep(40 * time.Millisecond)
			case "others":
				modeltest.Write(t, filepath.Join(base, "not a version", "saved_model.pb"), nil)
				modeltest.Write(t, filepath.Join(base, strings.Repeat("9", 30), "saved_model.pb"), nil)
			case "use":
				if b.Use(t.Context(), v) == nil {
					byHand = true
					delete(rejected, v)
				}
			case "rollback":
				if v, err := b.Rollback(t.Context(), nil); err == nil {
					byHand = true
					rejected[v] = true
					for _, s := range b.Versions() { // those between v and the one before too
						if s.State == StateRolledBack {
							rejected[s.Version] = true
						}
					}
				}
			}
			check()
		}
		b.must(b.UseHighest(t.Context()))
		highest := int64(none)
		for v, ok := range good {
			if ok && !rejected[v] {
				highest = max(highest, v)
			}
		}
		b.await(fmt.Sprint("the best version, ", highest), func() bool {
			v := b.serves()
			return v == highest || v > highest && (highest == none || !rejected[v])
		})
	})
}

// A directory that is deleted while it is loaded is no version.
func TestDeletedWhileLoading(t *testing.T) {
	f := modeltest.NewFileServer(t)
	b := runTiny(t, modeltest.TinyVersions(t, 1))
	b.awaitVersion(1)
	f.Vanish() // the load waits for it
	b.put(2, modeltest.Tiny{Bias: 2, Needs: f.Path})
	b.awaitStates("2 warming", "1 serving stable")
	b.must(os.RemoveAll(b.dir(2)))
	f.Mend()
	b.await("refusal", func() bool { return len(b.refusals(2)) > 0 })
	b.awaitStates("1 serving stable")
	b.put(2, modeltest.TinyOf(2))
	b.awaitVersion(2)
}

// A version that was there before the service is loaded at once if its files rest, and not while
// they are still being written.
func TestStart(t *testing.T) {
	modeltest.OpenLibrary(t)
	base := t.TempDir()
	modeltest.TinyOf(1).Write(t, filepath.Join(base, "1"))
	const quiet = 2 * time.Second // a busy machine may hold up the one who writes
	time.Sleep(quiet + 100*time.Millisecond)
	modeltest.TinyOf(2).Write(t, filepath.Join(base, "2"))
	stop := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
				modeltest.Write(t, filepath.Join(base, "2/assets.extra/notes"), []byte(time.Now().String()))
			}
		}
	})
	b := runTiny(t, base, func(c *Config) { c.Quiet = quiet })
	b.awaitVersion(1)
	close(stop)
	writing.Wait()
	b.awaitVersion(2)
	b.awaitServed(1, 2)
}

func TestRunWithoutDirectory(t *testing.T) {
	c := testConfig(filepath.Join(t.TempDir(), "none"))
	m, err := New(c, slog.New(slog.DiscardHandler), Unobserved{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Run(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
