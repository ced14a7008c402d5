package remote

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/sony/gobreaker/v2"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"inceptor/internal/span"
)

// Methods of TensorFlow Serving.
const (
	predictMethod  = "/tensorflow.serving.PredictionService/Predict"
	metadataMethod = "/tensorflow.serving.PredictionService/GetModelMetadata"
	statusMethod   = "/tensorflow.serving.ModelService/GetModelStatus"
)

// clockSkew is how much earlier the server may see a deadline pass than this process.
const clockSkew = 10 * time.Millisecond

// serviceConfig spreads calls over all addresses of a host name.
const serviceConfig = `{"loadBalancingConfig": [{"round_robin": {}}]}`

// An Observer is called by a Client, from many goroutines and while batches wait.
// Its methods must not block.
type Observer interface {
	// CallDone is called after each call; a retry is a call of its own. The op is
	// predict, metadata or status. The code is that of gRPC, such as "OK" or
	// "Unavailable", or "BadAnswer" or "WrongVersion": see Error.Code.
	CallDone(op, code string, took time.Duration)
	// BreakerChanged is called with the breaker's new state: closed, half-open or open.
	BreakerChanged(state string)
}

// Unobserved is an Observer that does nothing. Use it as it is, or embed it.
type Unobserved struct{}

// CallDone implements Observer.
func (Unobserved) CallDone(string, string, time.Duration) {}

// BreakerChanged implements Observer.
func (Unobserved) BreakerChanged(string) {}

// A Client calls one model of one model server over one channel. Its methods are safe
// for concurrent use.
type Client struct {
	// Set once.
	config   Config
	log      *slog.Logger
	observer Observer
	conn     *grpc.ClientConn
	breaker  *gobreaker.TwoStepCircuitBreaker[struct{}]

	// Safe for concurrent use.
	slots       chan struct{}         // holds one element for each batch under way
	open        atomic.Bool           // the breaker has opened, and has allowed no call since
	opened      atomic.Int64          // when the breaker opened, in Unix nanoseconds
	lastFailure atomic.Pointer[error] // that the breaker counted; nil: none
}

// New returns a client. It does not connect: the first call does, and returns an error
// if the server cannot be reached. New's error names the setting that is wrong.
func New(c Config, log *slog.Logger, o Observer) (*Client, error) {
	return newWith(c, log, o)
}

func newWith(c Config, log *slog.Logger, o Observer, extra ...grpc.DialOption) (*Client, error) {
	if c.Model == "" {
		return nil, errors.New("fallback.model: must not be empty")
	}
	if problems := c.Validate(); len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	options, err := c.security(log)
	if err != nil {
		return nil, err
	}
	options = append(options,
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDisableServiceConfig(), // DNS must not override it
		grpc.WithNoProxy(),
		grpc.WithUserAgent("inceptor"),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: grpcbackoff.Config{
				BaseDelay: 100 * time.Millisecond, Multiplier: 2, Jitter: 0.2,
				MaxDelay: max(min(c.Breaker.Open, 5*time.Second), 100*time.Millisecond),
			},
			MinConnectTimeout: c.Timeout,
		}),
		// Detects dead connections. Servers drop clients that ping more often than every
		// few seconds, or while no call is under way.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	)
	if span.Enabled() {
		options = append(options, grpc.WithStatsHandler(otelgrpc.NewClientHandler(
			otelgrpc.WithTracerProvider(span.Provider{}), otelgrpc.WithPropagators(propagation.TraceContext{}),
		)))
	}
	conn, err := grpc.NewClient(c.Address, append(options, extra...)...)
	if err != nil {
		return nil, err
	}
	client := &Client{config: c, log: log, observer: o, conn: conn, slots: make(chan struct{}, c.Concurrency)}
	client.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:   1,
		Timeout:       c.Breaker.Open,
		ReadyToTrip:   func(n gobreaker.Counts) bool { return int(n.ConsecutiveFailures) >= c.Breaker.Failures },
		IsSuccessful:  healthy,
		IsExcluded:    notCounted,
		OnStateChange: client.breakerChanged,
	})
	o.BreakerChanged(gobreaker.StateClosed.String())
	return client, nil
}

// Close closes the channel and cancels the calls under way.
func (c *Client) Close() error { return c.conn.Close() }

func (c *Client) breakerChanged(_ string, from, to gobreaker.State) {
	c.open.Store(to == gobreaker.StateOpen)
	switch to {
	case gobreaker.StateOpen:
		c.opened.Store(time.Now().UnixNano())
		c.log.Warn("model server: circuit breaker opened after too many failed calls; not calling it",
			"server", c.config.Address, "for", c.config.Breaker.Open, "last", c.LastFailure())
	case gobreaker.StateClosed:
		c.log.Info("model server: recovered", "server", c.config.Address)
	}
	c.observer.BreakerChanged(to.String())
}

