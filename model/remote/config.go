package remote

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"inceptor/internal/credential"
)

// Config says which model server is asked, and how. Field tags are kong's; the
// names that errors and documents use begin with "fallback.".
type Config struct {
	Address string `help:"Model server with TensorFlow Serving's gRPC interface: host:port. A name with several addresses has its calls spread over all of them." placeholder:"HOST:PORT"`
	Model   string `help:"The model's name there. Empty: model.name." placeholder:"NAME"`
	Label   string `help:"Version label to ask for, such as stable, instead of a version's number."`
	Version string `default:"same" enum:"same,any" help:"Which version may answer (${enum}): same is the one that would serve locally; any is whichever the server takes, and the answer says so."`

	Timeout     time.Duration `default:"5s" help:"Time for one call."`
	Budget      time.Duration `default:"15s" help:"Time for one batch with all its retries and waits, after which its records are tried again later."`
	Concurrency int           `default:"4" help:"Batches under way at once, at most; further ones wait, within their budget."`
	Compression string        `default:"none" enum:"none,gzip" help:"Compression of what is sent: ${enum}. Encoded images do not get smaller; pixels do, at the price of a processor's time on both sides."`

	TLS       TLS     `embed:"" prefix:"tls."`
	TokenFile string  `help:"File with a token that is sent as 'authorization: Bearer', and read anew for every call. Needs fallback.tls.enabled." placeholder:"FILE"`
	Breaker   Breaker `embed:"" prefix:"breaker."`
}

// TLS says how the connection is secured.
type TLS struct {
	Enabled    bool   `help:"Connect to the model server with TLS."`
	CA         string `help:"PEM file with the authorities that the server's certificate must come from, read anew for every connection. Empty: the system's." placeholder:"FILE"`
	Cert       string `help:"PEM file with the client's certificate, for a server that asks for one; read anew for every connection." placeholder:"FILE"`
	Key        string `help:"PEM file with the client certificate's key." placeholder:"FILE"`
	ServerName string `help:"Name that the server's certificate must be for. Empty: the host of fallback.address."`
}

// Breaker says when the server is given a rest.
type Breaker struct {
	Failures int           `default:"5" help:"Calls that fail in a row before no more are made."`
	Open     time.Duration `default:"10s" help:"How long no call is made then. After it one batch goes first, and the others follow if it is answered."`
}

// The values of Config.Version.
const (
	SameVersion = "same"
	AnyVersion  = "any"
)

const (
	noCompression   = "none"
	gzipCompression = "gzip"
)

// Default is the configuration that the tags describe.
func Default() Config {
	return Config{
		Version: SameVersion, Timeout: 5 * time.Second, Budget: 15 * time.Second, Concurrency: 4, Compression: noCompression,
		Breaker: Breaker{Failures: 5, Open: 10 * time.Second},
	}
}

// Validate returns every problem, each naming its key.
func (c Config) Validate() []error {
	var problems []error
	bad := func(key, format string, args ...any) {
		problems = append(problems, fmt.Errorf("fallback."+key+": "+format, args...))
	}
	if !isAddress(c.Address) {
		bad("address", "%q is neither host:port nor dns:///host:port", c.Address)
	}
	if c.Version != SameVersion && c.Version != AnyVersion {
		bad("version", "%q is neither %s nor %s", c.Version, SameVersion, AnyVersion)
	}
	if c.Timeout < time.Millisecond || c.Timeout > time.Hour {
		bad("timeout", "%v is not between 1ms and 1h", c.Timeout)
	}
	if c.Budget < c.Timeout || c.Budget > 24*time.Hour {
		bad("budget", "%v is not between fallback.timeout, %v, and 24h", c.Budget, c.Timeout)
	}
	if c.Concurrency < 1 || c.Concurrency > 1024 {
		bad("concurrency", "%d is not between 1 and 1024", c.Concurrency)
	}
	if c.Compression != noCompression && c.Compression != gzipCompression {
		bad("compression", "%q is neither %s nor %s", c.Compression, noCompression, gzipCompression)
	}
	if c.Breaker.Failures < 1 || c.Breaker.Failures > 1_000_000 {
		bad("breaker.failures", "%d is not between 1 and 1000000", c.Breaker.Failures)
	}
	if c.Breaker.Open < time.Millisecond || c.Breaker.Open > time.Hour {
		bad("breaker.open", "%v is not between 1ms and 1h", c.Breaker.Open)
	}
	problems = append(problems, c.TLS.validate()...)
	if c.TokenFile != "" {
		if !c.TLS.Enabled {
			bad("token-file", "needs fallback.tls.enabled: a token must not travel in the clear")
		}
		if _, err := credential.ReadToken(c.TokenFile, maxToken); err != nil {
			bad("token-file", "%w", err)
		}
	}
	return problems
}

func (t TLS) validate() []error {
	if !t.Enabled {
		for _, set := range []struct{ key, value string }{{"ca", t.CA}, {"cert", t.Cert}, {"key", t.Key}, {"server-name", t.ServerName}} {
			if set.value != "" {
				return []error{fmt.Errorf("fallback.tls.%s: has no effect without fallback.tls.enabled", set.key)}
			}
		}
		return nil
	}
	var problems []error
	if t.CA != "" {
		if _, err := credential.Authorities(nil, "fallback.tls.ca", t.CA); err != nil {
			problems = append(problems, err)
		}
	}
	switch {
	case t.Cert != "" && t.Key == "":
		problems = append(problems, errors.New("fallback.tls.key: fallback.tls.cert needs it"))
	case t.Cert == "" && t.Key != "":
		problems = append(problems, errors.New("fallback.tls.cert: fallback.tls.key needs it"))
	case t.Cert != "":
		if _, err := credential.Certificate(nil, "fallback.tls.cert", t.Cert, t.Key); err != nil {
			problems = append(problems, err)
		}
	}
	return problems
}

// isAddress tells whether gRPC's resolver will take s for a name, or an IP
// address, with a port.
func isAddress(s string) bool {
	host, port, err := net.SplitHostPort(strings.TrimPrefix(s, "dns:///"))
	if err != nil || host == "" || strings.ContainsAny(host, "/ ") {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}
