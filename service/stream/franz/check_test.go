package franz

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
)

// checkTopics is as the suite needs it.
func checkTopics(ctx context.Context, cfg stream.Config, create bool) ([]stream.Topic, error) {
	c, err := NewClient(cfg, nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.CheckTopics(ctx, create)
}

func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// The observer is told what becomes of each login.
func TestCheckTopicsLogin(t *testing.T) {
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		t.Run(mechanism, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, kfake.EnableSASL(), kfake.Superuser(mechanism, "me", "secret"), kfake.SeedTopics(1, "in", "out"))
			cfg := config(c.ListenAddrs()...)
			cfg.SASL = stream.SASL{Mechanism: mechanism, Login: stream.Always(stream.Login{User: "me", Password: "secret"}), Source: "as me"}
			logins := loginObserver{told: make(chan error, 100)}
			cfg.Observer = logins
			if _, err := checkTopics(limited(t), cfg, false); err != nil {
				t.Error(err)
			}
			if err := <-logins.told; err != nil {
				t.Errorf("login: %v", err)
			}
			// kfake breaks the connection off; Kafka answers.
			c.ControlKey(kmsg.SASLAuthenticate.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				res := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
				res.ErrorCode = kerr.SaslAuthenticationFailed.Code
				return res, nil, true
			})
			var refused *stream.AuthenticationError
			_, err := checkTopics(limited(t), cfg, false)
			if !errors.Is(err, kerr.SaslAuthenticationFailed) || !errors.As(err, &refused) || refused.Source != "as me" {
				t.Errorf("check: %v", err)
			}
			for !errors.As(<-logins.told, &refused) {
			}
		})
	}
}

// A loginObserver is told of logins.
type loginObserver struct {
	stream.Unobserved
	told chan error
}

func (o loginObserver) Authentication(err error) { o.told <- err }

func TestCheckTopicsTLS(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(nil) // for its certificate
	s.StartTLS()
	defer s.Close()
	c := newCluster(t, kfake.TLS(&tls.Config{Certificates: s.TLS.Certificates}), kfake.SeedTopics(1, "in", "out"))
	cfg := config(c.ListenAddrs()...)
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	cfg.TLS = &tls.Config{RootCAs: pool}
	if _, err := checkTopics(limited(t), cfg, false); err != nil {
		t.Error(err)
	}
	cfg.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
	var unknown x509.UnknownAuthorityError
	if _, err := checkTopics(limited(t), cfg, false); !errors.As(err, &unknown) {
		t.Errorf("check: %v", err)
	}
}

// A topic that is forbidden is an error at once.
func TestCheckTopicsForbidden(t *testing.T) {
	topic := func(name string, op kmsg.ACLOperation) kfake.ACL {
		return kfake.ACL{Resource: kmsg.ACLResourceTypeTopic, Pattern: kmsg.ACLResourcePatternTypeLiteral, Name: name, Operation: op, Allow: true}
	}
	read, write := topic("in", kmsg.ACLOperationRead), topic("out", kmsg.ACLOperationWrite)
	for name, test := range map[string]struct {
		acls []kfake.ACL
		want string
	}{
		"input":  {[]kfake.ACL{write}, "Describe on topic in is not allowed"},
		"output": {[]kfake.ACL{read}, "Describe on topic out is not allowed"},
		"none":   {[]kfake.ACL{read, write}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, kfake.EnableSASL(), kfake.EnableACLs(), kfake.SeedTopics(1, "in", "out"), kfake.User("PLAIN", "me", "secret", test.acls...))
			cfg := config(c.ListenAddrs()...)
			cfg.SASL = stream.SASL{Mechanism: "PLAIN", Login: stream.Always(stream.Login{User: "me", Password: "secret"})}
			_, err := checkTopics(limited(t), cfg, false)
			if errors.Is(err, kerr.TopicAuthorizationFailed) != (test.want != "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("check: %v, want %q", err, test.want)
			}
		})
	}
}

// Nobody there: the check waits, without flooding the log, and can be stopped.
func TestCheckTopicsUnreachable(t *testing.T) {
	t.Parallel()
	var lines lineCounter
	cfg := config("127.0.0.1:1")
	cfg.Log = slog.New(slog.NewTextHandler(&lines, nil))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := checkTopics(ctx, cfg, false); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("check: %v", err)
	}
	if n := lines.n.Load(); n != 1 {
		t.Errorf("%d lines in the log, want one", n)
	}
}
