package service

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"

	"inceptor/internal/credential"
	"inceptor/service/stream"
)

// TLS says how connections to the brokers are secured.
type TLS struct {
	Enabled bool `help:"Connect to the brokers with TLS." common:""`
	// Empty: the system's. It is read anew for every connection.
	CA string `help:"PEM file with the brokers' authorities." placeholder:"FILE" common:""`
	// It is read anew for every connection.
	Cert string `help:"PEM file with the client's certificate, for brokers that ask for one." placeholder:"FILE"`
	Key  string `help:"PEM file with the client certificate's key." placeholder:"FILE"`
}

// SASL says how to log in to the brokers.
type SASL struct {
	// OAUTHBEARER needs kafka.sasl.token-file or kafka.sasl.oidc.token-url, the others
	// kafka.sasl.user and a password.
	Mechanism string `default:"none" enum:"none, PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER" help:"How to log in, such as SCRAM-SHA-512." common:""`
	User      string `help:"User name." common:""`
	// A command line can be read by every user of the machine.
	Password string `secret:"" help:"Password. Set it in the environment, or use kafka.sasl.password-file."`
	// It is read anew at every login.
	PasswordFile string `help:"File with the password." placeholder:"FILE" common:""`
	// Such as a projected service account token of Kubernetes.
	TokenFile string `help:"File with the token for OAUTHBEARER, read anew at every login." placeholder:"FILE"`
	OIDC      OIDC   `embed:"" prefix:"oidc."`
}

// OIDC says where tokens for OAUTHBEARER are issued.
type OIDC struct {
	// inceptor asks it for tokens with the client's credentials.
	TokenURL         string `name:"token-url" help:"Token endpoint of an OpenID Connect provider, for OAUTHBEARER." placeholder:"URL"`
	ClientID         string `name:"client-id" help:"The client's id at the provider." placeholder:"ID"`
	ClientSecretFile string `help:"File with the client's secret, read anew for each token." placeholder:"FILE"`
	Scope            string `help:"Scopes to ask for, with spaces between them. Empty: the provider's default."`
}

