package service

import (
	"log/slog"
	"sync"
	"time"

	"inceptor/internal/clip"
	"inceptor/model/infer"
	"inceptor/service/input"
	"inceptor/service/stream"
)

// letterPeriod is how often a dead letter of one reason is logged. The others are counted.
const letterPeriod = time.Minute

// A letterLog logs dead letters: the first one of each reason in a minute with a hint at what
// helps, and at the end of the minute how many more there were. A nil letterLog logs nothing. Safe
// for concurrent use.
type letterLog struct {
	log   *slog.Logger // set once
	noted noted        // set once

	mu      sync.Mutex // guards the field below
	periods map[string]*letters
}

// noted is what the hints depend on.
type noted struct {
	hasRoot bool // input.files.root is set
	topic   string
}

// letters are those of one reason in a period.
type letters struct {
	since time.Time
	more  int         // after the first one
	timer *time.Timer // ends the period
}

func newLetterLog(c Config, log *slog.Logger) *letterLog {
	return &letterLog{log: log, noted: noted{c.Input.Files.Root != "", c.Kafka.DeadLetter}, periods: map[string]*letters{}}
}

// made logs or counts a dead letter, and tells whether it is the first one of its reason in the
// period.
func (l *letterLog) made(r stream.Record, reason string, err error) (first bool) {
	if l == nil {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.periods[reason]; p != nil {
		p.more++
		return false
	}
	l.periods[reason] = &letters{since: time.Now(), timer: time.AfterFunc(letterPeriod, func() { l.end(reason) })}
	l.log.Warn("record became a dead letter", "reason", reason, "record", r.ID(), "err", clip.Text(err.Error(), maxErrorBytes), "hint", l.noted.hint(reason))
	return true
}

// end ends the period of a reason.
func (l *letterLog) end(reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.periods[reason]
	if p == nil {
		return
	}
	delete(l.periods, reason)
	p.timer.Stop()
	if p.more > 0 {
		l.log.Warn("more records became dead letters for the same reason", "reason", reason, "records", p.more, "within", time.Since(p.since).Round(time.Second))
	}
}

// close ends all periods.
func (l *letterLog) close() {
	l.mu.Lock()
	var reasons []string
	for reason := range l.periods {
		reasons = append(reasons, reason)
	}
	l.mu.Unlock()
	for _, reason := range reasons {
		l.end(reason)
	}
}

// hints say what helps if a reason is unexpected. For the other reasons only the sender can help.
var hints = map[string]string{
	string(input.Empty):          "set kafka.tombstones to forward or drop if records without a value are meant",
	string(input.UnknownFormat):  "set input.format if the records are no images, paths, URLs or JSON envelopes",
	string(input.TooLarge):       "raise input.max-bytes if such large records are meant",
	string(input.PathNotAllowed): "let records name files below input.files.root",
	string(input.PathNotFound):   "write the file before the record is sent; paths begin at input.files.root",
	string(input.PathUnreadable): "let this user read the files below input.files.root",
	string(input.URLNotAllowed):  "add the host to input.fetch.hosts if it may be fetched from",
	string(input.URLForbidden):   "add the address to input.fetch.private if it may be fetched from",
	string(input.URLTimeout):     "raise input.fetch.timeout, or look at the web server",
	string(input.URLUnreachable): "check the host's name, and that this machine can reach it; then send the records again with \"inceptor replay\"",
	infer.ReasonTooManyPixels:    "raise model.max-pixels if such large images are meant",
	infer.ReasonNotFinite:        "check the model: its scores should be numbers",
	infer.ReasonBadRow:           "compare the row with the model's signature: \"inceptor inspect\" shows it",
	infer.ReasonPanicked:         "please report this, with the stack in the log",
	ReasonRefused:                "raise max.message.bytes of the output topic if the error says that the answer is too large",
	ReasonUnreadBatch:            "raise kafka.window.bytes, or let producers send smaller batches",
	ReasonGivenUp:                "raise kafka.on-error-after, and see why the model could not answer; then \"inceptor replay\" sends the records again",
	ReasonCrashed:                "keep the record for a report: native code failed on it twice",
}

// hint returns what helps against a reason.
func (n noted) hint(reason string) string {
	if reason == string(input.PathNotAllowed) && !n.hasRoot {
		return "set input.files.root to the folder with the files"
	}
	if text, ok := hints[reason]; ok {
		return text
	}
	return "see the record in " + n.topic + ": its sender must mend it"
}
