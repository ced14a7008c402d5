package service

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"inceptor/model"
	"inceptor/service/stream"
)

// recent keeps the last records for the page. What is shown of them is made
// only when somebody looks.
type recent struct {
	mu      sync.Mutex
	records [maxRecent]recentRecord
	n       int // so far; record i is at i%maxRecent
}

type recentRecord struct {
	source  stream.Record // without what it holds
	key     [maxKeyOnPage + 1]byte
	keyLen  int
	time    time.Time
	outcome string // answered, forwarded, dropped, or a dead letter's reason
	detail  string
	classes []model.Class
	scores  [maxScoresOnPage]float32 // the first of them: all are those of a batch
	n, more int
	arrays  []model.Array // without their values
}

const (
	maxRecent       = 25
	maxKeyOnPage    = 60
	maxScoresOnPage = 8
)

// The outcomes of what is no dead letter; the last two are of tombstones.
const (
	answered  = "answered"
	forwarded = "forwarded"
	dropped   = "dropped"
)

func (r *recent) answered(source stream.Record, p model.Prediction) {
	e := recentRecord{source: source, outcome: answered, classes: p.Classes}
	e.n = copy(e.scores[:], p.Scores)
	e.more = len(p.Scores) - e.n
	for _, a := range p.Outputs {
		a.Bytes, a.Strings = nil, nil
		e.arrays = append(e.arrays, a)
	}
	r.add(e)
}

func (r *recent) deadLetter(source stream.Record, reason string, err error) {
	r.add(recentRecord{source: source, outcome: reason, detail: err.Error()})
}

func (r *recent) tombstone(source stream.Record, outcome string) {
	r.add(recentRecord{source: source, outcome: outcome, detail: "a tombstone"})
}

func (r *recent) add(e recentRecord) {
	e.keyLen = copy(e.key[:], e.source.Key) // which may be a part of what was fetched
	e.source.Key, e.source.Value, e.source.Headers, e.time = nil, nil, nil, time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records[r.n%maxRecent] = e
	r.n++
}

// A lineOnPage is one of the last records as the page shows it.
type lineOnPage struct {
	Time                     time.Time
	ID, Key, Outcome, Detail string
}

// list returns the last records, the newest first.
func (r *recent) list() (lines []lineOnPage) {
	r.mu.Lock()
	last, n := r.records, r.n
	r.mu.Unlock()
	for i := range min(n, maxRecent) {
		e := last[(n-1-i)%maxRecent]
		lines = append(lines, lineOnPage{
			Time: e.time, ID: recordID(e.source), Key: clip(string(e.key[:e.keyLen]), maxKeyOnPage),
			Outcome: e.outcome, Detail: clip(e.summary(), maxErrorBytes),
		})
	}
	return lines
}

// summary is what became of the record, as a person wants to see it in passing.
func (e recentRecord) summary() string {
	if e.outcome != answered {
		return e.detail
	}
	if len(e.classes) > 0 {
		return e.classes[0].String()
	}
	if e.n == 0 && len(e.arrays) > 0 {
		return joined(e.arrays)
	}
	scores := fmt.Sprintf("%.4g", e.scores[:e.n])
	if e.more > 0 {
		scores += fmt.Sprintf(" and %d more", e.more)
	}
	return scores
}

// joined names the arrays with their shapes.
func joined(arrays []model.Array) string {
	names := make([]string, len(arrays))
	for i, a := range arrays {
		names[i] = a.String()
	}
	return strings.Join(names, ", ")
}
