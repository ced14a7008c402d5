// Package recent keeps the latest records for the page, and those that it has shown lately: what
// became of them, whether the brokers have acknowledged that, and the answer. It allocates nothing
// for a record once its buffers have grown.
package recent

import (
	"slices"
	"strings"
	"sync"
	"time"

	"inceptor/internal/clip"
	"inceptor/model/infer"
	"inceptor/service/page"
	"inceptor/service/stream"
)

const (
	// What is kept of a record, in bytes.
	maxKey     = 60
	maxError   = 1024
	maxAnswer  = 16 << 10
	maxHeaders = 4 << 10
	maxLabel   = 200

	maxClasses = 20
	maxScores  = 8 // shown of a record without classes

	// What is kept.
	maxLatest  = 60 // records of either kind
	keepListed = 20 * time.Second
	maxListed  = int(keepListed/page.Period) * (page.MaxRecords + page.MaxPictures) // records
)

// Records are the latest records. Safe for concurrent use.
type Records struct {
	// Shorten appends an answer without its arrays, for answers of more than 16 KiB. It gets the
	// first classes only. Set once.
	Shorten func(b []byte, source stream.Record, p infer.Prediction) []byte

	mu       sync.Mutex // guards the rest
	plain    ring
	pictured ring      // those that get a picture
	listed   ring      // those that were shown, and are not among the other two any more
	listedAt time.Time // when there was a list last
}

// next returns a slot for a new record. It keeps the record that was there if somebody has seen it
// and may ask for its details.
func (r *Records) next(in *ring) *slot {
	s := in.next(maxLatest)
	if time.Since(r.listedAt) > keepListed {
		r.listed = ring{} // it may take some 20 MB, and nobody looks
	} else if s.listed {
		kept := r.listed.next(maxListed)
		*kept, *s = *s, *kept
	}
	return s
}

// A ring holds the latest records: record i is at i%len(slots), once there are as many as may be.
type ring struct {
	slots []slot
	n     int // records so far
}

func (r *ring) next(most int) *slot {
	i := r.n % most
	if i == len(r.slots) {
		r.slots = append(r.slots, slot{})
	}
	r.n++
	return &r.slots[i]
}

// latest calls f with each slot whose record still is what the slot shows, the latest record first.
func (r *ring) latest(f func(*slot)) {
	for i := range min(r.n, len(r.slots)) {
		if s := &r.slots[(r.n-1-i)%len(r.slots)]; !s.replaced {
			f(s)
		}
	}
}

// A slot holds one record. Its memory is used again for a later one.
type slot struct {
	source       stream.Record // without key, value and headers
	at           time.Time
	state        string // of package page; StateAnswered also when it is published
	reason       string // of a dead letter
	acknowledged bool   // the brokers have what was published for it
	replaced     bool   // a dead letter has taken the place of what it shows
	jumped       bool   // its partition lost its position since: a commit says nothing about it
	moved        bool   // and offsets mean other records since
	listed       bool   // it was in a list

	version int64
	classes []infer.Class
	scores  [maxScores]float32 // the first ones: all scores share a batch's memory
	more    int                // scores that are left out
	nScores int
	arrays  []infer.Array // without their values
	read    time.Duration
	timings infer.Timings
	size    int // of the answer; more than that of text.answer: it is shortened

	text text
}

// Answered notes an answered record, the time that reading its input took, and its output. pictured
// tells that a picture of it is being made: such a record stays longer.
func (r *Records) Answered(source stream.Record, read time.Duration, p infer.Prediction, out stream.Record, pictured bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	in := &r.plain
	if pictured {
		in = &r.pictured
	}
	s := r.next(in)
	s.set(source, page.StateAnswered)
	s.version, s.read, s.timings = p.Version, read, p.Timings
	for _, c := range p.Classes[:min(len(p.Classes), maxClasses)] {
		if len(c.Label) > maxLabel { // a model may return any string
			c.Label = clip.Text(c.Label[:maxLabel+1], maxLabel)
		}
		s.classes = append(s.classes, c)
	}
	s.nScores = copy(s.scores[:], p.Scores)
	s.more = len(p.Scores) - s.nScores
	for _, a := range p.Outputs {
		a.Bytes, a.Strings = nil, nil
		s.arrays = append(s.arrays, a)
	}
	s.size = len(out.Value)
	if len(out.Value) <= maxAnswer {
		s.text.answer(out.Value)
	} else if r.Shorten != nil {
		p.Classes = s.classes
		s.text.shortened(r.Shorten, source, p)
	}
	s.text.headers(out.Headers)
}

