package franz

import (
	"context"
	"crypto/tls"
	"fmt"
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
			err := TryJoin(t.Context(), cfg)
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
		if err := TryJoin(t.Context(), cfg); err != nil {
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

func TestCheckAccess(t *testing.T) {
	t.Parallel()
	b := testenv.StartSecuredBroker(t, testenv.SecuredOptions{})
	admin := newAdmin(t, b.Addr())
	if _, err := admin.CreateTopics(t.Context(), 1, 1, nil, "in", "out", "dead"); err != nil {
		t.Fatal(err)
	}
	type grant struct {
		operation kadm.ACLOperation
		allow     func(*kadm.ACLBuilder)
	}
	grants := map[string]grant{
		"Read on topic in":                    {kadm.OpRead, func(a *kadm.ACLBuilder) { a.Topics("in") }},
		"Write on topic out":                  {kadm.OpWrite, func(a *kadm.ACLBuilder) { a.Topics("out") }},
		"Write on topic dead":                 {kadm.OpWrite, func(a *kadm.ACLBuilder) { a.Topics("dead") }},
		"Write on transactional-id g-check":   {kadm.OpWrite, func(a *kadm.ACLBuilder) { a.TransactionalIDs("g-check") }},
		"Read on group g":                     {kadm.OpRead, func(a *kadm.ACLBuilder) { a.Groups("g") }},
		"Write on transactional-id of-my-own": {kadm.OpWrite, func(a *kadm.ACLBuilder) { a.TransactionalIDs("of-my-own") }},
	}
	cfg := accessConfig(b.Secure, "g")
	cfg.TLS = &tls.Config{RootCAs: b.Authorities, MinVersion: tls.VersionTLS12}
	cfg.SASL = stream.SASL{Mechanism: "SCRAM-SHA-512", Login: stream.Always(stream.Login{User: b.User, Password: b.Password})}
	lacks := func() string {
		own := testBound
		own.ID = "of-my-own"
		errs := append(CheckAccess(t.Context(), cfg, &testBound), CheckAccess(t.Context(), cfg, &own)...)
		return fmt.Sprint(append(errs, TryJoin(t.Context(), cfg)))
	}
	for told := lacks(); len(grants) > 0; told = lacks() {
		for what, g := range grants {
			if !strings.Contains(told, what+" is not allowed to user me") {
				t.Errorf("%s: want %q in it", told, what)
			}
			acl := kadm.NewACLs().Allow("User:" + b.User).AllowHosts("*").ResourcePatternType(kadm.ACLPatternLiteral).Operations(g.operation)
			g.allow(acl)
			if _, err := admin.CreateACLs(t.Context(), acl); err != nil {
				t.Fatal(err)
			}
			delete(grants, what)
			// The broker takes it over a moment later.
			for begin := time.Now(); strings.Contains(lacks(), what+" is"); time.Sleep(50 * time.Millisecond) {
				if time.Since(begin) > 20*time.Second {
					t.Fatalf("%s is allowed, and still said to be denied: %s", what, lacks())
				}
			}
			break
		}
	}
	if told := lacks(); told != "[<nil>]" {
		t.Errorf("everything is allowed: %s", told)
	}
}

func accessConfig(address, group string) stream.Config {
	return stream.Config{
		Brokers: []string{address}, Group: group, Inputs: []string{"in"}, Outputs: []string{"out", "dead"},
		Window: stream.Window{Records: 1}, Unread: func(stream.Batch) []stream.Record { return nil },
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
