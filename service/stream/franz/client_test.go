package franz

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
)

// clientOf returns a Client that the test closes.
func clientOf(t *testing.T, cfg stream.Config, tx *Transaction) *Client {
	t.Helper()
	c, err := NewClient(cfg, tx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// Records go to the partition modulo the number there is, also when the topic was recreated with
// fewer.
func TestPublish(t *testing.T) {
	t.Parallel()
	c := newCluster(t, kfake.SeedTopics(3, "out"))
	cfg := config(c.ListenAddrs()...)
	cfg.Inputs = []string{"out"}
	client := clientOf(t, cfg, nil)
	partition := func() int32 {
		reader := newClient(t, cfg, kgo.ConsumeTopics("out"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		defer reader.Close()
		records := reader.PollFetches(t.Context()).Records()
		if len(records) != 1 || string(records[0].Key) != "k" || len(records[0].Headers) != 1 {
			t.Fatalf("got %v", records)
		}
		return records[0].Partition
	}
	r := stream.Record{Topic: "out", Partition: 4, Key: []byte("k"), Headers: []stream.Header{{Key: "h"}}}
	if err := client.Publish(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if got := partition(); got != 1 {
		t.Errorf("published to partition %d, want 1", got)
	}
	admin := kadm.NewClient(newClient(t, cfg))
	if _, err := admin.DeleteTopic(t.Context(), "out"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.CreateTopic(t.Context(), 1, 1, nil, "out"); err != nil {
		t.Fatal(err)
	}
	if err := client.Publish(t.Context(), r); err != nil {
		t.Fatalf("publish to the recreated topic: %v", err)
	}
	if got := partition(); got != 0 {
		t.Errorf("published to partition %d of the recreated topic, want 0", got)
	}
}

// Publish does not wait for ever.
func TestPublishSilence(t *testing.T) {
	for _, key := range []kmsg.Key{kmsg.Metadata, kmsg.Produce} {
		t.Run(key.Name(), func(t *testing.T) {
			c := newCluster(t, kfake.SeedTopics(1, "in"))
			control(c, key, -1, func(kmsg.Request) (kmsg.Response, error) { return nil, nil })
			client := clientOf(t, config(c.ListenAddrs()...), nil)
			client.quiet = time.Second
			err := client.Publish(t.Context(), stream.Record{Topic: "in", Value: []byte("x")})
			const want = "publish to in: no broker has acknowledged the record within 1s, though one may have it"
			if err == nil || err.Error() != want {
				t.Errorf("error %v, want %s", err, want)
			}
		})
	}
}

// A record that the topic refuses is an error that names it.
func TestPublishRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	if err := c.CreateTopic("out", 1, map[string]string{"max.message.bytes": "1000"}); err != nil {
		t.Fatal(err)
	}
	err := clientOf(t, config(c.ListenAddrs()...), nil).Publish(t.Context(), stream.Record{Topic: "out", Value: []byte(strings.Repeat("x", 5000))})
	if !refused(err) || !strings.Contains(err.Error(), "publish to out") {
		t.Errorf("publish: %v", err)
	}
}
