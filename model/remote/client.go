package remote

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/sony/gobreaker/v2"
	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// The methods of TensorFlow Serving that are called.
const (
	predictMethod  = "/tensorflow.serving.PredictionService/Predict"
	metadataMethod = "/tensorflow.serving.PredictionService/GetModelMetadata"
	statusMethod   = "/tensorflow.serving.ModelService/GetModelStatus"
)

// clockSkew is how much earlier than here a deadline may end a call on the
// server.
const clockSkew = 10 * time.Millisecond

// serviceConfig spreads calls over all addresses that a name has.
const serviceConfig = `{"loadBalancingConfig": [{"round_robin": {}}]}`

// An Observer is told what a client does, from many goroutines and on the
// batches' way: it must not block.
type Observer interface {
	// CallDone is called after each call, a retry being a call of its own. The
	// op is predict, metadata or status; the code is gRPC's, such as "OK" or
	// "Unavailable", "BadAnswer" or "WrongVersion"; see Error.Code.
	CallDone(op, code string, took time.Duration)
	// BreakerChanged is called with closed, half-open or open.
	BreakerChanged(state string)
}

// Unobserved is an Observer that does nothing, to be used or to be embedded.
type Unobserved struct{}

// CallDone implements Observer.
func (Unobserved) CallDone(string, string, time.Duration) {}

// BreakerChanged implements Observer.
func (Unobserved) BreakerChanged(string) {}

// A Client asks one model of one model server over one channel. Its methods
// are safe for concurrent use.
type Client struct {
	config   Config
	log      *slog.Logger
	observer Observer

	conn    *grpc.ClientConn
	breaker *gobreaker.TwoStepCircuitBreaker[struct{}]
	opened  atomic.Int64          // when the breaker did, in Unix nanoseconds
	last    atomic.Pointer[error] // failure that counted for the breaker; nil: none
	places  chan struct{}         // one for each batch under way
}

// New makes a client. It does not connect: the first call does, and whether
// the server is there is for the calls to tell. Its error names the setting
// that is wrong.
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
		grpc.WithDisableServiceConfig(), // DNS does not decide
		grpc.WithNoProxy(),
		grpc.WithUserAgent("inceptor"),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: grpcbackoff.Config{
				BaseDelay: 100 * time.Millisecond, Multiplier: 2, Jitter: 0.2,
				MaxDelay: max(min(c.Breaker.Open, 5*time.Second), 100*time.Millisecond),
			},
			MinConnectTimeout: c.Timeout,
		}),
		// Finds connections that lead nowhere. Servers punish clients that ask
		// more often than every few seconds, or with no call under way.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	)
	if c.Compression == gzipCompression {
		options = append(options, grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name)))
	}
	conn, err := grpc.NewClient(c.Address, append(options, extra...)...)
	if err != nil {
		return nil, err
	}
	client := &Client{config: c, log: log, observer: o, conn: conn, places: make(chan struct{}, c.Concurrency)}
	client.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:   1,
		Timeout:       c.Breaker.Open,
		ReadyToTrip:   func(n gobreaker.Counts) bool { return int(n.ConsecutiveFailures) >= c.Breaker.Failures },
		IsSuccessful:  healthy,
		IsExcluded:    neutral,
		OnStateChange: client.breakerChanged,
	})
	o.BreakerChanged(gobreaker.StateClosed.String())
	return client, nil
}

// Close ends the channel, and with it the calls under way.
func (c *Client) Close() error { return c.conn.Close() }

func (c *Client) breakerChanged(_ string, from, to gobreaker.State) {
	switch to {
	case gobreaker.StateOpen:
		c.opened.Store(time.Now().UnixNano())
		c.log.Warn("model server is not called: too many calls have failed",
			"server", c.config.Address, "for", c.config.Breaker.Open, "last", c.Cause())
	case gobreaker.StateClosed:
		c.log.Info("model server answers again", "server", c.config.Address)
	}
	c.observer.BreakerChanged(to.String())
}

// What was asked for, which decides what an error means.
type asked struct {
	version int64 // NoVersion: any
	label   string
}

// A call is one request of an op, and how its answer is read.
type call struct {
	op, method string
	spec       asked
	request    proto.Message
	response   proto.Message // reset for each try
	maxBytes   int           // of the response
	// read checks the response, which came from this server. Its *Error counts
	// as the call's.
	read func(from string) error
	// counts tells whether a success shows that batches are answered.
	counts bool
}

// within makes a call, again and again while that may help, until the budget
// of ctx is spent.
func (c *Client) within(ctx context.Context, k call) error {
	pauses := &backoff.ExponentialBackOff{InitialInterval: 50 * time.Millisecond, MaxInterval: 2 * time.Second, Multiplier: 2, RandomizationFactor: 0.5}
	var last error
	for {
		err := c.once(ctx, k)
		if last != nil && (KindOf(err) == KindOpen || codeOf(err) == codes.DeadlineExceeded.String() && spent(ctx)) {
			return last // what has opened the breaker, or used the budget up, tells more
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
			if ended := c.ended(ctx, k.op); ended != nil {
				return ended
			}
			return err
		}
	}
}

// spent tells whether the budget of ctx is, or nearly.
func spent(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) < clockSkew
}

// once makes one call, if the breaker lets it.
func (c *Client) once(ctx context.Context, k call) error {
	done, err := c.breaker.Allow()
	if err != nil {
		return c.resting(k.op, err)
	}
	options := []grpc.CallOption{grpc.MaxCallRecvMsgSize(k.maxBytes)}
	if c.breaker.State() == gobreaker.StateHalfOpen {
		// This call decides: it shall meet the server as it is now, and not
		// the last failure to connect to it.
		c.conn.ResetConnectBackoff()
		options = append(options, grpc.WaitForReady(true))
	}
	deadline, ok := ctx.Deadline()
	short := ok && time.Until(deadline) < c.config.Timeout/2
	err = c.invoke(ctx, k, options)
	switch {
	case !k.counts && (healthy(err) || Unimplemented(err)), short && codeOf(err) == codes.DeadlineExceeded.String():
		done(errNotCounted) // it shows nothing, or had too little time to
	default:
		if !healthy(err) && !neutral(err) {
			c.last.Store(&err)
		}
		done(err)
	}
	return err
}

// Cause is the last failure that counted for the breaker, in words.
func (c *Client) Cause() string {
	if last := c.last.Load(); last != nil {
		return (*last).Error()
	}
	return "none"
}

func (c *Client) invoke(parent context.Context, k call, options []grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(parent, c.config.Timeout)
	defer cancel()
	var from peer.Peer
	options = append(options, grpc.Peer(&from))
	proto.Reset(k.response)
	start := time.Now()
	err := c.conn.Invoke(ctx, k.method, k.request, k.response, options...)
	took := time.Since(start)
	code := status.Code(err).String()
	if err != nil {
		if spent(parent) {
			<-parent.Done() // the server has noticed it first
		}
		if ended := c.ended(parent, k.op); ended != nil {
			err = ended
		} else {
			err = c.failure(k.op, k.spec, took, err)
		}
	} else if err = k.read(address(from)); err != nil {
		code = codeOf(err)
	}
	c.observer.CallDone(k.op, code, took)
	return err
}

// resting is the error of a breaker that lets nobody through.
func (c *Client) resting(op string, err error) error {
	e := &Error{Kind: KindOpen, Op: op, Server: c.config.Address, Message: "not called: too many calls have failed, the last: " + c.Cause()}
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
