package recent

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"inceptor/model/infer"
	"inceptor/savedmodel"
	"inceptor/service/page"
	"inceptor/service/stream"
)

var in2 = stream.Partition{Topic: "in", ID: 2}

func record(offset int64) stream.Record {
	return stream.Record{Topic: "in", Partition: 2, Offset: offset, Key: []byte("k"), Value: []byte("an image")}
}

func answer(value string, headers ...stream.Header) stream.Record {
	return stream.Record{Value: []byte(value), Headers: headers}
}

// states returns "offset state" of the listed records, the latest first.
func states(list []page.Record) (got []string) {
	for _, r := range list {
		got = append(got, strings.TrimPrefix(r.ID, "in-2-")+" "+r.State)
	}
	return got
}

// An answer is published once the brokers have acknowledged it, and not before.
func TestStates(t *testing.T) {
	answered := func(offsets ...int64) func(*Records) {
		return func(r *Records) {
			for i, offset := range offsets {
				r.Answered(record(offset), 0, infer.Prediction{}, answer("{}"), i%2 == 1)
				time.Sleep(time.Millisecond)
			}
		}
	}
	for _, test := range []struct {
		name  string
		steps []func(*Records)
		want  []string
	}{
		{"the broker is gone", []func(*Records){answered(1, 2)}, []string{"2 answered", "1 answered"}},
		{"delivered", []func(*Records){answered(1, 2, 3, 4), func(r *Records) { r.Delivered(in2, 2, 3) }},
			[]string{"4 answered", "3 published", "2 published", "1 answered"}},
		{"of another partition", []func(*Records){answered(1), func(r *Records) { r.Delivered(stream.Partition{Topic: "in", ID: 3}, 1, 1) }}, []string{"1 answered"}},
		{"of another topic", []func(*Records){answered(1), func(r *Records) { r.Delivered(stream.Partition{Topic: "on", ID: 2}, 1, 1) }}, []string{"1 answered"}},
		{"committed", []func(*Records){answered(1, 2), func(r *Records) { r.Committed(in2, 2) }}, []string{"2 answered", "1 published"}},
		{"committed after the topic was created anew", []func(*Records){answered(1), func(r *Records) { r.Moved(in2, true); r.Committed(in2, 100); r.Delivered(in2, 0, 100) }}, []string{"1 answered"}},
		{"in flight when retention removes those that follow", []func(*Records){answered(1, 2), func(r *Records) {
			r.Moved(in2, false)
			r.Committed(in2, 100)
			r.Delivered(in2, 1, 1)
		}}, []string{"2 answered", "1 published"}},
		{"it comes again", []func(*Records){answered(1, 2), answered(1, 2)}, []string{"2 answered", "1 answered"}},
		{"it comes again, and is delivered", []func(*Records){answered(1), answered(1), func(r *Records) { r.Delivered(in2, 1, 1) }}, []string{"1 published"}},
		{"its answer is refused", []func(*Records){answered(1), func(r *Records) {
			r.DeadLetter(record(1), "refused-by-broker", errors.New("too large"), answer(""))
			r.Delivered(in2, 1, 1)
		}}, []string{"1 dead letter"}},
		{"tombstones", []func(*Records){func(r *Records) {
			r.Tombstone(record(1), page.StateForwarded)
			time.Sleep(time.Millisecond)
			r.Tombstone(record(2), page.StateDropped)
			r.Delivered(in2, 1, 2)
		}}, []string{"2 dropped", "1 forwarded"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var r Records
				for _, step := range test.steps {
					step(&r)
				}
				if diff := cmp.Diff(test.want, states(r.List())); diff != "" {
					t.Errorf("records (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// A record whose answer is refused is a dead letter everywhere, and the wall shows no answer of it.
func TestRefusedAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Records
		refuse := func() {
			r.DeadLetter(record(1), "refused-by-broker", errors.New("too large"), answer(""))
			time.Sleep(time.Millisecond)
		}
		has := func(string) bool { return true }
		r.Answered(record(1), 0, infer.Prediction{}, answer("{}"), true)
		time.Sleep(time.Millisecond)
		refuse()
		refuse()
		r.Delivered(in2, 1, 1)
		if got := states(r.List()); len(got) != 1 || got[0] != "1 dead letter" {
			t.Errorf("records: %v", got)
		}
		if got := states(r.Pictured(has)); len(got) > 0 {
			t.Errorf("with a picture: %v", got)
		}
		r.Answered(record(1), 0, infer.Prediction{}, answer("{}"), true) // the next generation reads it again
		r.Delivered(in2, 1, 1)
		if got := states(r.Pictured(has)); len(got) != 1 || got[0] != "1 published" {
			t.Errorf("answered again, with a picture: %v", got)
		}
		r.DeadLetter(record(1), "given-up", errors.New("no model"), answer("")) // and again, in vain
		if d, _, ok := r.Detail("in-2-1"); !ok || d.State != page.StateDeadLetter || d.Reason != "given-up" {
			t.Errorf("detail: %+v, %v", d, ok)
		}
	})
}

// The latest records are kept, and longer those that get a picture.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Records
		for i := range int64(1000) {
			r.Answered(record(i), 0, infer.Prediction{}, answer("{}"), i%100 == 0)
			time.Sleep(time.Millisecond)
		}
		list := r.List()
		if len(list) != page.MaxRecords || list[0].ID != "in-2-999" || list[page.MaxRecords-1].ID != "in-2-980" {
			t.Errorf("%d records: %v", len(list), states(list))
		}
		pictured := r.Pictured(func(id string) bool { return id != "in-2-500" })
		if got := states(pictured); len(got) != 9 || got[0] != "900 answered" || got[8] != "0 answered" {
			t.Errorf("with a picture: %v", got)
		}
		if _, _, ok := r.Detail("in-2-0"); !ok {
			t.Error("a record with a picture has no detail")
		}
		if _, _, ok := r.Detail("in-2-1"); ok {
			t.Error("an old record has a detail")
		}
	})
}

