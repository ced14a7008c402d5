package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"inceptor/model/remote/remotetest"
	"inceptor/savedmodel/tfpb"
	"inceptor/service"
	"inceptor/testenv"
)

// Whatever a model server does while it alone can answer: records wait, and none of them is lost,
// answered twice or out of order.
func TestModelServerFaults(t *testing.T) {
	t.Parallel()
	broker := testenv.StartBroker(t)
	createTopics(t, broker.Addr(), 2, nil, inputTopic, outputTopic, deadLetterTopic)
	out := follow(t, broker.Addr(), outputTopic, deadLetterTopic)
	fake := remotetest.NewFake("inception")
	fake.Versions = []int64{1, 2}
	server := remotetest.Serve(t, fake)
	p := startWithoutLibrary(t, "run", "--kafka.brokers", broker.Addr(), "--http.listen", "127.0.0.1:0", "--model.dir", t.TempDir(),
		"--tensorflow.library", testenv.TensorFlow(t), "--model.backend", "local-then-remote", "--fallback.address", server.Addr(),
		"--fallback.timeout", "500ms", "--fallback.budget", "1s", "--fallback.breaker.open", "300ms")
	address := p.await(`listening address=(\S+)`, patience)
	sent := 0
	send := func() {
		t.Helper()
		records := make([]*kgo.Record, 20)
		for i := range records {
			records[i] = &kgo.Record{Topic: inputTopic, Key: fmt.Append(nil, sent), Value: bitmap(byte(sent % 200))}
			sent++
		}
		produce(t, broker.Addr(), records...)
	}
	send()
	out.awaitDistinct(t, sent, patience, outputTopic)
	answer := func(r *tfpb.PredictResponse) func(context.Context, *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
		return func(context.Context, *tfpb.PredictRequest) (*tfpb.PredictResponse, error) { return r, nil }
	}
	for _, fault := range []struct {
		name   string
		broken func()
		mended func()
	}{
		{"slow", func() {
			fake.SetHook(func(ctx context.Context, _ *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			})
		}, nil},
		{"refusing", func() { fake.Fail(remotetest.PermissionDenied, "no") }, nil},
		{"failing", func() { fake.Fail(remotetest.Internal, "oh") }, nil},
		{"garbage", func() {
			fake.SetHook(answer(&tfpb.PredictResponse{Outputs: map[string]*tfpb.TensorProto{remotetest.Output: remotetest.Scores(7, 3)}}))
		}, nil},
		{"another version than it says", func() {
			fake.SetHook(func(_ context.Context, r *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
				a, err := fake.Answer(r)
				if err == nil {
					a.ModelSpec.VersionChoice = &tfpb.ModelSpec_Version{Version: wrapperspb.Int64(9)}
				}
				return a, err
			})
		}, nil},
		{"cut in the middle of messages", func() { server.CutAfter(100) }, func() { server.CutAfter(1 << 30) }},
		{"frozen", server.Freeze, server.Thaw},
		{"killed", server.Kill, server.Start},
	} {
		fault.broken()
		before := out.distinct(outputTopic)
		send()
		awaitMetrics(t, address, "inceptor_fallback_active 1", "inceptor_stuck_partitions 2")
		if got := out.distinct(outputTopic); got != before {
			t.Errorf("%s: %d records are answered all the same", fault.name, got-before)
		}
		fake.SetHook(nil)
		if fault.mended != nil {
			fault.mended()
		}
		out.awaitDistinct(t, sent, patience, outputTopic)
	}

	for _, a := range answersInOrder(t, out, sent) {
		if a.Backend != "remote" || versionOf(a) != 2 || !strings.Contains(a.FallbackReason, "no version is serving") {
			t.Errorf("got %+v", a)
		}
	}
	if code := p.terminate(); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}
}

// answersInOrder returns the answers to all records that were sent. Each must come once, in the
// order of its partition, and no dead letter.
func answersInOrder(t *testing.T, out *follower, sent int) []service.Answer {
	t.Helper()
	records := out.from(outputTopic)
	if dead := out.from(deadLetterTopic); len(records) != sent || len(dead) > 0 {
		t.Errorf("%d records, %d answers, %d dead letters", sent, len(records), len(dead))
	}
	answers, next := make([]service.Answer, len(records)), map[string]int64{}
	for i, r := range records {
		a := &answers[i]
		if err := json.Unmarshal(r.Value, a); err != nil {
			t.Fatal(err)
		}
		partition, offset, _ := strings.Cut(strings.TrimPrefix(a.ID, inputTopic+"-"), "-")
		if offset != fmt.Sprint(next[partition]) {
			t.Errorf("%s was answered in the place of offset %d", a.ID, next[partition])
		}
		next[partition]++
	}
	return answers
}

// While the runs of the local version fail, the model server answers. When they succeed again, the
// local version takes over.
func TestRunsFail(t *testing.T) {
	t.Parallel()
	broker := testenv.StartBroker(t)
	createTopics(t, broker.Addr(), 2, nil, inputTopic, outputTopic, deadLetterTopic)
	out := follow(t, broker.Addr(), outputTopic, deadLetterTopic)
	needed := filepath.Join(t.TempDir(), "file")
	there := func() {
		if err := os.WriteFile(needed+"0", nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	there()
	fake := remotetest.NewFake("inception")
	fake.Classes = 2
	server := remotetest.Serve(t, fake)
	p := start(t, runArgs(t, broker.Addr(), "--model.dir", testenv.Tiny(t, "--needs", needed),
		"--model.backend", "local-then-remote", "--fallback.address", server.Addr())...)
	address := p.await(`listening address=(\S+)`, patience)
	sent := 0
	active := func(want string) {
		t.Helper()
		awaitMetrics(t, address, "inceptor_fallback_active "+want)
	}
	send := func() {
		t.Helper()
		records := make([]*kgo.Record, 50)
		for i := range records {
			records[i] = &kgo.Record{Topic: inputTopic, Key: fmt.Append(nil, sent), Value: bitmap(byte(sent % 200))}
			sent++
		}
		produce(t, broker.Addr(), records...)
		out.awaitDistinct(t, sent, patience, outputTopic)
	}
	active("0")
	send()
	if err := os.Remove(needed + "0"); err != nil {
		t.Fatal(err)
	}
	send()
	active("1")
	there()
	for end := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		// Until an image has tried the version here, the server answers.
		if _, body := get(t, address+"/metrics"); strings.Contains(body, "\ninceptor_fallback_active 0\n") || time.Now().After(end) {
			break
		}
		send()
	}
	active("0")
	local := sent
	send()
	for i, a := range answersInOrder(t, out, sent) {
		number, err := strconv.Atoi(string(out.from(outputTopic)[i].Key))
		if err != nil {
			t.Fatal(err)
		}
		want := "local"
		switch {
		case number/50 == 1:
			want = "remote"
		case number >= 50 && number < local:
			want = a.Backend // either
		}
		if a.Backend != want || strings.Contains(a.FallbackReason, "runs fail") != (want == "remote") {
			t.Errorf("record %d: got %+v", number, a)
		}
	}
	if code := p.terminate(); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}
}
