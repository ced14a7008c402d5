package input

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"inceptor/internal/span"
)

const (
	maxRedirects   = 5
	maxHeaderBytes = 64 << 10
	userAgent      = "inceptor (image fetcher)"
)

func (r *Reader) newClient() *http.Client {
	dialer := &net.Dialer{Control: r.control}
	return &http.Client{
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return refuse(URLBadResponse, "more than %d redirects", maxRedirects)
			}
			req.Header.Del("Referer") // other hosts must not see the record's URL
			if bad := r.checkURL(req.URL); bad != nil {
				return refuse(bad.Reason, "redirect: %w", bad.Err)
			}
			return nil
		},
		// No proxy: its address would be dialled, not the one that was checked.
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			DisableCompression:     true,
			MaxIdleConns:           4 * r.config.Fetch.Concurrency,
			MaxIdleConnsPerHost:    r.config.Fetch.Concurrency,
			MaxConnsPerHost:        r.config.Fetch.Concurrency,
			IdleConnTimeout:        30 * time.Second,
			MaxResponseHeaderBytes: maxHeaderBytes,
		},
	}
}

// fetch gets the image at a URL. A fault that may pass is tried again, within the
// timeout of the whole fetch.
func (r *Reader) fetch(ctx context.Context, text string) (Image, error) {
	if len(text) > maxURL {
		return Image{}, refuse(BadURL, "the URL has more than %d bytes", maxURL)
	}
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil { // whose text has the URL, which may hold secrets
		return Image{}, refuse(BadURL, "not a URL")
	}
	if bad := r.checkURL(u); bad != nil {
		return Image{}, bad
	}
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return Image{}, ctx.Err()
	}
	keep, free, err := r.reserve(ctx)
	if err != nil {
		return Image{}, err
	}
	defer free()
	timeout := r.config.Fetch.Timeout
	fetching, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tried := 0
	var last *Error // of an attempt that the timeout did not end
	b, err := backoff.Retry(fetching, func() ([]byte, error) {
		tried++
		b, err := r.get(fetching, u)
		errors.As(err, &last)
		return b, err
	}, backoff.WithMaxTries(maxTries), backoff.WithBackOff(newBackoff()), backoff.WithMaxElapsedTime(timeout))
	where := withoutQuery(u)
	if err == nil {
		return keep(b, "url:"+where), nil
	}
	var bad *Error
	switch {
	case ctx.Err() != nil:
		return Image{}, ctx.Err()
	case errors.As(err, &bad):
		err = bad.Err
	case last != nil && fetching.Err() != nil:
		bad, err = last, fmt.Errorf("%w, and then not done within input.fetch.timeout of %s", last.Err, timeout)
	case fetching.Err() != nil || errors.Is(err, context.DeadlineExceeded):
		bad, err = &Error{Reason: URLTimeout}, fmt.Errorf("not done within input.fetch.timeout of %s", timeout)
	default:
		return Image{}, fmt.Errorf("fetch %s: %w", where, err)
	}
	if tried > 1 {
		err = fmt.Errorf("%w (tried %d times)", err, tried)
	}
	return Image{}, refuse(bad.Reason, "%s: %w", quote(where), err)
}

