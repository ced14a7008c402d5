package model

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"inceptor/model/infer"
	"inceptor/model/internal/modeltest"
)

// someCalibration has ranges of one layer.
func someCalibration() *infer.Calibration {
	return &infer.Calibration{
		Digest: "sha256:12", Records: 3, Method: infer.Methods()[0],
		Layers: map[string]infer.LayerRange{"conv": {Max: 2, Percentile: 1, LeastError: 1.5}},
	}
}

// A precision must gain a tenth, or it is refused with both times.
func TestPrecisionMeasured(t *testing.T) {
	for _, test := range []struct {
		name          string
		took, float32 time.Duration
		want          string
	}{
		{"faster", 20 * time.Millisecond, 41 * time.Millisecond, ""},
		{"a tenth faster", 10 * time.Millisecond, 11 * time.Millisecond, ""},
		{"as fast", 10 * time.Millisecond, 10 * time.Millisecond, "a record takes 10ms, and 10ms in float32"},
		{"slower", 52_345_678, 35 * time.Millisecond, "a record takes 52.345ms, and 35ms in float32"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := precisionRecord{}.measured(precisionBFloat16, test.took, test.float32)
			if c := r.Candidates[precisionBFloat16]; c.Reason != test.want || (c.Verdict == verdictRefused) != (test.want != "") || c.Took != test.took {
				t.Errorf("got %+v, want %q", c, test.want)
			}
		})
	}
}

// int8 is tried with each method of choosing ranges before it is refused; other precisions once.
func TestPrecisionDisagrees(t *testing.T) {
	r := precisionRecord{Calibration: someCalibration()}.measured(precisionInt8, time.Second, time.Minute)
	if got := r.disagrees(precisionBFloat16, "no"); got.Candidates[precisionBFloat16].Verdict != verdictRefused {
		t.Errorf("got %+v", got)
	}
	for _, method := range infer.Methods()[1:] {
		before := r.Calibration.Method
		next := r.disagrees(precisionInt8, "no")
		if step, _ := next.next([]string{precisionInt8}, ""); step != stepLoad || next.Calibration.Method != method || r.Calibration.Method != before {
			t.Errorf("after the ranges by %s: %s, %+v", before, step, next)
		}
		r = next
	}
	r = r.disagrees(precisionInt8, "the last one")
	if got, want := r.why([]string{precisionInt8}), "int8: the last one"; got != want || r.opens([]string{precisionInt8}) != "" {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := r.why([]string{precisionInt8, precisionBFloat16}); got != "" {
		t.Errorf("bfloat16 was not tried, but it says %q", got)
	}
}

// A remembered precision counts only where it is wanted.
func TestPrecisionOpens(t *testing.T) {
	r := precisionRecord{}.decided(precisionBFloat16, verdictAgrees, "").decided(precisionInt8, verdictRefused, "no")
	for configured, want := range map[string]string{
		precisionAuto: precisionBFloat16, precisionInt8: "", precisionBFloat16: "", precisionFloat32: "",
	} {
		if got := r.opens(Config{Precision: configured}.candidates()); got != want {
			t.Errorf("model.precision %s: opened in %q, want %q", configured, got, want)
		}
	}
}

func TestPrecisionFolder(t *testing.T) {
	modeltest.OpenLibrary(t)
	c := Config{Dir: t.TempDir()}
	f := newPrecisionFolder(c)
	if want := filepath.Join(c.Dir, ".inceptor.precision"); f.path != want {
		t.Errorf("the folder is %s, want %s", f.path, want)
	}
	empty, err := f.read("sha256:1")
	if err != nil || empty.Digest != "sha256:1" || !strings.Contains(empty.Processor, "TensorFlow 2") {
		t.Fatalf("got %+v, %v", empty, err)
	}
	known := empty.measured(precisionInt8, 13*time.Millisecond, 41*time.Millisecond).decided(precisionInt8, verdictAgrees, "400 of 400")
	known.Calibration, known.Trying = someCalibration(), precisionInt8
	if err := f.write(known); err != nil {
		t.Fatal(err)
	}
	if got, err := f.read("sha256:1"); err != nil || !cmp.Equal(got, known) {
		t.Errorf("%v %s", err, cmp.Diff(known, got))
	}
	if got, err := f.read("sha256:2"); err != nil || got.Candidates != nil {
		t.Errorf("of other files: %+v, %v", got, err)
	}

	path := f.file("sha256:1", known.Processor)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"no YAML":             "\x00",
		"an unknown key":      string(good) + "more: 1\n",
		"ranges are negative": strings.Replace(string(good), "max: 2", "max: -2", 1),
		"of another version":  strings.Replace(string(good), "sha256:1", "sha256:9", 1),
		"too large":           string(good) + strings.Repeat("#", maxRecordBytes),
	} {
		modeltest.Write(t, path, []byte(content))
		if got, err := f.read("sha256:1"); err == nil || !strings.Contains(err.Error(), path) || !cmp.Equal(got, empty) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}

	modeltest.Write(t, path, good[:len(good)/2]) // and that is YAML
	if got, err := f.read("sha256:1"); err == nil && got.opens([]string{precisionInt8}) != "" {
		t.Errorf("from half of it: %+v", got)
	}

	modeltest.Write(t, path, []byte("\x00"))
	f.private = true
	if err := f.write(known); err != nil {
		t.Error(err)
	}
	if _, err := f.read("sha256:1"); err == nil {
		t.Error("a command that only looks has written")
	}
}

