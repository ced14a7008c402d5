package service

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"inceptor/service/stream"
)

// What a sender writes into the service's own headers is not passed on as if
// the service had written it.
func TestForgedHeaders(t *testing.T) {
	forged := []stream.Header{
		header("a", "1"), header(headerID, "in-0-0"), header(headerReason, "empty"), header(headerTopic, "elsewhere"),
		header(headerReplays, "2"), header(headerPartition, "9"), header(headerOffset, "9"), header(headerModel, "best/1"),
		header(headerTruncated, "5"), header("inceptor-format", "9"), header(headerReplays, "1"), header(headerReplays, "-1"),
		header("b", "2"), header(headerReplays, "99999999999999999999"),
	}
	kept := []stream.Header{header("a", "1"), header(headerReplays, "1"), header("b", "2")}
	values := func(r stream.Record) map[string][]string {
		all := map[string][]string{}
		for _, h := range r.Headers {
			all[h.Key] = append(all[h.Key], string(h.Value))
		}
		delete(all, headerError)
		return all
	}
	h := newHandler(t, fakeModel{})
	in := record(png)
	in.Headers = forged
	out, err := h.handle(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"a": {"1"}, "b": {"2"}, headerReplays: {"1"}, headerFormat: {"2"}, headerID: {"in-2-4711"}, headerModel: {"inception/3"},
	}
	if d := cmp.Diff(want, values(out[0])); d != "" {
		t.Errorf("answer (-want +got):\n%s", d)
	}

	letter, err := h.replaceRefused(in, out[0], errors.New("too large"))
	if err != nil {
		t.Fatal(err)
	}
	own := map[string][]string{
		headerID: {"in-2-4711"}, headerReason: {ReasonRefused},
		headerTopic: {"in"}, headerPartition: {"2"}, headerOffset: {"4711"},
	}
	want = map[string][]string{"a": {"1"}, "b": {"2"}, headerReplays: {"1"}}
	for key, value := range own {
		want[key] = value
	}
	if d := cmp.Diff(want, values(letter)); d != "" {
		t.Errorf("dead letter (-want +got):\n%s", d)
	}
	parsed, err := ParseLetter(letter)
	if err != nil || parsed.Truncated || parsed.Replays != 1 || cmp.Diff(kept, parsed.Original.Headers) != "" {
		t.Errorf("parsed: %+v, %v", parsed, err)
	}

	bare, err := h.replaceRefused(in, letter, errors.New("too large"))
	if err != nil {
		t.Fatal(err)
	}
	got := values(bare)
	for key, value := range own {
		if d := cmp.Diff(value, got[key]); d != "" {
			t.Errorf("bare dead letter, %s (-want +got):\n%s", key, d)
		}
	}
	if parsed, err := ParseLetter(bare); err != nil || !parsed.Truncated || parsed.ID != "in-2-4711" {
		t.Errorf("bare: %+v, %v", parsed, err)
	}
}

// Headers without any of ours are the sender's, as they are.
func TestSendersHeaders(t *testing.T) {
	plain := []stream.Header{header("a", "1"), header("Inceptor", "x"), header("x-inceptor-id", "y")}
	if got := sendersHeaders(plain); &got[0] != &plain[0] || len(got) != len(plain) {
		t.Errorf("got %v", got)
	}
}