// get makes one attempt. Its error may pass, unless it is a *backoff.PermanentError.
func (r *Reader) get(ctx context.Context, u *url.URL) (content []byte, err error) {
	ctx, step := span.StartClient(ctx, http.MethodGet)
	defer func() { step.End(err) }()
	if step.Recorded() {
		step.Set(semconv.HTTPRequestMethodGet, semconv.ServerAddress(u.Hostname()), semconv.URLFull(withoutQuery(u)))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, backoff.Permanent(refuse(BadURL, "not a URL for a request"))
	}
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Accept", "image/*")
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, classify(ctx, err)
	}
	defer resp.Body.Close()
	if step.Recorded() {
		step.Set(semconv.HTTPResponseStatusCode(resp.StatusCode))
	}
	if err := checkStatus(resp); err != nil {
		return nil, err
	}
	if e := resp.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return nil, backoff.Permanent(refuse(URLBadResponse, "content encoding %s was not asked for", quote(e)))
	}
	if resp.ContentLength >= 0 {
		if err := r.checkSize(resp.ContentLength, "the response"); err != nil {
			return nil, backoff.Permanent(err)
		}
	}
	const first = 64 << 10 // memory for more is allocated only as the bytes arrive
	b := bytes.NewBuffer(make([]byte, 0, min(max(resp.ContentLength, 0), first)+bytes.MinRead))
	if _, err := b.ReadFrom(io.LimitReader(resp.Body, int64(r.config.MaxBytes)+1)); err != nil {
		return nil, classify(ctx, err)
	}
	if n := int64(b.Len()); n > int64(r.config.MaxBytes) {
		return nil, backoff.Permanent(refuse(TooLarge, "the response has over input.max-bytes of %s", r.config.MaxBytes))
	} else if err := r.checkSize(n, "the response"); err != nil {
		return nil, backoff.Permanent(err)
	}
	return b.Bytes(), nil
}

// checkStatus accepts 200 only. Statuses of overload may pass, after the time that
// the server asks for.
func checkStatus(resp *http.Response) error {
	status := refuse(URLStatus, "status %d", resp.StatusCode)
	switch code := resp.StatusCode; {
	case code == http.StatusOK:
		return nil
	case code == http.StatusNotFound || code == http.StatusGone:
		status.Reason = URLNotFound
		return backoff.Permanent(status)
	case code == http.StatusRequestTimeout || code == http.StatusTooEarly || code == http.StatusTooManyRequests ||
		code >= 500 && code != http.StatusNotImplemented && code != http.StatusHTTPVersionNotSupported:
		if wait, ok := retryAfter(resp.Header.Get("Retry-After")); ok {
			return errors.Join(status, &backoff.RetryAfterError{Duration: wait})
		}
		return status
	}
	return backoff.Permanent(status)
}

func retryAfter(s string) (time.Duration, bool) {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(n) * time.Second, true
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(0, time.Until(t)), true
	}
	return 0, false
}

// classify makes an *Error of an error of the client or the connection; a permanent
// one, if it will not pass.
func classify(ctx context.Context, err error) error {
	var (
		bad    *Error
		dns    *net.DNSError
		op     *net.OpError
		verify *tls.CertificateVerificationError
		record tls.RecordHeaderError
		outer  *url.Error
	)
	if errors.As(err, &outer) { // whose text has the URL
		err = outer.Err
	}
	switch {
	case errors.As(err, &bad):
		return backoff.Permanent(bad)
	case ctx.Err() != nil:
		return backoff.Permanent(ctx.Err())
	case isLocalFault(err):
		return backoff.Permanent(err)
	case errors.As(err, &dns):
		// The resolver's own text names servers and ports: do not repeat it.
		if dns.IsNotFound {
			return backoff.Permanent(refuse(URLUnreachable, "no such host"))
		}
		return refuse(URLUnreachable, "the host's name cannot be looked up now")
	case errors.As(err, &verify):
		return backoff.Permanent(refuse(URLUnreachable, "TLS: %w", verify.Err))
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return backoff.Permanent(refuse(URLBadResponse, "the server does not speak TLS"))
	case errors.As(err, &op) && op.Op == "remote error":
		return backoff.Permanent(refuse(URLUnreachable, "TLS: %w", op.Err))
	case errors.As(err, &op) && op.Timeout():
		return refuse(URLTimeout, "%s: no answer", op.Op)
	case errors.As(err, &op):
		return refuse(URLUnreachable, "%s: %w", op.Op, op.Err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return refuse(URLUnreachable, "the connection ended early")
	}
	// Other errors of net/http may quote the response: do not repeat them.
	return backoff.Permanent(refuse(URLBadResponse, "the response is not valid HTTP"))
}

// withoutQuery returns a URL for messages: the query of a signed URL is secret.
func withoutQuery(u *url.URL) string {
	v := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	return v.String()
}