// Who sees a record in a list can ask for its details 20 s later, however fast the stream, and
// although each list has other pictures.
func TestListedStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Records
		var lists [][]page.Record
		for second := range int64(42) {
			for i := range int64(1000) {
				r.Answered(record(1000*second+i), 0, infer.Prediction{}, answer(fmt.Sprint(1000*second+i)), i%40 == 0)
				time.Sleep(time.Millisecond)
			}
			lists = append(lists, slices.Concat(r.List(), r.Pictured(func(string) bool { return true })))
		}
		r.Delivered(in2, 0, 22_990) // late
		r.DeadLetter(record(22_991), "refused-by-broker", errors.New("too large"), answer(""))
		for i := range int64(maxLatest) {
			r.Answered(record(42_000+i), 0, infer.Prediction{}, answer("{}"), false)
		}
		for _, list := range lists[22:] {
			for _, listed := range list {
				d, _, ok := r.Detail(listed.ID)
				if !ok {
					t.Fatalf("nothing is kept of %s, which was in a list", listed.ID)
				}
				want, offset := page.StateAnswered, strings.TrimPrefix(listed.ID, "in-2-")
				if offset <= "22990" {
					want = page.StatePublished
				} else if offset == "22991" {
					want = page.StateDeadLetter
				}
				if d.State != want || want != page.StateDeadLetter && d.Answer != offset {
					t.Errorf("%s: %s, answer %q", listed.ID, d.State, d.Answer)
				}
			}
		}
		if n := len(r.listed.slots); n != maxListed {
			t.Errorf("%d records are kept since they were in a list, want %d", n, maxListed)
		}
		for _, id := range []string{"in-2-991", "in-2-41930"} { // the first was in a list, long ago
			if _, _, ok := r.Detail(id); ok {
				t.Errorf("%s still has a detail", id)
			}
		}
		time.Sleep(keepListed + 1) // nobody looks any more
		r.Answered(record(43_000), 0, infer.Prediction{}, answer("{}"), false)
		if n := len(r.listed.slots); n > 0 {
			t.Errorf("%d records are kept, and nobody looks", n)
		}
	})
}

// What is shown of an answer.
func TestShown(t *testing.T) {
	array := func(key string, shape savedmodel.Shape) infer.Array {
		return infer.Array{Key: key, Array: savedmodel.Array{DType: savedmodel.Float32, Shape: shape, Bytes: make([]byte, 4)}}
	}
	for _, test := range []struct {
		name    string
		p       infer.Prediction
		classes []page.Class
		detail  string
	}{
		{"labels", infer.Prediction{Classes: []infer.Class{{Label: "cat", Index: 3, Score: 0.75}}}, []page.Class{{Label: "cat", Score: 0.75}}, ""},
		{"no labels", infer.Prediction{Classes: []infer.Class{{Index: 3, Score: 0.75}}}, []page.Class{{Label: "class 3", Score: 0.75}}, ""},
		{"the model's words", infer.Prediction{Classes: []infer.Class{{Label: "own", Index: -1, Score: 0.5}}}, []page.Class{{Label: "own", Score: 0.5}}, ""},
		{"a score", infer.Prediction{Scores: []float32{0.5}}, nil, "[0.5]"},
		{"many scores", infer.Prediction{Scores: []float32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}}, nil, "[0 1 2 3 4 5 6 7] and 2 more"},
		{"arrays", infer.Prediction{Outputs: []infer.Array{array("boxes", savedmodel.Shape{2, 2}), array("count", nil)}}, nil, "boxes [2, 2], count"},
	} {
		var r Records
		for range 2 { // the second time in memory that was used before
			r = Records{plain: r.plain}
			r.plain.n = 0
			r.Answered(record(1), 0, test.p, answer("{}"), false)
			got := r.List()[0]
			if diff := cmp.Diff(test.classes, got.Classes); diff != "" || got.Detail != test.detail {
				t.Errorf("%s: detail %q, classes (-want +got):\n%s", test.name, got.Detail, diff)
			}
		}
	}
}

