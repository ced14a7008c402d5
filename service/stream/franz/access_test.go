package franz

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream"
	"inceptor/testenv"
)

func TestTryJoin(t *testing.T) {
	t.Parallel()
	b := testenv.StartBroker(t) // which allows no session of less than 6 s
	tests := map[string]struct {
		session time.Duration
		want    []string
	}{
		"Allowed":  {6 * time.Second, nil},
		"TooShort": {5 * time.Second, []string{"join group", "kafka.session-timeout of 5s", "group.min.session.timeout.ms", "set it from 6s to 30m0s"}},
		"TooLong":  {time.Hour, []string{"kafka.session-timeout of 1h0m0s", "set it from 6s to 30m0s"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := accessConfig(b.Addr(), strings.ToLower(name))
			cfg.Session = test.session
			err := clientOf(t, cfg, nil).tryJoin(t.Context())
			if (err == nil) != (test.want == nil) {
				t.Fatalf("join: %v", err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("join: %v: want %q in it", err, want)
				}
			}
		})
	}
}

// Who works does not notice that others try to join.
func TestTryJoinUnnoticed(t *testing.T) {
	t.Parallel()
	b := testenv.StartBroker(t)
	admin := newAdmin(t, b.Addr())
	if _, err := admin.CreateTopic(t.Context(), 2, 1, nil, "in"); err != nil {
		t.Fatal(err)
	}
	cfg := accessConfig(b.Addr(), "g")
	member, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("in"), kgo.Balancers(balancers()...))
	if err != nil {
		t.Fatal(err)
	}
	defer member.Close()
	var before kadm.DescribedGroup
	for ; before.State != "Stable"; time.Sleep(50 * time.Millisecond) {
		groups, _ := admin.DescribeGroups(t.Context(), "g") // not at once from a new broker
		before = groups["g"]
	}
	var generation int32
	for ; generation == 0; time.Sleep(50 * time.Millisecond) { // the member learns it last
		_, generation = member.GroupMetadata()
	}
	for range 5 {
		if err := clientOf(t, cfg, nil).tryJoin(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	// The member's next heartbeat would tell of a rebalance.
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	member.PollFetches(ctx)
	groups, err := admin.DescribeGroups(t.Context(), "g")
	if err != nil {
		t.Fatal(err)
	}
	after := groups["g"]
	if _, now := member.GroupMetadata(); now != generation || after.State != "Stable" || len(after.Members) != 1 {
		t.Errorf("generation %d, before %d; group %s with %d members", now, generation, after.State, len(after.Members))
	}
}

func accessConfig(address, group string) stream.Config {
	return stream.Config{
		Brokers: []string{address}, Group: group, Inputs: []string{"in"}, Outputs: []string{"out", "dead"},
		Window: stream.Window{Records: 1}, ReplaceUnread: func(stream.Batch) []stream.Record { return nil },
	}
}

func newAdmin(t *testing.T, address string) *kadm.Client {
	client, err := kgo.NewClient(kgo.SeedBrokers(address))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return kadm.NewClient(client)
}
