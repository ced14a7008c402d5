package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inceptor/internal/settings"
	"inceptor/model/infer"
	"inceptor/service/input"
	"inceptor/service/stream"
)

// panickingModel panics on what is named like that.
type panickingModel struct{ fakeModel }

func (p panickingModel) Classify(ctx context.Context, key, image []byte) (infer.Prediction, error) {
	if strings.HasPrefix(string(key), "panic") {
		panic("a fault of ours")
	}
	return p.fakeModel.Classify(ctx, key, image)
}

// A panic costs the record that shows it, and nothing else: no place in the
// model, no room for images, and nobody waits for a suspect that has ended.
func TestPanic(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := settings.Default[input.Config]()
	c.Format, c.MaxBytes, c.Fetch.Concurrency, c.Files.Root = input.Path, 64, 1, t.TempDir()
	if err := os.WriteFile(filepath.Join(c.Files.Root, "image"), make([]byte, c.MaxBytes), 0o600); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	h := newHandler(t, panickingModel{})
	h.log = slog.New(slog.NewTextHandler(&log, nil))
	var err error
	if h.input, err = input.New(c); err != nil {
		t.Fatal(err)
	}
	const n = 20 // more than there is room or places for
	h.queue = newFairQueue(limitOf(2))
	at := func(offset int64, key string) stream.Record {
		return stream.Record{Topic: "in", Partition: 1, Offset: offset, Key: []byte(key), Value: []byte("image")}
	}
	dir := t.TempDir()
	before := open4test(t, dir, "in")
	for i := range int64(n) {
		if _, err := before.begin(at(i, fmt.Sprint("panic", i))); err != nil {
			t.Fatal(err)
		}
	}
	before.die(t, false)
	h.journal = open4test(t, dir, "in")
	for i := range int64(2 * n) { // the first are suspects
		out, err := h.handle(ctx, at(i, fmt.Sprint("panic", i)))
		if err != nil || len(out) != 1 || out[0].Topic != "dead" {
			t.Fatalf("record %d: got %v, %v", i, out, err)
		}
		reason := ""
		for _, header := range out[0].Headers {
			if header.Key == "inceptor-reason" {
				reason = string(header.Value)
			}
		}
		if reason != infer.ReasonPanicked {
			t.Errorf("reason %q, want %q", reason, infer.ReasonPanicked)
		}
	}
	if out, err := h.handle(ctx, at(100, "good")); err != nil || out[0].Topic != "out" {
		t.Errorf("the next record: got %v, %v", out, err)
	}
	h.journal.check(t, 0, 0)
	if h.queue.inside != 0 {
		t.Errorf("%d records are in the model, want none", h.queue.inside)
	}
	for _, want := range []string{"level=ERROR", "record=in-1-7", `panic="a fault of ours"`, "panickingModel.Classify"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not hold %q", want)
		}
	}
}

// A panic behind the model is one too.
func TestPanicOfDecoder(t *testing.T) {
	failed := func() (err error) {
		defer infer.Recovered(&err)
		panic("a fault of ours")
	}()
	h := newHandler(t, fakeModel{fmt.Errorf("decode: %w", failed)})
	out, err := h.handle(t.Context(), record(png))
	if err != nil || len(out) != 1 || out[0].Topic != "dead" {
		t.Fatalf("got %v, %v", out, err)
	}
	var panicked *infer.PanicError
	if !errors.As(failed, &panicked) || !strings.Contains(string(panicked.Stack), "TestPanicOfDecoder") {
		t.Errorf("got %v", failed)
	}
}
