package service

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"inceptor/service/stream"
)

// Secrets in the clear are warned of, at the start and by check.
func TestSecurityWarnings(t *testing.T) {
	for name, test := range map[string]struct {
		kafka Kafka
		want  string // empty: nothing
	}{
		"plain in the clear":    {Kafka{SASL: SASL{Mechanism: "PLAIN"}}, "PLAIN sends the password"},
		"token in the clear":    {Kafka{SASL: SASL{Mechanism: "OAUTHBEARER"}}, "OAUTHBEARER sends"},
		"plain with TLS":        {Kafka{SASL: SASL{Mechanism: "PLAIN"}, TLS: TLS{Enabled: true}}, ""},
		"SCRAM in the clear":    {Kafka{SASL: SASL{Mechanism: "SCRAM-SHA-512"}}, ""},
		"no login":              {Kafka{SASL: SASL{Mechanism: "none"}}, ""},
		"provider in the clear": {Kafka{TLS: TLS{Enabled: true}, SASL: SASL{Mechanism: "OAUTHBEARER", OIDC: OIDC{TokenURL: "http://i/t"}}}, "kafka.sasl.oidc.token-url"},
		"provider here":         {Kafka{TLS: TLS{Enabled: true}, SASL: SASL{Mechanism: "OAUTHBEARER", OIDC: OIDC{TokenURL: "http://127.0.0.1:1/t"}}}, ""},
		"provider behind HTTPS": {Kafka{TLS: TLS{Enabled: true}, SASL: SASL{Mechanism: "OAUTHBEARER", OIDC: OIDC{TokenURL: "https://i/t"}}}, ""},
	} {
		got := test.kafka.securityWarnings()
		if test.want == "" && len(got) > 0 || test.want != "" && (len(got) != 1 || !strings.Contains(got[0], test.want)) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
	c := goodConfig()
	c.Kafka.Brokers, c.Kafka.SASL = []string{"127.0.0.1:1"}, SASL{Mechanism: "PLAIN", User: "u", Password: "p"}
	log, registry := &buffer{}, prometheus.NewRegistry()
	s, err := New(c, fakeModel{}, NewMetrics(registry), registry, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	log.await(t, "level=WARN msg=\"kafka.sasl.mechanism PLAIN sends")
}

// Refused credentials are told by readiness and the page; they make a service unready that is no
// member of its group.
func TestRefusedLoginIsTold(t *testing.T) {
	s, _ := newService(t, "")
	const want = "authentication failed (as me): no"
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1"+path, nil)
		s.routes().ServeHTTP(w, r)
		return w
	}
	s.metrics.ready.authentication(&stream.AuthenticationError{Source: "as me", Err: errors.New("no")})
	if w := get("/readyz"); w.Code != http.StatusServiceUnavailable || strings.Count(w.Body.String(), want) != 2 {
		t.Errorf("before it has joined: %d %s", w.Code, w.Body)
	}
	s.metrics.ready.setAssigned(nil)
	if w := get("/readyz"); w.Code != http.StatusOK || strings.Count(w.Body.String(), want) != 1 {
		t.Errorf("a member: %d %s", w.Code, w.Body)
	}
	if w := get("/"); !strings.Contains(w.Body.String(), want) {
		t.Errorf("page: %s", w.Body)
	}
	s.metrics.ready.authentication(nil)
	if w := get("/readyz"); strings.Contains(w.Body.String(), "authentication") {
		t.Errorf("let in again: %s", w.Body)
	}
}
