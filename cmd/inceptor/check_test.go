package main

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/testenv"
)

// A broker that refuses the session is found out by check.
func TestCheckSession(t *testing.T) {
	t.Parallel()
	broker := testenv.StartBroker(t, "group.min.session.timeout.ms=10000")
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopics(t.Context(), 1, 1, nil, "ImageInputTopic", "ImageOutputTopic", "ImageDeadLetterTopic"); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		session string
		code    int
		want    string
	}{
		{"6s", 1, "kafka.session-timeout of 6s is not within the brokers' group.min.session.timeout.ms and group.max.session.timeout.ms: set it from 10s to 30m0s"},
		{"10s", 0, "ok    group inceptor: a process may join with a session of 10s"},
	} {
		code, stdout, stderr := execute(t, "check", "--kafka.brokers", broker.Addr(), "--model.dir", testenv.Tiny(t), "--model.name", "tiny",
			"--kafka.session-timeout", test.session)
		if code != test.code || !strings.Contains(stdout, test.want) {
			t.Errorf("session of %s: exit status %d\n%s%s", test.session, code, stdout, stderr)
		}
	}
}
