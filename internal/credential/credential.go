// Package credential reads certificates, passwords and tokens from files, each time they are
// needed. So a rotated credential is used from the next handshake on, without a restart. If a file
// cannot be read or parsed then, because it is missing, half written or corrupt, its last good
// content is used, and the log says why.
package credential

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
)

// maxFile bounds a file, in bytes. A bundle of all public authorities has some 250 kB.
const maxFile = 4 << 20

// A File is a credential in one or more files. Safe for concurrent use.
type File[T any] struct {
	// Set once.
	key   string // the setting that names the files
	names []string
	parse func(contents [][]byte) (T, error)
	log   *slog.Logger

	mu     sync.Mutex // guards what follows
	last   [][]byte   // the contents that value was parsed from
	value  T
	failed string // the last error, which was logged; empty: the last read succeeded
}

// open reads the files for the first time. Its error names the key.
func open[T any](log *slog.Logger, key string, parse func([][]byte) (T, error), names ...string) (*File[T], error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	f := &File[T]{key: key, names: names, parse: parse, log: log}
	if err := f.read(); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return f, nil
}

// Value returns what the files hold now, or their last good content.
func (f *File[T]) Value() T {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.last
	err := f.read()
	switch {
	case err != nil && err.Error() != f.failed:
		f.failed = err.Error()
		f.log.Warn("cannot read credential; using the last good one", "setting", f.key, "err", err)
	case err == nil && f.failed != "":
		f.failed = ""
		f.log.Info("credential can be read again", "setting", f.key, "files", f.names)
	case err == nil && !same(before, f.last):
		f.log.Info("credential has changed; using the new one", "setting", f.key, "files", f.names)
	}
	return f.value
}

// read parses the files, if their contents have changed. Comparing contents misses no change,
// unlike times and sizes; it is cheap, because files are small and handshakes are rare.
func (f *File[T]) read() error {
	contents := make([][]byte, len(f.names))
	for i, name := range f.names {
		var err error
		if contents[i], err = readFile(name, maxFile); err != nil {
			return err
		}
	}
	if f.last != nil && same(contents, f.last) {
		return nil
	}
	value, err := f.parse(contents)
	if err != nil {
		return fmt.Errorf("%s: %w", strings.Join(f.names, " and "), err)
	}
	f.value, f.last = value, contents
	return nil
}

func same(a, b [][]byte) bool {
	return slices.EqualFunc(a, b, func(a, b []byte) bool { return string(a) == string(b) })
}

func readFile(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return b, err
}

// Authorities reads the certificates of authorities from a PEM file. In this and the following
// functions key is the setting that names the file, for errors and the log; log may be nil.
func Authorities(log *slog.Logger, key, file string) (*File[*x509.CertPool], error) {
	return open(log, key, func(contents [][]byte) (*x509.CertPool, error) {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(contents[0]) {
			return nil, errors.New("it holds no PEM certificate")
		}
		return pool, nil
	}, file)
}

// Certificate reads a certificate and its key from PEM files.
func Certificate(log *slog.Logger, key, certFile, keyFile string) (*File[*tls.Certificate], error) {
	return open(log, key, func(contents [][]byte) (*tls.Certificate, error) {
		pair, err := tls.X509KeyPair(contents[0], contents[1])
		return &pair, err
	}, certFile, keyFile)
}

// ClientTLS returns a client's configuration for TLS, whose certificate is read from the files at
// each handshake. Before each handshake, set RootCAs to what authorities returns: it reads the
// authorities anew. It is nil, for the system's, if ca is empty. If cert is empty, the client has
// no certificate. The settings that name the files are KEY.ca, KEY.cert and KEY.key.
func ClientTLS(log *slog.Logger, key, ca, cert, certKey string) (config *tls.Config, authorities func() *x509.CertPool, err error) {
	config = &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		file, err := Authorities(log, key+".ca", ca)
		if err != nil {
			return nil, nil, err
		}
		authorities = file.Value
	}
	if cert != "" {
		file, err := Certificate(log, key+".cert and "+key+".key", cert, certKey)
		if err != nil {
			return nil, nil, err
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return file.Value(), nil }
	}
	return config, authorities, nil
}

// Password reads a password, without the line end.
func Password(log *slog.Logger, key, file string) (*File[string], error) {
	return open(log, key, func(contents [][]byte) (string, error) {
		password := strings.TrimRight(string(contents[0]), "\r\n")
		if password == "" {
			return "", errors.New("it is empty")
		}
		return password, nil
	}, file)
}

// MaxToken bounds a token, in bytes. Brokers accept far less.
const MaxToken = 64 << 10

// Token reads a bearer token: one line of visible ASCII characters.
func Token(log *slog.Logger, key, file string) (*File[string], error) {
	return open(log, key, func(contents [][]byte) (string, error) {
		return ParseToken(contents[0], MaxToken)
	}, file)
}

// ReadToken reads a bearer token of at most limit bytes, once.
func ReadToken(file string, limit int64) (string, error) {
	b, err := readFile(file, limit)
	if err != nil {
		return "", err
	}
	token, err := ParseToken(b, limit)
	if err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	return token, nil
}

// ParseToken returns the token in b: one line of visible ASCII characters. Its error does not show
// b.
func ParseToken(b []byte, limit int64) (string, error) {
	token := strings.TrimSpace(string(b))
	switch {
	case token == "":
		return "", errors.New("it is empty")
	case int64(len(token)) > limit:
		return "", fmt.Errorf("it is larger than %d bytes", limit)
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", errors.New("it is not one line of visible ASCII characters")
	}
	return token, nil
}