func TestDetail(t *testing.T) {
	var r Records
	p := infer.Prediction{Timings: infer.Timings{Wait: 2 * time.Millisecond, Decode: 3 * time.Millisecond, Infer: 100 * time.Millisecond}}
	p.Version = 3
	r.Answered(record(7), time.Millisecond, p, answer(`{"id":"in-2-7","score":0.5}`, stream.Header{Key: "a", Value: []byte("1")}, stream.Header{Key: "a"}, stream.Header{Key: "bad", Value: []byte("\xff")}), false)
	got, source, ok := r.Detail("in-2-7")
	want := page.Detail{
		Record:  page.Record{ID: "in-2-7", At: got.At, Key: "k", State: page.StateAnswered, Took: 106, Version: 3},
		Answer:  "{\n  \"id\": \"in-2-7\",\n  \"score\": 0.5\n}",
		Headers: []page.Header{{Name: "a", Value: "1"}, {Name: "a"}, {Name: "bad", Value: "\uFFFD"}},
		Timings: []page.Timing{{Name: "read", Milliseconds: 1}, {Name: "wait", Milliseconds: 2}, {Name: "decode", Milliseconds: 3}, {Name: "infer", Milliseconds: 100}},
	}
	if diff := cmp.Diff(want, got); diff != "" || !ok || source.Offset != 7 || source.Topic != "in" {
		t.Errorf("source %+v, detail (-want +got):\n%s", source, diff)
	}
	r.DeadLetter(record(8), "undecodable", errors.New(strings.Repeat("é", 2000)), answer("an image", stream.Header{Key: "inceptor-reason", Value: []byte("undecodable")}))
	if got, _, _ = r.Detail("in-2-8"); got.Reason != "undecodable" || got.Answer != "" || len(got.Headers) != 1 || len(got.Detail) > maxError+8 || !strings.HasSuffix(got.Detail, "é…") {
		t.Errorf("dead letter: %+v", got)
	}
	if _, _, ok := r.Detail("in-2-9"); ok {
		t.Error("a record that never came has a detail")
	}
}

// Of many classes with long labels, a few short ones are kept and encoded.
func TestManyClasses(t *testing.T) {
	encoded := 0
	r := Records{Shorten: func(b []byte, _ stream.Record, p infer.Prediction) []byte {
		encoded = len(p.Classes)
		return append(b, "{}"...)
	}}
	p := infer.Prediction{Classes: make([]infer.Class, 5000)}
	for i := range p.Classes {
		p.Classes[i] = infer.Class{Label: strings.Repeat("é", 5000), Index: -1, Score: 0.5}
	}
	r.Answered(record(1), 0, p, answer(strings.Repeat(" ", maxAnswer+1)), false)
	classes := r.List()[0].Classes
	if len(classes) != 20 || encoded != 20 || classes[0].Label != strings.Repeat("é", 100)+"…" {
		t.Errorf("%d classes, %d of them encoded: %.20v", len(classes), encoded, classes)
	}
}

// However large a record is, little of it is kept, and none of its memory.
func TestLargeRecords(t *testing.T) {
	r := Records{Shorten: func(b []byte, source stream.Record, _ infer.Prediction) []byte {
		return fmt.Appendf(b, `{"id":%q,"outputs":null}`, source.ID())
	}}
	in, big := record(1), strings.Repeat("x", 1<<20)
	in.Key = []byte(big)
	out := answer(`{"outputs":"`+big+`"}`,
		stream.Header{Key: "big", Value: []byte(big)}, stream.Header{Key: "small", Value: []byte("1")})
	p := infer.Prediction{Scores: make([]float32, 1<<20), Outputs: []infer.Array{{Key: "a", Array: savedmodel.Array{Bytes: make([]byte, 1<<20)}}}}
	r.Answered(in, 0, p, out, false)
	clear(in.Key) // the client may use its memory again
	got, _, _ := r.Detail("in-2-1")
	wantAnswer := fmt.Sprintf("The answer has %d bytes; its outputs and all but the first 20 classes are left out here.\n{\n  \"id\": \"in-2-1\",\n  \"outputs\": null\n}", len(out.Value))
	wantHeaders := []page.Header{{Name: "small", Value: "1"}, {Name: "…", Value: "longer headers are left out"}}
	if diff := cmp.Diff(wantHeaders, got.Headers); diff != "" || got.Answer != wantAnswer || got.Key != big[:maxKey]+"…" {
		t.Errorf("key %q, answer %s, headers (-want +got):\n%s", got.Key, got.Answer, diff)
	}
	s := &r.plain.slots[0]
	if kept := cap(s.text.b); kept > 2*(maxKey+maxError+maxAnswer+maxHeaders) || s.source.Value != nil || s.arrays[0].Bytes != nil {
		t.Errorf("%d bytes are kept of a record: %+v", kept, s)
	}
	r.Shorten = func(b []byte, _ stream.Record, _ infer.Prediction) []byte {
		return append(b, bytes.Repeat([]byte("x"), 1<<20)...)
	}
	r.Answered(in, 0, p, out, false)
	if kept := cap(r.plain.slots[1].text.b); kept > 2*(maxKey+maxError+maxAnswer+maxHeaders) {
		t.Errorf("%d bytes are kept of an answer that is long even when it is shortened", kept)
	}
}
