package service

import (
	"cmp"
	"testing"

	diff "github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"inceptor/service/page"
	"inceptor/service/stream"
)

// What becomes of a tombstone is set; a record whose value is empty is none.
func TestTombstones(t *testing.T) {
	forward := func(r stream.Record) []stream.Record {
		return []stream.Record{{
			Topic: "out", Key: r.Key, Time: r.Time,
			Headers: append(r.Headers[:len(r.Headers):len(r.Headers)], stream.Header{Key: "inceptor-id", Value: []byte("in-2-4711")}),
		}}
	}
	keyless := record(nil)
	keyless.Key = nil
	forged := record(nil)
	forged.Headers = []stream.Header{{Key: "a", Value: []byte("1")}, {Key: "inceptor-id", Value: []byte("forged")}}
	own := forged
	own.Headers = forged.Headers[:1]
	for name, test := range map[string]struct {
		setting         string
		record          stream.Record
		outcome, reason string
		want            []stream.Record // nil: one dead letter
	}{
		"dead letter":              {"dead-letter", record(nil), "dead_letter", "empty", nil},
		"not set":                  {"", record(nil), "dead_letter", "empty", nil},
		"forward":                  {"forward", record(nil), "forwarded", "", forward(record(nil))},
		"forward, no key":          {"forward", keyless, "forwarded", "", forward(keyless)},
		"forward, a forged header": {"forward", forged, "forwarded", "", forward(own)},
		"forward, empty value":     {"forward", record([]byte{}), "dead_letter", "empty", nil},
		"drop":                     {"drop", record(nil), "dropped", "", []stream.Record{}},
		"drop, empty value":        {"drop", record([]byte{}), "dead_letter", "empty", nil},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHandler(t, fakeModel{})
			h.tombstones = test.setting
			out, err := h.handle(t.Context(), test.record)
			if err != nil {
				t.Fatal(err)
			}
			if test.want == nil {
				if len(out) != 1 || out[0].Topic != "dead" || valueOf(out[0], headerReason) != test.reason {
					t.Errorf("got %v, want a dead letter", out)
				}
			} else if d := diff.Diff(test.want, append([]stream.Record{}, out...)); d != "" {
				t.Error(d)
			}
			if n := testutil.ToFloat64(h.metrics.records.WithLabelValues(test.outcome, test.reason)); n != 1 {
				t.Errorf("%v counted as %s %s, want 1", n, test.outcome, test.reason)
			}
			state := cmp.Or(map[string]string{"dead_letter": page.StateDeadLetter}[test.outcome], test.outcome)
			if list := h.recent.List(); len(list) != 1 || list[0].State != state || list[0].Reason != test.reason {
				t.Errorf("the page shows %v", list)
			}
		})
	}
}