func (t TLS) validate() []error {
	var errs []error
	if (t.Cert == "") != (t.Key == "") {
		errs = append(errs, errors.New("kafka.tls.cert and kafka.tls.key: set both, or neither"))
	}
	if !t.Enabled && (t.CA != "" || t.Cert != "" || t.Key != "") {
		errs = append(errs, errors.New("kafka.tls.enabled: must be set if kafka.tls.ca, kafka.tls.cert or kafka.tls.key is set"))
	}
	if len(errs) == 0 {
		if _, _, err := t.open(nil); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// open reads the files, as credential.ClientTLS; config is nil without TLS.
func (t TLS) open(log *slog.Logger) (config *tls.Config, roots func() *x509.CertPool, err error) {
	if !t.Enabled {
		return nil, nil, nil
	}
	return credential.ClientTLS(log, "kafka.tls", t.CA, t.Cert, t.Key)
}

func (s SASL) validate() []error {
	var errs []error
	problem := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	byToken := s.TokenFile != "" || s.OIDC != (OIDC{})
	byPassword := s.User != "" || s.Password != "" || s.PasswordFile != ""
	switch s.Mechanism {
	case "none":
		if byPassword {
			problem("kafka.sasl.mechanism: must be set if kafka.sasl.user or a password is set")
		}
		if byToken {
			problem("kafka.sasl.mechanism: must be OAUTHBEARER if kafka.sasl.token-file or kafka.sasl.oidc is set")
		}
	case stream.OAuthBearer:
		if byPassword {
			problem("kafka.sasl.user: OAUTHBEARER takes a token; leave user and password empty")
		}
		if !byToken {
			problem("kafka.sasl.token-file: OAUTHBEARER needs it, or kafka.sasl.oidc.token-url")
		}
		if s.TokenFile != "" && s.OIDC != (OIDC{}) {
			problem("kafka.sasl.token-file: kafka.sasl.oidc is set too: set only one")
		}
		if s.OIDC != (OIDC{}) {
			errs = append(errs, s.OIDC.validate()...)
		}
	default:
		if s.User == "" {
			problem("kafka.sasl.user: %s needs one", s.Mechanism)
		}
		if s.Password == "" && s.PasswordFile == "" {
			problem("kafka.sasl.password-file: %s needs it, or kafka.sasl.password", s.Mechanism)
		}
		if s.Password != "" && s.PasswordFile != "" {
			problem("kafka.sasl.password-file: kafka.sasl.password is set too: set only one")
		}
		if byToken {
			problem("kafka.sasl.token-file: only OAUTHBEARER takes a token, and kafka.sasl.mechanism is %s", s.Mechanism)
		}
	}
	if len(errs) == 0 {
		if _, err := s.open(nil); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

func (o OIDC) validate() []error {
	var errs []error
	// The error does not show the URL, which may hold a secret.
	if u, err := url.Parse(o.TokenURL); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
		errs = append(errs, errors.New("kafka.sasl.oidc.token-url: want https://host/path, without user and password"))
	}
	if o.ClientID == "" {
		errs = append(errs, errors.New("kafka.sasl.oidc.client-id: kafka.sasl.oidc.token-url needs it"))
	}
	if o.ClientSecretFile == "" {
		errs = append(errs, errors.New("kafka.sasl.oidc.client-secret-file: kafka.sasl.oidc.token-url needs it"))
	}
	return errs
}

// open reads the files, which are read again at each login.
func (s SASL) open(log *slog.Logger) (stream.SASL, error) {
	opened := stream.SASL{Mechanism: s.Mechanism}
	switch {
	case s.Mechanism == "none":
		return stream.SASL{}, nil
	case s.OIDC != (OIDC{}):
		i, err := newIssuer(s.OIDC, log)
		if err != nil {
			return stream.SASL{}, err
		}
		opened.Source, opened.Login = s.Mechanism+" as client "+s.OIDC.ClientID+", token from "+s.OIDC.endpoint(), i.login
	case s.TokenFile != "":
		token, err := credential.Token(log, "kafka.sasl.token-file", s.TokenFile)
		if err != nil {
			return stream.SASL{}, err
		}
		opened.Source = s.Mechanism + ", token from kafka.sasl.token-file " + s.TokenFile
		opened.Login = func(context.Context) (stream.Login, error) { return stream.Login{Token: token.Value()}, nil }
	case s.PasswordFile != "":
		password, err := credential.Password(log, "kafka.sasl.password-file", s.PasswordFile)
		if err != nil {
			return stream.SASL{}, err
		}
		opened.Source = s.Mechanism + " as " + s.User + ", password from kafka.sasl.password-file " + s.PasswordFile
		opened.Login = func(context.Context) (stream.Login, error) {
			return stream.Login{User: s.User, Password: password.Value()}, nil
		}
	default:
		opened.Source = s.Mechanism + " as " + s.User + ", password from kafka.sasl.password"
		opened.Login = stream.Always(stream.Login{User: s.User, Password: s.Password})
	}
	return opened, nil
}

// securityWarnings lists settings by which secrets are sent unencrypted.
func (k Kafka) securityWarnings() []string {
	var warnings []string
	if m := k.SASL.Mechanism; !k.TLS.Enabled && (m == stream.Plain || m == stream.OAuthBearer) {
		warnings = append(warnings, "kafka.sasl.mechanism "+m+" sends the password or token unencrypted: set kafka.tls.enabled")
	}
	if u, err := url.Parse(k.SASL.OIDC.TokenURL); err == nil && u.Scheme == "http" && !isLoopback(u.Hostname()) {
		warnings = append(warnings, "kafka.sasl.oidc.token-url sends the client's secret unencrypted: use https")
	}
	return warnings
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
