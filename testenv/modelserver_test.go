package testenv

import (
	"net"
	"testing"
	"time"
)

func TestServing(t *testing.T) {
	begin := time.Now()
	s := StartServing(t, "inception", Model(t))
	t.Logf("started in %v", time.Since(begin))
	dial := func() error {
		c, err := net.DialTimeout("tcp", s.Addr(), time.Second)
		if err == nil {
			c.Close()
		}
		return err
	}
	if err := dial(); err != nil {
		t.Fatal(err)
	}
	addr := s.Addr()
	s.Freeze()
	s.Thaw()
	s.Kill()
	if err := dial(); err == nil {
		t.Fatal("a killed server listens")
	}
	s.Restart()
	if s.Addr() != addr {
		t.Errorf("it came back at %s, was at %s", s.Addr(), addr)
	}
	if err := dial(); err != nil {
		t.Fatal(err)
	}
}