// A versionChoice is the version or the label that a request names. It decides what an
// error means.
type versionChoice struct {
	version int64 // NoVersion: any
	label   string
}

// A call is one request, and how its response is read.
type call struct {
	op, method string
	choice     versionChoice
	request    proto.Message
	response   proto.Message // reset before each try
	maxBytes   int           // of the response
	// read checks the response, which the server at this address has sent. The call
	// returns its *Error.
	read func(server string) error
	// closesBreaker says that a success proves that the server answers batches.
	closesBreaker bool
}

// callWithRetries makes a call, and repeats it while a retry may succeed and the budget
// of ctx lasts.
func (c *Client) callWithRetries(ctx context.Context, k call) error {
	pauses := &backoff.ExponentialBackOff{InitialInterval: 50 * time.Millisecond, MaxInterval: 2 * time.Second, Multiplier: 2, RandomizationFactor: 0.5}
	var last error
	for {
		err := c.callOnce(ctx, k)
		if last != nil && (KindOf(err) == KindOpen || codeOf(err) == codes.DeadlineExceeded.String() && budgetSpent(ctx)) {
			return last // the cause: it opened the breaker, or used up the budget
		}
		if !retryable(err) {
			return err
		}
		last = err
		pause := pauses.NextBackOff()
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < pause {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			if cancelled := c.cancelled(ctx, k.op); cancelled != nil {
				return cancelled
			}
			return err
		}
	}
}

// budgetSpent reports whether the deadline of ctx has passed, or is about to.
func budgetSpent(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) < clockSkew
}

// callOnce makes one call, if the breaker allows it.
func (c *Client) callOnce(ctx context.Context, k call) error {
	done, err := c.breaker.Allow()
	if err != nil {
		return c.notCalled(k.op, err)
	}
	options := []grpc.CallOption{grpc.MaxCallRecvMsgSize(k.maxBytes)}
	if c.breaker.State() == gobreaker.StateHalfOpen {
		// This call decides about the breaker. It must try to connect now, and not return
		// the last failure to connect.
		c.conn.ResetConnectBackoff()
		options = append(options, grpc.WaitForReady(true))
	}
	deadline, ok := ctx.Deadline()
	short := ok && time.Until(deadline) < c.config.Timeout/2
	err = c.invoke(ctx, k, options)
	switch {
	case !k.closesBreaker && (healthy(err) || Unimplemented(err)), short && codeOf(err) == codes.DeadlineExceeded.String():
		done(errNotCounted) // it proves nothing, or had too little time
	default:
		if !healthy(err) && !notCounted(err) {
			c.lastFailure.Store(&err)
		}
		done(err)
	}
	return err
}

// BreakerOpen reports whether the breaker has opened, and has allowed no call since then.
func (c *Client) BreakerOpen() bool { return c.open.Load() }

// LastFailure is the text of the last error that the breaker counted; "none" if there
// was none.
func (c *Client) LastFailure() string {
	if last := c.lastFailure.Load(); last != nil {
		return (*last).Error()
	}
	return "none"
}

func (c *Client) invoke(parent context.Context, k call, options []grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(parent, c.config.Timeout)
	defer cancel()
	var server peer.Peer
	options = append(options, grpc.Peer(&server))
	proto.Reset(k.response)
	start := time.Now()
	err := c.conn.Invoke(ctx, k.method, k.request, k.response, options...)
	took := time.Since(start)
	code := status.Code(err).String()
	if err != nil {
		if budgetSpent(parent) {
			<-parent.Done() // the server saw the deadline pass first
		}
		if cancelled := c.cancelled(parent, k.op); cancelled != nil {
			err = cancelled
		} else {
			err = c.callError(k.op, k.choice, took, err)
		}
	} else if err = k.read(address(server)); err != nil {
		code = codeOf(err)
	}
	c.observer.CallDone(k.op, code, took)
	return err
}

// notCalled returns the error of a call that the breaker has not allowed.
func (c *Client) notCalled(op string, err error) error {
	e := &Error{
		Kind: KindOpen, Op: op, Server: c.config.Address,
		Message: "not called: too many calls have failed, the last: " + c.LastFailure(),
	}
	if errors.Is(err, gobreaker.ErrTooManyRequests) {
		e.Message = "not called: one batch tries it first"
		e.After = c.config.Timeout
		return e
	}
	e.After = max(time.Until(time.Unix(0, c.opened.Load()).Add(c.config.Breaker.Open)), time.Millisecond)
	return e
}

func address(p peer.Peer) string {
	if p.Addr == nil {
		return ""
	}
	return p.Addr.String()
}
