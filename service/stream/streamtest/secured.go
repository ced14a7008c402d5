package streamtest

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
)

// Secured says where a broker wants TLS and SCRAM, and who may log in there.
// Suite.Brokers is where the same broker lets everybody do everything.
type Secured struct {
	Address        string
	Authorities    *x509.CertPool
	User, Password string
}

// A securedTest is a driver with a configuration, and what its end must say.
type securedTest struct {
	missing   string // kinds of permissions
	password  string // empty: the right one
	mechanism string
	want      []string // parts of the error; nil: it works
}

// RunSecured runs a driver with TLS and SASL, and with each of the permissions it needs missing in
// turn: it must end and say so, naming operation and topic, group or transactional id. Without the
// one for the output it says so, and waits for it.
func (s Suite) RunSecured(t *testing.T, at Secured) {
	tests := map[string]securedTest{
		"SCRAM-SHA-256":  {mechanism: "SCRAM-SHA-256"},
		"SCRAM-SHA-512":  {mechanism: "SCRAM-SHA-512"},
		"WrongPassword":  {password: "wrong", want: []string{"authentication failed (as me)", "invalid credentials"}},
		"GroupDenied":    {missing: "group", want: []string{"join group GROUP", "INPUT", "Read on group GROUP is not allowed", "--operation Read --group GROUP"}},
		"InputDenied":    {missing: "input", want: []string{"Read on topic INPUT is not allowed", "--operation Read --topic INPUT"}},
		"NothingAllowed": {missing: "group input output id", want: []string{"uthoriz"}},
	}
	if s.ExactlyOnce {
		tests["IDDenied"] = securedTest{missing: "id", want: []string{"Write on transactional-id GROUP-"}}
	}
	t.Run("OutputDenied", func(t *testing.T) {
		t.Parallel()
		b, cfg := newSecuredHarness(t, s, at, "group", "input", "id")
		d := b.start(cfg, b.echo)
		b.until("the error", func() bool {
			return d.check(func(r *recorder) bool {
				return r.retried("publish to " + b.output)
			})
		})
		b.allow(at.User, "output")
		b.read(b.output, 10)
		d.stop()
	})
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.run(t, s, at)
		})
	}
}

func (test securedTest) run(t *testing.T, s Suite, at Secured) {
	all := []string{"group", "input", "output", "id"}
	allowed := slices.DeleteFunc(all, func(what string) bool { return strings.Contains(test.missing, what) })
	b, cfg := newSecuredHarness(t, s, at, allowed...)
	if test.mechanism != "" {
		cfg.SASL.Mechanism = test.mechanism
	}
	if test.password != "" {
		cfg.SASL.Login = stream.Always(stream.Login{User: at.User, Password: test.password})
	}
	d := b.start(cfg, b.echo)
	if test.want == nil {
		if got := b.read(b.output, 10); len(got) != 10 {
			t.Errorf("published %d records", len(got))
		}
		d.stop()
		return
	}
	err := d.ended()
	t.Logf("run: %v", err)
	names := strings.NewReplacer("GROUP", b.group, "INPUT", b.input, "OUTPUT", b.output)
	for _, want := range test.want {
		if want := names.Replace(want); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("run: %v: want %q in it", err, want)
		}
	}
}

// newSecuredHarness has ten records in the input, and a configuration for a user
// who is allowed these things.
func newSecuredHarness(t *testing.T, s Suite, at Secured, allowed ...string) (*harness, stream.Config) {
	b := newHarness(t, s)
	b.topic(b.input, 1)
	b.topic(b.output, 1)
	b.fill(1, 0, 10)
	for _, what := range allowed {
		b.allow(at.User, what)
	}
	cfg := b.config()
	cfg.Brokers = []string{at.Address}
	cfg.TLS = &tls.Config{RootCAs: at.Authorities, MinVersion: tls.VersionTLS12}
	login := stream.Login{User: at.User, Password: at.Password}
	cfg.SASL = stream.SASL{Mechanism: stream.ScramSHA512, Login: stream.Always(login), Source: "as me"}
	return b, cfg
}

// allow lets a user do what a driver has to do with one kind of resource.
func (b *harness) allow(user, what string) {
	b.Helper()
	c := kmsg.NewCreateACLsRequestCreation()
	c.Principal, c.Host = "User:"+user, "*"
	c.PermissionType = kmsg.ACLPermissionTypeAllow
	c.ResourcePatternType = kmsg.ACLResourcePatternTypeLiteral
	switch what {
	case "group":
		c.ResourceType, c.ResourceName, c.Operation = kmsg.ACLResourceTypeGroup, b.group, kmsg.ACLOperationRead
	case "input":
		c.ResourceType, c.ResourceName, c.Operation = kmsg.ACLResourceTypeTopic, b.input, kmsg.ACLOperationRead
	case "output":
		c.ResourceType, c.ResourceName, c.Operation = kmsg.ACLResourceTypeTopic, b.output, kmsg.ACLOperationWrite
	case "id":
		c.ResourceType, c.ResourceName, c.Operation = kmsg.ACLResourceTypeTransactionalId, b.group+"-", kmsg.ACLOperationWrite
		c.ResourcePatternType = kmsg.ACLResourcePatternTypePrefixed
	}
	req := kmsg.NewPtrCreateACLsRequest()
	req.Creations = append(req.Creations, c)
	res, err := req.RequestWith(b.context(), b.client)
	if err != nil || res.Results[0].ErrorCode != 0 {
		b.Fatalf("allow %s: %v, %+v", what, err, res)
	}
	b.until("the permission", func() bool { // the broker takes it over a moment later
		req := kmsg.NewPtrDescribeACLsRequest()
		req.ResourceType, req.ResourceName, req.ResourcePatternType = c.ResourceType, &c.ResourceName, c.ResourcePatternType
		req.Principal, req.Operation, req.PermissionType = &c.Principal, c.Operation, c.PermissionType
		res, err := req.RequestWith(b.context(), b.client)
		return err == nil && len(res.Resources) > 0
	})
}
