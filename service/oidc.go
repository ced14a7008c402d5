package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"inceptor/internal/credential"
	"inceptor/service/stream"
)

const (
	// tokenTimeout bounds one request for a token.
	tokenTimeout = 5 * time.Second

	// tokenReuse is how long a token is used for further logins: connections that are made at
	// the same time share one request. Later logins get a fresh token, with which the brokers
	// keep a connection longest.
	tokenReuse = 10 * time.Second

	maxIssuerError = 500 // bytes
)

// An issuer gets tokens from an OpenID Connect provider with the client's credentials. Safe for
// concurrent use.
type issuer struct {
	// Set once.
	source OIDC
	secret *credential.File[string]
	client *http.Client
	log    *slog.Logger

	lock    chan struct{} // of capacity 1: a goroutine that has sent to it owns what follows, until it receives
	config  clientcredentials.Config
	token   *oauth2.Token // the last one; nil: none yet
	fetched time.Time     // when token was fetched
}

func newIssuer(o OIDC, log *slog.Logger) (*issuer, error) {
	secret, err := credential.Password(log, "kafka.sasl.oidc.client-secret-file", o.ClientSecretFile)
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives, transport.MaxResponseHeaderBytes = true, 64<<10
	return &issuer{
		source: o, secret: secret, log: log,
		client: &http.Client{
			Transport: transport, Timeout: tokenTimeout,
			// No redirect: only the token endpoint may get the secret.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		lock:   make(chan struct{}, 1),
		config: clientcredentials.Config{ClientID: o.ClientID, TokenURL: o.TokenURL, Scopes: strings.Fields(o.Scope)},
	}, nil
}

// login implements stream.SASL.Login.
func (i *issuer) login(ctx context.Context) (stream.Login, error) {
	select {
	case i.lock <- struct{}{}:
		defer func() { <-i.lock }()
	case <-ctx.Done():
		return stream.Login{}, context.Cause(ctx)
	}
	if i.token == nil || time.Since(i.fetched) > tokenReuse || !i.token.Valid() {
		token, err := i.fetch(ctx)
		switch {
		case err == nil:
			i.token, i.fetched = token, time.Now()
		case i.token != nil && !i.token.Expiry.IsZero() && i.token.Valid():
			i.log.Warn("cannot get a new token; using the last one", "expires", i.token.Expiry, "err", err)
		default:
			return stream.Login{}, err
		}
	}
	return stream.Login{Token: i.token.AccessToken}, nil
}

func (i *issuer) fetch(ctx context.Context) (*oauth2.Token, error) {
	i.config.ClientSecret = i.secret.Value()
	token, err := i.config.Token(context.WithValue(ctx, oauth2.HTTPClient, i.client))
	if err == nil {
		token.AccessToken, err = credential.ParseToken([]byte(token.AccessToken), credential.MaxToken)
	}
	var answer *oauth2.RetrieveError
	switch {
	case err == nil:
		return token, nil
	case !errors.As(err, &answer):
		return nil, fmt.Errorf("token from %s: %w", i.source.endpoint(), withoutURL(err))
	}
	// Not the error's own text: that is the whole body of the response.
	why := strings.TrimSpace(answer.Response.Status + " " + answer.ErrorCode + " " + answer.ErrorDescription)
	why = strings.ReplaceAll(why, i.config.ClientSecret, "***") // before the cut, which could leave a part of it
	why = why[:min(len(why), maxIssuerError)]
	err = fmt.Errorf("token from %s: %s", i.source.endpoint(), why)
	if code := answer.Response.StatusCode; code == http.StatusBadRequest || code == http.StatusUnauthorized || code == http.StatusForbidden {
		source := stream.OAuthBearer + " as client " + i.source.ClientID + ", secret from kafka.sasl.oidc.client-secret-file " + i.source.ClientSecretFile
		return nil, &stream.AuthenticationError{Source: source, Err: err}
	}
	return nil, err
}

// endpoint returns the token URL without its query, which may hold a secret.
func (o OIDC) endpoint() string {
	base, _, _ := strings.Cut(o.TokenURL, "?")
	return base
}

// withoutURL removes the URL from a request's error: net/http quotes it whole.
func withoutURL(err error) error {
	var request *url.Error
	if errors.As(err, &request) {
		return request.Err
	}
	return err
}
