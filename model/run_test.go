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

	"inceptor/savedmodel/tfpb"
)

// However a version arrives, it is taken once, when it is whole.
func TestArrivals(t *testing.T) {
	slowly := func(b *bench, m tiny, dir string) { // as a throttled cp -r does
		content := m.bytes(b)
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
				time.Sleep(200 * time.Millisecond) // longer than files must rest
			}
		}
		write(b, filepath.Join(dir, "assets/labels.txt"), []byte(labelsFor(1+m.class)))
		time.Sleep(20 * time.Millisecond)
		write(b, filepath.Join(dir, specFile), []byte("input: {size: [2, 2]}\nlabels: labels.txt\n"))
	}
	for _, test := range []struct {
		name   string
		change func(*Config)
		arrive func(*bench)
	}{
		{name: "rename", arrive: func(b *bench) { b.put(2, tinyOf(2)) }},
		{name: "slow copy", arrive: func(b *bench) { slowly(b, tinyOf(2), b.dir(2)) }},
		{name: "rsync", arrive: func(b *bench) { // temporary names, renamed file by file, the times kept
			old := time.Now().Add(-time.Hour)
			staging := b.TempDir()
			tinyOf(2).write(b, staging)
			for _, name := range []string{"assets/labels.txt", specFile, "saved_model.pb"} {
				content, err := os.ReadFile(filepath.Join(staging, name))
				b.must(err)
				path := filepath.Join(b.dir(2), name)
				temporary := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".Xa3f9Q")
				write(b, temporary, content)
				b.must(os.Chtimes(temporary, old, old))
				time.Sleep(30 * time.Millisecond)
				b.must(os.Rename(temporary, path))
			}
		}},
		{name: "leading zeros", arrive: func(b *bench) {
			staging := b.TempDir()
			tinyOf(2).write(b, filepath.Join(staging, "v"))
			b.must(os.Rename(filepath.Join(staging, "v"), filepath.Join(b.base, "0002")))
		}},
		{name: "two names for a number", arrive: func(b *bench) {
			tinyOf(2).write(b, filepath.Join(b.base, "002"))
			b.put(2, tinyOf(2))
		}},
		{name: "classes not said", arrive: func(b *bench) { b.put(2, tiny{bias: 2, silent: true}) }},
		{name: "no file events", change: func(c *Config) { c.Poll = 100 * time.Millisecond }, arrive: func(b *bench) { b.put(2, tinyOf(2)) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			base := t.TempDir()
			tinyOf(1).write(t, filepath.Join(base, "1"))
			var changes []func(*Config)
			if test.change != nil {
				changes = append(changes, test.change)
			}
			b := runTiny(t, base, changes...)
			b.awaitVersion(1)
			test.arrive(b)
			b.awaitVersion(2)
			time.Sleep(100 * time.Millisecond)
			b.witness.mu.Lock()
			defer b.witness.mu.Unlock()
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
			tinyOf(v).write(t, filepath.Join(mount, name, strconv.FormatInt(v, 10)))
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

// A version that is no good never serves; the one that does goes on; and once
// it is repaired, it is taken.
func TestBadCandidates(t *testing.T) {
	truncated := func(b *bench) {
		content := tinyOf(2).bytes(b)
		tinyOf(2).write(b, b.dir(2))
		write(b, filepath.Join(b.dir(2), "saved_model.pb"), content[:len(content)-1])
	}
	for _, test := range []struct {
		name string
		gate string
		put  func(*bench)
	}{
		{"truncated", GateComplete, truncated},
		{"empty", GateComplete, func(b *bench) { write(b, filepath.Join(b.dir(2), "saved_model.pb"), nil) }},
		{"missing operation", GateLoad, func(b *bench) { b.put(2, tiny{bias: 2, broken: "weights"}) }},
		{"wrong dtype", GateSignature, func(b *bench) { b.put(2, tiny{bias: 2, dtype: tfpb.DataType_DT_BOOL}) }},
		{"wrong class count", GateSignature, func(b *bench) { b.put(2, tiny{bias: 2, class: 1}) }},
		{"wrong class count, found out", GateSignature, func(b *bench) { b.put(2, tiny{bias: 2, class: 1, silent: true}) }},
		{"wrong labels", GateSignature, func(b *bench) {
			tinyOf(2).write(b, b.dir(2))
			write(b, filepath.Join(b.dir(2), "assets/labels.txt"), []byte("one\ntwo\n"))
		}},
		{"wrong spec", GateSignature, func(b *bench) {
			tinyOf(2).write(b, b.dir(2))
			write(b, filepath.Join(b.dir(2), specFile), []byte("inputs: 1\n"))
		}},
		{"not a number", GateWarmUp, func(b *bench) { b.put(2, tiny{bias: float32(math.NaN())}) }},
		{"golden label", GateGolden, func(b *bench) {
			b.put(2, tiny{bias: 2, golden: "- {image: black.bmp, label: other, floor: 0}\n"})
		}},
		{"golden score", GateGolden, func(b *bench) {
			b.put(2, tiny{bias: 2, golden: "- {image: black.bmp, label: label 0, floor: 2.5}\n"})
		}},
		{"golden outside", GateGolden, func(b *bench) {
			b.put(2, tiny{bias: 2, golden: "- {image: ../../../x, label: label 0, floor: 0}\n"})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			base := t.TempDir()
			tinyOf(1).write(t, filepath.Join(base, "1"))
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
			b.put(2, tiny{bias: 2, golden: "- {image: black.bmp, label: label 0, floor: 1.5}\n"})
			b.awaitVersion(2)
		})
	}
}

func TestGateTimeout(t *testing.T) {
	base := t.TempDir()
	tinyOf(1).write(t, filepath.Join(base, "1"))
	b := runTiny(t, base, func(c *Config) { c.Gate.Timeout = time.Nanosecond })
	b.await("refusal", func() bool { return len(b.refusals(1)) > 0 })
	if got := b.refusals(1)[0]; got != GateTimeout {
		t.Errorf("refused at %s", got)
	}
	if s := b.Versions()[0]; s.Retry.IsZero() {
		t.Errorf("it is not tried again: %+v", s)
	}
	if b.serves() != none {
		t.Error("it serves")
	}
}

// What serves outlives its files, and those of all others.
func TestFilesDisappear(t *testing.T) {
	base := filepath.Join(t.TempDir(), "base")
	tinyOf(1).write(t, filepath.Join(base, "1"))
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
	b.put(10, tinyOf(10))
	b.awaitVersion(10)
	b.put(9, tinyOf(9))
	time.Sleep(200 * time.Millisecond)
	if b.serves() != 10 {
		t.Error("9 came after 10, and serves")
	}
}

// While the base directory cannot be read, what is known of its versions is
// not forgotten: one that was refused is not tried again.
func TestDirectoryUnreadable(t *testing.T) {
	base := filepath.Join(t.TempDir(), "base")
	tinyOf(1).write(t, filepath.Join(base, "1"))
	b := runTiny(t, base)
	b.awaitVersion(1)
	write(t, filepath.Join(b.dir(2), "saved_model.pb"), nil)
	b.await("refusal", func() bool { return len(b.refusals(2)) > 0 })
	b.must(os.Rename(base, base+".away"))
	time.Sleep(100 * time.Millisecond)
	b.must(os.Rename(base+".away", base))
	time.Sleep(300 * time.Millisecond)
	if n := len(b.refusals(2)); n != 1 {
		t.Errorf("version 2 was refused %d times", n)
	}
	b.put(3, tinyOf(3))
	b.awaitVersion(3)
}

// Swaps under load: no answer is missing, wrong or of two versions, and all
// memory is given back.
func TestSwapUnderLoad(t *testing.T) {
	base := t.TempDir()
	tinyOf(1).write(t, filepath.Join(base, "1"))
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
		b.put(v, tinyOf(v))
		b.await("swap", func() bool { return b.routes.Load().stable.info.Version == v })
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
				b.put(v, tinyOf(v))
				good[v] = true
			case "half":
				content := tinyOf(v).bytes(t)
				b.must(os.RemoveAll(b.dir(v)))
				write(t, filepath.Join(b.dir(v), "saved_model.pb"), content[:len(content)*2/3])
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
				write(t, filepath.Join(base, "not a version", "saved_model.pb"), nil)
				write(t, filepath.Join(base, strings.Repeat("9", 30), "saved_model.pb"), nil)
			case "use":
				if b.Use(t.Context(), v) == nil {
					byHand = true
					delete(rejected, v)
				}
			case "rollback":
				if v, err := b.Rollback(t.Context()); err == nil {
					byHand = true
					rejected[v] = true
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

// A directory that goes while it is loaded is no version.
func TestDeletedWhileLoading(t *testing.T) {
	b := runTiny(t, with(t, 1))
	b.awaitVersion(1)
	b.put(2, tiny{bias: 2, slow: 3000})
	b.await("loading", func() bool { return b.states()[0] == "2 loading" })
	b.must(os.RemoveAll(b.dir(2)))
	b.await("refusal", func() bool { return len(b.refusals(2)) > 0 })
	b.awaitStates("1 serving stable")
	b.put(2, tinyOf(2))
	b.awaitVersion(2)
}

// What was there before the service is taken at once, if it rests; what is
// still being written is not.
func TestStart(t *testing.T) {
	openLibrary(t)
	base := t.TempDir()
	tinyOf(1).write(t, filepath.Join(base, "1"))
	time.Sleep(600 * time.Millisecond)
	tinyOf(2).write(t, filepath.Join(base, "2"))
	stop := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
				write(t, filepath.Join(base, "2/assets.extra/notes"), []byte(time.Now().String()))
			}
		}
	})
	b := runTiny(t, base, func(c *Config) { c.Quiet = 500 * time.Millisecond })
	b.awaitVersion(1)
	close(stop)
	writing.Wait()
	b.awaitVersion(2)
	if !slices.Equal(b.served, []int64{1, 2}) {
		t.Errorf("served %v", b.served)
	}
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
