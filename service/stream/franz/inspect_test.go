package franz

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
)

// An inspection names each permission that is lacking, with the command that grants it.
func TestInspectPermissions(t *testing.T) {
	acl := func(resource kmsg.ACLResourceType, name string, operation kmsg.ACLOperation) kfake.ACL {
		pattern := kmsg.ACLResourcePatternTypeLiteral
		if strings.HasSuffix(name, "-") {
			pattern = kmsg.ACLResourcePatternTypePrefixed
		}
		return kfake.ACL{Resource: resource, Pattern: pattern, Name: name, Operation: operation, Allow: true}
	}
	all := map[string]kfake.ACL{
		"read":   acl(kmsg.ACLResourceTypeTopic, "in", kmsg.ACLOperationRead),
		"write":  acl(kmsg.ACLResourceTypeTopic, "out", kmsg.ACLOperationWrite),
		"group":  acl(kmsg.ACLResourceTypeGroup, "g", kmsg.ACLOperationRead),
		"id":     acl(kmsg.ACLResourceTypeTransactionalId, "g-", kmsg.ACLOperationWrite),
		"create": acl(kmsg.ACLResourceTypeTopic, "new", kmsg.ACLOperationCreate),
		"see":    acl(kmsg.ACLResourceTypeTopic, "new", kmsg.ACLOperationWrite),
	}
	command := "not allowed to user me; to allow it: kafka-acls.sh --bootstrap-server BROKER --add --allow-principal User:me --operation "
	for lacking, want := range map[string]string{
		"":       "",
		"read":   "in: Read on topic in is " + command + "Read --topic in\n",
		"write":  "out: Write on topic out is " + command + "Write --topic out\n",
		"group":  "group: Read on group g is " + command + "Read --group g\n",
		"id":     "id: Write on transactional-id g- is " + command + "Write --transactional-id g- --resource-pattern-type prefixed\n",
		"create": "new: does not exist, and Create on topic new is " + command + "Create --topic new\n",
	} {
		t.Run("without "+lacking, func(t *testing.T) {
			t.Parallel()
			var acls []kfake.ACL
			for name, a := range all {
				if name != lacking {
					acls = append(acls, a)
				}
			}
			c := newCluster(t, kfake.EnableSASL(), kfake.EnableACLs(), kfake.SeedTopics(1, "in", "out"), kfake.User("PLAIN", "me", "secret", acls...))
			cfg := config(c.ListenAddrs()...)
			cfg.Group, cfg.Inputs, cfg.Outputs = "g", []string{"in"}, []string{"out", "new"}
			cfg.SASL = stream.SASL{Mechanism: "PLAIN", Login: stream.Always(stream.Login{User: "me", Password: "secret"})}
			found := clientOf(t, cfg, &testBound).Inspect(limited(t), true)
			got := strings.ReplaceAll(problemsOf(found), c.ListenAddrs()[0], "BROKER")
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// problemsOf returns a line for each problem of an inspection.
func problemsOf(found stream.Inspection) string {
	var b strings.Builder
	line := func(what string, err error) {
		if err != nil {
			fmt.Fprintf(&b, "%s: %v\n", what, err)
		}
	}
	for _, broker := range found.Brokers {
		line(broker.Address, broker.Err)
	}
	line("cluster", found.Err)
	for _, topic := range found.Topics {
		line(topic.Name, topic.Err)
	}
	line("group", found.Group)
	line("id", found.IDErr)
	return b.String()
}

// An inspection changes nothing: no topic, no member of the group, no transactional id.
func TestInspectChangesNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, kfake.SeedTopics(2, "in"))
	cfg := config(c.ListenAddrs()...)
	cfg.Inputs, cfg.Outputs = []string{"in"}, []string{"new"}
	found := clientOf(t, cfg, &testBound).Inspect(limited(t), true)
	if problems := problemsOf(found); problems != "" || len(found.Topics) != 2 || found.Topics[0].Partitions != 2 || !found.Topics[1].Missing {
		t.Errorf("found %+v", found)
	}
	admin := kadm.NewClient(newClient(t, cfg))
	topics, err := admin.ListTopics(t.Context())
	if names := topics.Names(); err != nil || len(names) != 1 {
		t.Errorf("topics %v, %v", names, err)
	}
	if ids, err := admin.ListTransactions(t.Context(), nil, nil); err != nil || len(ids) > 0 {
		t.Errorf("transactional ids %v, %v", ids, err)
	}
}

// An address that cannot be used is told with what to do, in time, whatever is behind it.
func TestInspectBrokers(t *testing.T) {
	silent := listen(t)
	closing := listen(t)
	go func() {
		for {
			conn, err := closing.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	secureWeb := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secureWeb.Close)
	address := func(l net.Listener) string { return l.Addr().String() }
	for name, test := range map[string]struct {
		address string
		tls     bool
		want    string
	}{
		"silent":              {address(silent), false, "it accepts connections and does not answer within 5s"},
		"silent, with TLS":    {address(silent), true, "no answer to the TLS handshake within 5s"},
		"closes":              {address(closing), false, "is this the port of a broker?"},
		"web server":          {web.Listener.Addr().String(), false, "or is this another server's port?"},
		"web server with TLS": {secureWeb.Listener.Addr().String(), false, "the broker speaks TLS: set kafka.tls.enabled"},
		"not listening":       {"127.0.0.1:1", false, "connection refused: start the broker"},
		"no such name":        {"none.invalid:9092", false, "its name none.invalid cannot be resolved"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(test.address)
			if test.tls {
				cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
			}
			found := clientOf(t, cfg, nil).Inspect(limited(t), false)
			if len(found.Brokers) != 1 || found.Brokers[0].Err == nil || !strings.Contains(found.Brokers[0].Err.Error(), test.want) || found.Topics != nil {
				t.Errorf("found %+v, want %q", found, test.want)
			}
		})
	}
}

// A broker whose advertised address does not work from here is told, though the configured one
// does.
func TestInspectAdvertised(t *testing.T) {
	t.Parallel()
	c := newCluster(t, kfake.SeedTopics(1, "in", "out"))
	down := listen(t)
	port := down.Addr().(*net.TCPAddr).Port
	down.Close()
	c.ControlKey(kmsg.Metadata.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		res := req.ResponseKind().(*kmsg.MetadataResponse)
		broker := kmsg.NewMetadataResponseBroker()
		broker.Host, broker.Port = "127.0.0.1", int32(port)
		res.Brokers = append(res.Brokers, broker)
		return res, nil, true
	})
	found := clientOf(t, config(c.ListenAddrs()...), nil).Inspect(limited(t), false)
	if len(found.Brokers) != 2 || found.Brokers[0].Err != nil || !found.Brokers[1].Advertised || found.Brokers[1].Err == nil {
		t.Errorf("found %+v", found.Brokers)
	}
}

// A transaction that may not last as long as is configured is told with the brokers' bound.
func TestInspectTransactionTimeout(t *testing.T) {
	t.Parallel()
	c := newCluster(t, kfake.SeedTopics(1, "in", "out"), kfake.BrokerConfigs(map[string]string{"transaction.max.timeout.ms": "60000"}))
	bound := testBound
	bound.Timeout = 2 * time.Minute
	found := clientOf(t, config(c.ListenAddrs()...), &bound).Inspect(limited(t), false)
	if want := "kafka.transaction.timeout of 2m0s exceeds the brokers' transaction.max.timeout.ms: set it to 1m0s or less"; found.IDErr == nil || found.IDErr.Error() != want {
		t.Errorf("got %v, want %q", found.IDErr, want)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}
