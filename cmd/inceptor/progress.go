package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"inceptor/internal/host"
)

// A progress shows on standard error how far a command has come. On a terminal that is a bar,
// which the next one replaces. Elsewhere it is a line for each new text, and one every ten seconds
// while the text stays the same. A log.level above info turns it off. Not for concurrent use.
type progress struct {
	w     io.Writer // nil: nothing is shown
	width int       // columns of the terminal; 0: not a terminal
	now   func() time.Time

	begin, shown time.Time // of the first call of show, and of the last one that wrote something
	what         string    // that was shown last
}

const (
	progressBar    = 20                     // columns of the bar between its brackets
	progressRedraw = 100 * time.Millisecond // at least between two bars
	progressLine   = 10 * time.Second       // between two lines with the same text
)

// progress returns a progress for one task of a command. Call close at its end.
func (a *app) progress() *progress {
	p := &progress{now: time.Now}
	if a.log.Enabled(context.Background(), slog.LevelInfo) {
		p.w = a.stderr
	}
	// The bar needs control characters, which a terminal would escape. show escapes those of the
	// text.
	if t, ok := p.w.(terminal); ok {
		if file, ok := t.w.(*os.File); ok {
			if p.width = host.TerminalWidth(file); p.width > 0 {
				p.w = file
			}
		}
	}
	return p
}

// show says what the command does now, and that done of total steps are done. Steps should take
// equally long: the time left is estimated from those that are done.
func (p *progress) show(what string, done, total int) {
	if p.w == nil {
		return
	}
	now := p.now()
	if p.begin.IsZero() {
		p.begin = now
	}
	since := now.Sub(p.shown)
	if p.width > 0 && since < progressRedraw && done < total || p.width == 0 && since < progressLine && what == p.what {
		return
	}
	p.shown, p.what = now, what
	line := fmt.Sprintf("%d of %d", done, total)
	if done > 0 && done < total {
		left := now.Sub(p.begin) / time.Duration(done) * time.Duration(total-done)
		line += ", about " + timeLeft(left) + " left"
	}
	line += ": " + printable(what)
	if p.width == 0 {
		fmt.Fprintln(p.w, line)
		return
	}
	full := progressBar * min(done, total) / max(total, 1)
	line = "[" + strings.Repeat("#", full) + strings.Repeat(" ", progressBar-full) + "] " + line
	fmt.Fprint(p.w, "\r\x1b[K"+firstColumns(line, p.width-1)) // a full line would wrap
}

// close removes the bar from the terminal. It may be called more than once.
func (p *progress) close() {
	if p.width > 0 && !p.shown.IsZero() {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = time.Time{}
	}
}

// timeLeft returns a duration for people: in seconds below a minute and a half, then in minutes.
func timeLeft(d time.Duration) string {
	if d < 90*time.Second {
		return fmt.Sprintf("%.0f s", max(1, d.Seconds()))
	}
	return fmt.Sprintf("%.0f min", d.Minutes())
}

// firstColumns returns at most n characters of s.
func firstColumns(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:max(0, n)])
}
