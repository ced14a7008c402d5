package recent

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"inceptor/internal/clip"
	"inceptor/model/infer"
	"inceptor/service/page"
	"inceptor/service/stream"
)

// A text holds a slot's texts one after the other: key, error, answer and headers. Each is copied,
// so that the slot keeps no other memory alive.
type text struct {
	b                         []byte
	keyEnd, errEnd, answerEnd int
	headersCut                bool
}

// begin starts anew with a key.
func (t *text) begin(key []byte) {
	*t = text{b: append(t.b[:0], key[:min(len(key), maxKey+1)]...)} // one more: it shows that it is cut
	t.keyEnd, t.errEnd, t.answerEnd = len(t.b), len(t.b), len(t.b)
}

func (t *text) problem(s string) {
	t.b = append(t.b, s[:min(len(s), maxError+1)]...)
	t.errEnd, t.answerEnd = len(t.b), len(t.b)
}

func (t *text) answer(value []byte) {
	t.b = append(t.b, value...)
	t.answerEnd = len(t.b)
}

// shortened takes the answer that shorten appends, unless that is too long too.
func (t *text) shortened(shorten func([]byte, stream.Record, infer.Prediction) []byte, source stream.Record, p infer.Prediction) {
	if b := shorten(t.b, source, p); len(b)-len(t.b) <= maxAnswer {
		t.b = b
	}
	t.answerEnd = len(t.b)
}

// headers takes as many headers as fit, each as two strings with their lengths before them.
func (t *text) headers(headers []stream.Header) {
	start := len(t.b)
	for _, h := range headers {
		if len(t.b)-start+len(h.Key)+len(h.Value)+2*binary.MaxVarintLen32 > maxHeaders {
			t.headersCut = true
			continue // a later one may fit, such as those that the service has added
		}
		t.b = append(binary.AppendUvarint(t.b, uint64(len(h.Key))), h.Key...)
		t.b = append(binary.AppendUvarint(t.b, uint64(len(h.Value))), h.Value...)
	}
}

func (t *text) headerList() (list []page.Header) {
	rest := t.b[t.answerEnd:]
	next := func() string {
		n, size := binary.Uvarint(rest)
		s := string(rest[size:][:n])
		rest = rest[size+int(n):]
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	for len(rest) > 0 {
		name := next()
		list = append(list, page.Header{Name: name, Value: next()})
	}
	if t.headersCut {
		list = append(list, page.Header{Name: "…", Value: "longer headers are left out"})
	}
	return list
}

// record returns what the list shows of a slot.
func (s *slot) record() page.Record {
	r := page.Record{
		ID: s.source.ID(), At: s.at, Key: clip.Text(string(s.text.b[:s.text.keyEnd]), maxKey),
		State: s.state, Reason: s.reason, Version: max(0, s.version),
		Detail: clip.Text(string(s.text.b[s.text.keyEnd:s.text.errEnd]), maxError),
	}
	if s.state == page.StateAnswered {
		r.Detail, r.Took = s.summary(), page.Milliseconds(s.read+s.timings.Wait+s.timings.Decode+s.timings.Infer)
		if s.acknowledged {
			r.State = page.StatePublished
		}
	}
	for _, c := range s.classes {
		r.Classes = append(r.Classes, page.Class{Label: c.Name(), Score: float64(c.Score)})
	}
	return r
}

func (s *slot) detail() page.Detail {
	d := page.Detail{Record: s.record(), Headers: s.text.headerList()}
	if s.state != page.StateAnswered {
		return d
	}
	answer := s.text.b[s.text.errEnd:s.text.answerEnd]
	var indented bytes.Buffer
	if err := json.Indent(&indented, answer, "", "  "); err == nil {
		d.Answer = indented.String()
	}
	if s.size > maxAnswer {
		d.Answer = fmt.Sprintf("The answer has %d bytes; its outputs and all but the first %d classes are left out here.\n%s", s.size, maxClasses, d.Answer)
	}
	for _, t := range []struct {
		name string
		took time.Duration
	}{{"read", s.read}, {"wait", s.timings.Wait}, {"decode", s.timings.Decode}, {"infer", s.timings.Infer}} {
		d.Timings = append(d.Timings, page.Timing{Name: t.name, Milliseconds: page.Milliseconds(t.took)})
	}
	return d
}

func scoresText(scores []float32, more int) string {
	text := fmt.Sprintf("%.4g", scores)
	if more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
