package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"regexp"
	"runtime/debug"
	"strings"
	"sync"

	"inceptor/internal/host"
)

// A notices handler shows warnings and errors as plain lines, and nothing else:
// "warning: what happened (attribute=value)". Safe for concurrent use.
type notices struct {
	log  slog.Handler // decides, with its level, what else is not shown
	text slog.Handler // writes the attributes of a record to out.line
	out  *noticeWriter
}

// A noticeWriter holds the line that is being written.
type noticeWriter struct {
	mu   sync.Mutex // guards what follows
	line bytes.Buffer
	w    io.Writer
}

// newNotices returns a handler that writes to w what also log would log.
func newNotices(w io.Writer, log slog.Handler) *notices {
	out := &noticeWriter{w: w}
	return &notices{log: log, out: out, text: slog.NewTextHandler(&out.line, &slog.HandlerOptions{
		Level: slog.LevelWarn,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
				return slog.Attr{}
			}
			return a
		},
	})}
}

func (n *notices) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && n.log.Enabled(ctx, level)
}

func (n *notices) Handle(ctx context.Context, r slog.Record) error {
	kind := "warning: "
	if r.Level >= slog.LevelError {
		kind = "error: "
	}
	o := n.out
	o.mu.Lock()
	defer o.mu.Unlock()
	o.line.Reset()
	if err := n.text.Handle(ctx, r); err != nil {
		return err
	}
	line := kind + printable(r.Message)
	if attributes := strings.TrimSpace(o.line.String()); attributes != "" {
		line += " (" + attributes + ")"
	}
	_, err := io.WriteString(o.w, line+"\n")
	return err
}

func (n *notices) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &notices{n.log, n.text.WithAttrs(attrs), n.out}
}

func (n *notices) WithGroup(name string) slog.Handler {
	return &notices{n.log, n.text.WithGroup(name), n.out}
}

// greeting matches what TensorFlow's library writes to standard error whenever it is opened. No
// setting of the library turns that off.
var greeting = regexp.MustCompile(`(?m)^(WARNING: All log messages before absl::InitializeLog\(\)|I0000 ).*\n`)

// withoutGreetings calls open, and shows on stderr what native code has written to standard error
// meanwhile, except for greetings. It needs stderr to be that of the process.
func withoutGreetings(stderr io.Writer, open func() error) error {
	t, _ := stderr.(terminal)
	if t.w != os.Stderr {
		return open()
	}
	written, err := os.CreateTemp("", "inceptor-*.log")
	if err != nil {
		return open()
	}
	defer func() { _ = written.Close() }()
	_ = os.Remove(written.Name())
	restore, original, err := host.RedirectStderr(written)
	if err != nil {
		return open()
	}
	_ = debug.SetCrashOutput(original, debug.CrashOptions{})
	defer func() {
		_ = debug.SetCrashOutput(nil, debug.CrashOptions{})
		restore()
		if _, err := written.Seek(0, io.SeekStart); err == nil {
			text, _ := io.ReadAll(written)
			_, _ = stderr.Write(greeting.ReplaceAll(text, nil))
		}
	}()
	return open()
}
