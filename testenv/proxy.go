package testenv

import (
	"io"
	"net"
	"sync"
	"testing"
)

// A proxy forwards connections to an address.
type proxy struct {
	net.Listener        // set once
	to           string // set once

	mu   sync.Mutex
	open map[net.Conn]struct{} // both sides of every connection; guarded by mu
}

// newProxy starts a proxy. The end of the test stops it.
func newProxy(tb testing.TB, to string) *proxy {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	given.Store(l.Addr().String(), true)
	p := &proxy{Listener: l, to: to, open: map[net.Conn]struct{}{}}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { p.pass(client) })
		}
	})
	tb.Cleanup(func() {
		l.Close()
		p.cut()
		serving.Wait()
	})
	return p
}

// Addr returns the address for clients, host:port.
func (p *proxy) Addr() string { return p.Listener.Addr().String() }

func (p *proxy) pass(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	p.mu.Lock()
	p.open[client], p.open[server] = struct{}{}, struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.open, client)
		delete(p.open, server)
	}()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	})
	_, _ = io.Copy(server, client)
	_ = server.Close()
	back.Wait()
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		_ = c.Close()
	}
}
