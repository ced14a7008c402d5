package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/model/remote/remotetest"
	"inceptor/savedmodel/tfpb"
	"inceptor/service"
	"inceptor/testenv"
)

// Whatever a model server does, while it alone can answer: records wait, and
// none of them is lost, answered twice or out of order.
func TestModelServerFaults(t *testing.T) {
	broker := testenv.StartBroker(t)
	createTopics(t, broker.Addr(), 2, nil, inputTopic, outputTopic, deadLetterTopic)
	out := follow(t, broker.Addr(), outputTopic, deadLetterTopic)
	fake := remotetest.NewFake("inception")
	fake.Versions = []int64{1, 2}
	server := remotetest.Serve(t, fake)
	p := startWithout(t, "run", "--kafka.brokers", broker.Addr(), "--http.listen", "127.0.0.1:0", "--model.dir", t.TempDir(),
		"--tensorflow.library", testenv.TensorFlow(t), "--model.backend", "local-then-remote", "--fallback.address", server.Addr(),
		"--fallback.timeout", "500ms", "--fallback.budget", "1s", "--fallback.breaker.open", "300ms")
	address := p.await(`listening address=(\S+)`, time.Minute)
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
	out.awaitDistinct(t, sent, time.Minute, outputTopic)
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
		{"cut in the middle of messages", func() { server.CutAfter(100) }, func() { server.CutAfter(1 << 30) }},
		{"frozen", server.Freeze, server.Thaw},
		{"killed", server.Kill, server.Start},
	} {
		fault.broken()
		before := out.distinct(outputTopic)
		send()
		time.Sleep(2 * time.Second)
		if got := out.distinct(outputTopic); got != before {
			t.Errorf("%s: %d records are answered all the same", fault.name, got-before)
		}
		if _, body := get(t, address+"/metrics"); !strings.Contains(body, "\ninceptor_fallback_active 1\n") || strings.Contains(body, "\ninceptor_stuck_partitions 0\n") {
			t.Errorf("%s: the metrics do not tell", fault.name)
		}
		fake.SetHook(nil)
		if fault.mended != nil {
			fault.mended()
		}
		out.awaitDistinct(t, sent, time.Minute, outputTopic)
	}

	answers := out.of(outputTopic)
	if dead := out.of(deadLetterTopic); len(answers) != sent || len(dead) > 0 {
		t.Errorf("%d records, %d answers, %d dead letters", sent, len(answers), len(dead))
	}
	next := map[string]int64{}
	for _, r := range answers {
		var a service.Answer
		if err := json.Unmarshal(r.Value, &a); err != nil {
			t.Fatal(err)
		}
		partition, offset, _ := strings.Cut(strings.TrimPrefix(a.ID, inputTopic+"-"), "-")
		if offset != fmt.Sprint(next[partition]) {
			t.Errorf("%s was answered in the place of offset %d", a.ID, next[partition])
		}
		next[partition]++
		if a.Backend != "remote" || a.Version != 2 || !strings.Contains(a.Reason, "no version is serving") {
			t.Errorf("got %+v", a)
		}
	}
	if code := p.terminate(30 * time.Second); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}
}
