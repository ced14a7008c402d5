package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/savedmodel"
	"inceptor/service"
	"inceptor/service/stream"
	"inceptor/service/stream/embedded"
)

// hostile clears a terminal, forges a line, and reverses the direction of the rest.
const hostile = "cat\x1b[2J\x9b1m\u009b2m\nok    fine\r\t\u202edog\x7f\x00"

func TestTerminal(t *testing.T) {
	for _, test := range []struct{ name, in, text, part string }{
		{"plain", "Egyptian cat 0.99\n", "Egyptian cat 0.99\n", `Egyptian cat 0.99\n`},
		{"other scripts", "猫 قطة नमस्ते 👩‍🔬 640×427 �", "猫 قطة नमस्ते 👩‍🔬 640×427 �", "猫 قطة नमस्ते 👩‍🔬 640×427 �"},
		{"table", "a\tb\n", "a\tb\n", `a\tb\n`},
		{"ANSI", "\x1b[31mred\x07", `\u001b[31mred\u0007`, `\u001b[31mred\u0007`},
		{"C1", "\u009b31m", `\u009b31m`, `\u009b31m`},
		{"not UTF-8", "\x9b31m\xff", `\x9b31m\xff`, `\x9b31m\xff`},
		{"carriage return", "good\rbad", `good\u000dbad`, `good\u000dbad`},
		{"bidi", "a\u202eb\u2066c\u200fd", `a\u202eb\u2066c\u200fd`, `a\u202eb\u2066c\u200fd`},
		{"line ends of Unicode", "a\u2028b\u2029c\u0085d", `a\u2028b\u2029c\u0085d`, `a\u2028b\u2029c\u0085d`},
		{"tags", "a\U000e0041", `a\udb40\udc41`, `a\udb40\udc41`},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			if n, err := fmt.Fprint(terminal{&out}, test.in); n != len(test.in) || err != nil {
				t.Errorf("wrote %d of %d, %v", n, len(test.in), err)
			}
			if out.String() != test.text {
				t.Errorf("text: %q, want %q", out.String(), test.text)
			}
			if got := printable(test.in); got != test.part {
				t.Errorf("part of a line: %q, want %q", got, test.part)
			}
		})
	}
	t.Run("JSON stays the same", func(t *testing.T) {
		var out bytes.Buffer
		want := strings.ToValidUTF8(hostile, "�") + "\U000e0041\u2028"
		if err := json.NewEncoder(terminal{&out}).Encode(want); err != nil {
			t.Fatal(err)
		}
		var got string
		if err := json.Unmarshal(out.Bytes(), &got); err != nil || got != want {
			t.Errorf("%q, %v, of %s", got, err, out.Bytes())
		}
		checkHarmless(t, out.String(), 1)
	})
}

// checkHarmless checks that output has this many lines, and nothing that a terminal treats as a
// command.
func checkHarmless(t *testing.T, output string, lines int) {
	t.Helper()
	if n := strings.Count(output, "\n"); n != lines {
		t.Errorf("%d lines, want %d:\n%q", n, lines, output)
	}
	if escaped(output, "\n\t") != output {
		t.Errorf("a terminal would treat this as a command:\n%q", output)
	}
}

// No command prints text from outside without escapes.
func TestHostileText(t *testing.T) {
	t.Run("replay", func(t *testing.T) {
		broker, err := embedded.Start(0, 1, inputTopic, deadLetterTopic)
		if err != nil {
			t.Fatal(err)
		}
		defer broker.Close()
		client, err := kgo.NewClient(kgo.SeedBrokers(broker.Addr()))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		letter := &kgo.Record{Topic: deadLetterTopic, Key: []byte(hostile)}
		for _, h := range [][2]string{
			{"inceptor-reason", hostile}, {"inceptor-error", hostile}, {"inceptor-id", hostile},
			{"inceptor-topic", inputTopic}, {"inceptor-partition", "0"}, {"inceptor-offset", "0"},
		} {
			letter.Headers = append(letter.Headers, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
		}
		if err := client.ProduceSync(t.Context(), letter).FirstErr(); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if code := run([]string{"replay", "--dry-run", "--kafka.brokers", broker.Addr()}, &out, &out); code != 0 {
			t.Errorf("exit status %d", code)
		}
		checkHarmless(t, out.String(), 2)
	})
	t.Run("models", func(t *testing.T) {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				w.WriteHeader(http.StatusConflict)
				_ = json.NewEncoder(w).Encode(service.Change{Error: hostile})
				return
			}
			_ = json.NewEncoder(w).Encode([]model.Status{
				{Version: 1, State: hostile, Label: hostile, Gate: hostile, Reason: hostile}, {Version: 2, Digest: hostile, Assumed: hostile},
			})
		}))
		defer server.Close()
		address := []string{"--address", server.Listener.Addr().String()}
		var out bytes.Buffer
		if code := run(append([]string{"models"}, address...), &out, &out); code != 0 {
			t.Errorf("exit status %d", code)
		}
		checkHarmless(t, out.String(), 6)
		out.Reset()
		if code := run(append([]string{"models", "rollback"}, address...), &out, &out); code != exitFailed {
			t.Errorf("exit status %d", code)
		}
		checkHarmless(t, out.String(), 2)
		if !strings.Contains(out.String(), "\n  ok    fine") {
			t.Errorf("the error's second line looks like one of ours:\n%s", out.String())
		}
	})
	t.Run("demo and classify", func(t *testing.T) {
		prediction := infer.Prediction{Classes: []infer.Class{{Label: hostile, Score: 1}}, Image: infer.Header{Format: hostile}, Outputs: []infer.Array{
			{Key: hostile, Array: savedmodel.Array{DType: savedmodel.String, Shape: savedmodel.Shape{1}, Strings: [][]byte{[]byte(hostile)}}},
		}}
		value := service.AppendAnswer(nil, hostile, &prediction)
		for _, r := range []stream.Record{
			{Key: []byte(hostile), Value: value},
			{Key: []byte(hostile), Value: []byte(hostile)},
			{Topic: "dead", Headers: []stream.Header{{Key: "inceptor-id", Value: []byte(hostile)}, {Key: "inceptor-error", Value: []byte(hostile)}}},
		} {
			checkHarmless(t, recordText(r, "dead"), 0)
		}
		var out, table bytes.Buffer
		if err := new(classifyCmd{Top: 2}).print(&out, &table, hostile, prediction); err != nil {
			t.Fatal(err)
		}
		checkHarmless(t, table.String(), 1)
	})
}
