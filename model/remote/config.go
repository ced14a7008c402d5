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

// Config says which model server to call, and how. The field tags are those of kong. In
// errors and documents the names of the fields begin with "fallback.".
type Config struct {
	// Other servers with the same interface will do. A name with several addresses has its calls
	// spread over all of them.
	Address string `help:"TensorFlow Serving's address for gRPC." placeholder:"HOST:PORT" common:""`
	Model   string `help:"The model's name there. Empty: model.name." placeholder:"NAME"`
	Label   string `help:"Version label to ask for, such as stable, instead of a version's number."`
	// same is the one that would serve here. any is whichever the server takes, and the answer says
	// so.
	Version string `default:"same" enum:"same, any" help:"Which version may answer: ${enum}."`

	Timeout time.Duration `default:"5s" help:"Time for one call."`
	// After it the records are tried again later.
	Budget      time.Duration `default:"15s" help:"Time for one batch with all its retries and waits."`
	Concurrency int           `default:"4" help:"Most batches under way at once. Further ones wait, within their budget."`

	TLS TLS `embed:"" prefix:"tls."`
	// It is read anew for every call.
	TokenFile string  `help:"File with a token that is sent as a bearer token. Needs fallback.tls.enabled." placeholder:"FILE"`
	Breaker   Breaker `embed:"" prefix:"breaker."`
}

// TLS says how to secure the connection.
type TLS struct {
	Enabled bool `help:"Connect to the model server with TLS."`
	// It is read anew for every connection.
	CA string `help:"PEM file with the server's authorities. Empty: the system's." placeholder:"FILE"`
	// It is read anew for every connection.
	Cert       string `help:"PEM file with the client's certificate, for a server that asks for one." placeholder:"FILE"`
	Key        string `help:"PEM file with the client certificate's key." placeholder:"FILE"`
	ServerName string `help:"Name that the server's certificate must be for. Empty: the host of fallback.address."`
}

// Breaker says when to stop calling the server, and for how long.
type Breaker struct {
	Failures int `default:"5" help:"Calls that fail in a row before no more are made."`
	// After it one batch goes first, and the others follow if it is answered.
	Open time.Duration `default:"10s" help:"How long no call is made then."`
}

// The values of Config.Version.
const (
	SameVersion = "same"
	AnyVersion  = "any"
)

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
		for _, set := range []struct{ key, value string }{
			{"ca", t.CA}, {"cert", t.Cert}, {"key", t.Key}, {"server-name", t.ServerName},
		} {
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

// isAddress reports whether gRPC's resolver accepts s as a host name or an IP address
// with a port.
func isAddress(s string) bool {
	host, port, err := net.SplitHostPort(strings.TrimPrefix(s, "dns:///"))
	if err != nil || host == "" || strings.ContainsAny(host, "/ \t\r\n@,") {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}
