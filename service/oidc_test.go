package service

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"inceptor/service/stream"
	"inceptor/testenv"
)

// A provider issues tokens to the client "me", and publishes the key that they are signed with.
type provider struct {
	*httptest.Server
	secret atomic.Value // a string
	answer atomic.Value // an http.HandlerFunc in place of a token; nil: a token
	issued atomic.Int64
	key    *rsa.PrivateKey
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{}
	var err error
	if p.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	p.secret.Store("client-secret")
	p.answer.Store(http.HandlerFunc(nil))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /jwks", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{map[string]string{
			"kty": "RSA", "kid": "1", "use": "sig", "alg": "RS256",
			"n": part(p.key.N.Bytes()), "e": part(big.NewInt(int64(p.key.E)).Bytes()),
		}}})
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		if answer := p.answer.Load().(http.HandlerFunc); answer != nil {
			answer(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		id, secret, _ := r.BasicAuth()
		if id != "me" || secret != p.secret.Load() || r.FormValue("scope") != "kafka images" {
			w.WriteHeader(http.StatusUnauthorized)
			_ = json.NewEncoder(w).Encode(map[string]string{"error": "invalid_client", "error_description": "it says " + secret})
			return
		}
		p.issued.Add(1)
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": p.token(t), "token_type": "Bearer", "expires_in": 3600})
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func part(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// token is signed, and for an hour.
func (p *provider) token(t *testing.T) string {
	now := time.Now().Unix()
	text := part([]byte(`{"alg":"RS256","kid":"1"}`)) + "." +
		part(fmt.Appendf(nil, `{"sub":"token-of-me","aud":"kafka","iat":%d,"exp":%d,"jti":"%d"}`, now, now+3600, p.issued.Load()))
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, p.key, crypto.SHA256, sum[:])
	if err != nil {
		t.Error(err)
	}
	return text + "." + part(signature)
}

func (p *provider) settings(t *testing.T) OIDC {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("client-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return OIDC{TokenURL: p.URL + "/token", ClientID: "me", ClientSecretFile: file, Scope: "kafka images"}
}

// What is wrong with the provider is told without the secret, and only its refusal of the client is
// one of the credentials.
func TestOIDC(t *testing.T) {
	p := newProvider(t)
	settings := p.settings(t)
	for _, test := range []struct {
		name    string
		answer  http.HandlerFunc
		secret  string
		want    string // in the error
		refused bool
	}{
		{"a token", nil, "client-secret", "", false},
		{"refused", nil, "another-secret", "invalid_client", true},
		{"refused at length", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprintf(w, `{"error":"invalid_client","error_description":"%s it says client-secret"}`,
				strings.Repeat("x", maxIssuerError-len("401 Unauthorized invalid_client  it says client-sec")))
		}, "client-secret", "invalid_client", true},
		{"overloaded", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "later", http.StatusServiceUnavailable) }, "client-secret", "503", false},
		{"elsewhere", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/other", http.StatusTemporaryRedirect)
		}, "client-secret", "307", false},
		{"no end", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"access_token":"%s"}`, strings.Repeat("x", 2<<20))
		}, "client-secret", "cannot parse json", false},
		{"no token", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"access_token":"a\u0001b"}`)
		}, "client-secret", "not one line", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			p.answer.Store(test.answer)
			p.secret.Store(test.secret)
			i, err := newIssuer(settings, nil)
			if err != nil {
				t.Fatal(err)
			}
			l, err := i.login(t.Context())
			var refused *stream.AuthenticationError
			if test.want == "" {
				if err != nil || strings.Count(l.Token, ".") != 2 {
					t.Errorf("got %v, %v", l, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || errors.As(err, &refused) != test.refused {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "it says client") {
				t.Errorf("the secret is in the error: %v", err)
			}
		})
	}
}

// One token serves the logins of a moment; the last one serves while no new one can be had.
func TestOIDCTokenIsUsedAgain(t *testing.T) {
	p := newProvider(t)
	var log bytes.Buffer
	i, err := newIssuer(p.settings(t), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	first, err := i.login(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := i.login(t.Context()); err != nil || again != first || p.issued.Load() != 1 {
		t.Errorf("%d tokens, %v", p.issued.Load(), err)
	}
	i.fetched = i.fetched.Add(-time.Minute)
	if second, err := i.login(t.Context()); err != nil || second == first || p.issued.Load() != 2 {
		t.Errorf("a minute later: %d tokens, %v", p.issued.Load(), err)
	}
	p.Close()
	i.fetched = i.fetched.Add(-time.Minute)
	if last, err := i.login(t.Context()); err != nil || last == first || !strings.Contains(log.String(), "cannot get a new token; using the last one") {
		t.Errorf("without the provider: %v, log %s", err, &log)
	}
	i.token.Expiry = time.Now()
	if _, err := i.login(t.Context()); err == nil {
		t.Error("an expired token is used")
	}
}

// A real broker takes the tokens, which its validator checks against the provider's keys.
func TestOIDCAtBroker(t *testing.T) {
	p := newProvider(t)
	b := testenv.StartSecuredBroker(t, testenv.SecuredOptions{JWKS: p.URL + "/jwks"})
	startFlows(t, b, func(f *flow) {
		f.config.Brokers = []string{b.Issued}
		f.config.SASL = SASL{Mechanism: "OAUTHBEARER", OIDC: p.settings(t)}
	}).each(func(f *flow) { f.end("client-secret\n") })
}

// Some providers want a key in the token URL. Neither an error nor the name of the
// credentials shows it.
func TestOIDCHidesQuery(t *testing.T) {
	settings := newProvider(t).settings(t)
	for name, address := range map[string]string{"refused": newProvider(t).URL, "unreachable": "http://127.0.0.1:1"} {
		t.Run(name, func(t *testing.T) {
			o := settings
			o.ClientID, o.TokenURL = "somebody-else", address+"/token?key=hush"
			sasl, err := SASL{Mechanism: stream.OAuthBearer, OIDC: o}.open(nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = sasl.Login(t.Context())
			if err == nil || !strings.Contains(err.Error(), address+"/token") || strings.Contains(err.Error()+sasl.Source, "hush") {
				t.Errorf("%v; %s", err, sasl.Source)
			}
		})
	}
}
