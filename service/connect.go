package service

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"inceptor/service/stream"
)

// streamConfig is the configuration as drivers take it. It reads the files
// that it names.
func (c Config) streamConfig(log *slog.Logger, o stream.Observer, h *handler) (stream.Config, error) {
	k := c.Kafka
	tlsConfig, err := k.TLS.config()
	if err != nil {
		return stream.Config{}, err
	}
	sasl, err := k.SASL.config()
	if err != nil {
		return stream.Config{}, err
	}
	return stream.Config{
		Brokers: k.Brokers, Group: k.Group, Inputs: k.Input, Outputs: c.outputs(),
		TLS: tlsConfig, SASL: sasl, Compression: k.Compression,
		Window:       c.window(),
		BatchBytes:   c.batchBytes(),
		Unread:       h.unread(c.batchBytes()),
		Start:        k.Start,
		StopOnReset:  k.OnReset == "stop",
		DrainTimeout: c.Shutdown.Timeout,
		Refused:      h.refused,
		GivenUp:      h.givenUp(k),
		Log:          log, Observer: o,
	}, nil
}

func (t TLS) config() (*tls.Config, error) {
	if !t.Enabled {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("kafka.tls.ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("kafka.tls.ca: %s holds no PEM certificate", t.CA)
		}
	}
	if t.Cert != "" {
		cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("kafka.tls.cert and kafka.tls.key: %w", err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	return config, nil
}

func (s SASL) config() (stream.SASL, error) {
	if s.Mechanism == "none" {
		return stream.SASL{}, nil
	}
	password := s.Password
	if s.PasswordFile != "" {
		b, err := os.ReadFile(s.PasswordFile)
		if err != nil {
			return stream.SASL{}, fmt.Errorf("kafka.sasl.password-file: %w", err)
		}
		password = strings.TrimRight(string(b), "\r\n")
	}
	return stream.SASL{Mechanism: s.Mechanism, User: s.User, Password: password}, nil
}