// DeadLetter notes a record that became a dead letter, also one that was answered before: its
// answer was refused then, and is not shown any more.
func (r *Records) DeadLetter(source stream.Record, reason string, err error, out stream.Record) {
	message := err.Error()
	r.mu.Lock()
	defer r.mu.Unlock()
	listed := false
	r.mark(source.Source(), func(s *slot) {
		if !s.moved && s.source.Offset == source.Offset {
			s.replaced, listed = true, listed || s.listed
		}
	})
	s := r.next(&r.plain)
	s.set(source, page.StateDeadLetter)
	s.reason, s.listed = reason, listed
	s.text.problem(message)
	s.text.headers(out.Headers)
}

// Tombstone notes what became of a record without a value: page.StateForwarded or StateDropped.
func (r *Records) Tombstone(source stream.Record, state string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.next(&r.plain)
	s.set(source, state)
	s.text.problem("a tombstone")
}

// set begins a slot anew for a record.
func (s *slot) set(source stream.Record, state string) {
	text, arrays, classes := s.text, s.arrays[:0], s.classes[:0]
	clear(s.classes)       // a label may keep those of a whole version alive
	text.begin(source.Key) // a copy, for the key may share memory with a whole fetch
	source.Key, source.Value, source.Headers = nil, nil, nil
	*s = slot{source: source, at: time.Now(), state: state, text: text, arrays: arrays, classes: classes}
}

// Delivered notes that the outputs of a partition's records from first to last are acknowledged.
func (r *Records) Delivered(p stream.Partition, first, last int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mark(p, func(s *slot) {
		if !s.moved && first <= s.source.Offset && s.source.Offset <= last {
			s.acknowledged = true
		}
	})
}

// Committed notes that a partition's records before next are committed, and so acknowledged: of
// some, the driver learns that only in the next generation.
func (r *Records) Committed(p stream.Partition, next int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mark(p, func(s *slot) {
		if !s.jumped && s.source.Offset < next {
			s.acknowledged = true
		}
	})
}

// Moved notes that a partition goes on at another position, beyond records that may not be
// acknowledged. reused tells that its offsets may mean other records from now on.
func (r *Records) Moved(p stream.Partition, reused bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mark(p, func(s *slot) {
		s.jumped = true
		s.moved = s.moved || reused
	})
}

// mark calls f with each slot of a partition. The caller holds mu.
func (r *Records) mark(p stream.Partition, f func(*slot)) {
	for _, in := range [...]*ring{&r.plain, &r.pictured, &r.listed} {
		for i := range min(in.n, len(in.slots)) {
			if s := &in.slots[i]; s.source.Partition == p.ID && s.source.Topic == p.Topic {
				f(s)
			}
		}
	}
}

// List returns the latest records, the latest first. A record that came again is in it once.
func (r *Records) List() []page.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*slot
	r.plain.latest(func(s *slot) { all = append(all, s) })
	r.pictured.latest(func(s *slot) { all = append(all, s) })
	slices.SortStableFunc(all, func(a, b *slot) int { return b.at.Compare(a.at) })
	return r.pageRecords(all, page.MaxRecords)
}

// Pictured returns the latest records that have a picture, which has tells, the latest first.
func (r *Records) Pictured(has func(id string) bool) []page.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*slot
	r.pictured.latest(func(s *slot) {
		if has(s.source.ID()) {
			all = append(all, s)
		}
	})
	return r.pageRecords(all, page.MaxPictures)
}

// pageRecords returns the first records, at most so many, without those that came again before.
// The caller holds mu.
func (r *Records) pageRecords(all []*slot, most int) (records []page.Record) {
	r.listedAt = time.Now()
	type id struct {
		partition stream.Partition
		offset    int64
	}
	seen := map[id]bool{}
	for _, s := range all {
		if key := (id{s.source.Source(), s.source.Offset}); !seen[key] && len(records) < most {
			seen[key], s.listed = true, true
			records = append(records, s.record())
		}
	}
	return records
}

// Detail returns all that is kept of a record, but for the kcat line, and the topic, partition and
// offset of its input; false: nothing is.
func (r *Records) Detail(id string) (d page.Detail, source stream.Record, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found *slot
	find := func(s *slot) {
		if (found == nil || s.at.After(found.at)) && s.source.ID() == id {
			found = s
		}
	}
	r.plain.latest(find)
	r.pictured.latest(find)
	r.listed.latest(find)
	if found == nil {
		return page.Detail{}, stream.Record{}, false
	}
	return found.detail(), found.source, true
}

// summary describes an answer without classes in a few words.
func (s *slot) summary() string {
	if len(s.classes) > 0 {
		return ""
	}
	var words []string
	if s.nScores > 0 {
		words = append(words, scoresText(s.scores[:s.nScores], s.more))
	}
	for _, a := range s.arrays {
		words = append(words, a.String())
	}
	return strings.Join(words, ", ")
}
