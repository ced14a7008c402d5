package franz

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
)

func TestLogin(t *testing.T) {
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		t.Run(mechanism, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, kfake.EnableSASL(), kfake.Superuser(mechanism, "me", "secret"), kfake.SeedTopics(1, "in", "out"))
			cfg := config(c.ListenAddrs()...)
			cfg.SASL = stream.SASL{Mechanism: mechanism, Login: stream.Always(stream.Login{User: "me", Password: "secret"})}
			produce(t, cfg, "x")
			stop := start(t, cfg, testBound, echo)
			committed(t, cfg, 1)
			stop()
			if got := committed(t, cfg, 1); len(got) != 1 {
				t.Errorf("published %q", got)
			}
			// kfake closes the connection; Kafka answers.
			c.ControlKey(kmsg.SASLAuthenticate.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				res := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
				res.ErrorCode = kerr.SaslAuthenticationFailed.Code
				return res, nil, true
			})
			if err := run(t, cfg, echo, patience); !errors.Is(err, kerr.SaslAuthenticationFailed) {
				t.Errorf("run: %v", err)
			}
		})
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(nil) // for its certificate
	s.StartTLS()
	defer s.Close()
	c := newCluster(t, kfake.TLS(&tls.Config{Certificates: s.TLS.Certificates}), kfake.SeedTopics(1, "in", "out"))
	cfg := config(c.ListenAddrs()...)
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	cfg.TLS = &tls.Config{RootCAs: pool}
	produce(t, cfg, "x")
	stop := start(t, cfg, testBound, echo)
	committed(t, cfg, 1)
	stop()
	if got := committed(t, cfg, 1); len(got) != 1 {
		t.Errorf("published %q", got)
	}
}

// A missing permission ends the driver. The error names the operation, and the topic,
// group or transactional id.
func TestForbidden(t *testing.T) {
	acl := func(kind kmsg.ACLResourceType, name string, op kmsg.ACLOperation) kfake.ACL {
		return kfake.ACL{Resource: kind, Pattern: kmsg.ACLResourcePatternTypePrefixed, Name: name, Operation: op, Allow: true}
	}
	group := acl(kmsg.ACLResourceTypeGroup, "g", kmsg.ACLOperationRead)
	read := acl(kmsg.ACLResourceTypeTopic, "in", kmsg.ACLOperationRead)
	write := acl(kmsg.ACLResourceTypeTopic, "out", kmsg.ACLOperationWrite)
	id := acl(kmsg.ACLResourceTypeTransactionalId, "g-", kmsg.ACLOperationWrite)
	for name, test := range map[string]struct {
		acls        []kfake.ACL
		err         error
		want        string
		atLeastOnce bool
	}{
		"group":               {[]kfake.ACL{read, write, id}, kerr.GroupAuthorizationFailed, "join group g for in", false},
		"input":               {[]kfake.ACL{group, write, id}, kerr.TopicAuthorizationFailed, "read from in", false},
		"transactional id":    {[]kfake.ACL{group, read, write}, kerr.TransactionalIDAuthorizationFailed, "g-", false},
		"none":                {[]kfake.ACL{group, read, write, id}, nil, "", false},
		"none, at least once": {[]kfake.ACL{group, read, write}, nil, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, kfake.EnableSASL(), kfake.EnableACLs(), kfake.SeedTopics(1, "in", "out"),
				kfake.Superuser("PLAIN", "admin", "admin"), kfake.User("PLAIN", "me", "secret", test.acls...))
			admin := config(c.ListenAddrs()...)
			admin.SASL = stream.SASL{Mechanism: "PLAIN", Login: stream.Always(stream.Login{User: "admin", Password: "admin"})}
			produce(t, admin, "x")
			cfg := config(c.ListenAddrs()...)
			cfg.SASL = stream.SASL{Mechanism: "PLAIN", Login: stream.Always(stream.Login{User: "me", Password: "secret"})}
			driver, err := New(cfg, testBound, echo)
			if test.atLeastOnce {
				driver, err = NewAtLeastOnce(cfg, echo)
			}
			if err != nil {
				t.Fatal(err)
			}
			if test.err == nil {
				stop := running(t, driver)
				if got := committed(t, admin, 1); len(got) != 1 {
					t.Errorf("published %q", got)
				}
				stop()
				return
			}
			if err := runDriver(driver, patience); !errors.Is(err, test.err) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("run: %v", err)
			}
			if got := committed(t, admin, 0); len(got) > 0 {
				t.Errorf("published %q", got)
			}
		})
	}
}