// The newest files stay.
func TestPrecisionFolderIsBounded(t *testing.T) {
	f := newPrecisionFolder(Config{Dir: t.TempDir()})
	old := time.Now().Add(-time.Hour)
	for i := range maxRecords + 3 {
		r := precisionRecord{Digest: fmt.Sprint(i), Processor: "one"}
		if err := f.write(r); err != nil {
			t.Fatal(err)
		}
		at := old.Add(time.Duration(i) * time.Second)
		if err := os.Chtimes(f.file(r.Digest, r.Processor), at, at); err != nil {
			t.Fatal(err)
		}
	}
	files, err := fs.Glob(os.DirFS(f.path), "*")
	if err != nil || len(files) != maxRecords {
		t.Errorf("%d files, want %d: %v", len(files), maxRecords, err)
	}
	for i := range maxRecords + 3 {
		_, err := os.Stat(f.file(fmt.Sprint(i), "one"))
		if (err == nil) != (i >= 3) {
			t.Errorf("file %d: %v", i, err)
		}
	}
}

// A step gets a copy of one record at a time, of its version, and rests after its work.
func TestTap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, other := infer.NewUnloaded(infer.Info{Version: 1}, 0), infer.NewUnloaded(infer.Info{Version: 1}, 0)
		var p tap
		content := []byte{1}
		p.offer(v, content, infer.Prediction{}) // nobody wants it
		u := p.open(v)
		p.offer(v, content, infer.Prediction{}) // nor yet
		got := make(chan sample)
		start := time.Now()
		go func() {
			for range 2 {
				s, err := u.next(t.Context(), 100*time.Millisecond)
				if err != nil {
					t.Error(err)
				}
				got <- s
			}
		}()
		for range 2 {
			time.Sleep(restFactor * 100 * time.Millisecond)
			synctest.Wait()
			p.offer(other, []byte{9}, infer.Prediction{})
			p.offer(v, content, infer.Prediction{})
			content[0]++
			p.offer(v, content, infer.Prediction{})
			if s := <-got; len(s.content) != 1 || s.content[0] != content[0]-1 {
				t.Errorf("got %v, want %d", s.content, content[0]-1)
			}
		}
		if took := time.Since(start); took != 2*restFactor*100*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		p.close(u)
		p.offer(v, content, infer.Prediction{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if s, err := u.next(ctx, 0); err == nil {
			t.Errorf("got %v after it was closed", s)
		}
	})
}
